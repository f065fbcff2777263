//! The oracle's own books: a second fold of the log's entries in plain `i128`, which also says of every entry whether
//! it may stand there. Uses none of the roll-up's code. Sees placement, rounding, carry, order, deadlines. Cannot see
//! whether an entry was durable in time, nor what AWS holds (`look.rs` compares with those).

mod columns;
mod dimension;
mod others;
mod outcomes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meterd::config::{Late, Measure, Round, ZeroRecords};
use meterd::entry::{ClockSeen, Entry, Increment, RecordKey, Request, Run, Seal, Setup, Trust, Usage};
use meterd::hour::{Hour, Timestamp};
use meterd::tags::Tags;

use dimension::{Carry, Open};
pub use dimension::{Dimension, Place, Record, Taken};

const QUANTITY_MAX: i128 = 2_147_483_647;
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Default)]
pub struct Ledger {
    pub dimensions: Vec<Dimension>,
    pub records: BTreeMap<RecordKey, Record>,
    /// Increments in the order of their numbers, the first of which is 1.
    pub increments: Vec<Taken>,
    /// By user and key: the last increment with it, when it was taken, and how many entries there were.
    pub keys: BTreeMap<(u32, String), (u64, Timestamp, usize)>,
    pub open_from: Option<Hour>,
    /// Whose log it is, and what others left in it.
    pub name: String,
    pub others: BTreeMap<String, Ledger>,
    apart: Option<others::Apart>,
    /// What each instance took and was given, by dimension.
    pub mine: BTreeMap<String, Vec<i128>>,
    pub window: Duration,
    /// The clock on the wall is not believed: nothing is sealed, closed or sent by it.
    pub doubt: bool,
    /// An end is under way; whether it has closed the hour.
    pub ending: Option<bool>,
    /// How many there were.
    pub ends: usize,
    /// A person asked for it.
    asked: bool,
    /// The instance is known.
    named: bool,
    late: Late,
    zero_records: ZeroRecords,
    tokens: BTreeSet<String>,
    /// When each entry was made, by the agent's clock.
    moments: Vec<Timestamp>,
}

/// A request's units by tags.
fn shares(request: &Request) -> BTreeMap<Tags, i128> {
    if request.allocations.is_empty() {
        return BTreeMap::from([(Tags::default(), i128::from(request.quantity))]);
    }
    request.allocations.iter().map(|a| (a.tags.clone(), i128::from(a.quantity))).collect()
}

fn must(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

impl Ledger {
    pub fn fold(&mut self, entry: &Entry) -> Result<(), String> {
        let moment = match entry {
            Entry::Usage(usage) => usage.received,
            Entry::Setup(setup) => setup.at,
            Entry::Seal(seal) => seal.at,
            Entry::Attempt(attempt) => attempt.at,
            Entry::Answered(answered) => answered.at,
            Entry::Closed(closed) => closed.at,
            Entry::Settled(settled) => settled.at,
            Entry::Released(released) => released.at,
            Entry::FixedAnew(fixed) => fixed.at,
            Entry::End(end) => end.at,
            Entry::CalledOff(off) => off.at,
            Entry::Started(started) => started.reading.at,
            Entry::Alive(alive) => alive.reading.at,
            Entry::Clock(seen) => seen.reading.at,
            Entry::Parted(parted) => parted.reading.at,
            Entry::Named(named) => named.at,
            Entry::Disposed(disposed) => disposed.at,
            Entry::Accounts(_)
            | Entry::SealedPart(_)
            | Entry::BatchAttempt(_)
            | Entry::BatchAnswered(_)
            | Entry::Registered(_)
            | Entry::CustomerEnded(_)
            | Entry::RegisterRule(_) => {
                return Err("this is no SaaS product".into());
            }
            Entry::Echo(_) | Entry::Damaged(_) => self.moments.last().copied().unwrap_or_default(),
        };
        self.moments.push(moment);
        match entry {
            Entry::Usage(usage) => self.usage(usage),
            Entry::Setup(setup) => {
                self.setup(setup);
                Ok(())
            }
            Entry::Seal(seal) => self.seal(seal),
            Entry::Attempt(attempt) => self.attempt(attempt.key, attempt.at),
            Entry::Answered(answered) => self.answered(answered),
            Entry::Closed(closed) => self.closed(closed),
            Entry::Settled(settled) => self.settled(settled),
            Entry::Parted(parted) => self.parted(parted),
            Entry::Named(named) => self.named(named),
            Entry::Disposed(disposed) => self.disposed(disposed),
            Entry::Clock(seen) => {
                self.clock(seen);
                Ok(())
            }
            Entry::End(end) => {
                self.ends += 1;
                // By a clock that nobody believes, and for nobody, no hour is closed.
                self.ending = Some(!self.doubt && self.named && self.apart.is_none() && self.is_ahead(end.at));
                self.asked |= end.by.is_some();
                Ok(())
            }
            Entry::CalledOff(off) => {
                self.ending = None;
                must(!std::mem::take(&mut self.asked) || off.by.is_some(), || {
                    "metadata called off what a person asked for".into()
                })
            }
            Entry::Started(_) => {
                (self.ending, self.asked) = (None, false);
                Ok(())
            }
            Entry::Alive(_) | Entry::Echo(_) => Ok(()),
            Entry::Accounts(_)
            | Entry::SealedPart(_)
            | Entry::BatchAttempt(_)
            | Entry::BatchAnswered(_)
            | Entry::Registered(_)
            | Entry::CustomerEnded(_)
            | Entry::RegisterRule(_) => Ok(()),
            Entry::Damaged(damaged) => Err(format!("damage where nothing rotted: {damaged:?}")),
            Entry::FixedAnew(_) => Err("fixed anew, and the product is the same".into()),
            Entry::Released(_) => Err("released, and nothing has a ceiling".into()),
        }
    }

    /// Usage that a clock ahead of its time put into later hours comes back when the clock is right again.
    fn clock(&mut self, seen: &ClockSeen) {
        self.doubt = seen.trust != Trust::Confirmed;
        if self.doubt {
            return;
        }
        let (now, current) = (seen.reading.at, self.current(seen.reading.at));
        self.dimensions.iter_mut().for_each(|dimension| dimension.recall(now, current));
        self.recall_apart(now, current);
    }

    fn current(&self, now: Timestamp) -> Hour {
        self.open_from.map_or(now.hour(), |open| open.max(now.hour()))
    }

    /// Whether the hour of this moment is sealed.
    fn is_ahead(&self, now: Timestamp) -> bool {
        self.open_from.is_some_and(|open| open > now.hour())
    }

    /// Whether an end may refuse what is new at this moment.
    pub fn is_closed(&self, now: Timestamp) -> bool {
        self.ending.is_some_and(|closed| closed || self.is_ahead(now))
    }

    fn setup(&mut self, setup: &Setup) {
        let current = self.current(setup.at);
        self.open_from.get_or_insert(current);
        self.named = setup.instance.is_some();
        self.window = Duration::from_millis(setup.window_ms);
        (self.late, self.zero_records) = (setup.late, setup.zero_records);
        if let Some(name) = setup.instance.as_ref().filter(|_| self.name.is_empty()) {
            // What came before belongs to the first name.
            self.name.clone_from(name);
            let before = self.mine.remove("").unwrap_or_default();
            self.mine.insert(name.clone(), before);
        }
        // What AWS refused may be mended now: it is tried again while it can be.
        let window = self.window;
        let in_time = |r: &&mut Record| r.place == Place::Held && setup.at <= r.request.timestamp.plus(window);
        self.records.values_mut().filter(in_time).for_each(|r| (r.place, r.stuck) = (Place::Pending, false));
        self.dimensions.iter_mut().for_each(|d| d.until = d.until.or(Some(current.next())));
        for (id, rules) in &setup.dimensions {
            let at = usize::from(id.0);
            if at == self.dimensions.len() {
                let rules = vec![(Hour::default(), rules.clone())];
                let name = setup.dimensions.iter().find(|(i, _)| i == id).map(|(_, r)| r.name.clone());
                self.dimensions.push(Dimension {
                    name: name.unwrap_or_default(),
                    rules,
                    since: current,
                    ..Dimension::default()
                });
                continue;
            }
            let dimension = &mut self.dimensions[at];
            dimension.until = None;
            // A change that is not in force yet is replaced; one that is holds until the next hour.
            dimension.rules.retain(|(from, _)| *from <= current);
            if dimension.rules(current) != rules {
                dimension.rules.push((current.next(), rules.clone()));
            }
        }
    }

    fn usage(&mut self, usage: &Usage) -> Result<(), String> {
        must(self.ending != Some(true), || format!("taken at {}, and an end has closed the hour", usage.received))?;
        let next = self.increments.len() as u64 + 1;
        must(usage.first_seq == next, || format!("increment {} follows {}", usage.first_seq, next - 1))?;
        for run in &usage.runs {
            match run {
                Run::Customers { .. } | Run::Customer(..) => return Err("this is no SaaS product".into()),
                Run::Full(increment) => self.increment(increment, usage)?,
                Run::Plain { hour, items } => {
                    for (dimension, quantity) in items {
                        let plain = Increment {
                            dimension: *dimension,
                            hour: *hour,
                            late: false,
                            quantity: *quantity,
                            at: None,
                            key: None,
                            tags: Tags::default(),
                            id: None,
                        };
                        self.increment(&plain, usage)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn increment(&mut self, i: &Increment, usage: &Usage) -> Result<(), String> {
        let (received, current) = (usage.received, self.current(usage.received));
        let open_from = self.open_from.unwrap_or(current);
        let at = usize::from(i.dimension.0);
        let dimension = self.dimensions.get_mut(at).ok_or("an increment of no dimension")?;
        let measure = dimension.rules(i.hour).measure;
        // It counts in the hour it happened in, or, for what adds up, in the open one.
        let wanted = i.at.map_or(current, |at| at.hour().min(current));
        let expected = if wanted >= open_from { (wanted, false) } else { (current, true) };
        // While the clock is not believed only the log knows where it should be.
        must(i.hour >= open_from, || format!("{i:?} counts in an hour that is sealed"))?;
        must(self.doubt || (i.hour, i.late) == expected, || {
            format!("{i:?} taken at {received} counts not in {expected:?}")
        })?;
        must(!i.late || matches!(measure, Measure::Sum | Measure::Count), || format!("{i:?} was moved"))?;
        let quantity = i128::from(i.quantity);
        dimension.reported += quantity;
        let open = dimension.open.entry(i.hour).or_default();
        *open.total.entry(i.tags.clone()).or_default() += quantity;
        open.max = open.max.max(quantity);
        let moment = i.at.unwrap_or(received);
        if moment >= open.last.0 {
            open.last = (moment, quantity);
        }
        self.took(at, quantity);
        self.increments.push(Taken {
            dimension: at,
            quantity: i.quantity,
            key: i.key.clone(),
            at: i.at,
            tags: i.tags.clone(),
            uid: usage.peer.uid,
        });
        let Some(key) = &i.key else { return Ok(()) };
        let this = (self.increments.len() as u64, received, self.moments.len());
        if let Some((_, first, since)) = self.keys.insert((usage.peer.uid, key.clone()), this) {
            let highest = self.moments[since - 1..].iter().max().copied().unwrap_or(received);
            must(highest > first.plus(DAY), || format!("key {key} of {first} is taken for new at {received}"))?;
        }
        Ok(())
    }

    fn seal(&mut self, seal: &Seal) -> Result<(), String> {
        let (hour, through) = (seal.hour, seal.through);
        must(!self.doubt, || format!("{hour} is sealed by a clock that nobody believes"))?;
        must(Some(hour) == self.open_from && through >= hour, || format!("{hour} is sealed out of turn"))?;
        let early = seal.at < through.end();
        must(!early || (self.ending == Some(false) && hour == through && hour == seal.at.hour()), || {
            format!("{through} is sealed at {}, before it is over", seal.at)
        })?;
        for at in 0..self.dimensions.len() {
            self.seal_dimension(at, seal).map_err(|why| format!("{why}: {seal:?}"))?;
        }
        self.open_from = Some(through.next());
        if early {
            self.ending = Some(true);
        }
        Ok(())
    }

    fn seal_dimension(&mut self, at: usize, seal: &Seal) -> Result<(), String> {
        let hour = seal.hour;
        let dimension = &mut self.dimensions[at];
        let open = dimension.open.remove(&hour);
        must(dimension.open.keys().all(|h| *h > seal.through), || "an hour with usage is passed over".into())?;
        let in_force = dimension.since <= hour && dimension.until.is_none_or(|until| hour < until);
        // Nothing is a record of whole hours only.
        let early = seal.at < seal.hour.end();
        let zero = self.zero_records == ZeroRecords::All && in_force && !early;
        let sealed = seal.dimensions.iter().find(|d| usize::from(d.dimension.0) == at);
        if open.is_none() && dimension.carry.is_empty() && !zero {
            return must(sealed.is_none(), || "sealed without anything in it".into());
        }
        let sealed = sealed.ok_or_else(|| format!("{} is missing", dimension.name))?;
        let rules = dimension.rules(hour).clone();
        let usage = open.as_ref().map_or(0, |open| dimension.measured(hour, open));
        let before: i128 = dimension.remainder.values().sum();
        let (total, unit) = (usage + before, rules.unit.millionths());
        let up = i128::from(rules.round == Round::Up && total % unit != 0);
        let billed = total.div_euclid(unit) + up;
        let kept = rules.round == Round::Carry;
        let rounded = if kept { 0 } else { billed * unit - total };
        let left = if kept { total - billed * unit } else { 0 };
        dimension.sealed += usage;
        dimension.rounded += rounded;
        let remainder: BTreeMap<Tags, i128> =
            sealed.kept.remainder.iter().map(|(tags, amount)| (tags.clone(), amount.millionths())).collect();
        let told = (sealed.usage.millionths(), sealed.rounded.millionths(), remainder.values().sum());
        let expected = (usage, rounded, left);
        must(told == expected, || format!("usage, rounded, remainder {told:?}, not {expected:?}"))?;

        let carried: i128 = dimension.carry.iter().flat_map(|carry| carry.units.values()).sum();
        let carried_value: i128 = dimension.carry.iter().map(|carry| carry.value).sum();
        let spilled = (billed + carried - QUANTITY_MAX).max(0);
        let quantity = billed + carried - spilled;
        let sends = quantity > 0 || zero || !dimension.carry.is_empty();
        // Under each set of tags: what was left and what was used is what is billed, taken over, and left.
        let mut shares = sealed.record.as_ref().map(|r| shares(&r.request)).unwrap_or_default();
        let spill = sealed.spill.iter().flat_map(|spill| &spill.units);
        let spill: BTreeMap<Tags, i128> = spill.map(|(tags, units)| (tags.clone(), i128::from(*units))).collect();
        must(spill.values().sum::<i128>() == spilled, || format!("the spill is not {spilled}"))?;
        spill.iter().for_each(|(tags, units)| *shares.entry(tags.clone()).or_default() += units);
        for (tags, units) in dimension.carry.iter().flat_map(|carry| &carry.units) {
            *shares.entry(tags.clone()).or_default() -= units;
        }
        if kept && matches!(rules.measure, Measure::Sum | Measure::Count) {
            let used = open.map(|open| open.total).unwrap_or_default();
            for tags in used.keys().chain(dimension.remainder.keys()).chain(shares.keys()).chain(remainder.keys()) {
                let of = |map: &BTreeMap<Tags, i128>| map.get(tags).copied().unwrap_or(0);
                let balanced = of(&used) + of(&dimension.remainder) == of(&shares) * unit + of(&remainder);
                must(balanced && of(&shares) >= 0, || format!("what is billed under {tags:?} was not used"))?;
            }
        }
        dimension.remainder = remainder;
        let Some(record) = &sealed.record else { return must(!sends, || "no record".into()) };
        let request = &record.request;
        must(sends && i128::from(request.quantity) == quantity, || format!("the quantity is not {quantity}"))?;
        let stamp = request.timestamp;
        let stamped = if early {
            hour.start() <= stamp && stamp <= seal.at && stamp.millis() % 1000 == 0
        } else {
            stamp == hour.last_second()
        };
        must(request.dimension == dimension.name && stamped, || "its place".into())?;
        let fresh = self.tokens.insert(request.client_token.clone());
        must(fresh, || "its token was used before".into())?;
        let value = billed * unit + carried_value - spilled * unit;
        must(record.value.millionths() == value, || format!("the value is not {value}"))?;
        let took: Vec<RecordKey> = dimension.carry.iter().map(|carry| carry.from).collect();
        must(record.took == took, || format!("it takes not {took:?}"))?;
        let spill = Carry { from: record.key, units: spill, value: spilled * unit };
        dimension.carry = if spilled > 0 { vec![spill] } else { Vec::new() };
        let key = record.key;
        let record = Record {
            request: request.clone(),
            value,
            place: Place::Pending,
            attempts: 0,
            in_flight: false,
            in_doubt: false,
            too_old: false,
            stuck: false,
            last: None,
            elsewhere: false,
        };
        must(self.records.insert(key, record).is_none(), || "sealed twice".into())
    }
}
