//! meterd: a durable usage-metering agent for software sold through AWS Marketplace.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decimal;
pub mod disk;
pub mod engine;
pub mod entry;
pub mod hour;
pub mod index;
pub mod ingest;
pub mod rollup;
pub mod simulate;
pub mod status;
pub mod submit;
pub mod tags;
pub mod view;
pub mod wal;
