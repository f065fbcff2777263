//! SaaS products: whose usage it is, and what of it is fixed for many customers at once.
//!
//! A customer (with its licence, if there is one) is written down once, under a number, before the first increment that
//! names it; from then on it is that number: in increments, and in the keys of its records.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{DimensionId, RecordKey, Request, Verdict, share_bytes};
use crate::hour::{Hour, Timestamp};

/// Bits of [`RecordKey::generation`] below the customer's number.
const GENERATION_BITS: u32 = 8;

/// A customer's number within one log, from 1 on; it keeps it for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountId(pub u32);

impl AccountId {
    /// The last number that a record's key has room for.
    pub const MAX: AccountId = AccountId((1 << (32 - GENERATION_BITS)) - 1);
}

impl RecordKey {
    /// The first record of a customer's hour.
    pub fn of_customer(account: AccountId, hour: Hour, dimension: DimensionId) -> RecordKey {
        RecordKey { hour, dimension, generation: account.0 << GENERATION_BITS }
    }

    /// Whose record it is; none: the instance's own (AMI products), whose keys have no customer in them.
    pub fn account(&self) -> Option<AccountId> {
        let number = self.generation >> GENERATION_BITS;
        (number > 0).then_some(AccountId(number))
    }

    /// How often a record can be fixed anew.
    pub const TIMES_FIXED_MAX: u32 = (1 << GENERATION_BITS) - 1;

    /// How often it was fixed anew.
    pub fn times_fixed(&self) -> u32 {
        self.generation & RecordKey::TIMES_FIXED_MAX
    }

    /// Every generation of the record of a customer's dimension and hour, or of the instance's.
    pub fn all_of(account: Option<AccountId>, dimension: DimensionId, hour: Hour) -> RangeInclusive<RecordKey> {
        let first = RecordKey::of_customer(account.unwrap_or(AccountId(0)), hour, dimension);
        first..=RecordKey { generation: first.generation | RecordKey::TIMES_FIXED_MAX, ..first }
    }
}

/// Whom AWS bills: the buyer's AWS account and, for products with concurrent agreements, the licence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Buyer {
    /// The account id, twelve digits.
    pub customer: u64,
    /// The licence's ARN.
    pub license: Option<String>,
}

/// Longest resource part of a licence's ARN (AWS), and of the parts before it.
const RESOURCE_CHARS_MAX: usize = 1024;
const PART_CHARS_MAX: usize = 63;

impl Buyer {
    /// Reads both as a writer gives them. The error says what is wrong and what is allowed.
    pub fn parse(customer: &str, license: Option<&str>) -> Result<Buyer, String> {
        let digits = customer.len() == 12 && customer.bytes().all(|b| b.is_ascii_digit());
        let number = customer.parse().ok().filter(|_| digits).ok_or_else(|| {
            let shown: String = customer.chars().take(40).collect();
            format!("customer {shown:?} is no AWS account id: 12 digits, as a string")
        })?;
        if let Some(arn) = license.filter(|arn| !is_license(arn)) {
            let shown: String = arn.chars().take(100).collect();
            return Err(format!(
                "license {shown:?} is no licence ARN, e.g. \"arn:aws:license-manager::123456789012:license:l-0123\""
            ));
        }
        Ok(Buyer { customer: number, license: license.map(str::to_owned) })
    }

    /// The account id as AWS writes it.
    pub fn customer_id(&self) -> String {
        format!("{:012}", self.customer)
    }

    /// Both in one word, which stands where a MeterUsage request has its token.
    pub fn word(&self) -> String {
        match &self.license {
            Some(license) => format!("{:012}/{license}", self.customer),
            None => self.customer_id(),
        }
    }
}

/// AWS's pattern for it.
fn is_license(arn: &str) -> bool {
    let word = |part: &str, more: &str, max: usize| {
        part.len() <= max && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let begins = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric());
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [scheme, partition, service, region, account, resource] = parts.as_slice() else { return false };
    let aws =
        partition.strip_prefix("aws").is_some_and(|rest| rest.chars().all(|c| c.is_ascii_alphabetic() || c == '-'));
    *scheme == "arn"
        && aws
        && partition.len() <= PART_CHARS_MAX
        && begins(service)
        && [service, region, account].iter().all(|part| word(part, "_/.-", PART_CHARS_MAX))
        && begins(resource)
        && word(resource, ":_/+=,@.-", RESOURCE_CHARS_MAX)
}

impl Request {
    /// Of a customer's record: whether it is sent under a licence, and so without the product's code.
    pub fn is_licensed(&self) -> bool {
        self.client_token.as_bytes().get(12) == Some(&b'/')
    }

    /// About how long its shares are as AWS reads them.
    pub fn share_bytes(&self) -> usize {
        share_bytes(&self.allocations)
    }

    /// Of a customer's record: who is billed.
    pub fn buyer(&self) -> Option<Buyer> {
        let (customer, rest) = self.client_token.split_at_checked(12)?;
        Buyer::parse(customer, if rest.is_empty() { None } else { Some(rest.strip_prefix('/')?) }).ok()
    }
}

/// Customers that get a number. The first such entry, of none, says that the log is a SaaS product's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// When.
    pub at: Timestamp,
    /// The number of the first one; the others follow without a gap.
    pub first: AccountId,
    /// Who they are.
    pub buyers: Vec<Buyer>,
}

/// A call with these records is about to be made; written before its first byte leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAttempt {
    /// When.
    pub at: Timestamp,
    /// In the order they are sent.
    pub keys: Vec<RecordKey>,
}

/// What a call came to, record by record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAnswered {
    /// When.
    pub at: Timestamp,
    /// AWS's id of the request: evidence.
    pub request_id: Option<String>,
    /// AWS's word, or ours, on the call or the record.
    pub records: Vec<(RecordKey, Verdict, String)>,
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Fresh, InCommon, Peer, Rest, RowMore, Run, SealedPart, SealedRow, Usage, kind};
    use super::*;
    use crate::decimal::Amount;

    /// These bytes stand in logs.
    #[test]
    fn keeps_its_layout() {
        let at = Timestamp::from_millis(0x0102_0304);
        let moment = [4, 3, 2, 1, 0, 0, 0, 0];
        let hour = Timestamp::from_seconds(9 * 3600).hour();
        let key = RecordKey::of_customer(AccountId(3), hour, DimensionId(2));
        let of_key = [9, 0, 0, 0, 2, 0, 0, 3, 0, 0];
        let long = |n: u8| [n, 0, 0, 0, 0, 0, 0, 0];
        let amount = |n: u8| [[n, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat();
        let buyer = Buyer { customer: 7, license: Some("l".into()) };
        let common = InCommon { timestamp: at, product_code: "p".into() };
        let of = Amount::from_millionths;
        let (account, dimension) = (AccountId(3), DimensionId(2));
        let plain = Fresh { quantity: 6, plain: 5, rest: None };
        let rest = Rest { usage: of(5), value: of(4), ..Rest::default() };
        let full = Fresh { quantity: 6, plain: 0, rest: Some(Box::new(rest)) };
        let more = RowMore { usage: of(7), included: of(1), rounded: of(2), ..RowMore::default() };
        let rows = vec![
            SealedRow { account, dimension, record: Some(plain), more: None },
            SealedRow { account, dimension, record: Some(full), more: Some(Box::new(more)) },
        ];
        let part = SealedPart { hour, at, common, through: AccountId(3), rows };
        let usage = Usage {
            first_seq: 8,
            received: at,
            peer: Peer { uid: 0, gid: 0, pid: 0 },
            runs: vec![Run::Customers { hour, items: vec![(AccountId(3), DimensionId(2), 5)] }],
        };
        let cases = [
            (
                kind::ACCOUNTS,
                Entry::Accounts(Accounts { at, first: AccountId(3), buyers: vec![buyer] }),
                [&moment[..], &[3, 0, 0, 0], &long(1), &long(7), &[1], &long(1), b"l"].concat(),
            ),
            (
                kind::SEALED_PART,
                Entry::SealedPart(part),
                [
                    &[9, 0, 0, 0][..],
                    &moment,
                    &moment,
                    &long(1),
                    b"p",
                    &[3, 0, 0, 0],
                    &long(2),
                    &[3, 0, 0, 0, 2, 0],
                    &[1, 6, 0, 0, 0],
                    &long(5),
                    &[0],
                    &[0],
                    &[3, 0, 0, 0, 2, 0],
                    &[1, 6, 0, 0, 0],
                    &long(0),
                    &[1],
                    &amount(5),
                    &amount(4),
                    &[0; 5 * 16],
                    &long(0),
                    &long(0),
                    &[0],
                    &[1],
                    &amount(7),
                    &amount(1),
                    &amount(2),
                    &long(0),
                    &long(0),
                    &[0, 0],
                    &[0],
                ]
                .concat(),
            ),
            (
                kind::BATCH_ATTEMPT,
                Entry::BatchAttempt(BatchAttempt { at, keys: vec![key] }),
                [&moment[..], &long(1), &of_key].concat(),
            ),
            (
                kind::BATCH_ANSWERED,
                Entry::BatchAnswered(BatchAnswered {
                    at,
                    request_id: None,
                    records: vec![(key, Verdict::NotTaken, "x".into())],
                }),
                [&moment[..], &[0], &long(1), &of_key, &[1, 0, 0, 0], &long(1), b"x"].concat(),
            ),
            (
                kind::USAGE,
                Entry::Usage(usage),
                [
                    &long(8)[..],
                    &moment,
                    &[0; 12],
                    &long(1),
                    &[2, 0, 0, 0, 9, 0, 0, 0],
                    &long(1),
                    &[3, 0, 0, 0, 2, 0],
                    &long(5),
                ]
                .concat(),
            ),
        ];
        for (kind, entry, bytes) in cases {
            assert_eq!((entry.kind(), entry.encode().unwrap()), (kind, bytes.clone()));
            assert_eq!(Entry::decode(kind, &bytes).unwrap(), entry);
        }
    }

    #[test]
    fn a_records_key_says_whose_it_is() {
        let hour = Timestamp::from_seconds(9 * 3600).hour();
        let key = RecordKey::of_customer(AccountId::MAX, hour, DimensionId(2));
        let fixed = RecordKey { generation: key.generation + RecordKey::TIMES_FIXED_MAX, ..key };
        assert_eq!((fixed.account(), fixed.times_fixed()), (Some(AccountId::MAX), 255));
        assert!(RecordKey::all_of(Some(AccountId::MAX), DimensionId(2), hour).contains(&fixed));
        let own = RecordKey { generation: 1, ..key };
        assert_eq!((own.account(), own.times_fixed()), (None, 1));
        assert!(RecordKey::all_of(None, DimensionId(2), hour).contains(&own));
        for (customer, license) in [("123456789012", None), ("000000000001", Some("arn:aws:license-manager:::l"))] {
            let buyer = Buyer::parse(customer, license).unwrap();
            let request = Request { client_token: buyer.word(), ..request() };
            assert_eq!((request.is_licensed(), request.buyer()), (license.is_some(), Some(buyer)));
        }
        let licenses = ["arn:aws:s::", "arn:aws:::x", "arn:aws1:s:::x", "x:aws:s:::x", "arn:aws:s:::x y", ""];
        assert!(licenses.iter().all(|license| Buyer::parse("123456789012", Some(license)).is_err()));
    }

    fn request() -> Request {
        Request {
            product_code: String::new(),
            dimension: String::new(),
            timestamp: Timestamp::default(),
            quantity: 0,
            allocations: Vec::new(),
            client_token: String::new(),
        }
    }
}
