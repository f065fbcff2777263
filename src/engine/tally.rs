//! What became of increments and calls since the start: plain counts, for metrics.

use super::Code;
use crate::entry::Verdict;
use crate::histogram::Histogram;

/// Bounds of the counts by increments in a commit.
const BATCH_BOUNDS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// What writers were told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Increments that were known by their key.
    pub duplicates: u64,
    refused: [u64; Code::ALL.len()],
}

impl Tally {
    /// Takes in a refusal, of one increment or of an array.
    pub fn refuse(&mut self, code: Code) {
        if let Some(count) = self.refused.get_mut(code as usize) {
            *count += 1;
        }
    }

    /// Refusals by what they said.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Code::ALL.iter().map(|code| code.name()).zip(self.refused)
    }
}

/// What an attempt can come to, as metrics call it.
const RESULTS: [&str; 7] = ["accepted", "not_taken", "blocked", "ambiguous", "conflict", "out_of_bounds", "refused"];

/// What was asked of AWS.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    records: [u64; RESULTS.len()],
    /// Dry runs that AWS answered.
    pub reached: u64,
    /// Dry runs that nobody answered.
    pub unanswered: u64,
}

impl Calls {
    pub(super) fn record(&mut self, verdict: &Verdict) {
        let at = match verdict {
            Verdict::Accepted { .. } => 0,
            Verdict::NotTaken => 1,
            Verdict::Blocked => 2,
            Verdict::Ambiguous => 3,
            Verdict::Conflict => 4,
            Verdict::OutOfBounds { .. } => 5,
            Verdict::Refused => 6,
        };
        if let Some(count) = self.records.get_mut(at) {
            *count += 1;
        }
    }

    pub(super) fn dry_run(&mut self, reached: bool) {
        *(if reached { &mut self.reached } else { &mut self.unanswered }) += 1;
    }

    /// Records sent, by what came of it.
    pub fn records(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.into_iter().zip(self.records)
    }
}

/// How many increments each commit made durable.
#[derive(Debug)]
pub(super) struct Batches {
    pub(super) sizes: Histogram,
    /// The last increment that was durable then.
    through: u64,
}

impl Batches {
    pub(super) fn after(seq: u64) -> Self {
        Batches { sizes: Histogram::new(BATCH_BOUNDS), through: seq }
    }

    /// Takes in that increments are durable up to `seq`.
    pub(super) fn committed(&mut self, seq: u64) {
        if seq > self.through {
            self.sizes.add(seq - self.through);
            self.through = seq;
        }
    }
}
