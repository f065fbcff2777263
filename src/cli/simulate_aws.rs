//! `meterd simulate-aws`: the simulated Metering Service as a process of its own.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::clock_flags::ClockFlags;
use super::exit::{REFUSED, USAGE};
use super::say::complain;
use crate::config::duration::parse_span;
use crate::simulate::script::parse_script;
use crate::simulate::{Fault, Options, Simulation};

/// The largest script that is read.
const SCRIPT_BYTES_MAX: u64 = 1024 * 1024;

/// A simulated AWS Marketplace Metering Service that keeps AWS's rules: for trying meterd, and for sellers' own tests
///
/// Point a client at it with the endpoint address it prints and any credentials; an instance is an access key id.
/// Signatures are not verified and nothing is kept after it stops.
/// `GET /ledger` tells what it holds, `GET /calls` the last calls, `POST /faults` makes the next calls fail.
#[derive(Debug, Args)]
pub struct SimulateAws {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4000", value_parser = address)]
    listen: SocketAddr,

    /// Faults to play: a TOML file of [[fault]] tables
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,

    /// A product code that exists (repeatable); without, any does
    #[arg(long = "product", value_name = "CODE")]
    products: Vec<String>,

    /// A dimension that exists (repeatable); without, any does
    #[arg(long = "dimension", value_name = "NAME")]
    dimensions: Vec<String>,

    /// How far back a record is accepted
    #[arg(long, value_name = "SPAN", default_value = "6h", value_parser = parse_span)]
    window: Duration,

    /// Answer a granted dry run with HTTP 200 instead of the error DryRunOperation
    #[arg(long)]
    dry_run_ok: bool,

    /// Write every call as CloudTrail would show it, a JSON event a line; the file is made anew
    #[arg(long, value_name = "FILE")]
    cloudtrail: Option<PathBuf>,

    #[command(flatten)]
    clock: ClockFlags,

    /// Let --listen be an address that other machines can reach
    #[arg(long)]
    allow_remote: bool,
}

/// Runs the service until SIGINT or SIGTERM.
pub fn run(args: SimulateAws) -> ExitCode {
    if !args.listen.ip().is_loopback() && !args.allow_remote {
        let listen = args.listen;
        return fail(
            USAGE,
            &format!("--listen {listen} is not a loopback address; add --allow-remote if that is meant"),
        );
    }
    let faults = match args.script.as_deref().map(read_script).transpose() {
        Ok(faults) => faults.unwrap_or_default(),
        Err(message) => return fail(USAGE, &message),
    };
    // Before the address is printed: whoever reads it may stop us at once.
    let mut signals = match Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => return fail(REFUSED, &format!("cannot wait for signals: {error}")),
    };
    let options = Options {
        products: args.products,
        dimensions: args.dimensions,
        window: args.window,
        dry_run_ok: args.dry_run_ok,
        faults,
        cloudtrail: args.cloudtrail,
    };
    let simulation = match Simulation::start(args.listen, args.clock.clock(), options) {
        Ok(simulation) => simulation,
        Err(error) => {
            let listen = args.listen;
            let remedy = "choose another with --listen, or another file with --cloudtrail";
            return fail(REFUSED, &format!("cannot listen on {listen}, or not write: {error}; {remedy}"));
        }
    };
    // A reader behind a pipe waits for this line; one that has closed its end does not keep the service from serving.
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "listening on http://{}", simulation.addr()).and_then(|()| stdout.flush());
    signals.forever().next();
    drop(simulation);
    ExitCode::SUCCESS
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an address and a port, like 127.0.0.1:4000".to_owned())
}

fn read_script(path: &Path) -> Result<Vec<Fault>, String> {
    let shown = path.display();
    let unreadable =
        |error: std::io::Error| format!("cannot read {shown}: {error}; name a readable file with --script");
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > SCRIPT_BYTES_MAX {
        return Err(format!("{shown} has {bytes} bytes; a script has at most {SCRIPT_BYTES_MAX}"));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse_script(&text).map_err(|error| format!("{shown}:{}: {}", error.line, error.message))
}

fn fail(code: u8, message: &str) -> ExitCode {
    complain!("meterd simulate-aws: {message}");
    ExitCode::from(code)
}
