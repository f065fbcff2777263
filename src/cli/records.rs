//! `meterd records`: every record and what became of it.

use std::io::{self, Write};

use clap::builder::PossibleValuesParser;

use super::client::{Target, get};
use super::exit;
use super::say::{complain, json_line, on_one_line, plain};
use super::when::hour;
use crate::hour::Hour;
use crate::rollup::state::Phase;
use crate::view::RecordView;

/// Show every record and what became of it
#[derive(Debug, clap::Args)]
pub struct Records {
    /// One JSON object a line
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Comma-separated values with a heading
    #[arg(long)]
    csv: bool,
    /// Only records of the hour in which this moment lies (RFC 3339 or Unix seconds)
    #[arg(long, value_name = "H", value_parser = hour)]
    hour: Option<Hour>,
    /// Only records in this state
    #[arg(long, value_name = "S", value_parser = PossibleValuesParser::new(Phase::ALL.map(Phase::name)))]
    state: Option<String>,
    #[command(flatten)]
    target: Target,
}

impl Records {
    fn wants(&self, record: &RecordView) -> bool {
        self.hour.as_ref().is_none_or(|hour| hour.to_string() == record.hour)
            && self.state.as_ref().is_none_or(|state| *state == record.state)
    }
}

/// Shows them; returns the exit code.
pub fn run(args: &Records) -> u8 {
    let answer = match args.target.socket() {
        Ok(socket) => get(&socket, "/v1/records").map_err(|none| (none.code(), none.message)),
        Err(message) => Err((exit::CONFIG, message)),
    };
    let records: Vec<RecordView> = match answer {
        Err((code, message)) => {
            complain!("meterd: {message}");
            return code;
        }
        Ok(body) => match serde_json::from_slice(&body) {
            Ok(records) => records,
            Err(error) => {
                complain!("meterd: the agent's answer cannot be read ({error}); is it of another version?");
                return exit::UNREACHABLE;
            }
        },
    };
    let wanted: Vec<&RecordView> = records.iter().filter(|r| args.wants(r)).collect();
    let out = io::stdout().lock();
    let written = match (args.json, args.csv) {
        (true, _) => as_json(&wanted, out),
        (_, true) => as_csv(&wanted, out),
        _ => as_table(&wanted, out),
    };
    match written {
        // Whoever closes the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain!("meterd: {error}");
            exit::REFUSED
        }
        _ => exit::FINE,
    }
}

fn as_json(records: &[&RecordView], mut out: impl Write) -> io::Result<()> {
    for record in records {
        json_line(&mut out, record)?;
    }
    Ok(())
}

fn as_csv(records: &[&RecordView], mut out: impl Write) -> io::Result<()> {
    writeln!(
        out,
        "hour,dimension,quantity,usage,carried_in,remainder_in,remainder,late,state,metering_record_id,timestamp,\
         client_token,attempts,first_attempt,last_attempt,last_error,carried_into,customer,license"
    )?;
    for r in records {
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        let fields = [
            r.hour.clone(),
            r.dimension.clone(),
            r.quantity.to_string(),
            r.usage.clone(),
            r.carried_in.clone(),
            r.remainder_in.clone(),
            r.remainder.clone(),
            r.late.clone(),
            r.state.clone(),
            optional(&r.metering_record_id),
            r.timestamp.clone(),
            r.client_token.clone(),
            r.attempts.to_string(),
            optional(&r.first_attempt),
            optional(&r.last_attempt),
            optional(&r.last_error),
            optional(&r.carried_into),
            optional(&r.customer),
            optional(&r.license),
        ];
        writeln!(out, "{}", fields.map(|f| csv_field(&plain(&f))).join(","))?;
    }
    Ok(())
}

fn csv_field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn as_table(records: &[&RecordView], mut out: impl Write) -> io::Result<()> {
    if records.is_empty() {
        return writeln!(out, "no records");
    }
    let customers = records.iter().any(|r| r.customer.is_some());
    let whose = |text: &str| if customers { format!("{text:<12}  ") } else { String::new() };
    let customer = whose("customer");
    writeln!(
        out,
        "{:<20}  {customer}{:<15} {:>10}  {:<9} what became of it",
        "hour", "dimension", "quantity", "state"
    )?;
    for r in records {
        let customer = whose(r.customer.as_deref().unwrap_or_default());
        let what = match (&r.metering_record_id, &r.carried_into, &r.last_error) {
            (Some(id), _, _) => format!("record {id}"),
            (_, Some(hour), _) => format!("carried into {hour}"),
            (_, _, Some(error)) => error.to_owned(),
            _ => String::new(),
        };
        writeln!(
            out,
            "{:<20}  {customer}{:<15} {:>10}  {:<9} {}",
            r.hour,
            on_one_line(&r.dimension),
            r.quantity,
            r.state,
            on_one_line(&what)
        )?;
    }
    Ok(())
}
