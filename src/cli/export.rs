//! `meterd export`: what was measured, as a table that `meterd import` takes.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use super::client::{Target, get};
use super::exit;
use super::period::PeriodFlags;
use super::say::{complain, say};
use crate::view::RecordView;

/// Write what was measured in each sealed hour as CSV, in the columns that `meterd import` takes
///
/// A row per record: its time, dimension, customer and licence, and as quantity the usage that was measured in its hour (in
/// usage units, before included units, rounding and what was carried into it). The key names the hour, so that another instance
/// takes no row twice. Tags are not in it: a record splits billed units by tags, not usage.
#[derive(Debug, clap::Args)]
pub struct Export {
    #[command(flatten)]
    period: PeriodFlags,
    /// Into this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Exports; returns the exit code.
pub fn run(args: &Export) -> u8 {
    match export(args) {
        Ok(()) => exit::FINE,
        Err((code, message)) => {
            complain!("meterd: {message}");
            code
        }
    }
}

fn export(args: &Export) -> Result<(), (u8, String)> {
    let socket = args.target.socket().map_err(|message| (exit::CONFIG, message))?;
    let body = get(&socket, "/v1/records").map_err(|none| (none.code(), none.message))?;
    let records: Vec<RecordView> = serde_json::from_slice(&body).map_err(|error| {
        (exit::UNREACHABLE, format!("the agent's answer cannot be read ({error}); is it of another version?"))
    })?;
    let period = args.period.period();
    let wanted = |record: &&RecordView| {
        let hour = crate::hour::Timestamp::parse(&record.hour).map(crate::hour::Timestamp::hour);
        record.usage != "0" && period.is_none_or(|period| hour.is_some_and(|hour| period.has(hour)))
    };
    let rows: Vec<&RecordView> = records.iter().filter(wanted).collect();
    let failed = |error: io::Error| (exit::REFUSED, error.to_string());
    match &args.output {
        None => match write(&rows, io::stdout().lock()) {
            // Whoever closes the pipe has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(failed),
        },
        Some(path) => {
            let written = File::create(path).and_then(|file| write(&rows, file));
            written.map_err(|error| (exit::REFUSED, format!("{}: {error}", path.display())))?;
            say!("{} rows in {}", rows.len(), path.display());
            Ok(())
        }
    }
}

fn write(records: &[&RecordView], to: impl Write) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(to);
    table.write_record(["time", "dimension", "quantity", "key", "customer", "license"])?;
    for record in records {
        let RecordView { timestamp, dimension, usage, hour, .. } = record;
        let (customer, license) = (record.customer.as_deref().unwrap_or(""), record.license.as_deref().unwrap_or(""));
        let key = format!("export {hour} {dimension} {customer}");
        table.write_record([timestamp, dimension, usage, key.trim_end(), customer, license])?;
    }
    table.flush()
}
