//! The real binary from outside, as a user meets it: one module a promise.
//!
//! Every wait polls a condition until a deadline far away, clocks are the agent's own (`--clock-start`,
//! `--clock-speed`), and every test has a directory, a socket and an AWS of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test says what it skips, and shows the agent's log")]
#![allow(clippy::float_arithmetic, reason = "a test's own clock counts no money")]

mod fake_aws;
mod socket;
mod world;

mod alert;
mod allowed;
mod answers;
mod attribution;
mod aws;
mod cli;
mod clocks;
mod clones;
mod connection;
mod crash;
mod credentials;
mod customers;
mod doctor;
mod ec2;
mod ending;
mod errors;
mod gate;
mod held;
mod help;
mod hostile;
mod http;
mod late_name;
mod lifecycle;
mod limits;
mod logs;
mod measures;
mod metrics;
mod mid_request;
mod network;
mod newcomer;
mod nine_hours;
mod openapi;
mod outages;
mod piped;
mod protocol;
mod quiet;
mod reload;
mod verify;
mod watching;
