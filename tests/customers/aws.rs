//! An AWS that holds every call against AWS's rules. It knows nothing of meterd but the requests.

use std::collections::{BTreeMap, BTreeSet};

use meterd::entry::Request;
use meterd::hour::{Hour, Timestamp};
use meterd::submit::answer::{OfRecord, Outcome, Reply};

/// What a record is unique by: customer, licence, dimension and hour.
pub type Place = (String, Option<String>, String, Hour);

#[derive(Default)]
pub struct Aws {
    /// What stands.
    pub stands: BTreeMap<Place, u32>,
    /// Every request as it was first seen: each later one is the same.
    seen: BTreeMap<Place, Request>,
    /// Whether a customer's hour was sent under a licence.
    licensed: BTreeMap<(String, Hour), bool>,
    /// Customers whose records AWS refuses as they are: they fail the whole call.
    pub poisoned: BTreeSet<String>,
    /// Customers without a subscription.
    pub gone: BTreeSet<String>,
    /// The one product that it knows; none: any.
    pub product: Option<&'static str>,
    pub calls: usize,
}

pub fn place(request: &Request) -> Place {
    let buyer = request.buyer().expect("a customer");
    (buyer.customer_id(), buyer.license, request.dimension.clone(), request.timestamp.hour())
}

pub fn reply(outcome: Outcome, message: &str) -> Reply {
    Reply { outcome, message: message.to_owned(), request_id: None, retry_after: None, aws_time: None }
}

pub fn error(code: &str) -> Reply {
    reply(Outcome::Error { code: code.to_owned(), status: 400 }, code)
}

impl Aws {
    /// What every call must satisfy, answered or not.
    fn judge(&mut self, requests: &[Request], now: Timestamp) {
        self.calls += 1;
        assert!(requests.len() <= 25, "{} records in a call", requests.len());
        let products: BTreeSet<_> = requests.iter().map(|r| (!r.is_licensed()).then_some(&r.product_code)).collect();
        assert!(products.len() <= 1, "one product a call: {products:?}");
        let places: BTreeSet<Place> = requests.iter().map(place).collect();
        assert_eq!(places.len(), requests.len(), "a record stands twice in a call");
        for request in requests {
            let place = place(request);
            assert!(request.timestamp <= now, "a record of what is still to come");
            let before = self.seen.entry(place.clone()).or_insert_with(|| request.clone());
            assert_eq!(before, request, "a retry is the same request");
            let (customer, license, _, hour) = place;
            let licensed = *self.licensed.entry((customer.clone(), hour)).or_insert(license.is_some());
            assert_eq!(licensed, license.is_some(), "{customer} is billed both ways in {hour}");
        }
    }

    /// Judges the call and says what is wrong with it as a whole.
    fn refused(&mut self, requests: &[Request], now: Timestamp) -> Option<Reply> {
        let unknown = |r: &Request| !r.is_licensed() && self.product.is_some_and(|known| r.product_code != known);
        if requests.iter().any(unknown) {
            return Some(error("InvalidProductCode"));
        }
        self.judge(requests, now);
        let poisoned = requests.iter().any(|request| self.poisoned.contains(&place(request).0));
        poisoned.then(|| error("InvalidCustomerIdentifier"))
    }

    fn one(&mut self, request: &Request) -> OfRecord {
        let place = place(request);
        if self.gone.contains(&place.0) {
            return OfRecord::NotSubscribed;
        }
        let stands = *self.stands.entry(place.clone()).or_insert(request.quantity);
        if stands == request.quantity {
            OfRecord::Success { metering_record_id: format!("{place:?}") }
        } else {
            OfRecord::Duplicate
        }
    }

    /// Takes a call as AWS does.
    pub fn take(&mut self, requests: &[Request], now: Timestamp) -> Reply {
        self.take_but(requests, now, &BTreeSet::new())
    }

    /// The same, with the records at these places left unprocessed.
    pub fn take_but(&mut self, requests: &[Request], now: Timestamp, put_off: &BTreeSet<usize>) -> Reply {
        if let Some(refused) = self.refused(requests, now) {
            return refused;
        }
        let said = requests.iter().enumerate();
        let said = said.map(|(n, r)| if put_off.contains(&n) { OfRecord::Unprocessed } else { self.one(r) });
        let said = said.collect();
        reply(Outcome::Batch(said), "answered")
    }

    /// The call comes in; what AWS does with it is another matter.
    pub fn see(&mut self, requests: &[Request], now: Timestamp) {
        self.judge(requests, now);
    }

    /// Billed units of a customer, over all licences and hours.
    pub fn billed(&self, customer: &str, dimension: &str) -> u64 {
        let mine = self.stands.iter().filter(|((c, _, d, _), _)| c == customer && d == dimension);
        mine.map(|(_, quantity)| u64::from(*quantity)).sum()
    }
}
