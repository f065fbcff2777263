//! Why an engine cannot be opened.

use crate::index::IndexError;
use crate::wal::{LogError, OpenError};

/// Why an engine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The log.
    #[error("the log: {0}")]
    Open(#[from] OpenError),
    /// The log, while recovery wrote to it.
    #[error("the log: {0}")]
    Log(#[from] LogError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// More dimensions than a log can number.
    #[error("this log knows {0} dimensions already; move the state directory away to start a new one")]
    TooManyDimensions(usize),
    /// The log is another kind of product's.
    #[error(
        "this log is of kind {log:?} and the configuration says {config:?}; each kind needs a state.dir of its own"
    )]
    OtherKind {
        /// Of the log.
        log: &'static str,
        /// Of the configuration.
        config: &'static str,
    },
}
