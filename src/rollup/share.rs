//! Splitting billed units over tags: whole numbers whose sum is exactly the quantity, by largest remainder.

use std::cmp::Reverse;

use crate::decimal::Amount;
use crate::tags::Tags;

/// Gives each share of `total_units` billed units, in the order of `shares`: as many as fit whole, then one more for the
/// largest remainders; ties go to the earlier one, so that the same input always gives the same split. A share with a
/// negative amount (it was rounded up in an hour before) gets nothing until it has made up for it.
///
/// `total_units` is the sum of `shares` over `unit`, rounded either way, so the sum differs from the parts by less than
/// one unit for each.
pub fn split<'a>(shares: &[(&'a Tags, Amount)], unit: Amount, total_units: i64) -> Vec<(&'a Tags, i64)> {
    struct Share<'a> {
        tags: &'a Tags,
        units: i64,
        left: Amount,
    }
    let mut parts: Vec<Share<'a>> = Vec::with_capacity(shares.len());
    for (tags, amount) in shares {
        let (units, left) = amount.divide(unit);
        let whole = i64::try_from(units).unwrap_or(i64::MAX);
        let part = if whole > 0 { (whole, left) } else { (0, *amount) };
        parts.push(Share { tags, units: part.0, left: part.1 });
    }
    let mut missing = total_units - parts.iter().map(|p| p.units).sum::<i64>();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    let left = |parts: &[Share<'_>], i: usize| parts.get(i).map_or(Amount::ZERO, |p| p.left);
    if missing > 0 {
        order.sort_by_key(|i| Reverse(left(&parts, *i)));
    } else {
        order.sort_by_key(|i| left(&parts, *i));
    }
    // One round is enough when units are missing; taking back may need more, as shares without a unit have none to give.
    while missing != 0 {
        let before = missing;
        for i in &order {
            let Some(part) = parts.get_mut(*i) else { continue };
            if missing > 0 {
                part.units += 1;
                missing -= 1;
            } else if missing < 0 && part.units > 0 {
                part.units -= 1;
                missing += 1;
            }
        }
        if missing == before {
            break;
        }
    }
    parts.into_iter().map(|p| (p.tags, p.units)).collect()
}
