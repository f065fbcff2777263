//! SaaS products: the register of customers, as it is told by people, by registration tokens and by AWS's notifications.

use serde::{Deserialize, Serialize};

use super::{AccountId, Peer, SealedPart};
use crate::config::UnknownCustomers;
use crate::hour::{Hour, Timestamp};

/// What the register knows of a customer from here on: all of it, also what it knew before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// When.
    pub at: Timestamp,
    /// Who said so.
    pub by: Peer,
    /// The customer's number.
    pub account: AccountId,
    /// What is known.
    pub facts: Facts,
}

/// What the register knows of a customer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Codes of the products that it has subscribed to, as they were told.
    pub products: Vec<String>,
    /// AWS's deprecated identifier of it: some notifications name nothing else. Never sent.
    pub identifier: Option<String>,
    /// The agreement, which is all that other notifications name.
    pub agreement: Option<String>,
    /// Its subscription is about to end.
    pub ending: bool,
    /// As of when this is so: what was said before it no longer counts.
    pub heard: Timestamp,
}

/// A customer's subscription has ended: its open hours are closed at once, and nothing of it is taken any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerEnded {
    /// When.
    pub at: Timestamp,
    /// Who said so.
    pub by: Peer,
    /// The customer's number. It is in the register.
    pub account: AccountId,
    /// As in [`Facts`].
    pub heard: Timestamp,
    /// Hours up to this one are closed for the customer, though others may still use them; none while the clock is in doubt.
    pub through: Option<Hour>,
    /// What it had in them, by hours.
    pub parts: Vec<SealedPart>,
}

/// What becomes of customers whom the register does not know, from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterRule {
    /// When.
    pub at: Timestamp,
    /// What.
    pub unknown: UnknownCustomers,
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, InCommon, kind};
    use super::*;

    /// Payloads as version 1 lays them out, byte for byte.
    #[test]
    fn the_layout_is_this_one() {
        let at = Timestamp::from_seconds(1);
        let by = Peer { uid: 1, gid: 2, pid: 3 };
        let moment = 1000i64.to_le_bytes();
        let long = u64::to_le_bytes;
        let peer = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0];
        let facts = Facts {
            products: vec!["p".into()],
            identifier: Some("i".into()),
            agreement: None,
            ending: true,
            heard: at,
        };
        let hour = Timestamp::from_seconds(9 * 3600).hour();
        let common = InCommon { timestamp: at, product_code: String::new() };
        let part = SealedPart { hour, at, common, through: AccountId(3), rows: Vec::new() };
        let ended = CustomerEnded { at, by, account: AccountId(3), heard: at, through: Some(hour), parts: vec![part] };
        let cases = [
            (
                kind::REGISTERED,
                Entry::Registered(Registered { at, by, account: AccountId(3), facts }),
                [&moment[..], &peer, &[3, 0, 0, 0], &long(1), &long(1), b"p", &[1], &long(1), b"i", &[0, 1], &moment]
                    .concat(),
            ),
            (
                kind::CUSTOMER_ENDED,
                Entry::CustomerEnded(ended),
                [
                    &moment[..],
                    &peer,
                    &[3, 0, 0, 0],
                    &moment,
                    &[1, 9, 0, 0, 0],
                    &long(1),
                    &[9, 0, 0, 0],
                    &moment,
                    &moment,
                    &long(0),
                    &[3, 0, 0, 0],
                    &long(0),
                ]
                .concat(),
            ),
            (
                kind::REGISTER_RULE,
                Entry::RegisterRule(RegisterRule { at, unknown: UnknownCustomers::Send }),
                [&moment[..], &[2, 0, 0, 0]].concat(),
            ),
        ];
        for (kind, entry, bytes) in cases {
            assert_eq!((entry.kind(), entry.encode().unwrap()), (kind, bytes.clone()));
            assert_eq!(Entry::decode(kind, &bytes).unwrap(), entry);
        }
    }
}
