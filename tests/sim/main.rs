//! The log on a disk that loses what was not synced; and the whole agent on it, beside writers, a clock and an AWS that
//! are simulated too (`world`).
//!
//! `METERD_SIM_SEEDS=10000 CARGO_PROFILE_DEV_OPT_LEVEL=1 cargo test --test sim -- --nocapture` for a long run, with
//! `of_the_whole_agent` behind it for the agent alone; `METERD_SIM_SEED=n` repeats one seed, or begins there;
//! `METERD_SIM_FULL=1` walks every second-level crash of the exhaustive part.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]
#![allow(clippy::print_stdout, reason = "counts of what was explored")]

mod allowed;
mod cuts;
mod disk;
mod echo;
mod exhaustive;
mod file;
mod flips;
mod format;
mod full;
mod inode;
mod machine;
mod names;
mod poison;
mod retention;
mod retention_full;
mod seeds;
mod setup;
mod verdicts;
mod world;
