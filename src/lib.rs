//! meterd: a durable usage-metering agent for software sold through AWS Marketplace.

pub mod cli;
pub mod clock;
pub mod decimal;
pub mod hour;
pub mod simulate;
