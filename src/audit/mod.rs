//! The log judged from outside: every checksum, the chain, the fold against its checkpoints, and the books summed once
//! more by another way than the agent's. Reads only, and believes nothing that was not looked at.

mod account;
mod customers;
pub mod describe;
mod describe_customers;
mod ends;
mod ledger;
mod others;
mod register;
mod verify;
mod waiting;

pub use verify::{Finding, Report, verify};
