//! `meterd release`: a person lets go of a record that is held for being above its dimension's ceiling.

use serde_json::json;

use super::client::{Target, decide};
use super::when::hour;
use super::whose::Whose;
use crate::hour::Hour;

/// Send a record that is held because it is above hold_above
///
/// Nobody can take a record back once AWS has it: make sure that the usage is real. For root and the agent's own user.
/// The log keeps who released what. To give it up altogether, see `meterd settle HOUR DIMENSION write-off`.
#[derive(Debug, clap::Args)]
pub struct Release {
    /// The record's hour: any moment in it (RFC 3339 or Unix seconds)
    #[arg(value_name = "HOUR", value_parser = hour)]
    hour: Hour,
    /// The record's dimension
    #[arg(value_name = "DIMENSION")]
    dimension: String,
    /// Send so many billed units at most; the rest is given up for good
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2_147_483_647))]
    at_most: Option<u32>,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    target: Target,
}

/// Sends the decision; returns the exit code.
pub fn run(args: &Release) -> u8 {
    let Whose { customer, license } = &args.whose;
    let body = json!({ "hour": args.hour.to_string(), "dimension": args.dimension, "at_most": args.at_most, "customer": customer,
                       "license": license });
    decide(&args.target, "/v1/release", &body, |done| match done.became.as_deref() {
        Some("carried") => "released past its window: its units go out with the next record",
        _ => "released: it is sent now",
    })
}
