//! Whose log it is. A log belongs to one instance at a time; it can wake up under another name (an image of a running
//! machine, a restored snapshot, a copied directory), and what it holds unsent then is not the new instance's to bill.

use serde::{Deserialize, Serialize};

use super::{DimensionId, Peer, RecordKey, Seal};
use crate::decimal::Amount;
use crate::hour::{Hour, Reading, Timestamp};

/// The agent has started and does not know (yet) that it is on the instance whose log this is: what is open from before
/// stands apart from what comes now, until a [`Named`] says whether they belong together. Nothing is sealed or sent
/// meanwhile. A second one joins what came since the first to what was before it: nobody can tell whose that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parted {
    /// What the clocks said. Of one boot is one instance.
    pub reading: Reading,
}

/// This is the instance. If it is the one whose log this was, what stood apart is put together again; else all that is
/// unsent of the other one is set aside under that one's name, and what came since the [`Parted`] is this one's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// When.
    pub at: Timestamp,
    /// Its name.
    pub instance: String,
    /// The first hour that is not sealed, from here on: a record never names an hour before its instance was there.
    pub open_from: Hour,
}

/// A person has decided about what is unsent of another instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disposed {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Peer,
    /// The other instance.
    pub instance: String,
    /// What.
    pub fate: Fate,
}

/// What becomes of another instance's unsent usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// This instance is its replacement and bills it: hours that are still open here go on with what the other one had
    /// in them, all else goes into the next record to be sealed.
    Adopted {
        /// Its hours that are sealed here, closed by the rules that held for it. Their units are carried; no record of
        /// theirs is ever sent.
        seals: Vec<Seal>,
        /// Its records whose units are carried: nothing of them was ever taken. Whatever else was not final may have
        /// been, and waits for a person's word on each.
        carried: Vec<RecordKey>,
        /// Whether its hours that are open here are taken over: not where damage may have taken their seals.
        open: bool,
    },
    /// Nobody is billed for it here.
    Discarded {
        /// What its hours come to that were never sealed.
        open: Vec<(DimensionId, Amount)>,
    },
}
