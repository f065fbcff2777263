//! Since when AWS owes a final word: what the gate counts from. It follows from the log alone, so no restart begins it anew.

use super::State;
use super::clocks::AWAY_MAX;
use super::state::Phase;
use super::time::moment;
use crate::entry::{Entry, Verdict};
use crate::hour::Timestamp;

impl State {
    /// Whether something is to be sent: a record, or units on their way into the next one.
    pub fn something_waits(&self) -> bool {
        self.customers().is_some_and(|customers| customers.fresh_count() > 0)
            || self.records.values().any(|r| match r.phase {
                // What a person let go of waits for the register, not for AWS.
                Phase::Pending => r.attempts > 0 || !r.record.key.account().is_some_and(|id| self.withholds(id)),
                Phase::Carried => true,
                _ => false,
            })
    }

    /// Takes in what an entry, folded already, says of it; `seen` is the latest moment of the entries before it.
    pub(super) fn apply_waiting(&mut self, entry: &Entry, seen: Option<Timestamp>) {
        let begins = match entry {
            // Far too many to look at the records each time, and they change none.
            Entry::Usage(_) => return,
            Entry::Answered(answered) if is_final(&answered.verdict) => Some(answered.at),
            Entry::BatchAnswered(answered) if answered.records.iter().any(|(_, verdict, _)| is_final(verdict)) => {
                Some(answered.at)
            }
            // Nobody asked AWS meanwhile, so nobody knows that it would not have answered.
            Entry::Started(started) if seen.is_some_and(|seen| started.reading.at > seen.plus(AWAY_MAX)) => {
                Some(started.reading.at)
            }
            other => self.more.waiting_since.or(moment(other)),
        };
        self.more.waiting_since = begins.filter(|_| self.something_waits());
    }
}

/// Whether AWS has spoken: a record that it took or refuses, or will never take.
fn is_final(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Accepted { .. } | Verdict::Conflict | Verdict::Refused => true,
        Verdict::OutOfBounds { window_passed } => *window_passed,
        Verdict::NotTaken | Verdict::Blocked | Verdict::Ambiguous => false,
    }
}
