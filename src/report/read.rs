//! A state directory's history, read once and added up as it comes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::time::Duration;

use super::customers::{self, Row};
use super::outages::Outage;
use super::sums::Recordless;
use super::{Billing, Dimension, RECORDS_MAX, Report, Span, Sums, outages};
use crate::config::{Period, Round};
use crate::decimal::Amount;
use crate::disk::Disk;
use crate::engine::{self, Happened};
use crate::entry::{AccountId, DimensionId, Entry, Kept, RecordKey, SealedPart, SealedRow, Used};
use crate::hour::{Hour, Timestamp};
use crate::rollup::State;
use crate::rollup::clocks::AWAY_MAX;
use crate::rollup::state::{Phase, RecordState};
use crate::view;
use crate::wal::OpenError;

/// So many waits are merged into outages.
const WAITED_MAX: usize = 100_000;

/// Reads the report of `span` from the state directory that `disk` shows. The error says why its log cannot be read.
pub fn read<D: Disk>(disk: &D, span: &Span) -> Result<Report, String> {
    // Retention may take a segment between its listing and its reading: then once more, without it.
    for _ in 0..4 {
        match Reading::of(span).run(disk) {
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            done => return done.map_err(|error| error.to_string()),
        }
    }
    Err("segments vanish while they are read: try again".into())
}

/// An hour of an instance's dimension.
#[derive(Default)]
struct Cell {
    sums: Sums,
    has_record: bool,
}

struct Reading<'s> {
    span: &'s Span,
    /// Records that were met: some stand in the log and in the archive.
    met: Met,
    hours: HashMap<DimensionId, BTreeMap<Hour, Cell>>,
    /// Where customers are billed.
    rows: BTreeMap<(AccountId, DimensionId), Row>,
    /// What the last record of the month before left.
    before: HashMap<(Option<AccountId>, DimensionId), (RecordKey, Amount)>,
    /// What is used up of a month's included quantity, by the last seal that says so.
    used: HashMap<DimensionId, Amount>,
    /// Names, as records have them: a dimension that is configured no longer keeps its own.
    names: HashMap<DimensionId, String>,
    records: view::Current,
    left_out: u64,
    /// How long after its timestamp AWS takes a record.
    window: Duration,
    waited: Vec<Outage>,
    away: Vec<(Timestamp, Timestamp)>,
    /// The first hour of which the log has the seal.
    sealed_from: Option<Hour>,
    /// Whether the log still has its beginning, and with it every seal.
    is_whole: bool,
    /// Whether nothing was ever sent before this time: then nothing was left over from before.
    begins: bool,
    notes: Vec<String>,
}

impl<'s> Reading<'s> {
    fn of(span: &'s Span) -> Self {
        Reading {
            span,
            met: Met::default(),
            hours: HashMap::new(),
            rows: BTreeMap::new(),
            before: HashMap::new(),
            used: HashMap::new(),
            names: HashMap::new(),
            records: Vec::new(),
            left_out: 0,
            window: Duration::ZERO,
            waited: Vec::new(),
            away: Vec::new(),
            sealed_from: None,
            is_whole: false,
            begins: false,
            notes: Vec::new(),
        }
    }

    fn run<D: Disk>(mut self, disk: &D) -> Result<Report, OpenError> {
        self.window = engine::read_only(disk)?.window;
        // The log first: what goes to the archive meanwhile is met twice, and nothing is missed.
        let state = engine::history(disk, &mut |told| match told {
            Happened::Final(records) => records.into_iter().for_each(|record| self.record(None, record)),
            Happened::Closed(entry) => self.closed(&entry),
            Happened::Started { seen, at } => self.started(seen, at),
            Happened::Damaged(segment) => {
                let what = "is damaged, see meterd verify: what it held may be missing here";
                self.notes.push(format!("segment {segment} of the log {what}"));
            }
        })?;
        let months = (self.span.month_before().year_month(), self.span.end.previous().year_month());
        let mut unreadable = Vec::new();
        let older = engine::archived(disk, months, &mut |read| match read {
            Ok(record) => self.record(None, record),
            Err(why) => unreadable.push(why),
        })?;
        self.notes.extend(unreadable.into_iter().map(|why| format!("the archive: {why}")));
        for (instance, record) in view::current(&state) {
            self.record(instance, record);
        }
        self.begins = !older && self.before.is_empty();
        Ok(self.close(&state))
    }

    fn concerns(&self, r: &RecordState) -> bool {
        let hour = r.record.key.hour;
        (self.span.month_before()..self.span.end).contains(&hour)
    }

    fn record(&mut self, instance: Option<String>, r: RecordState) {
        let key = r.record.key;
        if !self.concerns(&r) || !self.met.is_new(&key) {
            return;
        }
        // One that was fixed anew stands in the next generation.
        let superseded = r.phase == Phase::Carried && r.carried_into == Some(key.hour);
        if !self.span.contains(key.hour) {
            let last = self.before.entry((key.account(), key.dimension)).or_insert((key, r.record.remainder));
            if key > last.0 && !superseded {
                *last = (key, r.record.remainder);
            }
            return;
        }
        if !superseded {
            self.names.entry(key.dimension).or_insert_with(|| r.record.request.dimension.clone());
            let cell = self.hours.entry(key.dimension).or_default().entry(key.hour).or_default();
            cell.sums.add_record(&r);
            cell.has_record = true;
            if let Some(account) = key.account() {
                self.rows.entry((account, key.dimension)).or_default().add(&r);
            }
            self.waited.extend(outages::waited(&r, self.window));
            if self.waited.len() >= WAITED_MAX {
                self.waited = outages::merged(std::mem::take(&mut self.waited));
            }
        }
        if self.records.len() < RECORDS_MAX || r.phase != Phase::Accepted {
            self.records.push((instance, r));
        } else {
            self.left_out += 1;
        }
    }

    fn started(&mut self, seen: Option<Timestamp>, at: Timestamp) {
        match seen {
            Some(seen) if at > seen.plus(AWAY_MAX) => {
                if at > self.span.first.start() && seen < self.span.end.start() {
                    self.away.push((seen, at));
                }
            }
            Some(_) => {}
            None => self.is_whole = true,
        }
    }

    fn closed(&mut self, entry: &Entry) {
        match entry {
            Entry::Seal(seal) => {
                self.sealed_from.get_or_insert(seal.hour);
                for sealed in &seal.dimensions {
                    self.uses(sealed.dimension, sealed.kept.used);
                }
                for sealed in seal.dimensions.iter().filter(|sealed| sealed.record.is_none()) {
                    let kept: &Kept = &sealed.kept;
                    let recordless =
                        Recordless { usage: sealed.usage, included: sealed.included, rounded: sealed.rounded, kept };
                    if self.span.contains(seal.hour) {
                        let hours = self.hours.entry(sealed.dimension).or_default();
                        hours.entry(seal.hour).or_default().sums.add_recordless(&recordless);
                    }
                }
            }
            Entry::SealedPart(part) => self.part(part),
            Entry::CustomerEnded(ended) => ended.parts.iter().for_each(|part| self.part(part)),
            _ => {}
        }
    }

    fn part(&mut self, part: &SealedPart) {
        if self.span.contains(part.hour) {
            self.sealed_from.get_or_insert(part.hour);
            part.rows.iter().filter(|row| row.record.is_none()).for_each(|row| self.recordless_row(part.hour, row));
        }
    }

    /// Of a dimension whose included quantity is a month's, and only in that month's own report.
    fn uses(&mut self, id: DimensionId, used: Option<Used>) {
        let of_span =
            used.filter(|used| used.since == self.span.first && self.span.end == self.span.first.next_month());
        if let Some(used) = of_span {
            self.used.insert(id, used.amount);
        }
    }

    fn recordless_row(&mut self, hour: Hour, row: &SealedRow) {
        let kept = row.kept();
        let (usage, included, rounded) = (row.usage(), row.included(), row.rounded());
        let recordless = Recordless { usage, included, rounded, kept: &kept };
        let hours = self.hours.entry(row.dimension).or_default();
        hours.entry(hour).or_default().sums.add_recordless(&recordless);
        let key = RecordKey::of_customer(row.account, hour, row.dimension);
        // Who it is stands in its records; one without any gets its name at the end.
        self.rows.entry((row.account, row.dimension)).or_default().add_recordless(key, &recordless);
    }

    fn close(mut self, state: &State) -> Report {
        self.open(state);
        let saas = state.customers().is_some();
        for (id, dimension) in (0..).map(DimensionId).zip(&state.dimensions).filter(|_| !saas) {
            self.uses(id, dimension.used);
        }
        let mut totals: HashMap<DimensionId, Sums> = HashMap::new();
        for ((account, dimension), row) in &mut self.rows {
            let before = self.before.get(&(Some(*account), *dimension)).map(|(_, left)| *left);
            row.close(before.or(self.begins.then_some(Amount::ZERO)));
            totals.entry(*dimension).or_default().add(row.sums());
        }
        let name = |id: DimensionId| {
            let configured = state.dimension(id).map(|d| d.rules.name.clone());
            configured.or_else(|| self.names.get(&id).cloned()).unwrap_or_default()
        };
        // Also of a dimension none of whose hours sent a record, and whose seals are gone.
        for (id, _) in self.used.iter().filter(|(_, amount)| **amount > Amount::ZERO) {
            self.hours.entry(*id).or_default();
        }
        let mut dimensions = Vec::new();
        for (id, hours) in &mut self.hours {
            if !saas {
                let before = self.before.get(&(None, *id)).map(|(_, left)| *left);
                fill_between(hours, before.or(self.begins.then_some(Amount::ZERO)));
            }
            let mut total = Sums::default();
            let hours: BTreeMap<Hour, Sums> =
                std::mem::take(hours).into_iter().map(|(hour, cell)| (hour, cell.sums)).collect();
            hours.values().for_each(|sums| total.follow(sums));
            let rules = state.dimension(*id).map(|dimension| dimension.newest_rules());
            let billing = rules.map(|rules| Billing {
                measure: rules.measure,
                unit: rules.unit,
                round: rules.round,
                included: rules.included.clone(),
            });
            let mut total = totals.remove(id).unwrap_or(total);
            // Of hours that were included whole and whose seal is gone: how much it was is known, and not when.
            let by_hour = billing.as_ref().and_then(|b| b.included.as_ref()).is_some_and(|i| i.per == Period::Hour);
            let used = self.used.get(id).filter(|_| !by_hour).copied().unwrap_or_default();
            let dayless = (used - total.included).max(Amount::ZERO);
            total.received += dayless;
            total.included += dayless;
            dimensions.push(Dimension { id: *id, name: name(*id), billing, total, dayless, hours });
        }
        dimensions.sort_by(|a, b| a.name.cmp(&b.name));
        let customers = saas.then(|| {
            let buyer = |id: AccountId| state.customers().map(|c| c.buyer(id, state.open_from).word());
            customers::listed(std::mem::take(&mut self.rows).into_iter(), |id| buyer(id).unwrap_or_default(), name)
        });
        self.say_what_is_not_known(&dimensions);
        self.records.sort_by_key(|(_, r)| r.record.key);
        // While no agent runs nothing is sent, whatever AWS does.
        let away = &self.away;
        let mut outages = outages::merged(std::mem::take(&mut self.waited));
        outages.retain(|outage| !away.iter().any(|(from, until)| *from <= outage.from && outage.until <= *until));
        Report {
            span: self.span.clone(),
            product_code: state.product_code.clone(),
            instance: state.instance.clone().filter(|_| !saas),
            as_of: state.clocks.last_seen,
            open_from: state.open_from,
            dimensions,
            records: self.records,
            left_out: self.left_out,
            customers,
            outages,
            away: self.away,
            books: state.books(),
            notes: self.notes,
        }
    }

    /// What is not sealed yet.
    fn open(&mut self, state: &State) {
        let hours: BTreeSet<Hour> =
            state.dimensions.iter().flat_map(|d| d.open.keys().copied()).filter(|h| self.span.contains(*h)).collect();
        for (id, dimension) in (0..).map(DimensionId).zip(&state.dimensions) {
            for hour in hours.iter().filter(|hour| !state.is_source(id, **hour)) {
                let open = state.hourly(dimension, *hour).usage.total();
                self.add_open(id, *hour, open);
            }
        }
        let Some(customers) = state.customers() else { return };
        let span = self.span;
        let hours: BTreeSet<Hour> =
            customers.open().map(|((hour, ..), ..)| hour).filter(|hour| span.contains(*hour)).collect();
        for hour in hours {
            for (id, sums) in (0..).map(DimensionId).zip(state.customer_sums(Some(hour))) {
                self.add_open(id, hour, sums.open);
            }
        }
        for ((_, account, dimension), open, _) in customers.open().filter(|((hour, ..), ..)| span.contains(*hour)) {
            self.rows.entry((account, dimension)).or_default().add_open(open);
        }
    }

    fn add_open(&mut self, id: DimensionId, hour: Hour, open: Amount) {
        if !open.is_zero() {
            let sums = &mut self.hours.entry(id).or_default().entry(hour).or_default().sums;
            sums.received += open;
            sums.open += open;
        }
    }

    fn say_what_is_not_known(&mut self, dimensions: &[Dimension]) {
        let wrong = dimensions.iter().filter(|d| !d.total.balanced()).map(|d| d.name.as_str()).collect::<Vec<_>>();
        if !wrong.is_empty() {
            self.notes.push(format!(
                "{}: what came in is not what is accounted for; what was left over may have stayed with another instance \
                 (meterd status), or damage took it (meterd verify)",
                wrong.join(", ")
            ));
        }
        let from = self.sealed_from.filter(|from| !self.is_whole && *from > self.span.first);
        let Some(from) = from else { return };
        self.notes.push(format!("when no agent ran is known from {from} on only: the log does not reach further back"));
        let dayless = dimensions.iter().filter(|d| !d.dayless.is_zero());
        for Dimension { name, dayless, .. } in dayless {
            self.notes.push(format!(
                "{name}: {dayless} of what was included was used in hours that sent no record, before {from}: it is in the \
                 total and in no day, for the log no longer says when"
            ));
        }
        let vanishes = |d: &&Dimension| {
            let included = |b: &Billing| b.included.is_some() && !self.used.contains_key(&d.id);
            d.billing.as_ref().is_some_and(|b| included(b) || b.round == Round::Down)
        };
        let names: Vec<&str> = dimensions.iter().filter(vanishes).map(|d| d.name.as_str()).collect();
        if !names.is_empty() {
            self.notes.push(format!(
                "{}: hours before {from} that sent no record, because the included quantity or rounding down took all of \
                 their usage, are no longer in the log and not in these sums; run the report within state.retain_days of \
                 the month's end",
                names.join(", ")
            ));
        }
    }
}

/// Usage of hours that sent no record and whose seal is gone shows in the remainder that the next record began with.
fn fill_between(hours: &mut BTreeMap<Hour, Cell>, before: Option<Amount>) {
    let mut expected = before;
    for Cell { sums, has_record } in hours.values_mut() {
        if !*has_record && sums.remainder_in.is_zero() && sums.remainder.is_zero() && !sums.open.is_zero() {
            // Open: it takes nothing over before it is sealed, and leaves what was there.
            let left = expected.unwrap_or_default();
            (sums.remainder_in, sums.remainder) = (left, left);
            continue;
        }
        if let Some(left) = expected.filter(|left| *left < sums.remainder_in) {
            sums.received += sums.remainder_in - left;
            sums.remainder_in = left;
        }
        expected = Some(sums.remainder);
    }
}

/// Which records were met: a bit for each customer of a dimension's hour, so that a month of many customers fits.
#[derive(Default)]
struct Met {
    bits: HashMap<(Hour, DimensionId), Vec<u64>>,
    /// The rare ones that were fixed more than once.
    others: HashSet<RecordKey>,
}

impl Met {
    fn is_new(&mut self, key: &RecordKey) -> bool {
        if key.times_fixed() > 0 {
            return self.others.insert(*key);
        }
        let number = key.account().map_or(0, |account| account.0 as usize);
        let bits = self.bits.entry((key.hour, key.dimension)).or_default();
        let (word, bit) = (number / 64, 1u64 << (number % 64));
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        let Some(word) = bits.get_mut(word) else { return false };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}
