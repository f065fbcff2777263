//! `meterd status`: is metering working, and if not what to do.

mod look;
mod page;
mod verdict;
mod watch;
mod words;

use std::io::{self, IsTerminal};
use std::time::Duration;

use super::client::Target;
use super::exit;
use super::say::{complain, say};
use super::terminal::{Terminal, print};
use look::Look;

/// Between two looks of `--watch`, in seconds.
const WATCH_DEFAULT: &str = "2";

/// Show whether metering works, and if not what to do
///
/// The first line says it. Then comes what needs a person, the worst first, each with the command to type; then what is
/// open, what waits for AWS and until when, and where every unit of usage is. Moments are UTC. Where no agent answers it
/// shows what the state directory holds.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// The agent's own JSON; with --watch an object a line
    #[arg(long)]
    json: bool,
    /// Look again and again, every so many seconds [default: 2]; until Ctrl-C, also while no agent answers
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = WATCH_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    watch: Option<u32>,
    #[command(flatten)]
    target: Target,
}

/// Shows it; returns the exit code.
pub fn run(args: &StatusArgs) -> u8 {
    let socket = match args.target.socket() {
        Ok(socket) => socket,
        Err(message) => {
            complain!("meterd: {message}");
            return exit::CONFIG;
        }
    };
    let look = Look { socket, state_dir: args.target.state_dir() };
    if let Some(seconds) = args.watch {
        return watch::run(look, Duration::from_secs(u64::from(seconds)), args.json);
    }
    let seen = look.once();
    // A person at a terminal reads it on the page.
    if args.json || !io::stdout().is_terminal() {
        seen.complain();
    }
    if args.json {
        say!("{}", seen.json);
    } else {
        print(&page::lines(&seen.for_people(), &Terminal::look()));
    }
    seen.exit_code()
}
