//! What of `attention` counts as a change: a code that is there or gone, and of codes about records that wait for a
//! person also one more of those. Not the words, in which seconds are counted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::GONE_AFTER;
use crate::status::Status;

/// That the alert command itself fails. It cannot be told by it.
pub(super) const ALERT_FAILED: &str = "alert_failed";

/// What needs attention: each code, with the number of records that wait for a person where it is about those, else how
/// often it stands there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Seen(BTreeMap<String, u64>);

impl Seen {
    pub(super) fn of(status: &Status) -> Seen {
        let count = |code: &str| {
            let phase = match code {
                "conflict" => "conflict",
                "in_doubt" => "in_doubt",
                "held" | "spike" | "damaged" => "held",
                _ => return 1,
            };
            status.records.get(phase).copied().unwrap_or(1)
        };
        let mut seen = Seen::default();
        for item in status.attention.iter().filter(|item| item.code != ALERT_FAILED) {
            // Some stand there more than once: an instance each, or a damaged place.
            *seen.0.entry(item.code.to_owned()).or_default() += count(item.code);
        }
        seen
    }

    /// Takes in that some records do not wait any more, which nobody is told: the next one is a new one.
    pub(super) fn lower_to(&mut self, now: &Seen) {
        for (code, count) in &mut self.0 {
            *count = now.0.get(code).map_or(*count, |less| (*count).min(*less));
        }
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn from_json(bytes: &[u8]) -> Option<Seen> {
        serde_json::from_slice(bytes).ok()
    }
}

/// What has been seen within [`GONE_AFTER`].
pub(super) struct Steady(BTreeMap<String, (u64, Duration)>);

impl Steady {
    /// After a start: what was told before it counts as seen, so that the agent has time to find out.
    pub(super) fn after(told: &Seen, now: Duration) -> Steady {
        Steady(told.0.iter().map(|(code, count)| (code.clone(), (*count, now))).collect())
    }

    pub(super) fn look(&mut self, seen: &Seen, now: Duration) {
        self.0.extend(seen.0.iter().map(|(code, count)| (code.clone(), (*count, now))));
        self.0.retain(|_, (_, last)| now.saturating_sub(*last) < GONE_AFTER);
    }

    pub(super) fn seen(&self) -> Seen {
        Seen(self.0.iter().map(|(code, (count, _))| (code.clone(), *count)).collect())
    }
}

/// What there is to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Codes that are new, or about more records than before.
    pub raised: Vec<String>,
    /// Codes that are no longer there.
    pub gone: Vec<String>,
}

impl Change {
    pub(super) fn between(told: &Seen, now: &Seen) -> Change {
        let more = |(code, count): &(&String, &u64)| told.0.get(*code).is_none_or(|before| before < count);
        let raised = now.0.iter().filter(more).map(|(code, _)| code.clone()).collect();
        let gone = told.0.keys().filter(|code| !now.0.contains_key(*code)).cloned().collect();
        Change { raised, gone }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.raised.is_empty() && self.gone.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(codes: &[(&str, u64)]) -> Seen {
        Seen(codes.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect())
    }

    fn change(raised: &[&str], gone: &[&str]) -> Change {
        let owned = |codes: &[&str]| codes.iter().map(|code| (*code).to_owned()).collect();
        Change { raised: owned(raised), gone: owned(gone) }
    }

    #[test]
    fn a_code_or_one_more_record_is_a_change_and_fewer_are_none() {
        let told = seen(&[("aws_blocked", 1), ("held", 2)]);
        assert!(Change::between(&told, &told).is_empty());
        assert_eq!(Change::between(&told, &seen(&[("aws_blocked", 1), ("held", 3)])), change(&["held"], &[]));
        assert!(Change::between(&told, &seen(&[("aws_blocked", 1), ("held", 1)])).is_empty());
        let mut lower = told.clone();
        lower.lower_to(&seen(&[("held", 1)]));
        assert_eq!(Change::between(&lower, &seen(&[("aws_blocked", 1), ("held", 2)])), change(&["held"], &[]));
        assert_eq!(
            Change::between(&told, &seen(&[("disk_full", 1)])),
            change(&["disk_full"], &["aws_blocked", "held"])
        );
    }

    /// A cause that flaps, and a start after which the agent has to find out again what it knew.
    #[test]
    fn what_comes_back_within_a_minute_was_never_gone() {
        let (at, blocked) = (Duration::from_secs, seen(&[("aws_blocked", 1)]));
        let mut steady = Steady::after(&blocked, at(0));
        for second in (0..600).step_by(10) {
            let now = if second % 50 == 0 { blocked.clone() } else { Seen::default() };
            steady.look(&now, at(second));
            assert_eq!(steady.seen(), blocked, "{second}");
        }
        // Seen last at 550 s.
        steady.look(&Seen::default(), at(609));
        assert_eq!(steady.seen(), blocked);
        steady.look(&Seen::default(), at(610));
        assert_eq!(steady.seen(), Seen::default());
    }
}
