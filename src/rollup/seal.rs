//! Closing an hour: usage → what is covered → rounding → carried units → ceiling → spill, and the request fixed as AWS
//! will see it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::State;
use super::hourly::{Hourly, cover};
use super::share;
use super::state::DimensionState;
use super::tagged::Tagged;
use crate::config::{Round, ZeroRecords};
use crate::decimal::Amount;
use crate::entry::{Allocation, Carry, DimensionId, Hold, Kept, Record, RecordKey, Request, Seal, SealedDimension};
use crate::hour::{Hour, Timestamp};
use crate::tags::Tags;

/// The largest quantity that one record can hold (AWS).
pub const QUANTITY_MAX: i64 = 2_147_483_647;
/// The most units of a dimension that an hour closes with, those carried into it included. Usage above that stays in the
/// remainder, so that units can be added up without end.
const UNITS_MAX: i64 = 1 << 53;

impl State {
    /// What closes `hour` and the hours after it through `through`, in which nothing happened. Changes nothing:
    /// the seal is written to the log and then folded in like every entry. `None` until it is certain
    /// which instance this is, for that is part of the request.
    pub fn seal(&self, hour: Hour, through: Hour, at: Timestamp) -> Option<Seal> {
        self.close(hour, through, at, None, Some(self.name()?))
    }

    /// What closes `hour` before it is over, or before its grace is. Its records are stamped with `moment`, which must not
    /// lie in what AWS takes for the future, or with the hour's last second if that is past. There is no record of
    /// nothing: AWS wants that of whole hours only.
    pub fn seal_early(&self, hour: Hour, at: Timestamp, moment: Timestamp) -> Option<Seal> {
        self.close(hour, hour, at, Some(moment), Some(self.name()?))
    }

    /// `instance`: whose tokens the records get; none where they are a customer's, which says itself who is billed.
    pub(super) fn close(
        &self,
        hour: Hour,
        through: Hour,
        at: Timestamp,
        early: Option<Timestamp>,
        instance: Option<&str>,
    ) -> Option<Seal> {
        let mut dimensions = Vec::new();
        // Where customers are billed the instance is not.
        let own = if self.customers().is_some() { &[] } else { self.dimensions.as_slice() };
        for (number, dimension) in own.iter().enumerate() {
            let id = DimensionId(u16::try_from(number).ok()?);
            dimensions.extend(self.seal_dimension(id, dimension, hour, early, instance));
        }
        Some(Seal { hour, through, at, covered_seq: self.accepted_seq, dimensions })
    }

    fn seal_dimension(
        &self,
        id: DimensionId,
        dimension: &DimensionState,
        hour: Hour,
        early: Option<Timestamp>,
        instance: Option<&str>,
    ) -> Option<SealedDimension> {
        let rules = dimension.rules_for(hour);
        // A source is billed in what is made of it; only units that were its own before still go out under its name.
        let source = self.is_source(id, hour);
        let hourly = if source { Hourly::default() } else { self.hourly(dimension, hour) };
        let timestamp = hour.stamp(early);
        let whole = timestamp == hour.last_second();
        let send_zero = self.zero_records == ZeroRecords::All && dimension.in_force(hour) && !source && whole;
        if !hourly.reported && dimension.carry.is_empty() && !send_zero {
            return None;
        }
        let unit = rules.unit;
        let usage = hourly.usage.total();
        let covered = cover(&hourly.usage, rules.included.as_ref(), dimension.used, hour);
        let mut total = covered.left;
        // What is left over from before waits while another dimension is made of this one.
        total.merge(dimension.remainder.iter().filter(|_| !source));
        let under_way: i64 = dimension.carry.iter().flat_map(|carry| &carry.units).map(|(_, n)| n).sum();
        let most = unit.times((UNITS_MAX - under_way).max(0)).unwrap_or_default();
        let beyond = withhold(&mut total, most);
        let rounded = round(&total, unit, rules.round);
        let mut remainder = rounded.remainder;
        remainder.extend(beyond);
        if source {
            remainder.extend(dimension.remainder.iter().map(|(tags, amount)| (tags.clone(), amount)));
        }

        let mut units = rounded.units;
        let own: i64 = units.values().sum();
        let above = rules.hold_above.filter(|ceiling| Amount::from_units(own) > *ceiling).map(Hold::Above);
        let damaged = self.damaged_through.filter(|through| hour <= *through).map(|_| Hold::Damaged);
        for (tags, n) in State::carried_units(&dimension.carry) {
            add_units(&mut units, tags, n);
        }
        let carried_in = dimension.carry_value();
        let value_all = rounded.value + carried_in;
        let billed: i64 = units.values().sum();
        let key = RecordKey { hour, dimension: id, generation: 0 };
        let spilled = take_above(&mut units, billed - QUANTITY_MAX);
        let spilled_units: i64 = spilled.iter().map(|(_, n)| n).sum();
        let spill_value = unit.times(spilled_units).unwrap_or_default();
        let spill = (spilled_units > 0).then_some(Carry { from: key, units: spilled, value: spill_value });

        let quantity = u32::try_from(billed - spilled_units).unwrap_or(0);
        let sends = quantity > 0 || send_zero || !dimension.carry.is_empty();
        let record = sends.then(|| {
            let token = |instance| client_token(&self.product_code, instance, &rules.name, &key);
            Record {
                key,
                request: Request {
                    product_code: self.product_code.clone(),
                    dimension: rules.name.clone(),
                    timestamp,
                    quantity,
                    allocations: allocations(&units),
                    client_token: instance.map(token).unwrap_or_default(),
                },
                usage,
                late: hourly.late,
                remainder_in: dimension.remainder.total(),
                included: covered.amount,
                remainder: remainder.iter().map(|(_, a)| *a).sum(),
                carried_in,
                took: dimension.carry.iter().map(|c| c.from).collect(),
                value: value_all - spill_value,
                hold: damaged.or(above),
            }
        });
        let level = match dimension.open.get(&hour) {
            Some(open) if rules.sticky => Some(open.measured.total()),
            _ => dimension.level.filter(|_| rules.sticky),
        };
        let dust = if source { &dimension.dust } else { &hourly.dust };
        let dust = dust.iter().filter(|(_, n)| !n.is_zero()).map(|(tags, n)| (tags.clone(), n)).collect();
        let kept = Kept { remainder, dust, level, used: covered.used };
        let (included, rounded) = (covered.amount, rounded.rounding);
        Some(SealedDimension { dimension: id, usage, included, rounded, kept, record, spill })
    }
}

/// `record` with at most `at_most` units, as the next generation; the shares are cut in proportion.
pub fn capped(record: &Record, at_most: u32, instance: &str) -> Record {
    let mut fixed = record.clone();
    let request = &mut fixed.request;
    let before = request.quantity;
    fixed.key.generation += 1;
    request.quantity = before.min(at_most);
    let in_proportion = |n: i128| n * i128::from(request.quantity) / i128::from(before.max(1));
    let mut left = request.quantity;
    for share in &mut request.allocations {
        share.quantity = u32::try_from(in_proportion(i128::from(share.quantity))).unwrap_or(0);
        left -= share.quantity;
    }
    // What the division left over, one unit each from the first on.
    for share in request.allocations.iter_mut().take(left as usize) {
        share.quantity += 1;
    }
    request.allocations.retain(|share| share.quantity > 0);
    if fixed.key.account().is_none() {
        request.client_token = client_token(&request.product_code, instance, &request.dimension, &fixed.key);
    }
    fixed.value = Amount::from_millionths(in_proportion(record.value.millionths()));
    fixed
}

/// Takes away what is above `most`: tag set by tag set in order the usage stays as far as it fits.
fn withhold(total: &mut Tagged, most: Amount) -> Vec<(Tags, Amount)> {
    let mut beyond = Vec::new();
    if total.total() <= most {
        return beyond;
    }
    let mut room = most;
    for (tags, amount) in std::mem::take(total).iter() {
        let within = amount.min(room);
        room -= within;
        total.add(tags, within);
        if within != amount {
            beyond.push((tags.clone(), amount - within));
        }
    }
    beyond
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
