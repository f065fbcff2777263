//! meterd: a durable usage-metering agent for software sold through AWS Marketplace.

pub mod cli;
pub mod clock;
pub mod config;
pub mod decimal;
pub mod hour;
pub mod disk;
pub mod wal;
pub mod config;
pub mod entry;
pub mod rollup;
pub mod tags;
pub mod index;
pub mod engine;
pub mod submit;
pub mod ingest;
