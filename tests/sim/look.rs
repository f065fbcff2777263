//! What must hold of an engine at any moment: books, tallies, records, attempts. Written without its code, but for the
//! books' own sums. Cannot see which increment is in which record.

use std::collections::BTreeMap;

use meterd::entry::{Entry, RecordKey, kind};

use super::agent::{Agent, Step, Tally};
use super::setup::UNIT;
use super::{cuts, machine};

impl Agent {
    /// Attempts of a record that a power cut now would leave.
    pub(super) fn durable_attempts(&self, key: &RecordKey) -> Result<u64, String> {
        let disk = self.disk.fork();
        disk.cut(&mut cuts::by_seed(0));
        let facts = machine::read_all(&disk)?;
        let attempts = facts.iter().filter(|f| f.kind == kind::ATTEMPT).map(|f| Entry::decode(f.kind, &f.payload));
        Ok(attempts.filter(|e| matches!(e, Ok(Entry::Attempt(a)) if a.key == *key)).count() as u64)
    }

    /// The books, the tallies and the records, after something became durable.
    pub(super) fn look(&mut self) -> Result<(), String> {
        let engine = self.engine.as_ref().expect("running");
        let books = engine.state().books();
        let [plain, keyed] = books.as_slice() else { return Err(format!("{} dimensions", books.len())) };
        for book in &books {
            if !book.balanced() {
                return Err(format!("books do not balance: {book:?}"));
            }
        }
        let million = 1_000_000;
        let (received, Tally { sent, acked }) = (plain.received.millionths() / million, self.plain);
        if received < acked || received > sent {
            return Err(format!("acknowledged {acked}, received {received}, sent {sent}"));
        }
        let received = keyed.received.millionths() / million;
        let acked: i128 = self.keys.values().filter(|(_, acked)| *acked).map(|(q, _)| i128::from(*q)).sum();
        let sent: i128 = self.keys.values().map(|(q, _)| i128::from(*q)).sum();
        if received < acked || received > sent {
            return Err(format!("with keys: acknowledged {acked}, received {received}, sent {sent}"));
        }
        for (book, unit) in [(plain, 1), (keyed, i128::from(UNIT))] {
            let (at_aws, accepted) = (self.aws.units(&book.dimension) * unit, book.accepted.millionths() / million);
            if at_aws * million > book.received.millionths() || accepted > at_aws {
                return Err(format!("AWS holds {at_aws} of {}, accepted {accepted}: {book:?}", book.dimension));
            }
        }
        // While the index is behind nobody is told anything about final records.
        let Ok(history) = engine.index().history() else { return Ok(()) };
        let mut records = history.read()?;
        records.extend(engine.state().records.values().cloned());
        let found: BTreeMap<_, _> = records.into_iter().map(|r| (r.record.key, r.record.request)).collect();
        for (key, request) in &self.sealed {
            match found.get(key) {
                Some(same) if same == request => {}
                other => return Err(format!("record {key} was sealed as {request:?} and is {other:?}")),
            }
        }
        self.sealed = found;
        Ok(())
    }

    /// Every key is sent until it is acknowledged; then each counts once.
    pub fn finish(&mut self) -> Result<(), String> {
        self.step(Step::Crash)?;
        // Until the index has caught up keys are refused.
        for _ in 0..4 {
            self.step(Step::Retry(true))?;
        }
        let sent: i128 = self.keys.values().map(|(q, _)| i128::from(*q)).sum();
        let books = self.engine().state().books();
        let received = books.get(1).map(|b| b.received.millionths() / 1_000_000);
        if received != Some(sent) {
            return Err(format!("sent with keys and retried: {sent}, received {received:?}"));
        }
        self.step(Step::Cut(0))?;
        self.step(Step::Commit)
    }

    pub fn records(&self) -> usize {
        self.sealed.len()
    }
}
