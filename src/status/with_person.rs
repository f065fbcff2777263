//! What a person is told of this instance's own records that wait for one: the commands name the first of each kind.

use super::attention::{configured_like, describe, more};
use crate::entry::Hold;
use crate::hour::Timestamp;
use crate::rollup::State;
use crate::rollup::state::{Phase, RecordState};

/// Records that wait for a person for one certain reason.
struct Kind {
    code: &'static str,
    is_one: fn(&RecordState) -> bool,
    /// What is the matter.
    what: &'static str,
    /// What to do about the record that these words name, `HOUR DIMENSION` (and whose it is, of a customer's).
    remedy: fn(&str, &RecordState, &State) -> String,
    /// The state in which `meterd records` shows them.
    shown_as: &'static str,
}

const KINDS: [Kind; 5] = [
    Kind {
        code: "conflict",
        is_one: |r| r.phase == Phase::Conflict,
        what: "AWS holds another quantity for an hour",
        remedy: |record, _, _| decide("compare with AWS's own records (CloudTrail)", record),
        shown_as: "conflict",
    },
    Kind {
        code: "in_doubt",
        is_one: |r| r.phase == Phase::InDoubt,
        what: "AWS may hold a record that it never acknowledged",
        remedy: |record, _, _| decide("look it up in AWS's own records (CloudTrail)", record),
        shown_as: "in_doubt",
    },
    Kind {
        code: "damaged",
        is_one: |r| r.is_held_back() && r.record.hold == Some(Hold::Damaged),
        what: "the disk lost entries of an hour, whose record may have been sent before or with another quantity",
        remedy: |record, _, _| {
            let known = decide("compare with AWS's own records (CloudTrail)", record);
            format!("{known}; AWS has none, and it is to be sent as it stands: `meterd release {record}`")
        },
        shown_as: "held",
    },
    Kind {
        code: "spike",
        is_one: |r| r.is_held_back() && r.record.hold != Some(Hold::Damaged),
        what: "a record is above its dimension's hold_above and waits for a person",
        remedy: |record, _, _| {
            format!(
                "nobody can take it back once AWS has it, so make sure that the usage is real; then send it: `meterd \
                 release {record}`; or only a part of it: `meterd release {record} --at-most N`; or bill it to nobody: \
                 `meterd settle {record} write-off`"
            )
        },
        shown_as: "held",
    },
    Kind {
        code: "held",
        is_one: |r| r.phase == Phase::Held && !r.is_held_back(),
        what: "AWS refuses a record as it is, and others go on",
        remedy: refused,
        shown_as: "held",
    },
];

/// AWS will not take it as it is: what was wrong is mended, or was the dimension's name.
fn refused(record: &str, first: &RecordState, state: &State) -> String {
    let near = configured_like(state, &first.record.request.dimension);
    let configured = state.dimensions.iter().filter(|d| d.configured).map(|d| d.rules.name.as_str());
    let names = configured.collect::<Vec<_>>().join(", ");
    format!(
        "mend what AWS's words name; if that is in the configuration, the record is tried again by itself after: `systemctl \
         restart meterd`; if it is in the listing, then: `meterd settle {record} retry`; if the dimension was mistyped, name \
         the right one in the configuration, restart, and put these units there (configured: {names}): `meterd settle \
         {record} carry --to {}`",
        near.unwrap_or("NAME")
    )
}

/// A customer's record is named by the customer too.
fn whose(record: &RecordState) -> String {
    let Some(buyer) = record.record.key.account().and_then(|_| record.record.request.buyer()) else {
        return String::new();
    };
    let license = buyer.license.as_ref().map_or_else(String::new, |license| format!(" --license {license}"));
    format!(" --customer {}{license}", buyer.customer_id())
}

fn decide(look: &str, record: &str) -> String {
    format!(
        "{look}, then say which it is; AWS has it: `meterd settle {record} accepted`; AWS does not have it, and its units \
         are to go out with the next record: `meterd settle {record} carry`; nobody is to be billed for it: `meterd settle \
         {record} write-off`"
    )
}

/// One for each kind of which there are some.
pub(super) fn attention(state: &State, add: &mut impl FnMut(&'static str, String, &str, Option<Timestamp>)) {
    for Kind { code, is_one, what, remedy, shown_as } in KINDS {
        let mut found = state.records.values().filter(|r| is_one(r)).peekable();
        let Some(first) = found.peek().copied() else { continue };
        let since = first.last_attempt.or(Some(first.record.key.hour.end()));
        let count = found.count();
        let words = first.last_error.as_deref().map_or_else(String::new, |words| format!(": {words}"));
        let message = format!("{what}: {}{}{words}", describe(first), more(count));
        let record = format!("{} {}{}", first.record.key.hour, first.record.request.dimension, whose(first));
        let mut remedy = remedy(&record, first, state);
        if count > 1 {
            remedy += &format!("; the others are in `meterd records --state {shown_as}`");
        }
        add(code, message, &remedy, since);
    }
}
