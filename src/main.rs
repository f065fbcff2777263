//! The binary `meterd`.

use std::process::ExitCode;

use clap::Parser;
use meterd::cli::check_config::{self, CheckConfig};

#[derive(Parser)]
enum Command {
    CheckConfig(CheckConfig),
}

fn main() -> ExitCode {
    match Command::parse() {
        Command::CheckConfig(args) => ExitCode::from(check_config::run(&args)),
    }
}
