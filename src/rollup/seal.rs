//! Closing an hour: measure → round → carried units → spill, and the request fixed as AWS will see it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::State;
use super::share;
use super::state::DimensionState;
use super::tagged::Tagged;
use crate::config::{Round, ZeroRecords};
use crate::decimal::Amount;
use crate::entry::{Allocation, Carry, DimensionId, Record, RecordKey, Request, Seal, SealedDimension};
use crate::hour::{Hour, Timestamp};
use crate::tags::Tags;

/// The largest quantity that one record can hold (AWS).
pub const QUANTITY_MAX: i64 = 2_147_483_647;

impl State {
    /// What closes `hour` and the hours after it through `through`, in which nothing happened. Changes nothing:
    /// the seal is written to the log and then folded in like every entry. `None` until the instance is known, for it
    /// is part of the request.
    pub fn seal(&self, hour: Hour, through: Hour, at: Timestamp) -> Option<Seal> {
        let instance = self.instance.as_deref()?;
        let mut dimensions = Vec::new();
        for (number, dimension) in self.dimensions.iter().enumerate() {
            let id = DimensionId(u16::try_from(number).ok()?);
            dimensions.extend(self.seal_dimension(id, dimension, hour, instance));
        }
        Some(Seal { hour, through, at, covered_seq: self.accepted_seq, dimensions })
    }

    fn seal_dimension(
        &self,
        id: DimensionId,
        dimension: &DimensionState,
        hour: Hour,
        instance: &str,
    ) -> Option<SealedDimension> {
        let open = dimension.open.get(&hour);
        let send_zero = self.zero_records == ZeroRecords::All && dimension.configured;
        if open.is_none() && dimension.carry.is_empty() && !send_zero {
            return None;
        }
        let rules = dimension.rules_for(hour);
        let unit = rules.unit;
        let measured = open.map(|o| o.measured.clone().into_tagged()).unwrap_or_default();
        let usage = measured.total();
        let mut total = Tagged::default();
        total.merge(measured.iter());
        total.merge(dimension.remainder.iter());
        let rounded = round(&total, unit, rules.round);

        let mut units = rounded.units;
        for (tags, n) in State::carried_units(&dimension.carry) {
            add_units(&mut units, tags, n);
        }
        let carried_in = dimension.carry_value();
        let value_all = Amount::from_millionths(rounded.value.millionths() + carried_in.millionths());
        let billed: i64 = units.values().sum();
        let key = RecordKey { hour, dimension: id, generation: 0 };
        let spilled = take_above(&mut units, billed - QUANTITY_MAX);
        let spilled_units: i64 = spilled.iter().map(|(_, n)| n).sum();
        let spill_value = unit.times(spilled_units).unwrap_or_default();
        let spill = (spilled_units > 0).then_some(Carry { from: key, units: spilled, value: spill_value });

        let quantity = u32::try_from(billed - spilled_units).unwrap_or(0);
        let sends = quantity > 0 || send_zero || !dimension.carry.is_empty();
        let record = sends.then(|| {
            let token = client_token(&self.product_code, instance, &rules.name, &key);
            Record {
                key,
                request: Request {
                    product_code: self.product_code.clone(),
                    dimension: rules.name.clone(),
                    timestamp: hour.last_second(),
                    quantity,
                    allocations: allocations(&units),
                    client_token: token,
                },
                usage,
                late: open.map_or(Amount::ZERO, |o| o.late),
                remainder_in: dimension.remainder.total(),
                remainder: rounded.remainder.iter().map(|(_, a)| *a).sum(),
                carried_in,
                took: dimension.carry.iter().map(|c| c.from).collect(),
                value: value_all - spill_value,
            }
        });
        let (rounding, remainder) = (rounded.rounding, rounded.remainder);
        Some(SealedDimension { dimension: id, usage, rounded: rounding, remainder, record, spill })
    }
}

struct Rounded {
    /// Billed units by tags.
    units: BTreeMap<Tags, i64>,
    /// What they stand for, in usage units.
    value: Amount,
    /// What rounding added.
    rounding: Amount,
    /// What is left for the next hour, by tags.
    remainder: Vec<(Tags, Amount)>,
}

fn round(total: &Tagged, unit: Amount, rule: Round) -> Rounded {
    let sum = total.total();
    let (floor, rest) = sum.divide(unit);
    let up = i128::from(rule == Round::Up && !rest.is_zero());
    let billed = i64::try_from(floor + up).unwrap_or(i64::MAX);
    let shares: Vec<(&Tags, Amount)> = total.iter().collect();
    let split = share::split(&shares, unit, billed);
    let value = unit.times(billed).unwrap_or_default();
    let kept = rule == Round::Carry;
    let rounding = if kept { Amount::ZERO } else { value - sum };
    let mut remainder = Vec::new();
    if kept {
        for ((tags, amount), (_, units)) in shares.iter().zip(&split) {
            let left = *amount - unit.times(*units).unwrap_or_default();
            if !left.is_zero() {
                remainder.push(((*tags).clone(), left));
            }
        }
    }
    let units = split.into_iter().filter(|(_, n)| *n > 0).map(|(tags, n)| (tags.clone(), n)).collect();
    Rounded { units, value, rounding, remainder }
}

/// Adds carried units under their tags, or without tags where one record cannot hold that tag set beside the others.
fn add_units(units: &mut BTreeMap<Tags, i64>, tags: Tags, n: i64) {
    if !units.contains_key(&tags) && !tags.is_empty() {
        let keys: std::collections::BTreeSet<&str> =
            units.keys().chain([&tags]).flat_map(|t| t.iter().map(|(key, _)| key)).collect();
        if keys.len() > crate::tags::TAGS_MAX || units.len() >= super::tagged::TAG_SETS_MAX {
            *units.entry(Tags::default()).or_default() += n;
            return;
        }
    }
    *units.entry(tags).or_default() += n;
}

/// Takes `excess` units away (none if it is not positive), from the last tag set backwards.
fn take_above(units: &mut BTreeMap<Tags, i64>, mut excess: i64) -> Vec<(Tags, i64)> {
    let mut taken = Vec::new();
    for (tags, n) in units.iter_mut().rev() {
        if excess <= 0 {
            break;
        }
        let take = excess.min(*n);
        *n -= take;
        excess -= take;
        taken.push((tags.clone(), take));
    }
    units.retain(|_, n| *n > 0);
    taken
}

/// Shares for AWS: none where nothing is tagged.
fn allocations(units: &BTreeMap<Tags, i64>) -> Vec<Allocation> {
    if units.keys().all(Tags::is_empty) {
        return Vec::new();
    }
    let share = |(tags, n): (&Tags, &i64)| Allocation { quantity: u32::try_from(*n).unwrap_or(0), tags: tags.clone() };
    units.iter().map(share).collect()
}

/// Derived from what is billed, never from chance: the same record always has the same token.
pub(super) fn client_token(product: &str, instance: &str, dimension: &str, key: &RecordKey) -> String {
    let mut hash = Sha256::new();
    for part in [product, instance, dimension] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(key.hour.index().to_le_bytes());
    hash.update(key.generation.to_le_bytes());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
