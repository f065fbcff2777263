//! The roll-up: what the books say, as a pure fold over the log's entries, and how an hour is sealed.
//!
//! [`state`] is all that the agent knows; [`apply`] is the fold; [`seal`] closes an hour; [`share`] splits billed
//! units over tags; [`books`] shows that everything balances. Nothing here asks the time or touches the disk: the same
//! entries give the same state and the same seals, always.

pub mod apply;
pub mod books;
pub mod refused;
mod seal;
pub mod share;
pub mod state;
pub mod tagged;

pub use state::State;
