//! The end of a day: the network, AWS, the clock and the disk are mended, persons decide, writers send what was not
//! acknowledged; then everything must come out even. Sees what was lost on the way. Cannot see what a day without an
//! end would do.

use meterd::hour::Hour;

use super::aws::Mode;
use super::ledger::{Dimension, Place};
use super::{Step, What, World};
use crate::setup::Config;

/// Stretches of work until nothing may be left.
const ROUNDS: u64 = 200;

impl World {
    pub fn finish(&mut self) -> Result<(), String> {
        self.step(Step(1, What::Crash))?;
        (self.aws.mode, self.aws.date_off, self.skew) = (Mode::Fine, 0, 0);
        self.aws.refused.clear();
        self.config = Config::default();
        self.step(Step(2, What::Instance))?;
        self.step(Step(3, What::Retry(true)))?;
        self.writers.check_keys(&self.ledger, self.now())?;
        for round in 0.. {
            self.step(Step(round, What::Run(7200)))?;
            self.step(Step(round, What::Settle))?;
            self.step(Step(round, What::Dispose(round % 3 != 0)))?;
            if self.is_drained() {
                break;
            }
            if round > ROUNDS {
                let left: Vec<_> = self.ledger.records.values().filter(|r| waits(r.place)).take(3).collect();
                return Err(format!("it does not drain: {left:#?}"));
            }
            // A clock that was ahead has left usage or records in hours that are still to come: they are waited for.
            if let Some(next) = self.next_hour() {
                self.pass(next.start().since(self.now()))?;
            }
        }
        self.even()?;
        let columns = |world: &World| (0..world.ledger.dimensions.len()).map(|at| world.ledger.columns(at)).collect();
        let before: Vec<_> = columns(self);
        self.step(Step(4, What::Cut(0)))?;
        self.step(Step(5, What::Commit))?;
        self.look_at_history()?;
        if columns(self) != before {
            return Err("the books changed in a power cut after the day's end".into());
        }
        Ok(())
    }

    /// The first hour that has anything in it.
    fn next_hour(&self) -> Option<Hour> {
        let open = self.ledger.dimensions.iter().filter_map(Dimension::first_open);
        let waiting = self.ledger.records.iter().filter(|(_, r)| waits(r.place)).map(|(key, _)| key.hour);
        open.chain(waiting).min()
    }

    fn is_drained(&self) -> bool {
        self.flight.is_none()
            && self.ledger.unsent_elsewhere().is_none()
            && self.ledger.records.values().all(|r| !waits(r.place))
            && self.ledger.dimensions.iter().all(Dimension::is_drained)
    }

    /// What was received is what AWS holds, what is over in another way, and what is less than a billed unit.
    fn even(&mut self) -> Result<(), String> {
        self.aws.arrive(self.time, true)?;
        for (at, dimension) in self.ledger.dimensions.iter().enumerate() {
            let own = self.ledger.columns(at);
            let mine = || self.ledger.records.iter().filter(|(key, _)| usize::from(key.dimension.0) == at);
            let at_aws: i128 =
                mine().filter(|(_, r)| !r.elsewhere && self.aws.holds(&r.request)).map(|(_, r)| r.value).sum();
            if own.received + own.rounded != at_aws + own.expired + own.discarded + own.remainder {
                return Err(format!("{} ends uneven: AWS holds {at_aws} of {own:?}", dimension.name));
            }
        }
        Ok(())
    }
}

fn waits(place: Place) -> bool {
    place == Place::Pending || place.with_person()
}
