//! The roll-up: what the books say, as a pure fold over the log's entries, and how an hour is sealed.
//!
//! [`state`] is all that the agent knows and [`checkpoint`] its bytes, [`clocks`] what it knows of time; [`apply`] is the
//! fold; [`hourly`] is what an hour amounts to and [`seal`] closes it; [`foreign`] is whose usage it is and [`adopt`] takes
//! another's over; [`share`] splits billed units over tags; [`customers`] is all of
//! that for the buyers of a SaaS product; [`books`] shows that everything balances. Nothing here asks the
//! time or touches the disk: the same entries give the same state and the same seals, always.

pub mod adopt;
pub mod apply;
pub mod books;
pub mod checkpoint;
pub mod clocks;
pub mod customers;
pub mod foreign;
pub mod hourly;
pub mod more;
mod refused;
pub mod seal;
pub mod share;
pub mod state;
pub mod tagged;
mod time;
pub mod waiting;

pub use checkpoint::Checkpoint;
pub use state::State;
