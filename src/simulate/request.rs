//! A MeterUsage request, read from its JSON and checked by itself, without the books and without the time.
//!
//! Two steps, as AWS takes them: the wire types (`SerializationException`), then the bounds of the service model
//! (`ValidationException`, every violation in one message). What allocations and tags must satisfy beyond the model
//! is in [`super::allocations`].

use std::time::Duration;

use serde_json::{Map, Value};

use super::allocations::{self, Allocation};
use super::answer::Refusal;
use crate::hour::Timestamp;

/// Characters of a product code, a dimension, a client token: the service model's upper bounds.
const PRODUCT_CODE_CHARS_MAX: usize = 255;
const DIMENSION_CHARS_MAX: usize = 255;
const CLIENT_TOKEN_CHARS_MAX: usize = 64;

/// The largest quantity of a record or an allocation.
pub const QUANTITY_MAX: i64 = 2_147_483_647;

/// A MeterUsage request whose every member lies within the service model's bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterUsage {
    /// The seller's product.
    pub product_code: String,
    /// Any moment inside the hour that is metered.
    pub timestamp: Timestamp,
    /// The dimension as published.
    pub dimension: String,
    /// In billed units; absent means 0.
    pub quantity: u32,
    /// How the quantity splits over tag sets; sorted, so that two orders of the same split are equal.
    pub allocations: Option<Vec<Allocation>>,
    /// The caller's idempotency token.
    pub client_token: Option<String>,
    /// Whether only the permission is asked for.
    pub dry_run: bool,
    /// Of a record of BatchMeterUsage: the buyer's account id.
    pub customer: Option<String>,
    /// Of a record of BatchMeterUsage: the licence.
    pub license: Option<String>,
}

impl MeterUsage {
    /// Reads and checks a request body.
    ///
    /// # Errors
    /// `SerializationException` for JSON of other types, `ValidationException` for values out of bounds,
    /// `InvalidTagException` and `InvalidUsageAllocationsException` for allocations that break AWS's rules.
    /// Members that the model does not know are skipped, as AWS does.
    pub fn read(body: &[u8]) -> Result<MeterUsage, Refusal> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::serialization(format!("the body is not JSON: {error}")))?;
        read(object(&value, "the body")?)
    }
}

/// Reads and checks a request's members, as [`MeterUsage::read`] does.
pub(super) fn read(members: &Map<String, Value>) -> Result<MeterUsage, Refusal> {
    let request = Unchecked::read(members)?;
    let violations = request.violations();
    if !violations.is_empty() {
        return Err(Refusal::validation(&violations));
    }
    request.checked()
}

/// Right by type, not yet by value.
struct Unchecked {
    product_code: Option<String>,
    timestamp: Option<Timestamp>,
    dimension: Option<String>,
    quantity: Option<i64>,
    allocations: Option<Vec<allocations::Unchecked>>,
    client_token: Option<String>,
    dry_run: Option<bool>,
}

impl Unchecked {
    fn read(members: &Map<String, Value>) -> Result<Self, Refusal> {
        Ok(Unchecked {
            product_code: string(members, "ProductCode")?,
            timestamp: timestamp(members, "Timestamp")?,
            dimension: string(members, "UsageDimension")?,
            quantity: integer(members, "UsageQuantity")?,
            allocations: match list(members, "UsageAllocations")? {
                Some(list) => Some(list.iter().map(allocations::Unchecked::read).collect::<Result<_, _>>()?),
                None => None,
            },
            client_token: string(members, "ClientToken")?,
            dry_run: boolean(members, "DryRun")?,
        })
    }

    /// Every bound of the service model that a member passes, in the model's order.
    fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, missing) in [
            ("productCode", self.product_code.is_none()),
            ("timestamp", self.timestamp.is_none()),
            ("usageDimension", self.dimension.is_none()),
        ] {
            if missing {
                found.push(format!("Value null at '{name}' failed to satisfy constraint: Member must not be null"));
            }
        }
        if let Some(code) = &self.product_code {
            check_length(&mut found, "productCode", code, 0, PRODUCT_CODE_CHARS_MAX);
            if !code.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/=:_.@".contains(&b)) {
                found.push(violation(
                    "productCode",
                    code,
                    "Member must satisfy regular expression pattern: ^[-a-zA-Z0-9/=:_.@]*$",
                ));
            }
        }
        if let Some(dimension) = &self.dimension {
            check_length(&mut found, "usageDimension", dimension, 1, DIMENSION_CHARS_MAX);
        }
        if let Some(quantity) = self.quantity {
            check_quantity(&mut found, "usageQuantity", quantity);
        }
        if let Some(list) = &self.allocations {
            allocations::violations(&mut found, list);
        }
        if let Some(token) = &self.client_token {
            check_length(&mut found, "clientToken", token, 1, CLIENT_TOKEN_CHARS_MAX);
        }
        found
    }

    /// The request, once `violations` has found nothing.
    fn checked(self) -> Result<MeterUsage, Refusal> {
        let quantity = within_bounds(self.quantity.unwrap_or(0));
        Ok(MeterUsage {
            product_code: self.product_code.unwrap_or_default(),
            timestamp: self.timestamp.unwrap_or_default(),
            dimension: self.dimension.unwrap_or_default(),
            quantity,
            allocations: match self.allocations {
                Some(list) => Some(allocations::checked(list, quantity)?),
                None => None,
            },
            client_token: self.client_token,
            dry_run: self.dry_run.unwrap_or(false),
            customer: None,
            license: None,
        })
    }
}

/// A quantity that `check_quantity` has let through.
pub(super) fn within_bounds(quantity: i64) -> u32 {
    u32::try_from(quantity).unwrap_or(0)
}

pub(super) fn check_length(found: &mut Vec<String>, at: &str, value: &str, min: usize, max: usize) {
    let length = value.chars().count();
    if length < min {
        found.push(violation(at, value, &format!("Member must have length greater than or equal to {min}")));
    }
    if length > max {
        found.push(violation(at, value, &format!("Member must have length less than or equal to {max}")));
    }
}

pub(super) fn check_quantity(found: &mut Vec<String>, at: &str, value: i64) {
    if value < 0 {
        found.push(violation(at, &value.to_string(), "Member must have value greater than or equal to 0"));
    }
    if value > QUANTITY_MAX {
        let constraint = format!("Member must have value less than or equal to {QUANTITY_MAX}");
        found.push(violation(at, &value.to_string(), &constraint));
    }
}

pub(super) fn violation(at: &str, value: &str, constraint: &str) -> String {
    /// A value is quoted this far; the message must stay a sentence.
    const QUOTED_CHARS_MAX: usize = 80;
    let quoted: String = value.chars().take(QUOTED_CHARS_MAX).collect();
    format!("Value '{quoted}' at '{at}' failed to satisfy constraint: {constraint}")
}

pub(super) fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| Refusal::serialization(format!("{what} is not a JSON object")))
}

/// The member `name` read by `read`, whose `None` means another type; a JSON null is an absent member.
fn member<'a, T>(
    members: &'a Map<String, Value>,
    name: &str,
    expected: &str,
    read: impl FnOnce(&'a Value) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(Refusal::serialization(format!("{name} is not {expected}"))),
        },
    }
}

pub(super) fn string(members: &Map<String, Value>, name: &str) -> Result<Option<String>, Refusal> {
    member(members, name, "a string", |value| value.as_str().map(str::to_owned))
}

pub(super) fn integer(members: &Map<String, Value>, name: &str) -> Result<Option<i64>, Refusal> {
    member(members, name, "an integer", Value::as_i64)
}

pub(super) fn list<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a Vec<Value>>, Refusal> {
    member(members, name, "a list", Value::as_array)
}

fn boolean(members: &Map<String, Value>, name: &str) -> Result<Option<bool>, Refusal> {
    member(members, name, "a boolean", Value::as_bool)
}

/// awsJson's timestamps are epoch seconds as a JSON number, with decimals or without.
fn timestamp(members: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Refusal> {
    member(members, name, "a number of seconds since 1970", |value| {
        let seconds = value.as_f64()?;
        let distance = Duration::try_from_secs_f64(seconds.abs()).ok()?;
        let epoch = Timestamp::default();
        Some(if seconds < 0.0 { epoch.minus(distance) } else { epoch.plus(distance) })
    })
}
