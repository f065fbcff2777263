//! Where everything is: each unit in exactly one column.

use super::{Ledger, Place};

/// One dimension's columns, in usage millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Columns {
    pub received: i128,
    pub open: i128,
    pub pending: i128,
    pub accepted: i128,
    pub with_person: i128,
    pub expired: i128,
    pub discarded: i128,
    pub rounded: i128,
    pub remainder: i128,
}

impl Ledger {
    /// Where every unit of a dimension is.
    pub fn columns(&self, at: usize) -> Columns {
        let dimension = &self.dimensions[at];
        let open = self.open(at);
        let elsewhere: i128 = self.others.values().map(|other| other.open(at)).sum();
        let set_aside: i128 = self.others.values().map(|other| other.everything(at)).sum();
        let carry: i128 = dimension.carry.iter().map(|carry| carry.value).sum();
        let mine = self.records.iter().filter(|(key, _)| usize::from(key.dimension.0) == at);
        let mut columns = Columns {
            received: dimension.sealed + open + elsewhere,
            open: open + carry,
            with_person: set_aside,
            discarded: dimension.given_up,
            rounded: dimension.rounded,
            remainder: dimension.remainder.values().sum(),
            ..Columns::default()
        };
        for (_, record) in mine {
            match record.place {
                Place::Pending => columns.pending += record.value,
                Place::Accepted => columns.accepted += record.value,
                Place::Held | Place::Conflict | Place::InDoubt => columns.with_person += record.value,
                Place::Expired => columns.expired += record.value,
                Place::Discarded => columns.discarded += record.value,
                Place::Carried => {}
            }
        }
        columns
    }
}

impl Columns {
    /// Whether everything that was received is in exactly one place.
    pub fn balance(&self) -> bool {
        let places = self.open
            + self.pending
            + self.accepted
            + self.with_person
            + self.expired
            + self.discarded
            + self.remainder;
        self.received + self.rounded == places
    }
}
