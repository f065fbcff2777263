//! What this disk and this machine can do by themselves, and what the agent makes of it: measured side by side and in
//! turn, so that a busy or slow machine changes the figures, hardly the ratios.
//!
//! `raw` and `echo` are the bases: a sync, and asking and answering. `load` asks an `agent`, a child process with a state of
//! its own; `offline` needs no socket. `run` has them take turns and puts together a [`Report`], `goals` holds it against
//! what is meant to be reached. `meterd bench` shows it; `benches/` and the comparators in `benches/comparators/` use the same
//! parts.

#![allow(clippy::float_arithmetic, reason = "figures of a measurement are no money")]

pub mod agent;
pub mod echo;
pub mod figures;
pub mod goals;
pub mod load;
pub mod machine;
pub mod offline;
pub mod place;
pub mod raw;
mod run;
pub mod words;

pub use run::{Case, DiskUse, Echoed, Part, Plan, Report, run};
