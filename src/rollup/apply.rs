//! The fold: what each entry does to the state. No entry is ever refused here, for it is durable already.

use std::collections::btree_map::Entry as Slot;

use super::State;
use super::state::{DimensionState, Measured, OpenHour, Phase, RecordState};
use super::tagged::Tagged;
use crate::config::Measure;
use crate::decimal::Amount;
use crate::entry::{
    Answered, Attempt, Carry, Closed, Damaged, Decision, DimensionId, Ending, Entry, Increment, Kept, RecordKey,
    Released, Run, Seal, SealedDimension, Settled, Setup, Usage, Verdict,
};
use crate::hour::{Hour, Timestamp};
use crate::tags::Tags;

impl State {
    /// Folds one entry in; returns the records that are final now and leave the state.
    pub fn apply(&mut self, entry: &Entry) -> Vec<RecordState> {
        let seen = self.clocks.last_seen;
        self.apply_moment(entry);
        let finished = self.fold(entry);
        self.apply_waiting(entry, seen);
        finished
    }

    fn fold(&mut self, entry: &Entry) -> Vec<RecordState> {
        match entry {
            Entry::Usage(usage) => self.apply_usage(usage),
            Entry::Setup(setup) => self.apply_setup(setup),
            Entry::Seal(seal) => return self.apply_seal(seal),
            Entry::Attempt(attempt) => self.apply_attempt(attempt),
            Entry::Answered(answered) => return self.apply_answered(answered),
            Entry::Closed(closed) => return self.apply_closed(closed),
            Entry::Settled(settled) => return self.apply_settled(settled),
            Entry::Released(released) => return self.apply_released(released),
            Entry::Started(started) => self.clocks.started(&started.reading),
            Entry::Alive(alive) => self.apply_alive(alive),
            Entry::Clock(seen) => self.apply_clock(seen),
            // It mends what is folded, see the engine's recovery; by itself it says nothing new.
            Entry::Echo(_) => {}
            // They tell why an hour was sealed early. That it was says the seal.
            Entry::End(_) | Entry::CalledOff(_) => {}
            Entry::Damaged(damaged) => self.apply_damaged(damaged),
            Entry::FixedAnew(fixed) => return self.apply_fixed_anew(fixed),
            Entry::Parted(parted) => self.apply_parted(parted),
            Entry::Named(named) => self.apply_named(named),
            Entry::Disposed(disposed) => return self.apply_disposed(disposed),
            Entry::Accounts(accounts) => self.apply_accounts(accounts),
            Entry::SealedPart(part) => return self.apply_sealed_part(part),
            Entry::BatchAttempt(attempt) => self.apply_batch_attempt(attempt),
            Entry::BatchAnswered(answered) => return self.apply_batch_answered(answered),
        }
        Vec::new()
    }

    fn apply_usage(&mut self, usage: &Usage) {
        self.lost_increments += usage.first_seq.saturating_sub(self.accepted_seq + 1);
        self.accepted_seq = usage.first_seq + usage.count() - 1;
        for run in &usage.runs {
            match run {
                Run::Plain { hour, items } => {
                    // Runs of one dimension are the rule: look its hour up once for each.
                    for group in items.chunk_by(|(a, _), (b, _)| a == b) {
                        let Some((dimension, _)) = group.first() else { continue };
                        self.add_plain(*dimension, *hour, group, usage.received);
                    }
                }
                Run::Full(increment) => self.add(increment, usage.received),
                Run::Customers { hour, items } => self.add_customers(*hour, items, usage.received),
                Run::Customer(account, increment) => self.add_customer(*account, increment, usage.received),
            }
        }
    }

    fn add_plain(&mut self, id: DimensionId, hour: Hour, items: &[(DimensionId, u64)], received: Timestamp) {
        let Some(dimension) = self.dimensions.get_mut(usize::from(id.0)) else { return };
        let open = dimension.open_hour(hour);
        open.increments += items.len() as u64;
        match &mut open.measured {
            Measured::Total(tagged) => {
                let sum: i128 = items.iter().map(|(_, q)| i128::from(*q)).sum();
                tagged.add_plain(Amount::from_millionths(sum));
            }
            measured => items.iter().for_each(|(_, q)| measured.see(amount(*q), received)),
        }
    }

    fn add(&mut self, increment: &Increment, received: Timestamp) {
        let Some(dimension) = self.dimensions.get_mut(usize::from(increment.dimension.0)) else { return };
        dimension.open_hour(increment.hour).add(increment, amount(increment.quantity), received);
    }

    fn apply_setup(&mut self, setup: &Setup) {
        self.product_code.clone_from(&setup.product_code);
        self.instance.clone_from(&setup.instance);
        self.window = std::time::Duration::from_millis(setup.window_ms);
        self.late = setup.late;
        self.zero_records = setup.zero_records;
        self.region.clone_from(&setup.region);
        let hour = self.current_hour(setup.at);
        if self.open_from == Hour::default() {
            // The log begins: nothing before this hour is ours.
            self.open_from = hour;
        }
        for dimension in self.dimensions.iter_mut().filter(|d| d.configured) {
            dimension.configured = false;
            dimension.until = Some(hour.next());
        }
        let known = self.dimensions.len();
        for (id, rules) in &setup.dimensions {
            match self.dimensions.get_mut(usize::from(id.0)) {
                Some(known) => {
                    known.configured = true;
                    known.until = None;
                    // A change whose hour has come holds for its hours, though they are not sealed yet.
                    known.next_rules.retain(|(from, _)| *from <= hour);
                    if known.newest_rules() != rules {
                        known.next_rules.push((hour.next(), rules.clone()));
                    }
                }
                None => {
                    // What is made of a dimension that was billed by itself takes over with the next hour.
                    let mut sources = rules.from.iter().filter_map(|source| self.dimension_named(&source.name));
                    let takes_over = sources.any(|id| usize::from(id.0) < known);
                    let since = if takes_over { hour.next() } else { hour };
                    self.dimensions.push(DimensionState::new(rules.clone(), since));
                }
            }
        }
        self.try_refused_again(setup.at);
    }

    pub(super) fn apply_seal(&mut self, seal: &Seal) -> Vec<RecordState> {
        let mut finished = Vec::new();
        for sealed in &seal.dimensions {
            self.apply_sealed(seal.hour, sealed, &mut finished);
        }
        self.close_customers(seal.hour, seal.through);
        self.open_from = seal.through.next();
        self.clocks.sealed_through(seal.through);
        self.damaged_through = self.damaged_through.filter(|through| *through >= self.open_from);
        for dimension in &mut self.dimensions {
            // What is not named in the seal had nothing in the hour. Earlier hours can only be there if damage took their
            // seal, and with it the record.
            let unsealed = dimension.open.range(..seal.hour).map(|(_, open)| open.measured.total()).sum();
            dimension.totals.sealed += unsealed;
            dimension.totals.lost += unsealed;
            dimension.open.retain(|hour, _| *hour > seal.through);
            let in_force = dimension.next_rules.partition_point(|(from, _)| *from <= self.open_from);
            if let Some((_, rules)) = dimension.next_rules.drain(..in_force).next_back() {
                dimension.rules = rules;
            }
        }
        finished
    }

    fn apply_sealed(&mut self, hour: Hour, sealed: &SealedDimension, finished: &mut Vec<RecordState>) {
        let Some(dimension) = self.dimensions.get_mut(usize::from(sealed.dimension.0)) else { return };
        dimension.totals.sealed += sealed.usage;
        dimension.totals.included += sealed.included;
        dimension.totals.rounded += sealed.rounded;
        let Kept { remainder, dust, level, used } = &sealed.kept;
        dimension.remainder = Tagged::of(remainder);
        dimension.dust = Tagged::of(dust);
        (dimension.level, dimension.used) = (*level, *used);
        let Some(record) = &sealed.record else { return };
        let mut state = RecordState::sealed(record.clone());
        if state.is_held_back() {
            // What does not fit into a record that waits for a person waits with it.
            state.spill.clone_from(&sealed.spill);
            dimension.carry = Vec::new();
        } else {
            dimension.carry = sealed.spill.iter().cloned().collect();
        }
        self.take_over(&record.took, hour, finished);
        self.records.insert(record.key, state);
    }

    /// The record of `hour` has taken what these carried: a record that spilled stays what it is; one that was carried
    /// ends here.
    pub(super) fn take_over(&mut self, took: &[RecordKey], hour: Hour, finished: &mut Vec<RecordState>) {
        for key in took {
            if let Slot::Occupied(mut slot) = self.records.entry(*key)
                && slot.get().phase == Phase::Carried
            {
                slot.get_mut().carried_into = Some(hour);
                self.ended.carried += 1;
                finished.push(slot.remove());
            }
        }
    }

    /// Nobody can tell any more what became of these: AWS is asked again with the same requests, and what it no longer
    /// takes is not carried.
    fn apply_damaged(&mut self, damaged: &Damaged) {
        self.damaged_through = Some(damaged.through);
        self.damage_others(damaged);
        self.damage_customers();
        for key in &damaged.records {
            if let Some(record) = self.records.get_mut(key) {
                record.ambiguous = true;
            }
        }
    }

    pub(super) fn apply_attempt(&mut self, attempt: &Attempt) {
        let Some(record) = self.records.get_mut(&attempt.key) else { return };
        record.attempts += 1;
        record.in_flight = true;
        record.first_attempt.get_or_insert(attempt.at);
        record.last_attempt = Some(attempt.at);
    }

    pub(super) fn apply_answered(&mut self, answered: &Answered) -> Vec<RecordState> {
        let Some(record) = self.records.get_mut(&answered.key) else { return Vec::new() };
        self.unanswered = match &answered.verdict {
            Verdict::Ambiguous => true,
            // Perhaps AWS was never reached.
            Verdict::NotTaken | Verdict::Blocked => self.unanswered,
            Verdict::Accepted { .. } | Verdict::Conflict | Verdict::OutOfBounds { .. } | Verdict::Refused => false,
        };
        record.in_flight = false;
        record.last_error = Some(answered.message.clone());
        record.request_id.clone_from(&answered.request_id);
        match &answered.verdict {
            Verdict::Accepted { metering_record_id } => {
                record.phase = Phase::Accepted;
                record.ambiguous = false;
                record.metering_record_id = Some(metering_record_id.clone());
                record.last_error = None;
                self.last_success = Some(answered.at);
            }
            Verdict::Conflict => {
                record.phase = Phase::Conflict;
                record.ambiguous = false;
            }
            Verdict::Ambiguous => record.ambiguous = true,
            // A refusal speaks for its own attempt only: an earlier one may still have been taken.
            Verdict::Refused if !record.ambiguous => record.phase = Phase::Held,
            Verdict::OutOfBounds { window_passed } => record.out_of_window = *window_passed,
            Verdict::Refused | Verdict::NotTaken | Verdict::Blocked => {}
        }
        self.finish(answered.key)
    }

    fn apply_closed(&mut self, closed: &Closed) -> Vec<RecordState> {
        self.unfold(&closed.key);
        let Some(record) = self.records.get_mut(&closed.key).filter(|r| r.phase == Phase::Pending) else {
            return Vec::new();
        };
        match closed.ending {
            Ending::InDoubt => record.phase = Phase::InDoubt,
            Ending::Expired => record.phase = Phase::Expired,
            Ending::Carried => self.carry(closed.key, closed.key.dimension),
        }
        self.finish(closed.key)
    }

    fn apply_settled(&mut self, settled: &Settled) -> Vec<RecordState> {
        self.claim(settled.key);
        let waiting = self.records.get_mut(&settled.key).filter(|r| r.phase.with_person());
        let Some(record) = waiting else { return Vec::new() };
        record.decided = Some((settled.by, settled.at));
        match settled.decision {
            Decision::Accepted => record.phase = Phase::Accepted,
            Decision::WriteOff => record.phase = Phase::Discarded,
            Decision::Retry => self.let_go(settled.key),
            Decision::Carry => self.carry(settled.key, settled.key.dimension),
            Decision::CarryTo(dimension) => self.move_to(settled.key, dimension),
        }
        self.finish(settled.key)
    }

    fn apply_released(&mut self, released: &Released) -> Vec<RecordState> {
        let waiting = self.records.get_mut(&released.key).filter(|r| r.is_held_back());
        let Some(record) = waiting else { return Vec::new() };
        record.decided = Some((released.by, released.at));
        let mut key = released.key;
        if let Some(capped) = &released.capped {
            let given_up = record.value() - capped.value;
            let anew = RecordState { record: (**capped).clone(), spill: None, ..record.clone() };
            self.records.remove(&key);
            key = capped.key;
            self.records.insert(key, anew);
            if let Some(dimension) = self.dimensions.get_mut(usize::from(key.dimension.0)) {
                dimension.totals.discarded += given_up;
            }
        }
        if released.carried {
            self.carry(key, key.dimension)
        } else {
            self.let_go(key)
        }
        Vec::new()
    }

    /// Puts a record that waited for a person on its way to AWS, and what did not fit into it into the next one.
    fn let_go(&mut self, key: RecordKey) {
        let Some(record) = self.records.get_mut(&key) else { return };
        record.phase = Phase::Pending;
        let spill = record.spill.take();
        if let Some(carry) = self.carry_mut(&key, key.dimension) {
            carry.extend(spill);
        }
    }

    /// Puts a record's units on their way into the next one of a dimension.
    pub(super) fn carry(&mut self, key: RecordKey, into: DimensionId) {
        let Some(record) = self.records.get_mut(&key) else { return };
        record.phase = Phase::Carried;
        let carry = Carry::of(&record.record);
        let spill = record.spill.take();
        if let Some(next) = self.carry_mut(&key, into) {
            next.push(carry);
            next.extend(spill);
        }
    }

    /// Takes a record that is final out of the state, into the totals.
    pub(super) fn finish(&mut self, key: RecordKey) -> Vec<RecordState> {
        let Slot::Occupied(slot) = self.records.entry(key) else { return Vec::new() };
        if !slot.get().is_final() {
            return Vec::new();
        }
        let record = slot.remove();
        if let Some(dimension) = self.dimensions.get_mut(usize::from(key.dimension.0)) {
            match record.phase {
                Phase::Accepted => {
                    dimension.totals.accepted += record.value();
                    self.ended.accepted += 1;
                }
                Phase::Expired => {
                    dimension.totals.expired += record.value();
                    self.ended.expired += 1;
                }
                Phase::Discarded => {
                    dimension.totals.discarded += record.value();
                    self.ended.discarded += 1;
                }
                Phase::Carried | Phase::Pending | Phase::Held | Phase::Conflict | Phase::InDoubt => {}
            }
        }
        vec![record]
    }
}

/// Of so many millionths.
pub(super) fn amount(quantity: u64) -> Amount {
    Amount::from_millionths(i128::from(quantity))
}

impl DimensionState {
    pub(super) fn open_hour(&mut self, hour: Hour) -> &mut OpenHour {
        let measure = self.rules_for(hour).measure;
        self.open.entry(hour).or_insert_with(|| OpenHour::of(measure))
    }
}

impl OpenHour {
    /// One that has seen nothing yet.
    pub(super) fn of(measure: Measure) -> OpenHour {
        let measured = match measure {
            Measure::Max => Measured::Max(Amount::ZERO),
            Measure::Last => Measured::Last { at: Timestamp::default(), value: Amount::ZERO },
            Measure::Unique => Measured::Distinct(Amount::ZERO),
            Measure::Sum | Measure::Count | Measure::Uptime => Measured::Total(Tagged::default()),
        };
        OpenHour { measured, increments: 0, late: Amount::ZERO }
    }

    pub(super) fn add(&mut self, increment: &Increment, quantity: Amount, received: Timestamp) {
        self.increments += 1;
        if increment.late {
            self.late += quantity;
        }
        match &mut self.measured {
            Measured::Total(tagged) => tagged.add(&increment.tags, quantity),
            measured => measured.see(quantity, increment.at.unwrap_or(received)),
        }
    }
}

impl Measured {
    /// A level that was true at `moment`. Of two at the same moment the later report counts.
    pub(super) fn see(&mut self, level: Amount, moment: Timestamp) {
        match self {
            Measured::Total(tagged) => tagged.add_plain(level),
            Measured::Distinct(count) => *count += level,
            Measured::Max(value) => *value = level.max(*value),
            Measured::Last { at, value } => {
                if moment >= *at {
                    (*at, *value) = (moment, level);
                }
            }
        }
    }
}

impl Carry {
    /// All units of a record that can no longer be sent.
    pub fn of(record: &crate::entry::Record) -> Carry {
        let request = &record.request;
        let units = if request.allocations.is_empty() {
            vec![(Tags::default(), i64::from(request.quantity))]
        } else {
            request.allocations.iter().map(|a| (a.tags.clone(), i64::from(a.quantity))).collect()
        };
        Carry { from: record.key, units, value: record.value }
    }
}
