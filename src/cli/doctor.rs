//! `meterd doctor`: before going live, what has to be right, and what to do where it is not.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::exit;
use super::say::{complain, on_one_line, plain, say};
use super::terminal::{Paint, Terminal, print};
use crate::agent::checks::machine;
use crate::clock::SystemClock;
use crate::config::{Config, Overrides};
use crate::doctor::{Doctor, Finding, State, billed};

/// Check what has to be right before the first record, and say what to do where it is not
///
/// The role, the Region, the way to AWS, the clock, the product code on the instance, a dry run for each dimension (which
/// meters nothing), the disk and the socket. Works before the agent runs and beside it. Run it as root or as the agent's
/// own user.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// The configuration file [default: METERD_CONFIG, else /etc/meterd/meterd.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON: an array of {"check","state","found","do"}
    #[arg(long)]
    json: bool,
}

/// Examines, and shows what was found; returns the exit code.
pub fn run(args: &DoctorArgs) -> u8 {
    let loaded = Overrides::from_env(|name| std::env::var_os(name)).and_then(|overrides| {
        let path = overrides.config_path(args.config.as_deref());
        Config::load_for_run(&path, &overrides)
    });
    let config = match loaded {
        Ok(config) => config,
        Err(errors) => {
            complain!("meterd: {errors}");
            return exit::CONFIG;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("meterd: starting: {error}");
            return exit::REFUSED;
        }
    };
    let (dimensions, heading) = (billed(&config), format!("product {}", config.product.code));
    let doctor = Doctor::new(config, machine(), Arc::new(SystemClock::default())).guessing();
    let progress = progress();
    let findings =
        runtime.block_on(doctor.examine(&dimensions, &|step| progress.set_message(plain(step).into_owned())));
    progress.finish_and_clear();
    // A disk that hangs is not waited for once more.
    runtime.shutdown_background();
    if args.json {
        say!("{}", serde_json::to_value(&findings).unwrap_or_default());
    } else {
        say!("meterd doctor: {heading}\n");
        print(&shown(&findings, &Terminal::look()));
    }
    if findings.iter().any(|finding| finding.state == State::Fails) { exit::REFUSED } else { exit::FINE }
}

/// What is being asked, on a terminal.
fn progress() -> ProgressBar {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("  {spinner} asking: {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

/// Lines that are harmless, some of them in colour.
fn shown(findings: &[Finding], terminal: &Terminal) -> Vec<String> {
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    let mut out = Vec::new();
    for Finding { check, state, found, remedy } in findings {
        let (word, paint) = match state {
            State::Ok => ("ok", Paint::Good),
            State::Fails => ("fails", Paint::Bad),
            State::Unknown => ("unknown", Paint::Doubtful),
        };
        let word = terminal.paint(paint, &format!("{word:<7}"));
        out.push(format!("  {word}  {:<width$}  {}", on_one_line(check), on_one_line(found)));
        out.extend(remedy.iter().map(|remedy| format!("           {:width$}  do: {}", "", on_one_line(remedy))));
    }
    let count = |wanted| findings.iter().filter(|finding| finding.state == wanted).count();
    let (ok, fails, unknown) = (count(State::Ok), count(State::Fails), count(State::Unknown));
    out.extend([String::new(), format!("{ok} ok, {fails} fails, {unknown} unknown")]);
    out
}
