//! What the service says: the one success of MeterUsage, and its refusals by AWS's names.

use std::borrow::Cow;

/// A call that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    /// The record stands under this id.
    Recorded {
        /// The same id for every identical request.
        metering_record_id: String,
    },
    /// Any other answer, in full.
    Body(serde_json::Value),
    /// A dry run that would have been granted (only with `dry_run_ok`; AWS itself answers `DryRunOperation`).
    DryRun,
}

/// An error answer: AWS's code, its HTTP status and a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The exception's name, as in `__type` and `x-amzn-ErrorType`.
    pub code: Cow<'static, str>,
    /// What is wrong with which value.
    pub message: String,
}

/// The code of a dry run that would have been granted.
pub const DRY_RUN_OPERATION: &str = "DryRunOperation";

impl Refusal {
    /// A refusal of the request (HTTP 400), which is how awsJson answers nearly everything.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Refusal::with_status(400, code, message)
    }

    /// A refusal with a status of its own.
    pub fn with_status(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Refusal { status, code: code.into(), message: message.into() }
    }

    /// The body is not what awsJson can read.
    pub fn serialization(message: impl Into<String>) -> Self {
        Refusal::new("SerializationException", message)
    }

    /// Members outside the service model's bounds, in the words AWS uses for them.
    pub fn validation(violations: &[String]) -> Self {
        let errors = if violations.len() == 1 { "error" } else { "errors" };
        let message = format!("{} validation {errors} detected: {}", violations.len(), violations.join("; "));
        Refusal::new("ValidationException", message)
    }
}
