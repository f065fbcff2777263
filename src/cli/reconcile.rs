//! `meterd reconcile`: this log's books against AWS's.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::client::{Target, get};
use super::exit;
use super::period::PeriodFlags;
use super::say::{complain, on_one_line, say};
use crate::reconcile::event::Call;
use crate::reconcile::report::{Compared, Report};
use crate::reconcile::{Comparison, Found, Ours, Row, Trail, Whose, event, trail};
use crate::view::RecordView;

/// Differences shown to people; `--json` has all.
const SHOWN_MAX: usize = 50;

/// Compare what AWS accepted, as this log has it, with AWS's own books
///
/// `--cloudtrail` takes CloudTrail's files as they are delivered (JSON, also gzip), the output of `aws cloudtrail
/// lookup-events`, or events one behind another; a refused call or a dry run took nothing, an event that is there twice
/// counts once, and other instances' events are told apart by their session. `--seller-report` takes AWS Marketplace's usage
/// reports as CSV, by day. Without `--month`, `--from` or `--to` the hours between the first and the last in the files
/// are compared.
#[derive(Debug, clap::Args)]
pub struct Reconcile {
    /// CloudTrail's events; several files, or the flag several times
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "seller_report")]
    cloudtrail: Vec<PathBuf>,
    /// A usage report of AWS Marketplace (CSV); the flag can be given several times
    #[arg(long, value_name = "FILE")]
    seller_report: Vec<PathBuf>,
    /// Of the seller report, only this buyer's rows (a 12-digit account id)
    #[arg(long, value_name = "ACCOUNT-ID", requires = "seller_report")]
    customer: Option<String>,
    #[command(flatten)]
    period: PeriodFlags,
    /// Another instance id or session whose events are this log's (can be given several times)
    #[arg(long, value_name = "NAME")]
    instance: Vec<String>,
    /// The records from this file (`meterd records --json`) instead of an agent
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// With --records: the product's code, to leave out other products'
    #[arg(long, value_name = "CODE", requires = "records")]
    product: Option<String>,
    /// One JSON object, with every record
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// The exit code, and what to say.
type Failure = (u8, String);

/// What is held against AWS's books, and whose it is.
struct Held {
    ours: Ours,
    instance: Option<String>,
    product: Option<String>,
}

/// Compares; returns the exit code.
pub fn run(args: &Reconcile) -> u8 {
    match compare(args) {
        Ok((trail, report)) => {
            let differ = trail.as_ref().is_some_and(Comparison::differs)
                || report.as_ref().is_some_and(|report| report.different > 0);
            if args.json {
                say!("{}", json!({ "differs": differ, "cloudtrail": trail, "seller_report": report }));
            } else {
                trail.iter().for_each(show);
                report.iter().for_each(show_report);
                say!("{}", if differ { "\nthe books differ" } else { "\nthe books agree" });
            }
            if differ { exit::REFUSED } else { exit::FINE }
        }
        Err((code, message)) => {
            complain!("meterd: {message}");
            code
        }
    }
}

fn compare(args: &Reconcile) -> Result<(Option<Comparison>, Option<Compared>), Failure> {
    let Held { ours, instance, product } =
        if let Some(path) = &args.records { from_file(path, args)? } else { from_agent(args)? };
    let period = args.period.period();
    let mut compared = None;
    if !args.cloudtrail.is_empty() {
        let callers: BTreeSet<String> = args.instance.iter().cloned().chain(instance).collect();
        let mut trail = Trail::new(&ours, Whose { callers, product: product.clone(), period });
        each_call(&args.cloudtrail, &mut |call| trail.meet(&call))?;
        each_call(&args.cloudtrail, &mut |call| trail.take(call))?;
        compared = Some(trail.finish());
    }
    let mut reported = None;
    if !args.seller_report.is_empty() {
        let mut report = Report::default();
        for path in &args.seller_report {
            report.read(open(path)?, product.as_deref()).map_err(|why| unread(path, &why))?;
        }
        let report = if let Some(account) = &args.customer { report.of_customer(account) } else { report };
        reported = Some(report.compare(&ours, period).map_err(|why| (exit::USAGE, why))?);
    }
    Ok((compared, reported))
}

/// Tells every call of the files, in order.
fn each_call(files: &[PathBuf], tell: &mut dyn FnMut(Call)) -> Result<(), Failure> {
    for path in files {
        let mut each = |fields| event::read(&fields).into_iter().for_each(&mut *tell);
        match trail::read(open(path)?, &mut each) {
            Ok(true) => {}
            Ok(false) => return Err(unread(path, "it holds no events of CloudTrail")),
            Err(why) => return Err(unread(path, &why)),
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| unread(path, &error.to_string()))
}

fn unread(path: &Path, why: &str) -> Failure {
    (exit::REFUSED, format!("{}: {why}; nothing was compared", path.display()))
}

fn from_agent(args: &Reconcile) -> Result<Held, Failure> {
    let socket = args.target.socket().map_err(|message| (exit::CONFIG, message))?;
    let ask = |path| get(&socket, path).map_err(|none| (none.code(), none.message));
    let unlike = |error: String| {
        (exit::UNREACHABLE, format!("the agent's answer cannot be read ({error}); is it of another version?"))
    };
    let records: Vec<RecordView> =
        serde_json::from_slice(&ask("/v1/records")?).map_err(|error| unlike(error.to_string()))?;
    let status: Value = serde_json::from_slice(&ask("/v1/status")?).map_err(|error| unlike(error.to_string()))?;
    let word = |name: &str| status[name].as_str().map(str::to_owned);
    Ok(Held {
        ours: Ours::new(&records).map_err(unlike)?,
        instance: word("instance_id"),
        product: word("product_code"),
    })
}

fn from_file(path: &Path, args: &Reconcile) -> Result<Held, Failure> {
    let mut records: Vec<RecordView> = Vec::new();
    for (line, text) in BufReader::new(open(path)?).lines().enumerate() {
        let text = text.map_err(|error| unread(path, &error.to_string()))?;
        if !text.trim().is_empty() {
            let record = serde_json::from_str(&text);
            records.push(record.map_err(|error| {
                unread(path, &format!("line {} is no record of `meterd records --json` ({error})", line + 1))
            })?);
        }
    }
    let ours = Ours::new(&records).map_err(|why| unread(path, &why))?;
    Ok(Held { ours, instance: None, product: args.product.clone() })
}

fn show(compared: &Comparison) {
    match (&compared.from, &compared.to) {
        (Some(from), Some(to)) => say!("CloudTrail, hours from {from} to before {to}, {} events", compared.events),
        _ => say!("CloudTrail: no record of ours in {} events, and no month named", compared.events),
    }
    for (count, what) in [
        (compared.matched, "matched"),
        (compared.missing_at_aws, "missing at AWS"),
        (compared.unknown_to_us, "unknown to us"),
        (compared.different_quantity, "with another quantity"),
        (compared.pending, "still on their way"),
    ] {
        say!("  {count:>8} {what}");
    }
    say!("\n{:<20} {:>15} {:>15}", "billed units", "ours", "AWS");
    for (dimension, units) in &compared.units {
        say!("{:<20} {:>15} {:>15}", on_one_line(dimension), units.ours, units.aws);
    }
    let differing = |row: &&Row| !matches!(row.result, Found::Matched | Found::Pending);
    for row in compared.rows.iter().filter(differing).take(SHOWN_MAX) {
        say!("\n{}", difference(row));
    }
    let more = compared.rows.iter().filter(differing).count().saturating_sub(SHOWN_MAX);
    if more > 0 {
        say!("\nand {more} more: --json has all");
    }
    notes(compared);
}

fn difference(row: &Row) -> String {
    let units = |units: Option<u32>| units.map_or("nothing".to_owned(), |units| units.to_string());
    let customer = row.customer.as_ref().map_or_else(String::new, |customer| format!(" of {customer}"));
    let (hour, dimension) = (row.hour, on_one_line(&row.dimension));
    let what = match (row.result, row.state.as_deref()) {
        (Found::MissingAtAws, _) => "missing at AWS".to_owned(),
        (Found::DifferentQuantity, _) => "another quantity".to_owned(),
        (_, Some(state)) => format!("AWS has it, here it is {state}"),
        (_, None) => "unknown to us".to_owned(),
    };
    let id = row.metering_record_id.as_ref().map_or_else(String::new, |id| format!(" (record {})", on_one_line(id)));
    let mut text =
        format!("{hour} {dimension}{customer}: {what}: ours {}, AWS {}{id}", units(row.ours), units(row.aws));
    match row.state.as_deref() {
        Some("in_doubt") if row.result == Found::UnknownToUs => {
            let customer = row.customer.as_ref().map_or_else(String::new, |customer| format!(" --customer {customer}"));
            text += &format!("\n  do: meterd settle {hour} {dimension} accepted{customer}");
        }
        _ => {}
    }
    text
}

fn notes(compared: &Comparison) {
    let sum = |counts: &std::collections::BTreeMap<String, u64>| {
        counts.iter().map(|(what, count)| format!("{} {count}", on_one_line(what))).collect::<Vec<_>>().join(", ")
    };
    let mut notes = Vec::new();
    let mut note = |count: u64, words: String| {
        if count > 0 {
            notes.push(words);
        }
    };
    let total = |counts: &std::collections::BTreeMap<String, u64>| counts.values().sum::<u64>();
    note(compared.repeated, format!("answered once more with the same record: {}", compared.repeated));
    note(compared.dry_runs, format!("dry runs: {}", compared.dry_runs));
    note(total(&compared.refused), format!("not taken by AWS: {}", sum(&compared.refused)));
    note(compared.unprocessed, format!("left by AWS for another call: {}", compared.unprocessed));
    note(compared.other_products, format!("records of other products: {}", compared.other_products));
    note(compared.outside, format!("records of other hours: {}", compared.outside));
    note(total(&compared.other_instances), format!("records of other instances: {}", sum(&compared.other_instances)));
    note(
        total(&compared.unattributed),
        format!("whose these are the trail does not tell (--instance NAME says ours): {}", sum(&compared.unattributed)),
    );
    note(total(&compared.unreadable), format!("answers that cannot be read: {}", sum(&compared.unreadable)));
    if let Some(newest) = compared.newest_event.as_ref().filter(|_| compared.missing_at_aws > 0) {
        notes.push(format!("the newest event is of {newest}: CloudTrail delivers within about 15 minutes"));
    }
    if !notes.is_empty() {
        say!("\n{}", notes.join("\n"));
    }
}

fn show_report(compared: &Compared) {
    say!("\nSeller report: {} days and dimensions are equal, {} differ", compared.equal, compared.different);
    for day in compared.days.iter().filter(|day| !day.equal).take(SHOWN_MAX) {
        let when = day.day.as_deref().unwrap_or("in all");
        let customer =
            day.customer.as_ref().map_or_else(String::new, |customer| format!(" of {}", on_one_line(customer)));
        say!("  {when} {}{customer}: ours {}, AWS {}", on_one_line(&day.dimension), day.ours, day.aws);
    }
    if compared.other_products > 0 {
        say!("  rows of other products: {}", compared.other_products);
    }
}
