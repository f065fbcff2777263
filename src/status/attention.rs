//! What needs a person, each with what to do.

use std::time::Duration;

use serde::Serialize;

use super::{customers, others, with_person};
use crate::config::Late;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::hour::{Timestamp, span};
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
/// How long a person is told of usage that was refused under an unknown name, after the last of it.
const MISNAMED_SHOWN: Duration = Duration::from_secs(3600);
/// A sync slower than this is worth a look.
const SYNC_WARN: Duration = Duration::from_secs(1);

/// Something that wants a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attention {
    /// Stable, for programs.
    pub code: &'static str,
    /// What is the matter.
    pub message: String,
    /// What to do. Between backticks stand commands, each with what it is for before it.
    #[serde(rename = "do")]
    pub remedy: String,
    /// Since when, where that is known.
    pub since: Option<String>,
}

/// All that needs a person now, the worst first.
pub(super) fn attention<D: Disk>(engine: &Engine<D>, books: &[Books], now: Timestamp) -> Vec<Attention> {
    let state = engine.state();
    let mut list = Vec::new();
    let mut add = |code, message: String, remedy: &str, since: Option<Timestamp>| {
        let since = since.map(|t| t.to_string());
        list.push(Attention { code, message, remedy: remedy.to_owned(), since });
    };
    if let Some(why) = engine.log().poisoned() {
        add(
            "log_poisoned",
            why.to_owned(),
            "check the disk: `dmesg`; a restart goes through recovery: `systemctl restart meterd`",
            None,
        );
    }
    if let Some(wrong) = books.iter().find(|b| !b.balanced()) {
        let message = format!("the books of {} do not balance: {}", wrong.dimension, wrong.explained());
        add(
            "books_unbalanced",
            message,
            "keep the state directory as it is, and report this with what `meterd verify` says",
            None,
        );
    }
    for gap in &engine.report().gaps {
        let message = format!("segment {} is damaged from byte {} to {}", gap.segment, gap.span.from, gap.span.to);
        add(
            "log_damaged",
            message,
            "copies are in quarantine/ of the state directory; what was lost: `meterd verify`; check the disk: `dmesg`",
            None,
        );
    }
    let free_some = "free some space on the state directory's disk, then it goes on by itself; how full it is: `df -h`";
    if let Some(why) = engine.retention_failure() {
        let remedy = "old segments are kept until a restart; what is wrong with them: `meterd verify`";
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
        add(
            "instance_unknown",
            message,
            "see why instance metadata does not tell it: `meterd doctor`; or set instance.id in the configuration",
            None,
        );
    }
    if let Some(doubt) = &state.clocks.doubt {
        let message = format!(
            "this machine's clock says {now}, which is not where it should be (seen at {} where {} was expected): no hour \
             is sealed and no record sent until it is confirmed",
            doubt.reading.at, doubt.expected
        );
        let remedy = "let a time daemon (chrony or systemd-timesyncd) set the clock: `timedatectl set-ntp true`; then it goes on by \
             itself, or with AWS's next answer; whether AWS can be reached: `meterd doctor`";
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
        let remedy = "nothing, if it ends; if it lives on, call the end off, and usage goes into the next hour: `meterd seal --cancel`";
        add("ending", format!("this instance ends ({}): {hour}", ending.why), remedy, Some(ending.since));
    }
    aws_attention(engine, now, &mut add);
    with_person::attention(state, &mut add);
    customers::attention(state, now, &mut add);
    misnamed(engine, now, &mut add);
    if engine.log().slowest_sync() > SYNC_WARN {
        let message = format!("a sync took {} ms; answers wait for it", engine.log().slowest_sync().as_millis());
        add("disk_slow", message, "check the load of the state directory's disk: `iostat -x 1 5`", None);
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
                "usage is kept meanwhile; check the credentials (they need aws-marketplace:BatchMeterUsage on *), product.code \
                 and the clock: `meterd doctor`"
            } else {
                "usage is kept meanwhile; check the instance's role (it needs aws-marketplace:MeterUsage on *) and the clock: \
                 `meterd doctor`"
            };
            add("aws_blocked", format!("AWS does not let this instance meter: {error}"), remedy, aws.failing_since);
        } else if aws.unknown_answer {
            let remedy = "the record is tried again by itself; a newer meterd may know this answer, look for one; this one is: `meterd \
                          --version`";
            add(
                "aws_unknown_answer",
                format!("AWS gives an answer that is not known here: {error}"),
                remedy,
                aws.failing_since,
            );
        } else if aws.failing_since.is_some_and(|since| now.since(since) >= AWS_FAILING_WARN) {
            let remedy = "usage is kept meanwhile, and sent by itself when AWS answers; where the way to it is broken: `meterd doctor`";
            add(
                "aws_unreachable",
                format!("AWS does not answer, or cannot be reached: {error}"),
                remedy,
                aws.failing_since,
            );
        }
    }
    if aws.clock_refused
        || (engine.options().judge_clock && aws.clock_skew_ms.is_some_and(|ms| ms.abs() > SKEW_WARN_MS))
    {
        let set_clock =
            "let a time daemon (chrony or systemd-timesyncd) set this machine's clock: `timedatectl set-ntp true`";
        let waits = if engine.doubts_clock() { "; records wait until they agree" } else { "" };
        let apart = aws.clock_skew_ms.unwrap_or(0);
        let side = if apart > 0 { "behind" } else { "ahead of" };
        let apart = span(Duration::from_millis(apart.unsigned_abs()));
        let message = format!("this machine's clock is {apart} {side} AWS's{waits}");
        add("clock_skew", message, set_clock, None);
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
        let left = span(first.deadline(state.window).since(now));
        let then = match state.late {
            Late::CarryForward => "its units go into a later record",
            Late::Expire => "it expires",
        };
        let message = format!("{} is not accepted yet{}; in {left} {then}", describe(first), more(waiting.len()));
        let remedy = "mend what keeps it from AWS; every record that waits, with AWS's last words: `meterd records --state \
                      pending`";
        add("deadline", message, remedy, Some(first.record.key.hour.end()));
    }
}

/// Usage under a name that nobody configured.
fn misnamed<D: Disk>(
    engine: &Engine<D>,
    now: Timestamp,
    add: &mut impl FnMut(&'static str, String, &str, Option<Timestamp>),
) {
    let Some(seen) = engine.misnamed().filter(|seen| now.since(seen.last) < MISNAMED_SHOWN) else { return };
    // What stands between backticks in `do` is a command for a person to type: a writer must not be able to put one there.
    let name = seen.name.replace('`', "'");
    let times = if seen.count == 1 { "once".to_owned() } else { format!("{} times", seen.count) };
    let message = format!(
        "usage of {name:?}, which is no configured dimension, was refused {times}, the last by user {} (process {}) at {}: \
         nobody is billed for it",
        seen.by.uid, seen.by.pid, seen.last
    );
    let meant = configured_like(engine.state(), &seen.name);
    let meant = meant.map_or_else(String::new, |meant| format!(" (did it mean {meant:?}?)"));
    let remedy = format!(
        "write the dimension's configured name in that program{meant}; or, if AWS's listing has this one, add it to the \
         configuration, [[dimension]] name = {name:?}, and then: `systemctl restart meterd`; this message goes away an hour \
         after the last such usage"
    );
    add("unknown_dimension", message, &remedy, Some(seen.first));
}

/// Another configured dimension that may have been meant by `name`.
pub(super) fn configured_like<'a>(state: &'a State, name: &str) -> Option<&'a str> {
    let configured = state.dimensions.iter().filter(|d| d.configured).map(|d| d.rules.name.as_str());
    let others = configured.filter(|other| *other != name);
    let near = others.map(|other| (strsim::damerau_levenshtein(other, name), other));
    near.filter(|(distance, _)| *distance <= 2).min().map(|(_, other)| other)
}

pub(super) fn describe(record: &RecordState) -> String {
    let request = &record.record.request;
    let whose = record.record.key.account().and_then(|_| request.buyer());
    let whose = whose.map_or_else(String::new, |buyer| format!(" of customer {}", buyer.word()));
    format!("{} {}{whose}", request.dimension, record.record.key.hour)
}

pub(super) fn more(count: usize) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}
