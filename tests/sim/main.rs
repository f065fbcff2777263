//! The log, and the engine on it, on a disk that loses what was not synced.
//!
//! `METERD_SIM_SEEDS=100000 CARGO_PROFILE_DEV_OPT_LEVEL=2 cargo test --test sim -- --nocapture` for a long run;
//! `METERD_SIM_FULL=1` walks every second-level crash of the exhaustive part; `METERD_SIM_SEED=n` repeats one seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]
#![allow(clippy::print_stdout, reason = "counts of what was explored")]

mod cuts;
mod disk;
mod exhaustive;
mod file;
mod flips;
mod format;
mod inode;
mod machine;
mod names;
mod poison;
mod seeds;
mod setup;
mod verdicts;
mod world;
