//! BatchMeterUsage and ResolveCustomer: requests read and checked, and AWS's rules for them.
//!
//! 1. A call has up to 25 records and is shorter than 1 MB (`ValidationException`), and is about one product: with a
//!    `ProductCode` no record has a licence, without one each has (`InvalidProductCodeException`, `InvalidLicenseException`).
//! 2. What is wrong with one record fails the whole call, and nothing of it is recorded: no account id
//!    (`InvalidCustomerIdentifierException`), its timestamp, dimension, shares or tags.
//! 3. One record stands per customer, licence or product, dimension and UTC clock hour. The same quantity again is that
//!    record (`Success`, the same id); another one is a `DuplicateRecord`, and the first stands.
//! 4. A registration token is `CUSTOMER` or `CUSTOMER/LICENCE` here, so that anybody can make one; `expired` has expired.

use serde_json::{Map, Value, json};

use super::answer::{Granted, Refusal};
use super::request::{self, MeterUsage, list, object, string};
use super::rules::{Books, Rules};
use crate::hour::Timestamp;

/// Records in a call.
const RECORDS_MAX: usize = 25;
/// A call is shorter than this.
const CALL_BYTES: usize = 1_000_000;

/// A call, right by itself.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Each with the record as it was sent.
    pub records: Vec<(MeterUsage, Value)>,
}

impl Batch {
    /// Reads and checks a request body.
    ///
    /// # Errors
    /// The refusal of the first rule that is broken.
    pub fn read(body: &[u8]) -> Result<Batch, Refusal> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::serialization(format!("the body is not JSON: {error}")))?;
        let members = object(&value, "the body")?;
        let product = string(members, "ProductCode")?;
        let Some(records) = list(members, "UsageRecords")? else {
            return Err(Refusal::validation(&[
                "Value null at 'usageRecords' failed to satisfy constraint: Member must not be null".to_owned(),
            ]));
        };
        if records.len() > RECORDS_MAX {
            return Err(Refusal::validation(&[format!(
                "Value at 'usageRecords' failed to satisfy constraint: Member must have length less than or equal to {RECORDS_MAX}"
            )]));
        }
        if body.len() >= CALL_BYTES {
            return Err(Refusal::validation(&[format!(
                "the request has {} bytes, it must be less than 1 MB",
                body.len()
            )]));
        }
        let records = records.iter().map(|record| Ok((read_record(product.as_deref(), record)?, record.clone())));
        Ok(Batch { records: records.collect::<Result<_, Refusal>>()? })
    }
}

fn read_record(product: Option<&str>, value: &Value) -> Result<MeterUsage, Refusal> {
    let members = object(value, "an entry of UsageRecords")?;
    let (customer, license) = (string(members, "CustomerAWSAccountId")?, string(members, "LicenseArn")?);
    // As MeterUsage names them, so that the same bounds hold.
    let mut named = Map::new();
    let names = [("Dimension", "UsageDimension"), ("Quantity", "UsageQuantity"), ("Timestamp", "Timestamp")];
    for (here, there) in names.into_iter().chain([("UsageAllocations", "UsageAllocations")]) {
        named.extend(members.get(here).map(|value| (there.to_owned(), value.clone())));
    }
    named.insert("ProductCode".to_owned(), json!(product.unwrap_or_default()));
    let request = request::read(&named)?;
    let digits = |text: &String| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    let Some(customer) = customer.filter(digits) else {
        let message = "CustomerAWSAccountId is missing or has not 12 digits";
        return Err(Refusal::new("InvalidCustomerIdentifierException", message));
    };
    match (product, &license) {
        (None, None) => Err(Refusal::new("InvalidProductCodeException", "neither a ProductCode nor a LicenseArn")),
        (Some(_), Some(_)) => Err(Refusal::new(
            "InvalidLicenseException",
            "a ProductCode and a LicenseArn: one customer would be billed twice",
        )),
        _ => Ok(MeterUsage { customer: Some(customer), license, ..request }),
    }
}

impl Books {
    /// Judges a call at `now`, and records what it grants. `put_off`: so many of the last records are left unprocessed.
    /// `unsubscribed`: whose records are refused; every customer's, where it names none.
    ///
    /// # Errors
    /// The refusal of the first rule that is broken.
    pub fn batch_meter_usage(
        &mut self,
        rules: &Rules,
        batch: &Batch,
        now: Timestamp,
        put_off: usize,
        unsubscribed: Option<&Option<String>>,
    ) -> Result<Granted, Refusal> {
        for (request, _) in &batch.records {
            self.check(rules, request, now)?;
        }
        let (mut results, mut unprocessed) = (Vec::new(), Vec::new());
        for (n, (request, sent)) in batch.records.iter().enumerate() {
            if n.saturating_add(put_off) >= batch.records.len() {
                unprocessed.push(sent.clone());
                continue;
            }
            let refused = unsubscribed.is_some_and(|one| one.is_none() || *one == request.customer);
            results.push(if refused {
                json!({ "UsageRecord": sent, "Status": "CustomerNotSubscribed" })
            } else {
                match self.stand("", request, now) {
                    Ok(id) => json!({ "UsageRecord": sent, "MeteringRecordId": id, "Status": "Success" }),
                    Err(_) => json!({ "UsageRecord": sent, "Status": "DuplicateRecord" }),
                }
            });
        }
        Ok(Granted::Body(json!({ "Results": results, "UnprocessedRecords": unprocessed })))
    }
}

/// What a registration token stands for.
///
/// # Errors
/// `InvalidTokenException`, `ExpiredTokenException`.
pub fn resolve_customer(rules: &Rules, body: &[u8]) -> Result<Granted, Refusal> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::serialization(format!("the body is not JSON: {error}")))?;
    let token = string(object(&value, "the body")?, "RegistrationToken")?.unwrap_or_default();
    if token == "expired" {
        return Err(Refusal::new("ExpiredTokenException", "the registration token has expired"));
    }
    let (customer, license) = token.split_once('/').map_or((token.as_str(), None), |(c, l)| (c, Some(l)));
    if customer.len() != 12 || !customer.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refusal::new("InvalidTokenException", "the registration token is not valid"));
    }
    let product = rules.products.first().map_or("simulated-product", String::as_str);
    Ok(Granted::Body(json!({
        "CustomerIdentifier": format!("simulated-{customer}"), "CustomerAWSAccountId": customer, "LicenseArn": license,
        "ProductCode": product,
    })))
}
