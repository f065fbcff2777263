//! What the service holds and what it has seen, as tests and sellers read it (`GET /ledger`, `GET /calls`).

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;

use serde::{Serialize, Serializer};

use super::allocations::Allocation;
use super::rules::Record;
use crate::hour::{Hour, Timestamp};

/// Calls kept for `GET /calls`, and bytes of request bodies among them.
const CALLS_KEPT_MAX: usize = 1000;
const CALL_BYTES_KEPT_MAX: usize = 16 * 1024 * 1024;

/// Everything that stands in the books, and how the calls were answered. Moments are RFC 3339 in UTC.
#[derive(Debug, Clone, Serialize)]
pub struct Ledger {
    /// The service's clock.
    #[serde(serialize_with = "as_text")]
    pub now: Timestamp,
    /// When the service was started, on its clock.
    #[serde(serialize_with = "as_text")]
    pub started: Timestamp,
    /// In the order they were accepted.
    pub records: Vec<LedgerRecord>,
    /// Billed units by dimension, over all instances, products and hours; without planted records.
    pub totals: BTreeMap<String, u64>,
    /// Calls of the service (`POST /`), however they ended.
    pub calls: u64,
    /// Dry runs that were granted, whichever way they are answered.
    pub dry_runs: u64,
    /// Calls that ended without an answer, by a fault.
    pub unanswered: u64,
    /// Error answers by code, `DryRunOperation` left out.
    pub rejected: BTreeMap<String, u64>,
    /// How often each kind of fault has hit a call.
    pub faults: BTreeMap<&'static str, u64>,
}

/// One record as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct LedgerRecord {
    /// The access key id that sent it.
    pub instance: String,
    /// As sent.
    pub product_code: String,
    /// As sent.
    pub dimension: String,
    /// The UTC clock hour it stands for.
    #[serde(serialize_with = "as_text")]
    pub hour: Hour,
    /// As sent, to the second.
    #[serde(serialize_with = "as_text")]
    pub timestamp: Timestamp,
    /// Billed units.
    pub quantity: u32,
    /// Empty where none were sent.
    pub allocations: Vec<Allocation>,
    /// Of BatchMeterUsage: the buyer's account id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// Of BatchMeterUsage: the licence, where one was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// As sent first.
    pub client_token: Option<String>,
    /// As answered.
    pub metering_record_id: String,
    /// When it was accepted, on the service's clock.
    #[serde(serialize_with = "as_text")]
    pub accepted_at: Timestamp,
    /// How many calls were judged to be this record, the first one included.
    pub calls: u64,
    /// Made to stand by the fault `other_quantity`, sent by nobody.
    pub planted: bool,
}

impl From<&Record> for LedgerRecord {
    fn from(record: &Record) -> Self {
        LedgerRecord {
            instance: record.instance.clone(),
            product_code: record.product_code.clone(),
            dimension: record.dimension.clone(),
            hour: record.hour,
            timestamp: record.timestamp,
            quantity: record.quantity,
            allocations: record.allocations.clone().unwrap_or_default(),
            customer: record.customer.clone(),
            license: record.license.clone(),
            client_token: record.client_token.clone(),
            metering_record_id: record.metering_record_id.clone(),
            accepted_at: record.accepted_at,
            calls: record.calls,
            planted: record.planted,
        }
    }
}

/// Billed units by dimension of what was sent.
pub fn totals(records: &[Record]) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for record in records.iter().filter(|record| !record.planted) {
        *totals.entry(record.dimension.clone()).or_default() += u64::from(record.quantity);
    }
    totals
}

/// One call as it came in and how it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// Counted from 1.
    pub number: u64,
    /// On the service's clock.
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    /// The `X-Amz-Target` header.
    pub target: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The access key id, where the signature could be read.
    pub instance: Option<String>,
    /// The raw body; bytes that are not UTF-8 are replaced.
    pub body: String,
    /// The fault it met.
    pub fault: Option<&'static str>,
    /// The `x-amzn-RequestId` of the answer.
    pub request_id: String,
    /// HTTP status of the answer; none if there was no answer.
    pub status: Option<u16>,
    /// The answer's body.
    pub answer: Option<String>,
}

/// The last calls, within bounds.
#[derive(Debug, Default)]
pub struct CallLog {
    calls: VecDeque<Call>,
    bytes: usize,
}

impl CallLog {
    /// Adds a call and forgets the oldest ones beyond the bounds.
    pub fn push(&mut self, call: Call) {
        self.bytes += call.body.len();
        self.calls.push_back(call);
        while self.calls.len() > CALLS_KEPT_MAX || self.bytes > CALL_BYTES_KEPT_MAX {
            let Some(oldest) = self.calls.pop_front() else { break };
            self.bytes -= oldest.body.len();
        }
    }

    /// The calls that are kept, oldest first.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter()
    }
}

fn as_text<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
