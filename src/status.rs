//! Whether metering works, and if not what to do: one view of the engine, for people and programs.

mod others;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::config::{self, Late};
use crate::disk::Disk;
use crate::engine::Engine;
use crate::entry::Hold;
use crate::gate;
use crate::hour::Timestamp;
use crate::index::Behind;
use crate::rollup::State;
use crate::rollup::books::Books;
use crate::rollup::state::{Phase, RecordState};

/// How long calls to AWS may fail before a person should know.
const AWS_FAILING_WARN: Duration = Duration::from_secs(30 * 60);
/// A record that is still pending so long after its hour wants attention.
const PENDING_WARN: Duration = Duration::from_secs(3600);
/// Clocks further apart than this are worth a look.
pub const SKEW_WARN_MS: i64 = 60_000;
/// A sync slower than this is worth a look.
const SYNC_WARN: Duration = Duration::from_secs(1);

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
    pub oldest_pending: Option<OldestPending>,
    /// What is known of AWS.
    pub aws: AwsStatus,
    /// Where every unit is.
    pub books: Vec<Books>,
    /// Whether applications should go on.
    pub gate: &'static str,
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

/// The pending record whose deadline is next.
#[derive(Debug, Clone, Serialize)]
pub struct OldestPending {
    /// Its hour.
    pub hour: String,
    /// Its dimension.
    pub dimension: String,
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

/// Something that wants a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attention {
    /// Stable, for programs.
    pub code: &'static str,
    /// What is the matter.
    pub message: String,
    /// What to do.
    #[serde(rename = "do")]
    pub remedy: String,
    /// Since when, where that is known.
    pub since: Option<String>,
}

/// Looks at an engine that was started at `started`, for people whose gate keeps to `policy`.
pub fn status<D: Disk>(engine: &Engine<D>, policy: &config::Gate, started: Timestamp, now: Timestamp) -> Status {
    let state = engine.state();
    let (log, footprint) = (engine.log(), engine.footprint());
    let hour = state.current_hour(now);
    let whole = state.together();
    let open = whole
        .dimensions
        .iter()
        .filter(|d| d.configured)
        .map(|d| OpenDimension { name: d.rules.name.clone(), usage: whole.hourly(d, hour).usage.total().to_string() });
    let books = state.books();
    let aws = engine.aws();
    Status {
        version: env!("CARGO_PKG_VERSION"),
        instance_id: state.name().map(str::to_owned),
        product_code: state.product_code.clone(),
        ready: log.poisoned().is_none() && !engine.is_closed(),
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
        oldest_pending: oldest_pending(state, now),
        aws: AwsStatus {
            last_success: state.last_success.map(|t| t.to_string()),
            consecutive_failures: engine.failures(),
            last_error: aws.last_error.clone(),
            clock_skew_ms: aws.clock_skew_ms,
        },
        gate: gate::gate(engine, policy, started, now).gate.name(),
        attention: attention(engine, &books, now),
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
        aws: AwsStatus { last_success: None, consecutive_failures: 0, last_error: None, clock_skew_ms: None },
        gate,
        attention: vec![why],
        books: Vec::new(),
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
    state.records_of_others().for_each(|(_, r)| add(r.phase, 1));
    counts
}

fn oldest_pending(state: &State, now: Timestamp) -> Option<OldestPending> {
    let pending = state.records.values().filter(|r| r.phase == Phase::Pending);
    let record = pending.min_by_key(|r| r.deadline(state.window))?;
    let deadline = record.deadline(state.window);
    Some(OldestPending {
        hour: record.record.key.hour.to_string(),
        dimension: record.record.request.dimension.clone(),
        deadline: deadline.to_string(),
        seconds_left: deadline.since(now).as_secs(),
    })
}

/// Whether a record waits for a person for one certain reason.
type Waits = fn(&RecordState) -> bool;

fn attention<D: Disk>(engine: &Engine<D>, books: &[Books], now: Timestamp) -> Vec<Attention> {
    let state = engine.state();
    let mut list = Vec::new();
    let mut add = |code, message: String, remedy: &str, since: Option<Timestamp>| {
        let since = since.map(|t| t.to_string());
        list.push(Attention { code, message, remedy: remedy.to_owned(), since });
    };
    if let Some(why) = engine.log().poisoned() {
        add("log_poisoned", why.to_owned(), "check the disk; a restart goes through recovery", None);
    }
    if let Some(wrong) = books.iter().find(|b| !b.balanced()) {
        let message = format!("the books of {} do not balance: {}", wrong.dimension, wrong.explained());
        add(
            "books_unbalanced",
            message,
            "run `meterd verify`, keep the state directory as it is, and report this",
            None,
        );
    }
    for gap in &engine.report().gaps {
        let message = format!("segment {} is damaged from byte {} to {}", gap.segment, gap.span.from, gap.span.to);
        add("log_damaged", message, "copies are in quarantine/ of the state directory; check the disk", None);
    }
    let free_some = "free some space on the state directory's disk; it heals by itself";
    if let Some(why) = engine.retention_failure() {
        let remedy = "run `meterd verify`; old segments are kept until a restart";
        add("retention_stopped", why.to_owned(), remedy, None);
    }
    if engine.disk_full() {
        let message = "no room for another log segment: usage is refused with disk_full".into();
        add("disk_full", message, free_some, None);
    } else if let Some(why) = engine.log().no_room() {
        let message = format!("{why}: usage is taken only until the log's last segment is full");
        add("disk_nearly_full", message, free_some, None);
    }
    index_attention(engine, &mut add);
    others::attention(state, &mut add);
    if state.name().is_none() {
        let message = "the instance's id is not known yet: usage is taken, nothing is sealed or sent".into();
        add("instance_unknown", message, "check that instance metadata can be reached, or set instance.id", None);
    }
    if let Some(doubt) = &state.clocks.doubt {
        let message = format!(
            "this machine's clock says {now}, which is not where it should be (seen at {} where {} was expected): no hour \
             is sealed and no record sent until it is confirmed",
            doubt.reading.at, doubt.expected
        );
        let remedy =
            "set the clock (chrony or systemd-timesyncd), and see that AWS can be reached: its answer confirms it";
        add("clock_doubt", message, remedy, Some(doubt.reading.at));
    }
    if let Some(ending) = engine.ending() {
        let waiting = state.records.values().filter(|r| r.phase == Phase::Pending).count();
        let hour = match ending.closed {
            Some(hour) => {
                format!("the hour {hour} is closed, writers get shutting_down, {waiting} records wait for AWS")
            }
            None => "its last hour cannot be closed yet".to_owned(),
        };
        let remedy = "if it lives on: `meterd seal --cancel`; usage goes into the next hour then";
        add("ending", format!("this instance ends ({}): {hour}", ending.why), remedy, Some(ending.since));
    }
    aws_attention(engine, now, &mut add);
    let with_person: [(Waits, _, _, _); 5] = [
        (
            |r| r.phase == Phase::Conflict,
            "conflict",
            "AWS holds another quantity for an hour",
            "compare with AWS's records (CloudTrail), then `meterd settle HOUR DIMENSION accepted|carry|write-off`",
        ),
        (
            |r| r.phase == Phase::InDoubt,
            "in_doubt",
            "AWS may hold a record that it never acknowledged",
            "look it up in AWS's records (CloudTrail), then `meterd settle HOUR DIMENSION accepted|carry|write-off`",
        ),
        (
            |r| r.is_held_back() && r.record.hold == Some(Hold::Damaged),
            "damaged",
            "the disk lost entries of an hour: its record may have been sent before, and otherwise",
            "compare with AWS's records (CloudTrail), then `meterd release HOUR DIMENSION` or `meterd settle`",
        ),
        (
            |r| r.is_held_back() && r.record.hold != Some(Hold::Damaged),
            "spike",
            "a record is above its dimension's hold_above and waits for a person",
            "make sure that the usage is real, then `meterd release HOUR DIMENSION [--at-most N]`; see `meterd records`",
        ),
        (
            |r| r.phase == Phase::Held && !r.is_held_back(),
            "held",
            "AWS refuses a record as it is",
            "see `meterd records --state held` for AWS's words; a changed configuration tries it again, as does `meterd settle \
             HOUR DIMENSION retry`; was the dimension mistyped: `meterd settle HOUR DIMENSION carry --to NAME`",
        ),
    ];
    for (is_one, code, what, remedy) in with_person {
        let mut found = state.records.values().filter(|r| is_one(r)).peekable();
        if let Some(first) = found.peek() {
            let (name, since) = (describe(first), first.last_attempt.or(Some(first.record.key.hour.end())));
            let message = format!("{what}: {name}{}", more(found.count()));
            add(code, message, remedy, since);
        }
    }
    if engine.log().slowest_sync() > SYNC_WARN {
        let message = format!("a sync took {} ms; answers wait for it", engine.log().slowest_sync().as_millis());
        add("disk_slow", message, "check the load of the state directory's disk", None);
    }
    list
}

fn index_attention<D: Disk>(engine: &Engine<D>, add: &mut impl FnMut(&'static str, String, &str, Option<Timestamp>)) {
    let index = engine.index();
    match index.behind() {
        None => {}
        Some(Behind::Failed(why)) => {
            let message =
                format!("the index of keys cannot be used ({why}): increments with a key or an id are refused");
            add("index_failed", message, "check the state directory's disk and its room; it is tried again", None);
        }
        Some(behind) => {
            let message = format!("{behind}: increments with a key or an id are answered not_ready until it is done");
            add("index_rebuilding", message, "wait; usage without keys is taken as ever", None);
        }
    }
    let (held, most) = index.fill();
    if held >= most {
        let message = format!("{held} keys and ids are remembered, as many as there is room for: new ones are refused");
        add(
            "keys_full",
            message,
            "send fewer increments with keys, or more in one; it heals as keys are forgotten",
            None,
        );
    } else if held >= most / 10 * 9 {
        let message = format!("{held} keys and ids are remembered; beyond {most} new ones are refused");
        add("keys_nearly_full", message, "send fewer increments with keys, or more in one", None);
    }
}

fn aws_attention<D: Disk>(
    engine: &Engine<D>,
    now: Timestamp,
    add: &mut impl FnMut(&'static str, String, &str, Option<Timestamp>),
) {
    let (state, aws) = (engine.state(), engine.aws());
    if let Some(error) = &aws.last_error {
        if aws.blocked {
            let remedy = "check the instance's role (it needs aws-marketplace:MeterUsage on *) and the clock";
            add("aws_blocked", error.clone(), remedy, aws.failing_since);
        } else if aws.unknown_answer {
            let remedy = "a newer meterd may know this answer; until then the record is tried again";
            add("aws_unknown_answer", error.clone(), remedy, aws.failing_since);
        } else if aws.failing_since.is_some_and(|since| now.since(since) >= AWS_FAILING_WARN) {
            let remedy = "check the route to metering.marketplace.REGION.amazonaws.com";
            add("aws_unreachable", error.clone(), remedy, aws.failing_since);
        }
    }
    if aws.clock_refused
        || (engine.options().judge_clock && aws.clock_skew_ms.is_some_and(|ms| ms.abs() > SKEW_WARN_MS))
    {
        let waits = if engine.doubts_clock() { "; records wait until they agree" } else { "" };
        let apart = aws.clock_skew_ms.unwrap_or(0);
        let message = format!("AWS's clock and this machine's differ by {apart} ms{waits}");
        add("clock_skew", message, "set this machine's clock (chrony or systemd-timesyncd)", None);
    }
    let mut waiting: Vec<&RecordState> = state.records.values().filter(|r| r.phase == Phase::Pending).collect();
    waiting.retain(|r| now.since(r.record.key.hour.end()) > PENDING_WARN);
    if let Some(first) = waiting.first() {
        let left = first.deadline(state.window).since(now).as_secs();
        let then = match state.late {
            Late::CarryForward => "its units go into a later record",
            Late::Expire => "it expires",
        };
        let message = format!("{} is not accepted yet{}; in {left} s {then}", describe(first), more(waiting.len()));
        add("deadline", message, "see aws.last_error", Some(first.record.key.hour.end()));
    }
}

fn describe(record: &RecordState) -> String {
    format!("{} {}", record.record.request.dimension, record.record.key.hour)
}

fn more(count: usize) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}
