//! Month end from outside: what this log holds against CloudTrail and AWS's reports, usage by hand, and the way back. The real
//! binary, on files written by hand from AWS's documented formats and on what the simulated AWS writes of a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test says what it skips, and shows the agent's log")]
#![allow(clippy::float_arithmetic, reason = "a test's own clock counts no money")]
#![allow(dead_code, reason = "what the agent's tests use of the modules below is more than is used here")]

#[path = "../agent/fake_aws.rs"]
mod fake_aws;
#[path = "../agent/socket.rs"]
mod socket;
#[path = "../agent/world.rs"]
mod world;

mod by_hand;
mod evidence;
mod reconcile;
mod simulated;
