//! The oracle's eyes: reads what is durable, folds it into its own books, and compares those with the agent, with AWS
//! and with what was there before. Sees books, records, requests, keys. Cannot see how the agent came to them.

use std::collections::BTreeMap;

use meterd::engine::Engine;
use meterd::entry::{Ending, Entry, Fate, RecordKey, Verdict};
use meterd::rollup::state::RecordState;
use meterd::wal::open;

use super::World;
use super::days::Tour;
use super::ledger::Place;
use crate::cuts;
use crate::disk::SimDisk;
use crate::machine::{self, CHECKPOINT, Fact};
use crate::setup::{DIMENSIONS, NAMES, PLAIN};

impl World {
    /// What was explored.
    pub fn tour(&self) -> Tour {
        let ended = |place: Place| self.ledger.records.values().filter(|r| r.place == place).count() as u64;
        let ever = |kind: fn(&Entry) -> bool| {
            let entries = self.facts.iter().filter_map(|f| Entry::decode(f.kind, &f.payload).ok());
            entries.filter(kind).count() as u64
        };
        let c = self.counts;
        Tour(BTreeMap::from([
            ("steps", c.steps),
            ("starts", c.starts),
            ("crashes", c.crashes),
            ("power cuts", c.cuts),
            ("disk faults", c.faults),
            ("indexes lost", c.lost_indexes),
            ("increments acknowledged", self.writers.acked),
            ("known by their key", self.writers.duplicates),
            ("lines refused", self.writers.refused),
            ("records", self.ledger.records.len() as u64),
            ("requests", self.aws.calls),
            ("dry runs", self.aws.dry_runs),
            ("records accepted", ended(Place::Accepted)),
            ("carried", ended(Place::Carried)),
            ("expired", ended(Place::Expired)),
            ("in doubt", ever(|e| matches!(e, Entry::Closed(c) if c.ending == Ending::InDoubt))),
            ("conflicts", ever(|e| matches!(e, Entry::Answered(a) if a.verdict == Verdict::Conflict))),
            ("changes of the name", ever(|e| matches!(e, Entry::Named(_)))),
            ("starts without a name", ever(|e| matches!(e, Entry::Parted(_)))),
            ("adopted", ever(|e| matches!(e, Entry::Disposed(d) if matches!(d.fate, Fate::Adopted { .. })))),
            ("discarded", ever(|e| matches!(e, Entry::Disposed(d) if matches!(d.fate, Fate::Discarded { .. })))),
            ("ends", ever(|e| matches!(e, Entry::End(_)))),
            ("ends called off", ever(|e| matches!(e, Entry::CalledOff(_)))),
            ("hours sealed early", ever(|e| matches!(e, Entry::Seal(s) if s.at < s.hour.end()))),
            ("refusals", ever(|e| matches!(e, Entry::Answered(a) if a.verdict == Verdict::Refused))),
        ]))
    }

    pub(super) fn engine(&mut self) -> &mut Engine<SimDisk> {
        self.engine.as_mut().expect("running")
    }

    /// After a start: everything that was durable is there as it was, and what else survived counts from now on.
    pub(super) fn remember(&mut self) -> Result<(), String> {
        let mut found = machine::read_all(&self.disk)?;
        found.retain(|fact| fact.kind != CHECKPOINT);
        // What was sealed and settled long ago may have been let go.
        let first = found.first().map_or(0, |fact| fact.seq);
        let kept = &self.facts[self.facts.partition_point(|fact| fact.seq < first)..];
        if !found.starts_with(kept) {
            let at = found.iter().zip(kept).take_while(|(a, b)| a == b).count();
            let (now, was) = (found.get(at), kept.get(at));
            return Err(format!("of {} durable entries, number {at} was {was:?} and is {now:?}", kept.len()));
        }
        let new = found.split_off(kept.len());
        self.fold(new)
    }

    /// After a commit: what is new is folded, and everything is compared.
    pub(super) fn look(&mut self) -> Result<(), String> {
        let next = self.engine.as_ref().map_or(0, |engine| engine.log().next_seq());
        if std::mem::replace(&mut self.looked, next) == next {
            return Ok(());
        }
        let from = self.facts.last().map_or(0, |fact| fact.seq + 1);
        let mut new = Vec::new();
        open::replay(&self.disk, from, CHECKPOINT, &mut |entry| {
            if entry.seq >= from && entry.kind != CHECKPOINT {
                machine::collect(entry, &mut new);
            }
            Ok(())
        })
        .map_err(|e| format!("replay: {e}"))?;
        self.fold(new)?;
        self.compare_books()?;
        self.compare_records()?;
        self.compare_aws()
    }

    fn fold(&mut self, new: Vec<Fact>) -> Result<(), String> {
        for fact in new {
            let entry = Entry::decode(fact.kind, &fact.payload).map_err(|e| e.to_string())?;
            self.ledger.fold(&entry)?;
            if self.ledger.ends > self.ends {
                return Err(format!("an end that nobody asked for: {entry:?}"));
            }
            self.facts.push(fact);
        }
        Ok(())
    }

    /// Whether a power cut now would leave the newest entry.
    pub(super) fn is_durable(&self) -> Result<bool, String> {
        let Some(newest) = self.facts.last() else { return Ok(true) };
        let disk = self.disk.fork();
        disk.cut(&mut cuts::by_seed(0));
        let mut left = false;
        open::replay(&disk, newest.seq, CHECKPOINT, &mut |entry| {
            left |= entry.seq == newest.seq && entry.payload == newest.payload;
            Ok(())
        })
        .map_err(|e| format!("replay after a cut: {e}"))?;
        Ok(left)
    }

    fn compare_books(&self) -> Result<(), String> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let books = engine.state().books();
        if books.len() != self.ledger.dimensions.len() {
            return Err(format!("books of {} dimensions", books.len()));
        }
        for (at, book) in books.iter().enumerate() {
            let own = self.ledger.columns(at);
            let expected = |name: &str| match name {
                "received" => own.received,
                "open" => own.open,
                "pending" => own.pending,
                "accepted" => own.accepted,
                "with_person" => own.with_person,
                "expired" => own.expired,
                "discarded" => own.discarded,
                "rounded" => own.rounded,
                "remainder" => own.remainder,
                _ => 0,
            };
            let wrong = book.columns().into_iter().find(|(name, amount)| amount.millionths() != expected(name));
            if let Some((name, amount)) = wrong {
                return Err(format!("{}: {name} is {amount}; the oracle has {own:?}", book.dimension));
            }
            if !book.balanced() || !own.balance() {
                return Err(format!("books do not balance: {book:?}, {own:?}"));
            }
        }
        Ok(())
    }

    /// Every record stands where it should, as it was sealed.
    fn compare_records(&self) -> Result<(), String> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let state = engine.state();
        for (key, record) in &state.records {
            let known = self.ledger.records.get(key).ok_or_else(|| format!("nobody sealed {key}"))?;
            if known.request != record.record.request || place(known.place) != record.phase.name() {
                return Err(format!("record {key} is {record:?}, not {known:?}"));
            }
        }
        for (name, other) in &self.ledger.others {
            let there = state.more.others.get(name).map(|other| other.records.keys().copied().collect::<Vec<_>>());
            let known: Vec<RecordKey> = other.records.keys().copied().collect();
            if there.unwrap_or_default() != known {
                return Err(format!("of {name} not {known:?} are set aside"));
            }
        }
        let waits = |place: Place| place == Place::Pending || place.with_person();
        let missing = self.ledger.records.iter().find(|(key, r)| waits(r.place) && !state.records.contains_key(key));
        missing.map_or(Ok(()), |(key, r)| Err(format!("record {key} is gone: {r:?}")))
    }

    /// AWS has what it is said to have, and nothing that was carried or given up.
    fn compare_aws(&self) -> Result<(), String> {
        let mut held: BTreeMap<&str, i128> = BTreeMap::new();
        let others = self.ledger.others.values().flat_map(|other| other.records.values());
        let tokens: BTreeMap<&str, &super::ledger::Record> =
            self.ledger.records.values().chain(others).map(|r| (r.request.client_token.as_str(), r)).collect();
        let mut billed: BTreeMap<(usize, &str), i128> = BTreeMap::new();
        for (who, request) in self.aws.ours() {
            let record = tokens.get(request.client_token.as_str()).ok_or("AWS holds what nobody sealed")?;
            *billed.entry((who, request.dimension.as_str())).or_default() += record.value;
            if record.elsewhere {
                continue;
            }
            if matches!(record.place, Place::Carried | Place::Expired | Place::Discarded) {
                return Err(format!("AWS holds a record, and it is {:?}: {request:?}", record.place));
            }
            *held.entry(request.dimension.as_str()).or_default() += record.value;
        }
        // Nobody is billed for what another instance took, unless a person said so. Of what adds up and is not rounded.
        for ((who, name), billed) in billed {
            let Some(at) = DIMENSIONS.iter().position(|d| d.name == name && d.name == PLAIN) else { continue };
            let mine = self.ledger.mine.get(NAMES[who]).and_then(|sums| sums.get(at)).copied().unwrap_or(0);
            if billed > mine {
                return Err(format!("{} is billed {billed} of {name}, and took {mine}", NAMES[who]));
            }
        }
        for record in self.ledger.records.values().filter(|r| r.place == Place::Accepted) {
            if !self.aws.holds(&record.request) {
                return Err(format!("AWS does not hold what it is said to have accepted: {record:?}"));
            }
        }
        for (at, dimension) in self.ledger.dimensions.iter().enumerate() {
            let (own, held) = (self.ledger.columns(at), held.get(dimension.name.as_str()).copied().unwrap_or(0));
            if held > own.received + own.rounded {
                return Err(format!("AWS holds {held} of {}: {own:?}", dimension.name));
            }
        }
        Ok(())
    }

    /// The records that are over, as the index has them: all of them, whatever happened to it.
    pub(super) fn look_at_history(&self) -> Result<(), String> {
        let Some(engine) = &self.engine else { return Ok(()) };
        // While the index is behind nobody is told anything about records that are over.
        let Ok(history) = engine.index().history() else { return Ok(()) };
        let history = history.read()?;
        let told: BTreeMap<RecordKey, _> = history.iter().map(|r| (r.record.key, r)).collect();
        for (key, known) in &self.ledger.records {
            // A machine may be off for years: what is older than 13 months may have been forgotten.
            let forgotten = key.hour < self.now().hour().start_of_month(13) && !told.contains_key(key);
            if engine.state().records.contains_key(key) || forgotten {
                continue;
            }
            let fits = |r: &&RecordState| r.record.request == known.request && r.phase.name() == place(known.place);
            if !told.get(key).is_some_and(fits) {
                return Err(format!("record {key} is {known:?}, and the history has {:?}", told.get(key)));
            }
        }
        if told.keys().any(|key| !self.ledger.records.contains_key(key)) {
            return Err("the history has records that nobody sealed".into());
        }
        Ok(())
    }
}

fn place(place: Place) -> &'static str {
    match place {
        Place::Pending => "pending",
        Place::Accepted => "accepted",
        Place::Held => "held",
        Place::Conflict => "conflict",
        Place::InDoubt => "in_doubt",
        Place::Carried => "carried",
        Place::Expired => "expired",
        Place::Discarded => "discarded",
    }
}
