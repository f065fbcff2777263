//! The command line: a file a command. The only place that prints.

pub mod add;
pub mod attribution;
mod begin;
pub mod bench;
mod books;
pub mod check_config;
pub mod client;
pub mod clock_flags;
pub mod completions;
pub mod customers;
pub mod demo;
pub mod dispose;
pub mod doctor;
pub mod evidence;
pub mod exit;
pub mod export;
pub mod import;
pub mod inspect;
pub mod lessons;
mod log;
pub mod man;
mod period;
pub mod preview;
pub mod reconcile;
pub mod records;
pub mod release;
pub mod reload;
pub mod report;
pub mod run;
mod say;
pub mod scrub;
pub mod seal;
pub mod settle;
pub mod simulate_aws;
mod state_dir;
pub mod status;
mod terminal;
pub mod verify;
mod when;
mod whose;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// A durable usage-metering agent for software sold through AWS Marketplace
///
/// Applications report usage on a Unix socket. Every increment is on disk before it is answered `ok`; each hour's usage
/// becomes one record per dimension, which is sent to AWS until AWS has answered for it.
#[derive(Debug, Parser)]
#[command(name = "meterd", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Demo(demo::Demo),
    Add(add::Add),
    Status(status::StatusArgs),
    Records(records::Records),
    Report(report::ReportArgs),
    Preview(preview::PreviewArgs),
    Reconcile(reconcile::Reconcile),
    Import(import::Import),
    Export(export::Export),
    Evidence(evidence::EvidenceArgs),
    Settle(settle::Settle),
    Verify(verify::Verify),
    Inspect(inspect::Inspect),
    Release(release::Release),
    Reload(reload::Reload),
    Customers(customers::Customers),
    Adopt(dispose::Adopt),
    Discard(dispose::Discard),
    Scrub(scrub::Scrub),
    Seal(seal::Seal),
    CheckConfig(check_config::CheckConfig),
    Doctor(doctor::DoctorArgs),
    Attribution(attribution::AttributionArgs),
    SimulateAws(simulate_aws::SimulateAws),
    Bench(bench::Bench),
    Completions(completions::Completions),
    Man(man::Man),
}

/// The command line as it explains itself: help, man pages and completions are made from this.
pub fn command() -> clap::Command {
    lessons::taught(Cli::command())
}

/// Reads the command line, does what it says, and tells how it went.
pub fn main() -> ExitCode {
    let matches = command().try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors. A terminal that is gone reads neither.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::FINE });
        }
    };
    let code = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Add(args) => add::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Records(args) => records::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Preview(args) => preview::run(&args),
        Command::Reconcile(args) => reconcile::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Evidence(args) => evidence::run(&args),
        Command::Settle(args) => settle::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Release(args) => release::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Customers(args) => customers::run(&args),
        Command::Adopt(args) => dispose::adopt(&args),
        Command::Discard(args) => dispose::discard(&args),
        Command::Scrub(args) => scrub::run(&args),
        Command::Seal(args) => seal::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Attribution(args) => attribution::run(&args),
        Command::SimulateAws(args) => return simulate_aws::run(args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    };
    ExitCode::from(code)
}
