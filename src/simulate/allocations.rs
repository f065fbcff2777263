//! How a record's quantity splits over sets of tags, and what AWS demands of such a split.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::answer::Refusal;
use super::request::{check_quantity, integer, list, object, string, violation, within_bounds};

/// Allocations in a record.
const ALLOCATIONS_MAX: usize = 2500;
/// Tags of one allocation, and distinct tag keys across a record.
const TAGS_MAX: usize = 5;
/// Characters of a tag's key.
const KEY_CHARS_MAX: usize = 100;
/// Characters of a tag's value.
const VALUE_CHARS_MAX: usize = 256;

/// One share of a record's quantity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Allocation {
    /// In billed units.
    pub quantity: u32,
    /// Key to value; empty is the untagged share.
    pub tags: BTreeMap<String, String>,
}

/// An allocation that is right by type, not yet by value.
pub(super) struct Unchecked {
    quantity: Option<i64>,
    tags: Option<Vec<(Option<String>, Option<String>)>>,
}

impl Unchecked {
    pub(super) fn read(value: &Value) -> Result<Self, Refusal> {
        let members = object(value, "an entry of UsageAllocations")?;
        let tags = match list(members, "Tags")? {
            Some(tags) => Some(tags.iter().map(read_tag).collect::<Result<_, _>>()?),
            None => None,
        };
        Ok(Unchecked { quantity: integer(members, "AllocatedUsageQuantity")?, tags })
    }
}

fn read_tag(value: &Value) -> Result<(Option<String>, Option<String>), Refusal> {
    let members = object(value, "an entry of Tags")?;
    Ok((string(members, "Key")?, string(members, "Value")?))
}

/// Adds every bound of the service model that `list` passes to `found`. Bounds of tags for which the service has an
/// exception of its own are left to [`checked`].
pub(super) fn violations(found: &mut Vec<String>, list: &[Unchecked]) {
    if list.is_empty() {
        found.push(violation("usageAllocations", "[]", "Member must have length greater than or equal to 1"));
    }
    for (n, allocation) in list.iter().enumerate() {
        let at = format!("usageAllocations.{}.member", n + 1);
        match allocation.quantity {
            Some(quantity) => check_quantity(found, &format!("{at}.allocatedUsageQuantity"), quantity),
            None => found.push(not_null(&format!("{at}.allocatedUsageQuantity"))),
        }
        let Some(tags) = &allocation.tags else { continue };
        if tags.is_empty() {
            found.push(violation(
                &format!("{at}.tags"),
                "[]",
                "Member must have length greater than or equal to 1 (leave Tags out for the untagged share)",
            ));
        }
        for (m, (key, value)) in tags.iter().enumerate() {
            for (name, missing) in [("key", key.is_none()), ("value", value.is_none())] {
                if missing {
                    found.push(not_null(&format!("{at}.tags.{}.member.{name}", m + 1)));
                }
            }
        }
    }
}

fn not_null(at: &str) -> String {
    format!("Value null at '{at}' failed to satisfy constraint: Member must not be null")
}

/// The allocations of a record of `quantity`, sorted.
pub(super) fn checked(list: Vec<Unchecked>, quantity: u32) -> Result<Vec<Allocation>, Refusal> {
    let invalid = |message: String| Err(Refusal::new("InvalidUsageAllocationsException", message));
    if list.len() > ALLOCATIONS_MAX {
        return invalid(format!("{} allocations; at most {ALLOCATIONS_MAX} are allowed", list.len()));
    }
    let mut shares: BTreeMap<BTreeMap<String, String>, u32> = BTreeMap::new();
    let mut sum: u64 = 0;
    for allocation in list {
        let share = within_bounds(allocation.quantity.unwrap_or(0));
        sum += u64::from(share);
        let tags = checked_tags(allocation.tags.unwrap_or_default())?;
        if shares.contains_key(&tags) {
            return invalid(format!("two allocations have the same tags {tags:?}; tag sets must be unique"));
        }
        shares.insert(tags, share);
    }
    let keys: BTreeSet<&str> = shares.keys().flat_map(|tags| tags.keys().map(String::as_str)).collect();
    if keys.len() > TAGS_MAX {
        let message = format!("{} distinct tag keys in one record; at most {TAGS_MAX} are allowed", keys.len());
        return Err(Refusal::new("InvalidTagException", message));
    }
    if sum != u64::from(quantity) {
        return invalid(format!("the allocated quantities add up to {sum}, but UsageQuantity is {quantity}"));
    }
    Ok(shares.into_iter().map(|(tags, quantity)| Allocation { quantity, tags }).collect())
}

fn checked_tags(tags: Vec<(Option<String>, Option<String>)>) -> Result<BTreeMap<String, String>, Refusal> {
    let invalid = |message: String| Err(Refusal::new("InvalidTagException", message));
    if tags.len() > TAGS_MAX {
        return invalid(format!("{} tags in one allocation; at most {TAGS_MAX} are allowed", tags.len()));
    }
    let mut checked = BTreeMap::new();
    for (key, value) in tags {
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        for (what, text, max) in [("key", &key, KEY_CHARS_MAX), ("value", &value, VALUE_CHARS_MAX)] {
            let length = text.chars().count();
            if length == 0 || length > max {
                return invalid(format!("a tag {what} has {length} characters; 1 to {max} are allowed"));
            }
            if !text.bytes().all(is_tag_byte) {
                return invalid(format!("the tag {what} {text:?} does not match ^[a-zA-Z0-9+ -=._:\\/@]+$"));
            }
        }
        if checked.contains_key(&key) {
            return invalid(format!("the tag key {key:?} stands twice in one allocation"));
        }
        checked.insert(key, value);
    }
    Ok(checked)
}

/// The model's class `[a-zA-Z0-9+ -=._:\/@]`, taken as the regular expression it is: ` -=` is a range, from the space
/// to the equals sign, which takes in digits and most punctuation.
fn is_tag_byte(b: u8) -> bool {
    b.is_ascii_alphabetic() || (b' '..=b'=').contains(&b) || b == b'_' || b == b'@'
}
