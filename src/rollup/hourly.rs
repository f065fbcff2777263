//! What one hour of a dimension amounts to, before rounding: its measure, weights of the dimensions it is made of, and
//! what the base price covers.

use super::State;
use super::state::DimensionState;
use super::tagged::Tagged;
use crate::config::{Included, Period};
use crate::decimal::Amount;
use crate::entry::{DimensionId, Used};
use crate::hour::Hour;
use crate::tags::Tags;

/// One hour of one dimension.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hourly {
    /// By tags, in usage units of the dimension itself.
    pub usage: Tagged,
    /// What weights left below a millionth, by tags, in millionths of a millionth.
    pub dust: Tagged,
    /// Of the usage, what came late.
    pub late: Amount,
    /// Whether anything says so: an increment, a sticky level. Else there is no usage at all, not even of zero.
    pub reported: bool,
}

impl State {
    /// What `dimension` amounts to in `hour`, which is not sealed.
    pub fn hourly(&self, dimension: &DimensionState, hour: Hour) -> Hourly {
        let mut found = Hourly { dust: dimension.dust.clone(), ..Hourly::default() };
        let rules = dimension.rules_for(hour);
        if let Some(open) = dimension.open.get(&hour) {
            found.usage = open.measured.clone().into_tagged();
            found.late = open.late;
            found.reported = true;
        } else if let Some(level) = self.sticky_level(dimension, hour) {
            found.usage.add_plain(level);
            found.reported = true;
        }
        if !rules.from.is_empty() && dimension.in_force(hour) {
            self.add_sources(dimension, hour, &mut found);
        }
        found
    }

    /// The level that an hour without a report repeats: none where no agent ran, for nobody can say that the software
    /// did.
    fn sticky_level(&self, dimension: &DimensionState, hour: Hour) -> Option<Amount> {
        let repeats = dimension.rules_for(hour).sticky && dimension.in_force(hour) && !self.clocks.is_away(hour);
        dimension.level.filter(|level| repeats && !level.is_zero())
    }

    fn add_sources(&self, dimension: &DimensionState, hour: Hour, found: &mut Hourly) {
        // In millionths of a millionth, so that nothing is lost between a weight and a quantity.
        let mut fine = std::mem::take(&mut found.dust);
        let mut late = Amount::ZERO;
        for source in &dimension.rules_for(hour).from {
            let from = self.dimension_named(&source.name).and_then(|id| self.dimension(id));
            let Some(open) = from.and_then(|from| from.open.get(&hour)) else { continue };
            fine.merge(open.measured.clone().into_tagged().iter().map(|(tags, n)| (tags, weighted(n, source.weight))));
            late += weighted(open.late, source.weight);
            found.reported = true;
        }
        let million = Amount::from_units(1);
        for (tags, amount) in fine.iter() {
            let (whole, dust) = amount.divide(million);
            found.usage.add(tags, Amount::from_millionths(whole));
            found.dust.add(tags, dust);
        }
        found.late += Amount::from_millionths(late.divide(million).0);
    }

    /// Whether `id` is not billed itself in `hour`, because another dimension is made of it.
    pub fn is_source(&self, id: DimensionId, hour: Hour) -> bool {
        let Some(name) = self.dimension(id).map(|d| &d.rules.name) else { return false };
        let made = self.dimensions.iter().filter(|d| d.in_force(hour));
        made.flat_map(|d| &d.rules_for(hour).from).any(|source| source.name == *name)
    }

    /// Whether `hour`, which is not sealed, can be closed along with the hour before it: nothing was reported in it and
    /// nothing is repeated.
    pub fn is_quiet(&self, hour: Hour) -> bool {
        self.customers().is_none_or(|customers| customers.is_quiet(hour))
            && self.dimensions.iter().all(|d| !d.open.contains_key(&hour) && self.sticky_level(d, hour).is_none())
    }
}

/// Exact: both have six decimals, the product has twelve. A weight is at most a million, so that even 10^8 of the
/// largest increments in one hour fit.
fn weighted(amount: Amount, weight: Amount) -> Amount {
    Amount::from_millionths(amount.millionths().saturating_mul(weight.millionths()))
}

/// What the base price covers of an hour's usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// The usage that is left to be billed.
    pub left: Tagged,
    /// What is covered.
    pub amount: Amount,
    /// What is used up after this hour.
    pub used: Option<Used>,
}

/// Takes what is included off an hour's usage, usage without tags first and then tag set by tag set in order, until it
/// is used up. A month is a UTC calendar month, and late usage counts in the hour that took it.
pub fn cover(usage: &Tagged, included: Option<&Included>, used: Option<Used>, hour: Hour) -> Covered {
    let Some(included) = included else { return Covered { left: usage.clone(), amount: Amount::ZERO, used } };
    let since = match included.per {
        Period::Hour => hour,
        Period::Month => hour.month(),
    };
    let before = used.filter(|used| used.since == since).map_or(Amount::ZERO, |used| used.amount);
    let mut allowance = (included.quantity - before).max(Amount::ZERO);
    let mut left = Tagged::default();
    let mut amount = Amount::ZERO;
    let each: Vec<(&Tags, Amount)> = usage.iter().collect();
    for (tags, n) in each {
        let covered = n.min(allowance);
        allowance -= covered;
        amount += covered;
        left.add(tags, n - covered);
    }
    Covered { left, amount, used: Some(Used { since, amount: before + amount }) }
}
