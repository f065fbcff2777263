//! `meterd completions`: what a shell completes, from the definitions of the command line.

use std::io::{self, Write};

use clap_complete::Shell;

use super::exit;
use super::say::complain;

/// Print the completions of a shell
///
/// The packages install them. Elsewhere put them where your shell looks, or read them where it starts.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints them; returns the exit code.
pub fn run(args: &Completions) -> u8 {
    // The library stops at a pipe that is closed early; a buffer never is.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "meterd", &mut script);
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain!("meterd: writing the completions: {error}; see where standard output goes");
            exit::REFUSED
        }
        _ => exit::FINE,
    }
}
