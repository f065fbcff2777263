//! The command line: a file a command.

pub mod check_config;
pub mod clock_flags;
pub mod simulate_aws;
