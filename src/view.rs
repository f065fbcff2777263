//! A record as people and programs see it: what `records --json` prints and `GET /v1/records` answers.

pub mod customers;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::entry::{Buyer, Hold};
use crate::index::History;
use crate::rollup::State;
use crate::rollup::state::{Phase, RecordState};

/// One record. Amounts are decimals in usage units, `quantity` is in billed units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordView {
    /// The sealed hour.
    pub hour: String,
    /// The dimension.
    pub dimension: String,
    /// SaaS products: whose usage, as an account id.
    pub customer: Option<String>,
    /// SaaS products: the licence it is sent under. Left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What AWS is sent.
    pub quantity: u32,
    /// Measured in the hour.
    pub usage: String,
    /// Taken over from records that could no longer be sent.
    pub carried_in: String,
    /// Taken over from the hour before.
    pub remainder_in: String,
    /// Left for the next hour.
    pub remainder: String,
    /// Of `usage`, what came late.
    pub late: String,
    /// pending, accepted, held, conflict, in_doubt, carried or expired.
    pub state: String,
    /// AWS's id.
    pub metering_record_id: Option<String>,
    /// As sent.
    pub timestamp: String,
    /// As sent; empty for a customer's record, whose operation takes none.
    pub client_token: String,
    /// Attempts begun.
    pub attempts: u32,
    /// When the first began.
    pub first_attempt: Option<String>,
    /// When the last began.
    pub last_attempt: Option<String>,
    /// What the last one failed with.
    pub last_error: Option<String>,
    /// The hour whose record took its units.
    pub carried_into: Option<String>,
    /// Shares by tags, as sent.
    pub allocations: Vec<AllocationView>,
    /// Of `usage`, what the base price covers.
    pub included: String,
    /// What `quantity` stands for, in usage units.
    #[serde(default)]
    pub value: String,
    /// Why it waits for a person before it is sent: `above 1000` (billed units, its `hold_above`) or `damaged` (the disk
    /// lost entries of its hour).
    pub hold: Option<String>,
    /// The user who decided about it last.
    pub decided_by: Option<u32>,
    /// When.
    pub decided_at: Option<String>,
    /// Counts up from 0 when a record is fixed anew: one that AWS refused, under a mended product code, or one that a
    /// person capped.
    pub generation: u32,
    /// The other instance whose record it is, where this log was one's before: it is not sent as this instance's. Left out
    /// where it is this instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// Why a record is held whose customer the register does not know.
const UNKNOWN_CUSTOMER: &str =
    "the register of customers does not know this one; sent once it does: meterd customers add";

/// The records that something can still happen to, with the name of those that are another instance's.
pub type Current = Vec<(Option<String>, RecordState)>;

/// Those of `state`.
pub fn current(state: &State) -> Current {
    let fresh = state.customers().into_iter().flat_map(|customers| customers.fresh());
    let fresh = fresh.filter_map(|(key, _)| Some((None, RecordState::sealed(state.fresh_record(&key)?))));
    let unknown = state.register().into_iter().flat_map(|register| register.waiting());
    let unknown = unknown.filter_map(|(key, _)| {
        let sealed = RecordState::sealed(state.fresh_record(&key)?);
        Some((None, RecordState { phase: Phase::Held, last_error: Some(UNKNOWN_CUSTOMER.to_owned()), ..sealed }))
    });
    let own = state.records.values().map(|record| (None, record.clone()));
    own.chain(fresh)
        .chain(unknown)
        .chain(state.records_of_others().map(|(name, record)| (Some(name.to_owned()), record)))
        .collect()
}

/// A share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationView {
    /// Billed units.
    pub quantity: u32,
    /// The tags; empty for usage without.
    pub tags: BTreeMap<String, String>,
}

impl From<&RecordState> for RecordView {
    fn from(state: &RecordState) -> Self {
        let record = &state.record;
        let request = &record.request;
        let allocations = request.allocations.iter().map(|a| AllocationView {
            quantity: a.quantity,
            tags: a.tags.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        });
        let buyer = record.key.account().and_then(|_| request.buyer());
        let token = if buyer.is_some() { String::new() } else { request.client_token.clone() };
        RecordView {
            hour: record.key.hour.to_string(),
            dimension: request.dimension.clone(),
            customer: buyer.as_ref().map(Buyer::customer_id),
            license: buyer.and_then(|buyer| buyer.license),
            quantity: request.quantity,
            value: record.value.to_string(),
            usage: record.usage.to_string(),
            carried_in: record.carried_in.to_string(),
            remainder_in: record.remainder_in.to_string(),
            remainder: record.remainder.to_string(),
            late: record.late.to_string(),
            state: state.phase.name().to_owned(),
            metering_record_id: state.metering_record_id.clone(),
            timestamp: request.timestamp.to_string(),
            client_token: token,
            attempts: state.attempts,
            first_attempt: state.first_attempt.map(|t| t.to_string()),
            last_attempt: state.last_attempt.map(|t| t.to_string()),
            last_error: state.last_error.clone(),
            carried_into: state.carried_into.map(|h| h.to_string()),
            allocations: allocations.collect(),
            included: record.included.to_string(),
            hold: record.hold.map(hold_words),
            decided_by: state.decided.map(|(peer, _)| peer.uid),
            decided_at: state.decided.map(|(_, at)| at.to_string()),
            generation: record.key.times_fixed(),
            instance: None,
        }
    }
}

fn hold_words(hold: Hold) -> String {
    match hold {
        Hold::Above(ceiling) => format!("above {ceiling}"),
        Hold::Damaged => "damaged".to_owned(),
    }
}

/// All records, oldest first: those that something can still happen to, and the final ones.
pub fn records(current: Current, history: History) -> Result<Vec<RecordView>, String> {
    let mut all: Current = history.read()?.into_iter().map(|record| (None, record)).collect();
    all.extend(current);
    all.sort_by_key(|(_, r)| r.record.key);
    Ok(all.into_iter().map(|(instance, record)| RecordView { instance, ..RecordView::from(&record) }).collect())
}
