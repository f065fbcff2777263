//! `meterd report`: what a month came to.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::exit;
use super::say::{complain, on_one_line, say};
use super::state_dir::{Failure, StateDir};
use crate::hour;
use crate::report::{self, Report, Span, Sums, reason};
use crate::rollup::state::Phase;

/// So many records that did not go the plain way are shown without a file.
const SHOWN_MAX: usize = 20;

/// Show what a month came to: used, sent, accepted, billed, and why they differ
///
/// Reads the state directory, or a copy of one, and changes nothing; works beside a running agent. Without a flag a table;
/// the files have days, records with AWS's ids, and the page has plots besides.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// The month, as 2026-11, or a whole year, as 2026; in UTC
    #[arg(long, value_name = "M", value_parser = Span::parse)]
    month: Span,
    /// Write a table for a spreadsheet; - is standard output
    #[arg(long, value_name = "F")]
    csv: Option<PathBuf>,
    /// Write it for programs; - is standard output
    #[arg(long, value_name = "F")]
    json: Option<PathBuf>,
    /// Write a page for people, which needs nothing else; - is standard output
    #[arg(long, value_name = "F")]
    html: Option<PathBuf>,
    #[command(flatten)]
    state: StateDir,
}

/// Shows or writes it; returns the exit code.
pub fn run(args: &ReportArgs) -> u8 {
    match make(args) {
        Ok(()) => exit::FINE,
        Err((code, message)) => {
            complain!("meterd: {message}");
            code
        }
    }
}

fn make(args: &ReportArgs) -> Result<(), Failure> {
    let (disk, dir) = args.state.open()?;
    let report =
        report::read(&disk, &args.month).map_err(|why| (exit::UNSAFE_LOG, format!("{}: {why}", dir.display())))?;
    let mut to_stdout = false;
    let mut put = |file: &Option<PathBuf>, fill: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
        let Some(file) = file else { return Ok(()) };
        to_stdout |= file == Path::new("-");
        write(file, fill).map_err(|error| (exit::REFUSED, format!("writing {}: {error}", file.display())))
    };
    put(&args.csv, &|mut out| report::csv::write(&report, &mut out))?;
    put(&args.json, &|out| {
        serde_json::to_writer(&mut *out, &report::json::json(&report))?;
        out.write_all(b"\n")
    })?;
    put(&args.html, &|out| out.write_all(report::html::html(&report).as_bytes()))?;
    let files: Vec<&PathBuf> = [&args.csv, &args.json, &args.html].into_iter().flatten().collect();
    match files.is_empty() {
        true => shown(&report),
        false if !to_stdout => files.iter().for_each(|file| say!("wrote {}", file.display())),
        false => {}
    }
    Ok(())
}

/// Writes a file whole or not at all.
fn write(file: &Path, fill: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if file == Path::new("-") {
        let mut out = BufWriter::new(io::stdout().lock());
        return match fill(&mut out).and_then(|()| out.flush()) {
            // Whoever closes the pipe has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        };
    }
    // What stands there and is no plain file (/dev/stdout, a pipe) cannot be replaced by one.
    if fs::metadata(file).is_ok_and(|there| !there.is_file()) {
        let mut out = BufWriter::new(File::options().write(true).open(file)?);
        fill(&mut out)?;
        return out.flush();
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = file.with_file_name(name);
    let filled = (|| {
        let mut out = BufWriter::new(File::create(&part)?);
        fill(&mut out)?;
        out.flush()?;
        fs::rename(&part, file)
    })();
    if filled.is_err() {
        // The error that led here is the one to tell.
        let _ = fs::remove_file(&part);
    }
    filled
}

fn shown(report: &Report) {
    say!("metered usage, {}: product {}", report.span.words(), on_one_line(&report.product_code));
    let states = Phase::ALL.iter().map(|phase| (phase.name(), report.records_in(*phase))).filter(|(_, n)| *n > 0);
    let states: Vec<String> = states.map(|(name, n)| format!("{name} {n}")).collect();
    say!("records: {}", if states.is_empty() { "none".to_owned() } else { states.join("  ") });
    if !report.is_closed() {
        say!("the month is not over: hours from {} on are open", report.open_from);
    }
    for dimension in &report.dimensions {
        let accepted = dimension.total.of(Phase::Accepted).units;
        let unit = dimension.billing.as_ref().map(|b| format!(", one unit is {}", b.unit)).unwrap_or_default();
        say!("\n{}: {accepted} billed units accepted{unit}", on_one_line(&dimension.name));
        equation(&dimension.total);
    }
    for outage in &report.outages {
        let lasted = hour::span(outage.until.since(outage.from));
        say!("\nAWS did not take records for {lasted}: {} to {}", outage.from, outage.until);
    }
    for (from, until) in &report.away {
        say!("\nno agent ran for {}: {from} to {until}", hour::span(until.since(*from)));
    }
    exceptions(report);
    report.notes.iter().for_each(|note| say!("\nnote: {note}"));
    say!("\ndays, records and AWS's ids: --csv F or --json F; a page to read and print: --html F");
}

/// What came in, and where it is.
fn equation(total: &Sums) {
    let columns = total.columns();
    let width = columns.iter().map(|(_, amount)| amount.to_string().len()).max().unwrap_or(0);
    let part = |sign: &str, wanted: &dyn Fn(&str) -> bool| {
        for (name, amount) in columns.iter().filter(|(name, a)| wanted(name) && (*name == "received" || !a.is_zero())) {
            say!("  {sign} {:>width$}  {}", amount.to_string(), name.replace('_', " "));
        }
    };
    let came = |name: &str| matches!(name, "received" | "remainder_in" | "carried_in" | "rounded");
    part("+", &came);
    part("=", &|name| !came(name) && name != "late");
    if !total.late.is_zero() {
        say!("    {:>width$}  of what was received came late", total.late.to_string());
    }
    if !total.balanced() {
        say!("  these DO NOT ADD UP: see the notes, and run meterd verify");
    }
}

fn exceptions(report: &Report) {
    let all: Vec<_> = report.exceptions().collect();
    if all.is_empty() {
        return;
    }
    say!("\nrecords that did not go the plain way: {}", all.len());
    for (_, r) in all.iter().take(SHOWN_MAX) {
        let request = &r.record.request;
        let (name, state) = (on_one_line(&request.dimension).into_owned(), r.phase.name());
        say!("  {}  {name} {}  {state}: {}", r.record.key.hour, request.quantity, on_one_line(&reason(r)));
    }
    if all.len() > SHOWN_MAX {
        say!("  … and {} more", all.len() - SHOWN_MAX);
    }
}
