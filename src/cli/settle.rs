//! `meterd settle`: a person's word on a record that waits for one.

use clap::ValueEnum;
use serde_json::json;

use super::client::{Decided, Target, decide};
use super::exit;
use super::say::complain;
use super::when::hour;
use super::whose::Whose;
use crate::hour::Hour;

/// Decide about a record that waits for a person: held, conflict or in_doubt
///
/// Look it up in AWS's own records first (CloudTrail in the buyer's account, or the seller's reports): nobody can take a
/// record back. For root and the agent's own user. The log keeps who decided what.
#[derive(Debug, clap::Args)]
pub struct Settle {
    /// The record's hour: any moment in it (RFC 3339 or Unix seconds)
    #[arg(value_name = "HOUR", value_parser = hour)]
    hour: Hour,
    /// The record's dimension
    #[arg(value_name = "DIMENSION")]
    dimension: String,
    /// What is decided
    #[arg(value_name = "DECISION")]
    decision: Decision,
    /// With carry: its dimension was mistyped, its units go out with the next record of this one
    #[arg(long, value_name = "DIMENSION")]
    to: Option<String>,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Decision {
    /// AWS has it
    Accepted,
    /// AWS does not have it: its units go out with the next record
    Carry,
    /// Nobody is billed for it
    WriteOff,
    /// What AWS refused has been mended: send the same request again (held records only; after its window it is carried)
    Retry,
}

/// Sends the decision; returns the exit code.
pub fn run(args: &Settle) -> u8 {
    if args.to.is_some() && args.decision != Decision::Carry {
        complain!("meterd: only carry goes to another dimension: leave out --to, or decide carry");
        return exit::USAGE;
    }
    let decision = args.decision.to_possible_value().map(|v| v.get_name().to_owned());
    let Whose { customer, license } = &args.whose;
    let body = json!({ "hour": args.hour.to_string(), "dimension": args.dimension, "decision": decision, "to": args.to,
                       "customer": customer, "license": license });
    let done = |became: &Decided| match became.decision.as_deref() {
        Some("carry") => "settled: its units go out with the next record",
        _ => "settled",
    };
    decide(&args.target, "/v1/settle", &body, done)
}
