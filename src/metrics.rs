//! What `GET /metrics` answers: Prometheus's text format, written here rather than by a library, for the crates that
//! write it count in floats and keep registries of their own, and amounts are decimals.
//!
//! What only rises is a counter and named `_total`; all else is a gauge. Nothing is told by writer, key or tag, so the
//! number of series does not grow with use. The names are the interface: the alert rules and the dashboard in `packaging/`
//! use them, and a test holds them against a running agent.

mod page;

use crate::decimal::Amount;
use crate::disk::Disk;
use crate::engine::{Calls, Engine, Tally};
use crate::gate::Position;
use crate::histogram::Histogram;
use crate::hour::Timestamp;
use crate::rollup::books::Books;
use crate::status::Status;
use page::{Kind, Page, bit};

/// What the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All that metrics tell.
#[derive(Debug)]
pub struct Figures {
    /// What status shows as well.
    pub status: Status,
    /// When the agent started.
    pub started: Timestamp,
    /// Of the socket.
    pub connections: Connections,
    /// What is known once the log is open.
    pub log: Option<LogFigures>,
    /// What writers were told.
    pub tally: Tally,
}

/// Connections to the socket.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// Open now.
    pub open: usize,
    /// As many as there can be.
    pub most: usize,
    /// Refused, because there were as many.
    pub refused: u64,
}

/// What the engine knows and status does not show.
#[derive(Debug)]
pub struct LogFigures {
    commits: Histogram,
    batches: Histogram,
    reserve: bool,
    index_behind: bool,
    keys: (u64, u64),
    calls: Calls,
    last_success: Option<Timestamp>,
    failing_s: u64,
    /// Only where it is judged.
    skew_ms: Option<i64>,
    /// Measured in sealed hours, by dimension.
    sealed: Vec<(String, Amount)>,
}

impl LogFigures {
    /// As they stand.
    pub fn of<D: Disk>(engine: &Engine<D>, now: Timestamp) -> Self {
        let (state, log, index) = (engine.state(), engine.log(), engine.index());
        LogFigures {
            commits: log.commits().clone(),
            batches: engine.batches().clone(),
            reserve: log.reserve_stands(),
            index_behind: index.behind().is_some(),
            keys: index.fill(),
            calls: engine.aws().calls.clone(),
            last_success: state.last_success,
            failing_s: engine.failing(now).map_or(0, |failing| failing.lasted.as_secs()),
            skew_ms: engine.aws().clock_skew_ms.filter(|_| engine.options().judge_clock),
            sealed: state.dimensions.iter().map(|d| (d.rules.name.clone(), d.totals.sealed)).collect(),
        }
    }
}

/// The text.
pub fn text(figures: &Figures) -> String {
    let mut page = Page::default();
    agent(figures, &mut page);
    writers(figures, &mut page);
    if let Some(log) = &figures.log {
        the_log(&figures.status, log, &mut page);
        books(&figures.status.books, log, &mut page);
        records(&figures.status, &mut page);
        aws(&figures.status, log, &mut page);
    }
    page.into_text()
}

fn agent(figures: &Figures, page: &mut Page) {
    let status = &figures.status;
    page.family("meterd_build_info", Kind::Gauge, "1, with the version as a label.")
        .put(&[("version", status.version)], 1);
    let started = figures.started.millis().div_euclid(1000);
    page.one("meterd_start_time_seconds", Kind::Gauge, "When the agent started, by its clock.", started);
    page.one("meterd_ready", Kind::Gauge, "1 if increments are taken.", bit(status.ready));
    let mut gate = page.family("meterd_gate_state", Kind::Gauge, "1 for the state that GET /v1/gate answers.");
    for position in Position::ALL {
        gate.put(&[("state", position.name())], bit(position.name() == status.gate));
    }
    let mut attention =
        page.family("meterd_attention", Kind::Gauge, "1 for each thing that wants a person's attention.");
    let mut codes: Vec<&str> = status.attention.iter().map(|a| a.code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes.into_iter().for_each(|code| attention.put(&[("code", code)], 1));
}

fn writers(figures: &Figures, page: &mut Page) {
    let (tally, connections) = (&figures.tally, &figures.connections);
    let name = "meterd_refusals_total";
    let mut refused =
        page.family(name, Kind::Counter, "Increments, or arrays of them, that were refused since the start, by error.");
    tally.refused().for_each(|(code, count)| refused.put(&[("code", code)], count));
    let help = "Increments since the start that were known by their key.";
    page.one("meterd_duplicate_increments_total", Kind::Counter, help, tally.duplicates);
    page.one("meterd_connections", Kind::Gauge, "Open connections to the socket.", connections.open);
    page.one("meterd_connections_max", Kind::Gauge, "As many connections as there can be.", connections.most);
    let help = "Connections refused since the start, because there were as many as there can be.";
    page.one("meterd_connections_refused_total", Kind::Counter, help, connections.refused);
}

fn the_log(status: &Status, log: &LogFigures, page: &mut Page) {
    let of_log = &status.log;
    let help = "Increments acknowledged since the log was made.";
    page.one("meterd_accepted_increments_total", Kind::Counter, help, of_log.accepted_seq);
    let help = "Acknowledged increments that damage to the disk took.";
    page.one("meterd_lost_increments_total", Kind::Counter, help, of_log.lost_increments);
    let help = "How long commits took: one write and one fdatasync each.";
    page.histogram_of_micros("meterd_commit_duration_seconds", help, &log.commits);
    page.histogram("meterd_commit_increments", "How many increments a commit made durable.", &log.batches);
    page.one("meterd_log_bytes", Kind::Gauge, "Bytes of all segments of the log.", of_log.bytes);
    page.one("meterd_log_segments", Kind::Gauge, "Segments of the log.", of_log.segments);
    page.one("meterd_log_poisoned", Kind::Gauge, "1 if the log takes nothing more.", bit(of_log.poisoned));
    let help = "1 if the room stands that is kept back for a full disk.";
    page.one("meterd_disk_reserve", Kind::Gauge, help, bit(log.reserve));
    page.one("meterd_disk_full", Kind::Gauge, "1 if usage is refused for want of room.", bit(of_log.disk_full));
    let help = "1 while the index of keys cannot be asked: increments with keys are refused.";
    page.one("meterd_index_behind", Kind::Gauge, help, bit(log.index_behind));
    page.one("meterd_keys", Kind::Gauge, "Keys and ids that are remembered.", log.keys.0);
    page.one("meterd_keys_max", Kind::Gauge, "As many keys and ids as can be remembered.", log.keys.1);
}

/// The columns of the books that can only rise are counters. What was received can fall: the level of the open hour does.
/// So can what was sealed: a person may carry a record into another dimension.
fn books(books: &[Books], log: &LogFigures, page: &mut Page) {
    let help = "Usage measured in sealed hours since the state directory was made, in usage units.";
    let mut sealed = page.family("meterd_sealed_units", Kind::Gauge, help);
    log.sealed.iter().for_each(|(dimension, amount)| sealed.put(&[("dimension", dimension)], amount));
    type Column = fn(&Books) -> Amount;
    let columns: [(&str, Kind, &str, Column); 11] = [
        ("meterd_accepted_units_total", Kind::Counter, "Usage in records that AWS accepted, in usage units.", |b| {
            b.accepted
        }),
        ("meterd_expired_units_total", Kind::Counter, "Usage given up past the window, in usage units.", |b| b.expired),
        ("meterd_included_units_total", Kind::Counter, "Usage covered by the base price, in usage units.", |b| {
            b.included
        }),
        ("meterd_discarded_units_total", Kind::Counter, "Usage that a person gave up, in usage units.", |b| {
            b.discarded
        }),
        ("meterd_lost_units_total", Kind::Counter, "Usage that damage to the disk took, in usage units.", |b| b.lost),
        ("meterd_received_units", Kind::Gauge, "Usage received, the open hour's included, in usage units.", |b| {
            b.received
        }),
        ("meterd_open_units", Kind::Gauge, "Usage in hours that are not sealed, in usage units.", |b| b.open),
        ("meterd_pending_units", Kind::Gauge, "Usage in records that wait to be sent, in usage units.", |b| b.pending),
        ("meterd_with_person_units", Kind::Gauge, "Usage in records that wait for a person, in usage units.", |b| {
            b.with_person
        }),
        ("meterd_remainder_units", Kind::Gauge, "Usage below one billed unit, in usage units.", |b| b.remainder),
        ("meterd_rounded_units", Kind::Gauge, "Usage that rounding added (or took away), in usage units.", |b| {
            b.rounded
        }),
    ];
    for (name, kind, help, column) in columns {
        let mut family = page.family(name, kind, help);
        books.iter().for_each(|b| family.put(&[("dimension", &b.dimension)], column(b)));
    }
    let mut balanced = page.family("meterd_books_balanced", Kind::Gauge, "1 if every unit received is in one place.");
    books.iter().for_each(|b| balanced.put(&[("dimension", &b.dimension)], bit(b.balanced())));
}

fn records(status: &Status, page: &mut Page) {
    let mut records = page.family("meterd_records", Kind::Gauge, "Records by what has become of them.");
    status.records.iter().for_each(|(state, count)| records.put(&[("state", state)], count));
    let help =
        "Seconds until AWS no longer takes the pending record whose window closes first; nothing if none is pending.";
    let mut oldest = page.family("meterd_oldest_pending_deadline_seconds", Kind::Gauge, help);
    status.oldest_pending.iter().for_each(|record| oldest.put(&[], record.seconds_left));
}

fn aws(status: &Status, log: &LogFigures, page: &mut Page) {
    let help = "Calls to AWS since the start, by what they were and came to.";
    let mut calls = page.family("meterd_aws_calls_total", Kind::Counter, help);
    for (result, count) in log.calls.records() {
        calls.put(&[("call", "record"), ("result", result)], count);
    }
    calls.put(&[("call", "dry_run"), ("result", "answered")], log.calls.reached);
    calls.put(&[("call", "dry_run"), ("result", "unanswered")], log.calls.unanswered);
    let help = "Calls to AWS in a row that failed.";
    page.one("meterd_aws_consecutive_failures", Kind::Gauge, help, status.aws.consecutive_failures);
    let help = "How long something has been to be sent and AWS has given no final word; 0 while metering works.";
    page.one("meterd_failing_seconds", Kind::Gauge, help, log.failing_s);
    let help = "When AWS last accepted a record, by the agent's clock; nothing if it never has.";
    let mut success = page.family("meterd_last_success_timestamp_seconds", Kind::Gauge, help);
    log.last_success.iter().for_each(|at| success.put(&[], at.millis().div_euclid(1000)));
    let help = "AWS's clock less this machine's, as its last answer told; nothing where that is not judged.";
    let mut skew = page.family("meterd_clock_skew_seconds", Kind::Gauge, help);
    log.skew_ms.iter().for_each(|ms| skew.put(&[], Amount::from_millionths(i128::from(*ms) * 1000)));
}
