//! What needs a person, each with what to do.

use std::time::Duration;

use serde::Serialize;

use super::others;
use crate::config::Late;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::entry::Hold;
use crate::hour::Timestamp;
use crate::index::Behind;
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

/// Whether a record waits for a person for one certain reason.
type Waits = fn(&RecordState) -> bool;

/// All that needs a person now, the worst first.
pub(super) fn attention<D: Disk>(engine: &Engine<D>, books: &[Books], now: Timestamp) -> Vec<Attention> {
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
        let fresh = state.customers().map_or(0, |customers| customers.fresh_count() as usize);
        let waiting = state.records.values().filter(|r| r.phase == Phase::Pending).count() + fresh;
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
            let remedy = if engine.options().saas {
                "check the credentials (they need aws-marketplace:BatchMeterUsage on *), product.code and the clock"
            } else {
                "check the instance's role (it needs aws-marketplace:MeterUsage on *) and the clock"
            };
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
    if let Some((key, deadline)) = state.fresh_deadline()
        && now.since(key.hour.end()) > PENDING_WARN
    {
        let left = deadline.since(now).as_secs();
        let count = state.customers().map_or(0, |customers| customers.fresh_count());
        let message =
            format!("{count} records of customers were not sent yet, the first of {}; {left} s are left", key.hour);
        add("deadline", message, "see aws.last_error", Some(key.hour.end()));
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
    let request = &record.record.request;
    let whose = record.record.key.account().and_then(|_| request.buyer());
    let whose = whose.map_or_else(String::new, |buyer| format!(" of customer {}", buyer.word()));
    format!("{} {}{whose}", request.dimension, record.record.key.hour)
}

fn more(count: usize) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}
