//! The binary `meterd`.

use std::process::ExitCode;

use clap::Parser;
use meterd::cli::check_config::{self, CheckConfig};
use meterd::cli::simulate_aws::{self, SimulateAws};

#[derive(Parser)]
enum Command {
    CheckConfig(CheckConfig),
    SimulateAws(SimulateAws),
}

fn main() -> ExitCode {
    match Command::parse() {
        Command::CheckConfig(args) => ExitCode::from(check_config::run(&args)),
        Command::SimulateAws(args) => simulate_aws::run(args),
    }
}
