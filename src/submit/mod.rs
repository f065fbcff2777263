//! Submission: from a sealed record to AWS's final word.
//!
//! [`answer`] says what each answer means (pure); [`outbox`] what to try next and when (pure); [`aws`] is the only file
//! that knows the SDK, and [`tagging`] its neighbour, which metering never calls.

pub mod answer;
pub mod aws;
pub mod dispatch;
pub mod outbox;
pub mod tagging;
