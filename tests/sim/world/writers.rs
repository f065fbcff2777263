//! The applications: lines in, answers out, over the agent's own connections, with a tally of their own. Sees the
//! protocol as bytes in pieces of any length. Cannot see a socket (the agent's tests do).

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};
use std::time::Duration;

use fastrand::Rng;
use meterd::config::Measure;
use meterd::engine::Engine;
use meterd::entry::Peer;
use meterd::hour::Timestamp;
use meterd::ingest::allow::{Allowed, Writer};
use meterd::ingest::connection::{Connection, Turn};
use serde_json::{Value, json};

use super::ledger::{Ledger, Taken};
use crate::disk::SimDisk;
use crate::setup::{DIMENSIONS, MILLION, TAGGED};

/// How long a writer goes on with a key, by the agent's clock: within what the agent promises to remember.
const RETRIED: Duration = Duration::from_secs(23 * 3600);

/// How far an `at` may lie back, and ahead.
const AT_BACK_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const AT_AHEAD_MAX: Duration = Duration::from_secs(300);

/// What is written on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Keyed,
    /// With the moment it happened.
    Stamped,
    Tagged,
    /// More than one record can hold.
    Huge,
    /// Not an increment.
    Bad,
}

/// One report, as its writer remembers it.
#[derive(Debug, Clone)]
struct Item {
    dimension: usize,
    /// Millionths.
    quantity: u64,
    key: Option<String>,
    at: Option<Timestamp>,
    tags: Vec<(&'static str, &'static str)>,
    uid: u32,
    first_sent: Timestamp,
    /// The furthest the agent's clock has been since.
    highest: Timestamp,
    /// Its number, once it was acknowledged.
    acked: Option<u64>,
}

/// What waits for an answer.
#[derive(Debug)]
struct Line {
    items: Vec<usize>,
    array: bool,
    /// When, by the agent's clock.
    sent: Timestamp,
    /// The agent did not believe its clock then: it may not know what hour a stamp lies in.
    doubt: bool,
    /// An end had closed the hour.
    ending: bool,
    /// The error that must come.
    error: Option<&'static str>,
}

#[derive(Default)]
struct Client {
    connection: Option<Connection>,
    waiting: VecDeque<Line>,
    heard: Vec<u8>,
}

#[derive(Default)]
pub struct Writers {
    clients: [Client; 3],
    items: Vec<Item>,
    claimed: BTreeSet<u64>,
    /// The agent does not believe its clock.
    pub doubt: bool,
    /// An end has closed the hour: nothing new is taken.
    pub ending: bool,
    /// Millionths sent and acknowledged, by dimension.
    sent_sum: [i128; 5],
    acked_sum: [i128; 5],
    pub acked: u64,
    pub duplicates: u64,
    pub refused: u64,
}

/// Bytes on the way to the agent, in pieces.
struct Pipe<'a>(&'a [u8], &'a mut Rng);

impl Read for Pipe<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = self.1.usize(1..4096).min(into.len()).min(self.0.len());
        let (now, later) = self.0.split_at(n);
        into[..n].copy_from_slice(now);
        self.0 = later;
        Ok(n)
    }
}

impl Item {
    fn json(&self, rng: &mut Rng) -> Value {
        let mut line = json!({ "dimension": DIMENSIONS[self.dimension].name });
        if DIMENSIONS[self.dimension].measure != Measure::Count || rng.bool() {
            line["quantity"] = spelled(self.quantity, rng);
        }
        if let Some(key) = &self.key {
            line["key"] = json!(key);
        }
        if let Some(at) = self.at {
            line["at"] = if rng.bool() { json!(at.to_string()) } else { json!(at.seconds()) };
        }
        if !self.tags.is_empty() {
            line["tags"] = self.tags.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        }
        line
    }

    fn is(&self, taken: &Taken, name: &str) -> bool {
        DIMENSIONS[self.dimension].name == name
            && self.quantity == taken.quantity
            && self.key == taken.key
            && self.at == taken.at
            && self.uid == taken.uid
            && self.tags.iter().copied().eq(taken.tags.iter())
    }
}

/// A quantity in one of the ways to write it.
fn spelled(millionths: u64, rng: &mut Rng) -> Value {
    let (whole, part) = (millionths / 1_000_000, millionths % 1_000_000);
    match (part, rng.u8(0..4)) {
        (0, 0) => json!(whole),
        (0, 1) => json!(whole.to_string()),
        (0, 2) => json!(format!("{whole}e0")),
        _ => json!(format!("{whole}.{part:06}")),
    }
}

impl Writers {
    /// A writer sends so many lines, or one array of them; the agent takes them into its batch.
    pub fn write(
        &mut self,
        kind: Kind,
        n: usize,
        array: bool,
        engine: &mut Engine<SimDisk>,
        now: Timestamp,
        rng: &mut Rng,
    ) {
        let who = rng.usize(0..self.clients.len());
        if kind == Kind::Bad {
            let (line, error) = self.bad(now, rng);
            let line = (
                line,
                Line {
                    items: Vec::new(),
                    array: false,
                    sent: now,
                    doubt: self.doubt,
                    ending: self.ending,
                    error: Some(error),
                },
            );
            return self.send(who, vec![line], engine, now, rng);
        }
        let items: Vec<usize> = (0..n)
            .map(|_| {
                let item = self.draw(kind, who, now, rng);
                self.sent_sum[item.dimension] += i128::from(item.quantity);
                self.items.push(item);
                self.items.len() - 1
            })
            .collect();
        self.send_items(who, &items, array, engine, now, rng);
    }

    /// What was sent with a key and not acknowledged is sent again, as long as the key is remembered; `all`: the
    /// acknowledged too.
    pub fn retry(&mut self, all: bool, engine: &mut Engine<SimDisk>, now: Timestamp, rng: &mut Rng) {
        for who in 0..self.clients.len() {
            let again = |i: &Item| {
                i.uid == uid(who)
                    && i.key.is_some()
                    && (all || i.acked.is_none())
                    && i.highest.max(now) <= i.first_sent.plus(RETRIED)
            };
            let items: Vec<usize> = (0..self.items.len()).filter(|i| again(&self.items[*i])).collect();
            for some in items.chunks(20) {
                let array = rng.u8(0..4) == 0;
                self.send_items(who, some, array, engine, now, rng);
            }
        }
    }

    fn draw(&self, kind: Kind, who: usize, now: Timestamp, rng: &mut Rng) -> Item {
        let dimension = match kind {
            Kind::Tagged => TAGGED,
            Kind::Huge => 0,
            _ => rng.usize(0..DIMENSIONS.len()),
        };
        let quantity = match (DIMENSIONS[dimension].measure, kind) {
            (Measure::Count, _) => 1_000_000,
            (_, Kind::Huge) => rng.u64(1..7) * 1_000_000_000_000_000,
            _ if rng.bool() => rng.u64(0..2000) * 1_000_000,
            _ => rng.u64(0..100_000_000),
        };
        let at = (kind == Kind::Stamped || (kind == Kind::Keyed && rng.u8(0..4) == 0)).then(|| {
            let back = if rng.u8(0..5) == 0 { rng.u64(0..6 * 24 * 3600) } else { rng.u64(0..7000) };
            Timestamp::from_seconds(now.plus(Duration::from_secs(250)).minus(Duration::from_secs(back)).seconds())
        });
        let tags: Vec<(&str, &str)> = match (kind, rng.u8(0..4)) {
            (Kind::Tagged, 0) => vec![("team", "blue")],
            (Kind::Tagged, 1) => vec![("team", "red"), ("zone", "a")],
            (Kind::Tagged, 2) => vec![("zone", "b")],
            _ => Vec::new(),
        };
        let key = (kind == Kind::Keyed).then(|| format!("k{}", self.items.len()));
        Item { dimension, quantity, key, at, tags, uid: uid(who), first_sent: now, highest: now, acked: None }
    }

    /// A line that must be refused, and how.
    fn bad(&self, now: Timestamp, rng: &mut Rng) -> (String, &'static str) {
        let far = now.plus(Duration::from_secs(3600)).seconds();
        match rng.u8(0..if self.doubt { 5 } else { 6 }) {
            0 => ("{not JSON".to_owned(), "bad_request"),
            1 => (json!({ "dimension": "nonsense", "quantity": 1 }).to_string(), "unknown_dimension"),
            2 => (json!({ "dimension": "users" }).to_string(), "bad_quantity"),
            3 => (json!({ "dimension": "users", "quantity": -1 }).to_string(), "bad_quantity"),
            4 => (json!([{ "dimension": "requests", "quantity": 1 }, 7]).to_string(), "bad_request"),
            _ => (json!({ "dimension": "requests", "quantity": 1, "at": far }).to_string(), "time_out_of_range"),
        }
    }

    fn send_items(
        &mut self,
        who: usize,
        items: &[usize],
        array: bool,
        engine: &mut Engine<SimDisk>,
        now: Timestamp,
        rng: &mut Rng,
    ) {
        for i in items {
            self.items[*i].highest = self.items[*i].highest.max(now);
        }
        let json = |i: &usize, rng: &mut Rng| self.items[*i].json(rng);
        let lines: Vec<(String, Line)> = if array {
            let all: Vec<Value> = items.iter().map(|i| json(i, rng)).collect();
            vec![(
                Value::from(all).to_string(),
                Line { items: items.to_vec(), array, sent: now, doubt: self.doubt, ending: self.ending, error: None },
            )]
        } else {
            let one = |i: &usize| {
                (
                    json(i, rng).to_string(),
                    Line { items: vec![*i], array, sent: now, doubt: self.doubt, ending: self.ending, error: None },
                )
            };
            items.iter().map(one).collect()
        };
        self.send(who, lines, engine, now, rng);
    }

    fn send(
        &mut self,
        who: usize,
        lines: Vec<(String, Line)>,
        engine: &mut Engine<SimDisk>,
        now: Timestamp,
        rng: &mut Rng,
    ) {
        let client = &mut self.clients[who];
        let peer = Peer { uid: uid(who), ..Peer::default() };
        let connection = client.connection.get_or_insert_with(|| {
            Connection::new(Writer { peer, rights: Allowed::default().rights(peer) }, Vec::new())
        });
        let mut bytes = Vec::new();
        for (text, line) in lines {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(b'\n');
            client.waiting.push_back(line);
        }
        let (mut pipe, mut chunk) = (Pipe(&bytes, rng), [0; 4096]);
        while connection.turn(&mut pipe, &mut chunk, engine, now) == Turn::More || !pipe.0.is_empty() {}
    }

    /// The agent's process is gone: connections end, and what was not answered is not known.
    pub fn cut_off(&mut self) {
        self.clients = Default::default();
    }

    /// What was taken is durable, or (with the reason) it is not known to be: the answers go out and are checked against
    /// the log.
    pub fn answer(
        &mut self,
        failed: Option<&str>,
        excused: bool,
        ledger: &Ledger,
        names: impl Fn(usize) -> bool,
    ) -> Result<(), String> {
        for client in &mut self.clients {
            let Some(connection) = &mut client.connection else { continue };
            match failed {
                None => connection.committed(),
                Some(why) => connection.failed(why),
            }
            connection.flush(&mut client.heard).map_err(|e| e.to_string())?;
            let heard = std::mem::take(&mut client.heard);
            for answer in heard.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                let answer: Value = serde_json::from_slice(answer).map_err(|e| e.to_string())?;
                let line = client.waiting.pop_front().ok_or("an answer to nothing")?;
                if answer["ok"] == true {
                    if failed.is_some() {
                        return Err(format!("ok after the disk had failed: {answer}"));
                    }
                    let mut tally =
                        Tally { items: &mut self.items, claimed: &mut self.claimed, sums: &mut self.acked_sum, ledger };
                    self.duplicates += tally.acknowledge(&line, &answer)?;
                    self.acked += line.items.len() as u64;
                } else {
                    self.refused += 1;
                    let error = answer["error"].as_str().unwrap_or_default();
                    let allowed = match (error, line.error) {
                        // The index is not there yet.
                        ("not_ready", _) if line.items.iter().any(|i| self.items[*i].key.is_some()) => true,
                        (_, Some(expected)) => error == expected || (excused && answer["retryable"] == true),
                        // Nothing is taken any more; whether that is right says the ledger of what was.
                        ("shutting_down", None) => line.ending,
                        ("disk_full" | "not_durable", _) => excused,
                        ("unknown_dimension", _) => line.items.iter().any(|i| !names(self.items[*i].dimension)),
                        ("not_ready" | "time_out_of_range", _) if line.doubt => {
                            line.items.iter().any(|i| self.items[*i].at.is_some())
                        }
                        ("hour_closed", _) => line.items.iter().any(|i| {
                            let at = self.items[*i].at.map(Timestamp::hour);
                            let moved =
                                !matches!(DIMENSIONS[self.items[*i].dimension].measure, Measure::Sum | Measure::Count);
                            moved && at.is_some_and(|at| Some(at) < ledger.open_from)
                        }),
                        // Sent again after the clock was set.
                        ("time_out_of_range", _) => line
                            .items
                            .iter()
                            .filter_map(|i| self.items[*i].at)
                            .any(|at| at < line.sent.minus(AT_BACK_MAX) || at > line.sent.plus(AT_AHEAD_MAX)),
                        _ => false,
                    };
                    if !allowed {
                        return Err(format!("{line:?} is refused: {answer}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes how far the agent's clock has been.
    pub fn clock(&mut self, now: Timestamp) {
        for item in self.items.iter_mut().filter(|i| i.key.is_some()) {
            item.highest = item.highest.max(now);
        }
    }

    /// Acknowledged is at most received, and received at most sent, dimension by dimension.
    pub fn check(&self, ledger: &Ledger) -> Result<(), String> {
        for (at, dimension) in DIMENSIONS.iter().enumerate() {
            let known = ledger.dimensions.iter().find(|d| d.name == dimension.name);
            let (acked, received, sent) = (self.acked_sum[at], known.map_or(0, |d| d.reported), self.sent_sum[at]);
            if acked > received || received > sent {
                let (acked, received, sent) = (acked / MILLION, received / MILLION, sent / MILLION);
                return Err(format!("{}: acknowledged {acked}, received {received}, sent {sent}", dimension.name));
            }
        }
        Ok(())
    }

    /// Keys that were sent until they were acknowledged: each counts once.
    pub fn check_keys(&self, ledger: &Ledger, now: Timestamp) -> Result<(), String> {
        for item in self.items.iter().filter(|i| i.highest.max(now) <= i.first_sent.plus(RETRIED)) {
            let Some(key) = &item.key else { continue };
            let known = ledger.keys.get(&(item.uid, key.clone()));
            if item.acked.is_some() && known.map(|(seq, ..)| *seq) != item.acked {
                return Err(format!("key {key} was acknowledged as {:?} and is {known:?}", item.acked));
            }
        }
        Ok(())
    }
}

fn uid(who: usize) -> u32 {
    // Two of three writers are one user.
    (who / 2) as u32
}

struct Tally<'a> {
    items: &'a mut Vec<Item>,
    claimed: &'a mut BTreeSet<u64>,
    sums: &'a mut [i128; 5],
    ledger: &'a Ledger,
}

impl Tally<'_> {
    /// Every acknowledged increment must stand in the log under the number that was said; how many were known before.
    fn acknowledge(&mut self, line: &Line, answer: &Value) -> Result<u64, String> {
        if let Some(expected) = line.error {
            return Err(format!("ok where {expected} was due: {answer}"));
        }
        let seq = answer["seq"].as_u64().ok_or("no number")?;
        let n = line.items.len() as u64;
        let duplicates = match answer["duplicates"].as_u64() {
            Some(duplicates) => duplicates,
            None => u64::from(answer["duplicate"] == true),
        };
        if line.array && answer["count"] != n {
            return Err(format!("{answer} to an array of {n}"));
        }
        for (i, at) in line.items.iter().zip(0..) {
            let item = &mut self.items[*i];
            // Where some were known before, the numbers of the others follow one another and theirs are older.
            let known = item.key.as_ref().and_then(|k| self.ledger.keys.get(&(item.uid, k.clone())));
            let seq = if duplicates == 0 { seq + 1 + at - n } else { known.map_or(0, |(seq, ..)| *seq) };
            let taken = seq.checked_sub(1).and_then(|at| self.ledger.increments.get(usize::try_from(at).ok()?));
            let name = taken.and_then(|t| self.ledger.dimensions.get(t.dimension)).map_or("", |d| d.name.as_str());
            if !taken.is_some_and(|taken| item.is(taken, name)) {
                return Err(format!("{answer}: {item:?} is acknowledged, and the log has {taken:?}"));
            }
            if item.acked.is_some_and(|before| before != seq) {
                return Err(format!("{answer}: {item:?} is acknowledged twice"));
            }
            if item.acked.replace(seq).is_none() {
                self.sums[item.dimension] += i128::from(item.quantity);
                if !self.claimed.insert(seq) {
                    return Err(format!("{answer}: that number was acknowledged to another writer"));
                }
            }
        }
        Ok(duplicates)
    }
}
