//! The agent: the only place where the parts are wired together.
//!
//! Two threads do the work. [`core`] owns the engine and, through [`clients`], the socket: it reads every ready
//! connection, commits once and answers. The other one runs tokio: the [`submitter`], the [`checks`] and HTTP. They talk
//! through [`commands`]. A third one calls the [`alert`] command, where there is one. A writer's fast path never leaves the
//! core's thread, and nothing that AWS, metadata, a slow reader or a pager does can hold it up. What the others ask of the
//! core, `obey` does. Clients come in by the `door`; what they may cost each other is bounded by [`places`] (connections),
//! `pace` (time) and `memory` (bytes).

pub mod admin;
pub mod alert;
pub mod checks;
pub mod clients;
pub mod commands;
pub mod core;
mod door;
pub mod ending;
pub mod front;
mod heads;
pub mod http;
pub mod identity;
pub mod lock;
mod memory;
pub mod notices;
mod obey;
mod pace;
pub mod places;
pub(crate) mod recovery;
pub mod reload;
pub mod run;
pub mod submitter;
mod waiting;
mod watchdog;
