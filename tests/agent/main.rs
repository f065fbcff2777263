//! The real binary from outside, as a user meets it: one module a promise.
//!
//! Every wait polls a condition until a deadline far away, clocks are the agent's own (`--clock-start`,
//! `--clock-speed`), and every test has a directory, a socket and an AWS of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was skipped, and the agent's log after a failure")]
#![allow(clippy::float_arithmetic, reason = "clocks of tests; usage stays in integers here too")]

mod fake_aws;
mod socket;
mod world;

mod answers;
mod aws;
mod cli;
mod crash;
mod http;
mod lifecycle;
mod limits;
mod outages;
mod protocol;
