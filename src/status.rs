//! Whether metering works, and if not what to do: one view of the engine, for people and programs.

mod attention;
mod customers;
mod others;
mod with_person;

pub use attention::{Attention, SKEW_WARN_MS};
pub use customers::{CustomersStatus, UnknownStatus};

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::entry::Request;
use crate::gate;
use crate::hour::{Hour, Timestamp};
use crate::rollup::State;
use crate::rollup::books::Books;
use crate::rollup::state::Phase;

/// How many of the records that wait are shown one by one; `GET /v1/records` has them all.
const DEADLINES_SHOWN: usize = 5;

/// The answer of `GET /v1/status`.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Of meterd.
    pub version: &'static str,
    /// The instance that meters; null until known.
    pub instance_id: Option<String>,
    /// The product's code.
    pub product_code: String,
    /// Whether increments are taken.
    pub ready: bool,
    /// Seconds since the start, by the agent's clock.
    pub uptime_s: u64,
    /// The agent's clock.
    pub now: String,
    /// The log.
    pub log: LogStatus,
    /// The hour that usage counts in now.
    pub open_hour: OpenHourStatus,
    /// The end of this instance, if it is under way.
    pub ending: Option<EndingStatus>,
    /// Records by what became of them.
    pub records: BTreeMap<&'static str, u64>,
    /// The record whose window closes first.
    pub oldest_pending: Option<Pending>,
    /// That one and those after it, a few at most.
    pub next_deadlines: Vec<Pending>,
    /// What writers were refused since the start, by error.
    pub refused: BTreeMap<&'static str, u64>,
    /// What is known of AWS.
    pub aws: AwsStatus,
    /// SaaS products: the register of customers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customers: Option<CustomersStatus>,
    /// Where every unit is.
    pub books: Vec<Books>,
    /// Whether applications should go on.
    pub gate: &'static str,
    /// How AWS credits the seller; null until looked at.
    pub attribution: Option<AttributionStatus>,
    /// What a person should look at, most urgent first.
    pub attention: Vec<Attention>,
}

/// Figures of the log.
#[derive(Debug, Clone, Serialize)]
pub struct LogStatus {
    /// Increments acknowledged since the log was made.
    pub accepted_seq: u64,
    /// How many segments it has.
    pub segments: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Increments that damage to the disk took, of those that were acknowledged.
    pub lost_increments: u64,
    /// Whether it takes nothing more.
    pub poisoned: bool,
    /// Whether usage is refused for want of room.
    pub disk_full: bool,
    /// The slowest sync since the start, in milliseconds.
    pub slowest_sync_ms: u64,
}

/// The open hour.
#[derive(Debug, Clone, Serialize)]
pub struct OpenHourStatus {
    /// Its first second.
    pub hour: String,
    /// Every configured dimension.
    pub dimensions: Vec<OpenDimension>,
}

/// An end that is under way.
#[derive(Debug, Clone, Serialize)]
pub struct EndingStatus {
    /// Since when.
    pub since: String,
    /// What for.
    pub why: String,
    /// The hour that it closed before it was over; null while that cannot be done.
    pub closed: Option<String>,
}

/// A dimension in the open hour.
#[derive(Debug, Clone, Serialize)]
pub struct OpenDimension {
    /// Its name.
    pub name: String,
    /// In usage units.
    pub usage: String,
}

/// A record that waits to be sent.
#[derive(Debug, Clone, Serialize)]
pub struct Pending {
    /// Its hour.
    pub hour: String,
    /// Its dimension.
    pub dimension: String,
    /// In billed units.
    pub quantity: u32,
    /// Until when AWS takes it.
    pub deadline: String,
    /// Until then.
    pub seconds_left: u64,
}

/// What is known of AWS.
#[derive(Debug, Clone, Serialize)]
pub struct AwsStatus {
    /// When a record was last accepted.
    pub last_success: Option<String>,
    /// Calls in a row that failed.
    pub consecutive_failures: u32,
    /// What the last failed one said.
    pub last_error: Option<String>,
    /// AWS's clock less ours.
    pub clock_skew_ms: Option<i64>,
}

/// How AWS credits the seller with this instance, as far as instance metadata told it.
#[derive(Debug, Clone, Serialize)]
pub struct AttributionStatus {
    /// In words.
    pub found: String,
    /// When it was looked at.
    pub seen: String,
}

/// Looks at an engine that was started at `started`, for people whose gate keeps to `policy`.
pub fn status<D: Disk>(engine: &Engine<D>, policy: &config::Gate, started: Timestamp, now: Timestamp) -> Status {
    let state = engine.state();
    let (log, footprint) = (engine.log(), engine.footprint());
    let hour = state.current_hour(now);
    let whole = state.together();
    let customers = whole.customer_sums(Some(hour));
    let open = whole.dimensions.iter().zip(&customers).filter(|(d, _)| d.configured).map(|(d, customers)| {
        let usage = whole.hourly(d, hour).usage.total() + customers.open;
        OpenDimension { name: d.rules.name.clone(), usage: usage.to_string() }
    });
    let books = state.books();
    let aws = engine.aws();
    let next_deadlines = next_deadlines(state, now);
    Status {
        version: env!("CARGO_PKG_VERSION"),
        instance_id: state.name().map(str::to_owned),
        product_code: state.product_code.clone(),
        ready: engine.is_ready(),
        uptime_s: now.since(started).as_secs(),
        now: now.to_string(),
        log: LogStatus {
            accepted_seq: state.accepted_seq,
            segments: footprint.segments,
            bytes: footprint.bytes,
            lost_increments: state.lost_increments,
            poisoned: log.poisoned().is_some(),
            disk_full: engine.disk_full(),
            slowest_sync_ms: u64::try_from(log.slowest_sync().as_millis()).unwrap_or(u64::MAX),
        },
        open_hour: OpenHourStatus { hour: hour.to_string(), dimensions: open.collect() },
        ending: engine.ending().map(|ending| EndingStatus {
            since: ending.since.to_string(),
            why: ending.why.clone(),
            closed: ending.closed.map(|hour| hour.to_string()),
        }),
        records: counts(state),
        oldest_pending: next_deadlines.first().cloned(),
        next_deadlines,
        refused: engine.tally.refused().filter(|(_, count)| *count > 0).collect(),
        aws: AwsStatus {
            last_success: state.last_success.map(|t| t.to_string()),
            consecutive_failures: engine.failures(),
            last_error: aws.last_error.clone(),
            clock_skew_ms: aws.clock_skew_ms,
        },
        customers: engine.options().saas.then(|| customers::status(state, now)),
        gate: gate::gate(engine, policy, started, now).gate.name(),
        attribution: None,
        attention: attention::attention(engine, &books, now),
        books,
    }
}

/// What can be said while the log is not open: `why` it is not, with what to do. The figures of a log that nobody has read
/// yet are zero, and no books are shown.
pub fn not_ready(
    instance: Option<&str>,
    product: &str,
    why: Attention,
    gate: &'static str,
    started: Timestamp,
    now: Timestamp,
) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION"),
        instance_id: instance.map(str::to_owned),
        product_code: product.to_owned(),
        ready: false,
        uptime_s: now.since(started).as_secs(),
        now: now.to_string(),
        log: LogStatus {
            accepted_seq: 0,
            segments: 0,
            bytes: 0,
            lost_increments: 0,
            poisoned: false,
            disk_full: why.code == "disk_full",
            slowest_sync_ms: 0,
        },
        open_hour: OpenHourStatus { hour: now.hour().to_string(), dimensions: Vec::new() },
        ending: None,
        records: counts(&State::default()),
        oldest_pending: None,
        next_deadlines: Vec::new(),
        refused: BTreeMap::new(),
        aws: AwsStatus { last_success: None, consecutive_failures: 0, last_error: None, clock_skew_ms: None },
        customers: None,
        gate,
        attribution: None,
        attention: vec![why],
        books: Vec::new(),
    }
}

/// What a state directory shows while no agent runs, by the same names.
#[derive(Debug, Clone, Serialize)]
pub struct Offline {
    /// The instance that metered; null if that was never known.
    pub instance_id: Option<String>,
    /// The product's code.
    pub product_code: String,
    /// Of the log, what was acknowledged and what was lost.
    pub log: OfflineLog,
    /// Records by what became of them.
    pub records: BTreeMap<&'static str, u64>,
    /// The records that wait, the next deadline first, a few at most.
    pub next_deadlines: Vec<Pending>,
    /// When a record was last accepted.
    pub aws: OfflineAws,
    /// Where every unit is.
    pub books: Vec<Books>,
}

/// See [`Offline`].
#[derive(Debug, Clone, Serialize)]
pub struct OfflineLog {
    /// Increments acknowledged since the log was made.
    pub accepted_seq: u64,
    /// Increments that damage to the disk took, of those.
    pub lost_increments: u64,
}

/// See [`Offline`].
#[derive(Debug, Clone, Serialize)]
pub struct OfflineAws {
    /// When a record was last accepted.
    pub last_success: Option<String>,
}

/// Looks at a state that was read from its directory.
pub fn offline(state: &State, now: Timestamp) -> Offline {
    Offline {
        instance_id: state.name().map(str::to_owned),
        product_code: state.product_code.clone(),
        log: OfflineLog { accepted_seq: state.accepted_seq, lost_increments: state.lost_increments },
        records: counts(state),
        next_deadlines: next_deadlines(state, now),
        aws: OfflineAws { last_success: state.last_success.map(|t| t.to_string()) },
        books: state.books(),
    }
}

fn counts(state: &State) -> BTreeMap<&'static str, u64> {
    let mut counts: BTreeMap<&'static str, u64> = Phase::ALL.iter().map(|phase| (phase.name(), 0)).collect();
    let mut add = |phase: Phase, n: u64| *counts.entry(phase.name()).or_default() += n;
    add(Phase::Accepted, state.ended.accepted);
    add(Phase::Carried, state.ended.carried);
    add(Phase::Expired, state.ended.expired);
    add(Phase::Discarded, state.ended.discarded);
    state.records.values().for_each(|r| add(r.phase, 1));
    add(Phase::Pending, state.customers().map_or(0, |customers| customers.fresh_count()));
    add(Phase::Held, state.register().map_or(0, |register| register.waiting_count()));
    state.records_of_others().for_each(|(_, r)| add(r.phase, 1));
    counts
}

/// The records that wait to be sent, those whose window closes first.
fn next_deadlines(state: &State, now: Timestamp) -> Vec<Pending> {
    let fresh = state.customers().into_iter().flat_map(|customers| customers.fresh()).take(DEADLINES_SHOWN);
    let fresh =
        fresh.filter_map(|(key, _)| Some((state.deadline_of(&key)?, state.fresh_record(&key)?.request, key.hour)));
    let known = state.records.values().filter(|r| r.phase == Phase::Pending);
    let known = known.map(|r| (r.deadline(state.window), r.record.request.clone(), r.record.key.hour));
    let mut waiting: Vec<(Timestamp, Request, Hour)> = known.chain(fresh).collect();
    waiting.sort_by_key(|(deadline, ..)| *deadline);
    let shown = |(deadline, request, hour): (Timestamp, Request, Hour)| Pending {
        hour: hour.to_string(),
        dimension: request.dimension,
        quantity: request.quantity,
        deadline: deadline.to_string(),
        seconds_left: deadline.since(now).as_secs(),
    };
    waiting.into_iter().take(DEADLINES_SHOWN).map(shown).collect()
}
