//! AWS's rules for MeterUsage (and, for a record by itself, of [`super::batch`]): books, a request and a moment give an answer. No HTTP and no clock in here.
//!
//! 1. A timestamp is accepted if and only if it is no older than the window and no further ahead than
//!    [`AHEAD_MAX`] (`TimestampOutOfBoundsException`).
//! 2. A product or dimension is accepted if and only if it is one of those named, or none are named.
//! 3. A client token stands for one request of one caller: with other parameters `IdempotencyConflictException`.
//! 4. One record stands per caller, product, dimension and UTC clock hour. The same quantity with the same
//!    allocations again is that record (any moment of the hour, any token); anything else is a
//!    `DuplicateRequestException`, and the first stands. Nothing is ever changed, added up or taken back.
//! 5. A dry run is judged by 1 and 2 and leaves no trace in the books.

use std::collections::HashMap;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::allocations::Allocation;
use super::answer::{DRY_RUN_OPERATION, Granted, Refusal};
use super::request::MeterUsage;
use crate::hour::{Hour, Timestamp};

/// How far ahead of the service's clock a timestamp may lie.
pub const AHEAD_MAX: Duration = Duration::from_secs(60);

/// Records and tokens the books hold; past it the service is unavailable, rather than eating the machine's memory.
const RECORDS_MAX: usize = 1_000_000;
const TOKENS_MAX: usize = 2_000_000;

/// What the simulated listing looks like and how its service judges.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Product codes that exist; empty: any.
    pub products: Vec<String>,
    /// Dimensions that exist; empty: any.
    pub dimensions: Vec<String>,
    /// How far back a timestamp is accepted.
    pub window: Duration,
    /// Whether a granted dry run answers HTTP 200 (as AWS's sample code expects) instead of `DryRunOperation`.
    pub dry_run_ok: bool,
}

/// How far back customers' records are accepted at least.
const BATCH_WINDOW: Duration = Duration::from_secs(24 * 3600);

impl Rules {
    /// How far back this record is accepted.
    fn window_of(&self, request: &MeterUsage) -> Duration {
        if request.customer.is_some() { self.window.max(BATCH_WINDOW) } else { self.window }
    }
}

/// A record that stands.
#[derive(Debug, Clone)]
pub struct Record {
    /// Who sent it: the access key id of the signature.
    pub instance: String,
    /// As sent.
    pub product_code: String,
    /// As sent.
    pub dimension: String,
    /// The hour it stands for.
    pub hour: Hour,
    /// As sent first.
    pub timestamp: Timestamp,
    /// In billed units.
    pub quantity: u32,
    /// As sent, sorted by tags.
    pub allocations: Option<Vec<Allocation>>,
    /// The buyer's account id, of BatchMeterUsage.
    pub customer: Option<String>,
    /// The licence, where one was sent.
    pub license: Option<String>,
    /// The token it was first sent with.
    pub client_token: Option<String>,
    /// Shaped like a UUID, the same for the same caller, product, dimension and hour.
    pub metering_record_id: String,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// How many calls were judged to be this record, the first one included.
    pub calls: u64,
    /// Put there by a script (`other_quantity`), sent by nobody.
    pub planted: bool,
}

/// What a record is unique by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Bucket {
    instance: String,
    product_code: String,
    dimension: String,
    hour: Hour,
    buyer: Option<(String, Option<String>)>,
}

/// Every record and token the service remembers.
#[derive(Debug, Default)]
pub struct Books {
    records: Vec<Record>,
    buckets: HashMap<Bucket, usize>,
    tokens: HashMap<(String, String), MeterUsage>,
}

impl Books {
    /// The records in the order they were accepted.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Judges a request of `instance` at `now`, and records it if it is granted.
    ///
    /// # Errors
    /// The refusal of the first rule that is broken.
    pub fn meter_usage(
        &mut self,
        rules: &Rules,
        instance: &str,
        request: &MeterUsage,
        now: Timestamp,
    ) -> Result<Granted, Refusal> {
        check_listing(rules, request)?;
        check_time(rules, request, now)?;
        if request.dry_run {
            return match rules.dry_run_ok {
                true => Ok(Granted::DryRun),
                false => {
                    Err(Refusal::new(DRY_RUN_OPERATION, "Request would have succeeded, but the DryRun flag is set."))
                }
            };
        }
        self.check_token(instance, request)?;
        let metering_record_id = self.stand(instance, request, now)?;
        if let Some(token) = &request.client_token {
            self.tokens.insert((instance.to_owned(), token.clone()), request.clone());
        }
        Ok(Granted::Recorded { metering_record_id })
    }

    /// Whether a record is right by itself, at `now`.
    pub(super) fn check(&self, rules: &Rules, request: &MeterUsage, now: Timestamp) -> Result<(), Refusal> {
        check_listing(rules, request)?;
        check_time(rules, request, now)
    }

    /// Makes a record stand, or finds it standing; answers its id.
    pub(super) fn stand(&mut self, instance: &str, request: &MeterUsage, now: Timestamp) -> Result<String, Refusal> {
        self.check_room()?;
        let bucket = bucket_of(instance, request);
        let at = match self.buckets.get(&bucket) {
            Some(at) => *at,
            None => self.insert(bucket, request, now, false),
        };
        let Some(record) = self.records.get_mut(at) else {
            return Err(Refusal::with_status(500, "InternalServiceErrorException", "the books lost a record"));
        };
        if record.quantity != request.quantity || record.allocations != request.allocations {
            let what = if record.quantity == request.quantity { "other allocations" } else { "another quantity" };
            return Err(Refusal::new(
                "DuplicateRequestException",
                format!(
                    "a record with {what} stands for dimension {} and hour {}: quantity {}, id {}",
                    record.dimension, record.hour, record.quantity, record.metering_record_id
                ),
            ));
        }
        record.calls += 1;
        Ok(record.metering_record_id.clone())
    }

    /// Makes another quantity stand where `request` would, as if it had been sent before. Does nothing where a record
    /// stands already or the request would be refused anyway.
    pub fn plant_other_quantity(&mut self, rules: &Rules, instance: &str, request: &MeterUsage, now: Timestamp) {
        let bucket = bucket_of(instance, request);
        let taken = check_listing(rules, request).and(check_time(rules, request, now)).and(self.check_room());
        if !self.buckets.contains_key(&bucket) && !request.dry_run && taken.is_ok() {
            let quantity = if request.quantity == 0 { 1 } else { request.quantity - 1 };
            let other = MeterUsage { quantity, allocations: None, client_token: None, ..request.clone() };
            self.insert(bucket, &other, now, true);
        }
    }

    fn check_token(&self, instance: &str, request: &MeterUsage) -> Result<(), Refusal> {
        let Some(token) = &request.client_token else { return Ok(()) };
        match self.tokens.get(&(instance.to_owned(), token.clone())) {
            Some(first) if first != request => Err(Refusal::new(
                "IdempotencyConflictException",
                format!(
                    "ClientToken {token} was used for dimension {}, timestamp {}, quantity {}",
                    first.dimension, first.timestamp, first.quantity
                ),
            )),
            _ => Ok(()),
        }
    }

    fn check_room(&self) -> Result<(), Refusal> {
        if self.records.len() < RECORDS_MAX && self.tokens.len() < TOKENS_MAX {
            return Ok(());
        }
        let message = format!("the simulation holds {} records and is full; restart it", self.records.len());
        Err(Refusal::with_status(503, "ServiceUnavailableException", message))
    }

    fn insert(&mut self, bucket: Bucket, request: &MeterUsage, now: Timestamp, planted: bool) -> usize {
        let at = self.records.len();
        self.records.push(Record {
            instance: bucket.instance.clone(),
            product_code: bucket.product_code.clone(),
            dimension: bucket.dimension.clone(),
            hour: bucket.hour,
            timestamp: request.timestamp,
            quantity: request.quantity,
            allocations: request.allocations.clone(),
            customer: request.customer.clone(),
            license: request.license.clone(),
            client_token: request.client_token.clone(),
            metering_record_id: record_id(&bucket),
            accepted_at: now,
            calls: 0,
            planted,
        });
        self.buckets.insert(bucket, at);
        at
    }
}

fn check_listing(rules: &Rules, request: &MeterUsage) -> Result<(), Refusal> {
    let named = request.license.is_none();
    if named && !rules.products.is_empty() && !rules.products.contains(&request.product_code) {
        let message = format!("no product {:?}; there are: {}", request.product_code, rules.products.join(", "));
        return Err(Refusal::new("InvalidProductCodeException", message));
    }
    if !rules.dimensions.is_empty() && !rules.dimensions.contains(&request.dimension) {
        let message = format!("no dimension {:?}; there are: {}", request.dimension, rules.dimensions.join(", "));
        return Err(Refusal::new("InvalidUsageDimensionException", message));
    }
    Ok(())
}

fn check_time(rules: &Rules, request: &MeterUsage, now: Timestamp) -> Result<(), Refusal> {
    let (oldest, newest) = (now.minus(rules.window_of(request)), now.plus(AHEAD_MAX));
    if request.timestamp < oldest || request.timestamp > newest {
        return Err(Refusal::new(
            "TimestampOutOfBoundsException",
            format!("timestamp {} is not between {oldest} and {newest}", request.timestamp),
        ));
    }
    Ok(())
}

fn bucket_of(instance: &str, request: &MeterUsage) -> Bucket {
    Bucket {
        instance: instance.to_owned(),
        product_code: request.product_code.clone(),
        dimension: request.dimension.clone(),
        hour: request.timestamp.hour(),
        buyer: request.customer.clone().map(|customer| (customer, request.license.clone())),
    }
}

fn record_id(bucket: &Bucket) -> String {
    let mut digest = Sha256::new();
    let buyer = bucket.buyer.as_ref().map(|(customer, license)| [Some(customer), license.as_ref()]);
    let parts = [&bucket.instance, &bucket.product_code, &bucket.dimension];
    for part in parts.into_iter().chain(buyer.into_iter().flatten().flatten()) {
        // A length before each part, so that two buckets never hash the same bytes.
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    digest.update(bucket.hour.index().to_le_bytes());
    uuid_of(digest.finalize().as_slice())
}

/// The first sixteen bytes written like a UUID.
pub(super) fn uuid_of(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().take(16).map(|b| format!("{b:02x}")).collect();
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}
