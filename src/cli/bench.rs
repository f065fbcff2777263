//! `meterd bench`: what this disk can do, and what the agent makes of it.

mod table;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::exit;
use super::say::{complain, json_line, say};
use crate::bench::{self, Part, Plan, Report};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Measure what this disk can do, and the agent on it
///
/// Prints side by side, measured in turn: raw syncs, a bare echo over a socket, and acknowledged increments a second with
/// their latencies, from 1 to 256 connections and pipelined, as JSON lines and over HTTP, with and without keys and tags;
/// bytes on disk, processor time and memory; how fast a log is read back and an hour sealed.
///
/// The agent that is measured is this program as a child process, with a state of its own and a simulated AWS, in a
/// directory that is removed afterwards. Meanwhile it takes some gigabytes of the disk.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// A directory on the disk to measure: the one that is to hold the state
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,

    /// How long load and raw syncs are measured altogether
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,

    /// One round of two seconds: whether it runs, not how fast
    #[arg(long, conflicts_with = "seconds")]
    quick: bool,

    /// For programs
    #[arg(long)]
    json: bool,

    /// Only these parts [default: all]
    #[arg(value_name = "WHAT")]
    what: Vec<What>,
}

/// A part of the run.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    /// Increments as JSON lines
    Lines,
    /// Increments over HTTP
    Http,
    /// Bytes on disk
    Disk,
    /// Reading a log back
    Recovery,
    /// Sealing an hour
    Rollup,
}

impl From<What> for Part {
    fn from(what: What) -> Part {
        match what {
            What::Lines => Part::Lines,
            What::Http => Part::Http,
            What::Disk => Part::Disk,
            What::Recovery => Part::Recovery,
            What::Rollup => Part::RollUp,
        }
    }
}

/// Measures; returns the exit code.
pub fn run(args: &Bench) -> u8 {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&interrupted)) {
            return fail(&format!("cannot wait for signals: {error}"));
        }
    }
    let is_interrupted = || interrupted.load(Ordering::Relaxed);
    let spinner = spinner();
    let measured =
        std::env::current_exe().map_err(|error| format!("cannot find this program: {error}")).and_then(|this| {
            bench::run(&args.plan(), &args.dir, &this, &is_interrupted, &|what| spinner.set_message(what.to_owned()))
        });
    spinner.finish_and_clear();
    match measured {
        Ok(report) => show(args, &report),
        // Ctrl-C goes to the agent as well: what fails because of that is no failure.
        Err(_) if is_interrupted() => {
            complain!("interrupted");
            exit::INTERRUPTED
        }
        Err(message) => fail(&message),
    }
}

impl Bench {
    fn plan(&self) -> Plan {
        let all = [What::Lines, What::Http, What::Disk, What::Recovery, What::Rollup];
        let what = if self.what.is_empty() { &all[..] } else { &self.what };
        let parts = what.iter().copied().map(Part::from).collect();
        match self.quick {
            true => Plan { parts, span: Duration::from_secs(2), rounds: 1, log_of: 100_000 },
            false => Plan { parts, span: Duration::from_secs(self.seconds.into()), rounds: 5, log_of: 8_000_000 },
        }
    }
}

fn show(args: &Bench, report: &Report) -> u8 {
    if args.json {
        return match json_line(&mut io::stdout(), report) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                fail(&format!("writing the report: {error}; see where standard output goes"))
            }
            _ => exit::FINE,
        };
    }
    table::lines(report).iter().for_each(|line| say!("{line}"));
    exit::FINE
}

/// What is measured now, on a terminal.
fn spinner() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(TICK);
    spinner
}

fn fail(message: &str) -> u8 {
    complain!("meterd bench: {message}");
    exit::REFUSED
}
