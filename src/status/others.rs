//! What a person is told of another instance's unsent usage.

use crate::decimal::Amount;
use crate::hour::Timestamp;
use crate::rollup::State;
use crate::rollup::state::Phase;

/// One for each other instance that has left something.
pub(super) fn attention(state: &State, add: &mut impl FnMut(&'static str, String, &str, Option<Timestamp>)) {
    for (name, other) in state.others().filter(|(_, other)| other.has_unsent()) {
        let amounts: Vec<String> = other.unsent().iter().map(|(d, n): &(&str, Amount)| format!("{n} of {d}")).collect();
        let amounts = if amounts.is_empty() { "nothing to bill".into() } else { amounts.join(", ") };
        let waiting = other.records.values().filter(|r| r.phase_elsewhere() == Phase::Held);
        let (count, until) = waiting.fold((0, None), |(count, until): (usize, Option<Timestamp>), r| {
            let deadline = r.deadline(other.window);
            (count + 1, Some(until.map_or(deadline, |until| until.min(deadline))))
        });
        let in_doubt = other.records.values().filter(|r| r.phase_elsewhere() == Phase::InDoubt).count();
        let mut message = format!("this log was instance {name}'s, which left unsent: {amounts}");
        if count > 0 {
            message += &format!("; records: {count}");
        }
        if let Some(until) = until {
            message += &format!(", which {name} itself can send until {until}");
        }
        if in_doubt > 0 {
            message += &format!("; {in_doubt} more may have reached AWS");
        }
        let remedy = format!(
            "say which it is; this instance replaces {name}, whose disk was moved here, and bills that usage with its own \
             next records: `meterd adopt {name}`; or this is a copy, and {name} goes on elsewhere and bills it itself: \
             `meterd discard {name}`"
        );
        add("other_instance", message, &remedy, other.clocks.trusted.map(|reading| reading.at));
    }
}
