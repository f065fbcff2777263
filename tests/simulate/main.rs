//! The simulated Metering Service keeps AWS's rules, over real HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

mod botocore;
mod client;
mod command;
mod faults;
mod rules;
mod wire;
