//! What becomes of records, and in which order they may be sent.

use meterd::config::Late;
use meterd::entry::{Answered, Closed, Decision, Ending, RecordKey, Settled, Verdict};
use meterd::hour::{Hour, Timestamp};

use super::{Carry, Ledger, Place, Record, must, shares};

impl Ledger {
    pub(super) fn attempt(&mut self, key: RecordKey, at: Timestamp) -> Result<(), String> {
        let window = self.window;
        must(!self.doubt, || format!("{key} is sent by a clock that nobody believes"))?;
        must(self.records.values().all(|r| !r.in_flight), || "two attempts under way".into())?;
        let hours = RecordKey { hour: Hour::default(), ..key }..key;
        let mine = |(other, _): &(&RecordKey, &Record)| other.dimension == key.dimension;
        for (older, record) in self.records.range(hours).filter(mine) {
            let may_go = record.place == Place::Pending && at <= record.request.timestamp.plus(window);
            let goes_first = may_go && !record.too_old && !record.stuck;
            must(!goes_first, || format!("{key} is sent before {older}"))?;
        }
        let record = self.records.get_mut(&key).ok_or("an attempt of no record")?;
        must(record.place == Place::Pending && !record.too_old, || format!("{key} is sent, and is {record:?}"))?;
        let stamp = record.request.timestamp;
        let over = if stamp < key.hour.last_second() { stamp } else { key.hour.end() };
        must(at >= over, || format!("{key} is sent at {at}, before its hour is over"))?;
        must(at <= record.request.timestamp.plus(window), || format!("{key} is sent at {at}, past its window"))?;
        record.in_flight = true;
        record.attempts += 1;
        Ok(())
    }

    pub(super) fn answered(&mut self, answered: &Answered) -> Result<(), String> {
        let record = self.records.get_mut(&answered.key).ok_or("an answer to no record")?;
        must(record.in_flight, || format!("an answer without an attempt: {answered:?}"))?;
        record.in_flight = false;
        record.last = Some(answered.verdict.clone());
        record.stuck = false;
        match &answered.verdict {
            Verdict::Accepted { .. } => (record.place, record.in_doubt) = (Place::Accepted, false),
            Verdict::Conflict => (record.place, record.in_doubt) = (Place::Conflict, false),
            Verdict::Ambiguous => (record.in_doubt, record.stuck) = (true, true),
            Verdict::Refused if !record.in_doubt => record.place = Place::Held,
            Verdict::OutOfBounds { window_passed } => (record.too_old, record.stuck) = (*window_passed, true),
            Verdict::Refused | Verdict::NotTaken | Verdict::Blocked => {}
        }
        Ok(())
    }

    pub(super) fn closed(&mut self, closed: &Closed) -> Result<(), String> {
        let (window, late) = (self.window, self.late);
        must(!self.doubt, || format!("{closed:?} by a clock that nobody believes"))?;
        let record = self.records.get_mut(&closed.key).ok_or("the end of no record")?;
        let over = closed.at > record.request.timestamp.plus(window) || record.too_old;
        must(record.place == Place::Pending && !record.in_flight && over, || format!("closed too early: {record:?}"))?;
        let expected = match late {
            _ if record.in_doubt => Ending::InDoubt,
            Late::Expire => Ending::Expired,
            Late::CarryForward => Ending::Carried,
        };
        must(closed.ending == expected, || format!("{closed:?}, not {expected:?}: {record:?}"))?;
        match closed.ending {
            Ending::InDoubt => record.place = Place::InDoubt,
            Ending::Expired => record.place = Place::Expired,
            Ending::Carried => self.carry(closed.key),
        }
        Ok(())
    }

    pub(super) fn settled(&mut self, settled: &Settled) -> Result<(), String> {
        self.claim(settled.key);
        let record = self.records.get_mut(&settled.key).ok_or("a decision on no record")?;
        must(record.place.with_person(), || format!("nobody was asked: {settled:?}"))?;
        match settled.decision {
            Decision::Accepted => record.place = Place::Accepted,
            Decision::WriteOff => record.place = Place::Discarded,
            Decision::Retry => (record.place, record.stuck) = (Place::Pending, false),
            Decision::Carry => self.carry(settled.key),
            Decision::CarryTo(_) => return Err(format!("nobody asked for that: {settled:?}")),
        }
        Ok(())
    }

    fn carry(&mut self, key: RecordKey) {
        let Some(record) = self.records.get_mut(&key) else { return };
        record.place = Place::Carried;
        let carry = Carry { from: key, units: shares(&record.request), value: record.value };
        self.dimensions[usize::from(key.dimension.0)].carry.push(carry);
    }
}
