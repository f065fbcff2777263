//! The command line: a file a command.

pub mod clock_flags;
pub mod simulate_aws;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A durable usage-metering agent for software sold through AWS Marketplace
#[derive(Debug, Parser)]
#[command(name = "meterd", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    SimulateAws(simulate_aws::SimulateAws),
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    match CommandLine::parse().command {
        Command::SimulateAws(args) => simulate_aws::run(args),
    }
}
