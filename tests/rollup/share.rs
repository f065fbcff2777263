//! Splitting units over tags.

use meterd::decimal::Amount;
use meterd::rollup::share::split;
use meterd::tags::Tags;
use proptest::prelude::*;

use super::tag;

fn shares(parts: &[(&str, &str)], unit: &str, total: i64) -> Vec<i64> {
    let tags: Vec<Tags> = parts.iter().map(|(t, _)| tag(t)).collect();
    let amounts: Vec<(&Tags, Amount)> = tags.iter().zip(parts).map(|(t, (_, a))| (t, a.parse().unwrap())).collect();
    split(&amounts, unit.parse().unwrap(), total).into_iter().map(|(_, n)| n).collect()
}

#[test]
fn the_largest_remainder_gets_the_unit_and_ties_go_to_the_first() {
    assert_eq!(shares(&[("a", "0.2"), ("b", "0.7"), ("c", "0.1")], "1", 1), [0, 1, 0]);
    assert_eq!(shares(&[("a", "0.5"), ("b", "0.5"), ("c", "0.5"), ("d", "0.5")], "1", 2), [1, 1, 0, 0]);
    assert_eq!(shares(&[("a", "1.9"), ("b", "2.9"), ("c", "0.2")], "1", 5), [2, 3, 0]);
    assert_eq!(shares(&[("a", "1500"), ("b", "700")], "1000", 2), [1, 1]);
}

proptest! {
    /// Whatever the parts (also negative ones, from an hour before), the shares are whole, not negative, and add up.
    #[test]
    fn shares_add_up(parts in proptest::collection::vec(-900_000i128..50_000_000, 1..40), unit in 1i128..3_000_000) {
        let tags: Vec<Tags> = (0..parts.len()).map(|i| tag(&i.to_string())).collect();
        let amounts: Vec<(&Tags, Amount)> =
            tags.iter().zip(&parts).map(|(t, p)| (t, Amount::from_millionths(*p))).collect();
        let sum: i128 = parts.iter().sum();
        prop_assume!(sum >= 0);
        let total = i64::try_from(sum / unit).unwrap();
        let split = split(&amounts, Amount::from_millionths(unit), total);
        prop_assert!(split.iter().all(|(_, n)| *n >= 0));
        prop_assert_eq!(split.iter().map(|(_, n)| n).sum::<i64>(), total);
    }
}
