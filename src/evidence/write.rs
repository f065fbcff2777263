//! Makes the file.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Chain, VERSION, in_order, line};
use crate::hour::{Hour, Timestamp};
use crate::view::RecordView;

/// What the file is made of.
pub struct Source<'a> {
    /// The first hour of the month.
    pub month: Hour,
    /// The product's code.
    pub product: &'a str,
    /// The instance.
    pub instance: Option<&'a str>,
    /// When it is made.
    pub now: Timestamp,
    /// All records; those of other months are left out.
    pub records: &'a [RecordView],
    /// Entries of the log, oldest first.
    pub entries: &'a [Value],
}

/// Writes it; answers how many records it has.
///
/// # Errors
/// The writer's.
pub fn write(source: &Source<'_>, mut to: impl Write) -> io::Result<u64> {
    let month: String = source.month.to_string().chars().take(7).collect();
    let begin = Chain::begin(&month);
    let first = json!({ "version": VERSION, "month": month, "product": source.product, "instance": source.instance,
                        "made_at": source.now.to_string(), "made_by": env!("CARGO_PKG_VERSION") });
    let first = first.to_string();
    let heading = begin.after("evidence", &first);
    writeln!(to, "{}", line(&heading, "evidence", &first))?;
    let mut chain = begin;
    let mut link = |kind: &str, fact: &str| {
        chain = chain.after(kind, fact);
        writeln!(to, "{}", line(&chain, kind, fact))
    };
    let records = in_order(source.records, source.month);
    for record in &records {
        link("sealed", &sealed(record))?;
    }
    for record in &records {
        link("outcome", &outcome(record))?;
    }
    for entry in source.entries {
        link("entry", &entry.to_string())?;
    }
    let end =
        json!({ "first": heading.0, "sealed": records.len(), "outcome": records.len(), "entry": source.entries.len() });
    link("end", &end.to_string())?;
    to.flush()?;
    Ok(records.len() as u64)
}

/// What was measured: nothing of it changes once its hour is sealed.
pub(super) fn sealed(record: &RecordView) -> String {
    let r = record;
    json!({ "hour": r.hour, "dimension": r.dimension, "customer": r.customer, "license": r.license, "usage": r.usage,
            "carried_in": r.carried_in, "remainder_in": r.remainder_in, "remainder": r.remainder, "included": r.included,
            "late": r.late })
    .to_string()
}

fn outcome(record: &RecordView) -> String {
    let r = record;
    json!({ "hour": r.hour, "dimension": r.dimension, "customer": r.customer, "license": r.license,
            "generation": r.generation, "quantity": r.quantity, "timestamp": r.timestamp, "client_token": r.client_token,
            "allocations": r.allocations, "attempts": r.attempts, "first_attempt": r.first_attempt,
            "last_attempt": r.last_attempt, "last_error": r.last_error, "state": r.state,
            "metering_record_id": r.metering_record_id, "carried_into": r.carried_into, "hold": r.hold,
            "decided_by": r.decided_by, "decided_at": r.decided_at, "instance": r.instance })
    .to_string()
}
