//! `meterd verify`: every checksum and every sum of a state directory.

use super::books;
use super::exit;
use super::say::{complain, say};
use super::state_dir::StateDir;
use super::terminal::Terminal;
use crate::audit::{self, Report};

/// Check every checksum and every sum of a state directory
///
/// Reads only: works beside a running agent and on a copy. Checks segments, their chain and the archive, folds the log
/// and compares each checkpoint, and sums the books once more from the increments, seals and outcomes themselves.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateDir,
}

/// Verifies; returns the exit code.
pub fn run(args: &Verify) -> u8 {
    let verified = args.state.open().and_then(|(disk, dir)| {
        let failed = |why| (exit::UNSAFE_LOG, format!("{}: {why}", dir.display()));
        Ok((audit::verify(&disk).map_err(failed)?, dir))
    });
    let (report, dir) = match verified {
        Ok(verified) => verified,
        Err((code, message)) => {
            complain!("meterd: {message}");
            return code;
        }
    };
    if args.json {
        say!("{}", serde_json::to_value(&report).unwrap_or_default());
    } else {
        shown(&report, &dir.display().to_string());
    }
    if report.findings.is_empty() { exit::FINE } else { exit::REFUSED }
}

fn shown(report: &Report, dir: &str) {
    say!("{dir}: log {}", report.log);
    let range = report.segments.iter().map(u64::to_string).collect::<Vec<_>>().join(" to ");
    say!("segments {range}: {} entries, {} increments", report.entries, report.increments);
    say!("checkpoints that equal the entries before them: {}", report.checkpoints);
    say!("archive: {} files, {} records", report.archive_files, report.archived_records);
    let records: Vec<String> =
        report.records.iter().filter(|(_, n)| **n > 0).map(|(state, n)| format!("{state} {n}")).collect();
    say!("records: {}", if records.is_empty() { "none".into() } else { records.join("  ") });
    say!("\n{}", books::shown(&report.books, &Terminal::look()));
    if report.recomputed {
        say!("(each sum was reached twice: by the agent's fold, and from the entries themselves)");
    }
    report.notes.iter().for_each(|note| say!("\nnote: {note}"));
    for finding in &report.findings {
        say!("\nDAMAGE in {}: {}\n  do: {}", finding.place, finding.what, finding.remedy);
    }
    match report.findings.len() {
        0 => say!("\nfine"),
        n => say!("\n{n} found"),
    }
}
