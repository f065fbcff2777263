//! Whose log this is, and what becomes of usage that another instance left in it.

use super::Engine;
use super::settle::NotSettled;
use crate::decimal::Amount;
use crate::disk::Disk;
use crate::entry::{AccountId, DimensionId, Disposed, Entry, Fate, Named, Parted, Peer, RecordKey};
use crate::hour::{Hour, Timestamp};
use crate::rollup::State;
use crate::rollup::state::{Phase, RecordState};
use crate::wal::LogError;
use crate::wal::spares::Need;

/// What a person decides about another instance's unsent usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposal {
    /// This instance is its replacement.
    Adopt,
    /// Nobody is billed for it here.
    Discard,
}

/// What was decided about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The other instance.
    pub instance: String,
    /// Its records that were carried or given up.
    pub records: usize,
    /// Its records that may have been taken, and wait for a person's word on each.
    pub in_doubt: usize,
    /// What was carried or given up, in usage units, by dimension.
    pub usage: Vec<(String, Amount)>,
}

impl<D: Disk> Engine<D> {
    /// At a start: sees to it that usage from before and usage from now on can be told apart, unless this is the instance
    /// whose log it is. The first name that a log learns is its own.
    pub(super) fn part_if_unsure(&mut self, now: Timestamp) -> Result<(), LogError> {
        let Some(owner) = &self.state.instance else { return Ok(()) };
        let parting = self.state.more.parting.as_ref();
        // Within one boot this is the same machine as when it parted, whichever that is.
        let goes_on = parting.is_some_and(|parting| self.reading.elapsed_since(&parting.reading).is_some());
        if self.options.instance.as_ref() != Some(owner) && !goes_on {
            self.record(&Entry::Parted(Parted { reading: self.reading }), Need::Control, now)?;
        }
        self.say_whose(now)
    }

    /// Writes down which instance this is, if that is known and not settled yet.
    pub(super) fn say_whose(&mut self, now: Timestamp) -> Result<(), LogError> {
        let Some(instance) = self.options.instance.clone().filter(|_| self.state.more.parting.is_some()) else {
            return Ok(());
        };
        self.flush_building(now)?;
        let owner = self.state.instance.clone().unwrap_or_default();
        let been_here = self.state.more.others.contains_key(&instance);
        // One that comes back goes on where it was.
        let goes_on = owner == instance || been_here || self.state.clocks.doubt.is_some();
        let open_from = if goes_on { self.state.open_from } else { self.state.begins(now) };
        if owner != instance {
            tracing::warn!(owner, instance, "this log is another instance's: what that one had not sent is set aside");
        }
        self.record(&Entry::Named(Named { at: now, instance, open_from }), Need::Control, now)
    }

    /// Writes down where this instance's hours begin, where the clock did not tell before.
    pub(super) fn begin_if_due(&mut self, now: Timestamp) -> Result<(), LogError> {
        match self.state.name().filter(|_| self.state.more.begun_in_doubt) {
            Some(instance) => {
                let named = Named { at: now, instance: instance.to_owned(), open_from: self.state.begins(now) };
                self.record(&Entry::Named(named), Need::Control, now)
            }
            None => Ok(()),
        }
    }

    /// Does what a person decided about all that `instance` (the only other one, if none is named) left unsent. Durable
    /// when it returns.
    pub fn dispose(
        &mut self,
        disposal: Disposal,
        instance: Option<&str>,
        by: Peer,
        now: Timestamp,
    ) -> Result<Decided, NotSettled> {
        let instance = self.other_instance(instance)?;
        let mut decided = Decided { instance: instance.clone(), records: 0, in_doubt: 0, usage: Vec::new() };
        if disposal == Disposal::Adopt {
            self.can_adopt(&instance)?;
        }
        self.flush_building(now)?;
        let Some(other) = self.state.more.others.get(&instance) else { return Ok(decided) };
        decided.count(other, disposal);
        let fate = match disposal {
            Disposal::Adopt => {
                let open = other.damaged_through.is_none();
                Fate::Adopted { seals: self.state.closing(other), carried: adoptable(other), open }
            }
            Disposal::Discard => Fate::Discarded { open: other.never_sealed() },
        };
        let disposed = Disposed { at: now, by, instance: instance.clone(), fate };
        self.record(&Entry::Disposed(disposed), Need::Control, now)?;
        tracing::info!(instance, ?disposal, uid = by.uid, "another instance's unsent usage: decided by a person");
        self.commit(now)?;
        Ok(decided)
    }

    fn other_instance(&self, named: Option<&str>) -> Result<String, NotSettled> {
        let names: Vec<&str> = self.state.others().filter(|(_, o)| o.has_unsent()).map(|(name, _)| name).collect();
        let refuse = |why: String| Err(NotSettled::DoesNotFit(why));
        match (named, names.as_slice()) {
            (_, []) => refuse("there is nothing to decide: this log holds no unsent usage of another instance".into()),
            (None, [only]) => Ok((*only).to_owned()),
            (None, several) => refuse(format!("say which instance's: {}", several.join(", "))),
            (Some(name), known) if known.contains(&name) => Ok(name.to_owned()),
            (Some(name), known) => {
                refuse(format!("this log holds no unsent usage of {name}, only of {}", known.join(", ")))
            }
        }
    }

    fn can_adopt(&self, instance: &str) -> Result<(), NotSettled> {
        let refuse = |why: &str| Err(NotSettled::DoesNotFit(why.into()));
        if self.state.name().is_none() {
            return refuse("it is not known yet which instance this is; try again when it is");
        }
        if self.state.clocks.doubt.is_some() || self.state.more.begun_in_doubt {
            return refuse("this machine's clock is in doubt; try again when it is confirmed (see `meterd status`)");
        }
        if !self.state.more.others.get(instance).is_some_and(has_adoptable) {
            return refuse(
                "nothing of it can be adopted: what is left may have been sent by it. Settle its records one by one \
                 (`meterd records`, `meterd settle`), or `meterd discard` all of it",
            );
        }
        Ok(())
    }

    /// The record of a dimension and hour that waits for a person, of this instance (or of its `customer`) or, where it
    /// may have been taken, of another one.
    pub(super) fn waiting(
        &self,
        customer: Option<AccountId>,
        dimension: &str,
        hour: Hour,
    ) -> Option<(RecordKey, RecordState)> {
        let id = self.state.dimension_named(dimension)?;
        let own = self.state.records.range(RecordKey::all_of(customer, id, hour)).map(|(_, r)| r.clone());
        let others = self.state.records_of_others().map(|(_, r)| r).filter(|r| {
            (r.record.key.dimension, r.record.key.hour) == (id, hour)
                && matches!(r.phase, Phase::InDoubt | Phase::Conflict)
        });
        let waiting = own.chain(others).find(|r| r.phase.with_person())?;
        Some((waiting.record.key, waiting))
    }

    /// Why there is no such record to decide about.
    pub(super) fn not_waiting(&self, dimension: &str, hour: Hour) -> NotSettled {
        let is_it = |r: &RecordState| r.record.request.dimension == dimension && r.record.key.hour == hour;
        match self.state.records_of_others().find(|(_, r)| is_it(r)) {
            Some((name, _)) => NotSettled::DoesNotFit(format!(
                "the record of {dimension} {hour} is instance {name}'s: `meterd adopt` or `meterd discard` decides about \
                 all that it left"
            )),
            None => NotSettled::NoSuchRecord { dimension: dimension.to_owned(), hour },
        }
    }
}

/// The records of a holding whose units may go out under another name: nothing of them was ever taken.
fn adoptable(other: &State) -> Vec<RecordKey> {
    other.records.iter().filter(|(_, r)| r.phase_elsewhere() == Phase::Held).map(|(key, _)| *key).collect()
}

fn has_adoptable(other: &State) -> bool {
    let open = other.damaged_through.is_none() && other.dimensions.iter().any(|d| !d.open.is_empty());
    let kept = |d: &crate::rollup::state::DimensionState| !d.carry.is_empty() || !d.remainder.total().is_zero();
    open || !adoptable(other).is_empty() || other.dimensions.iter().any(kept)
}

impl Decided {
    fn count(&mut self, other: &State, disposal: Disposal) {
        let in_doubt = |r: &&RecordState| matches!(r.phase_elsewhere(), Phase::InDoubt | Phase::Conflict);
        let stays = other.records.values().filter(in_doubt).filter(|_| disposal == Disposal::Adopt);
        let stays: Vec<&RecordState> = stays.collect();
        self.in_doubt += stays.len();
        self.records += other.records.len() - stays.len();
        // Hours of it that damage touched are not adopted either.
        let open = other.never_sealed().into_iter();
        let open: Vec<_> = open.filter(|_| disposal == Disposal::Adopt && other.damaged_through.is_some()).collect();
        let name = |id: &DimensionId| other.dimension(*id).map(|d| d.rules.name.as_str());
        for (dimension, amount) in other.unsent() {
            let open: Amount = open.iter().filter(|(id, _)| name(id) == Some(dimension)).map(|(_, n)| *n).sum();
            let amount = amount - open;
            let stays = stays.iter().filter(|r| r.record.request.dimension == dimension);
            let amount = amount - stays.map(|r| r.value()).sum();
            match self.usage.iter_mut().find(|(name, _)| name == dimension) {
                Some((_, sum)) => *sum += amount,
                None => self.usage.push((dimension.to_owned(), amount)),
            }
        }
    }
}
