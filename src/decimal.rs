//! Exact decimals: usage is counted in millionths, in integers, and never passes through a float.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Decimals that a quantity may have.
pub const DECIMALS: u32 = 6;

/// Millionths in one.
pub const MILLION: i128 = 1_000_000;

/// A quantity is below this many whole units (10^12).
pub const QUANTITY_BELOW: i128 = 1_000_000_000_000;

/// A sum of usage in millionths; may be negative (a remainder after largest-remainder rounding).
///
/// Additions are exact: 2^127 millionths is 10^20 times the largest single quantity, which no log can hold,
/// so the operators do not return an error (and panic on overflow in every build, see `add`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Amount(i128);

/// Why a text is not a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAQuantity {
    /// It is no JSON number (nor a string that holds one).
    #[error("it is not a number")]
    NotANumber,
    /// It is below zero.
    #[error("it is negative")]
    Negative,
    /// It has a seventh decimal that is not zero.
    #[error("it has more than {DECIMALS} decimals")]
    TooFine,
    /// It is 10^12 or more.
    #[error("it is 10^12 or more")]
    TooLarge,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);

    /// `n` millionths.
    pub const fn from_millionths(n: i128) -> Self {
        Amount(n)
    }

    /// `n` whole units.
    pub const fn from_units(n: i64) -> Self {
        Amount(n as i128 * MILLION)
    }

    /// The value in millionths.
    pub const fn millionths(self) -> i128 {
        self.0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether it is below nothing.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// This amount `n` times; `None` where 2^127 millionths would be passed.
    pub fn times(self, n: i64) -> Option<Self> {
        self.0.checked_mul(i128::from(n)).map(Amount)
    }

    /// How often `unit` fits, rounded towards negative infinity, and what is left (never negative).
    /// `unit` is above zero.
    pub fn divide(self, unit: Amount) -> (i128, Amount) {
        (self.0.div_euclid(unit.0), Amount(self.0.rem_euclid(unit.0)))
    }

    /// Reads a JSON number (or the inside of a string that holds one) as a quantity:
    /// non-negative, below 10^12, at most six decimals once trailing zeros are gone. Exponents are numbers like any other.
    pub fn parse_quantity(text: &str) -> Result<Self, NotAQuantity> {
        let bytes = text.as_bytes();
        let (negative, unsigned) = match bytes.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, bytes),
        };
        let scanned = Scanned::read(unsigned)?;
        if scanned.digits.iter().all(|part| part.iter().all(|d| *d == b'0')) {
            return Ok(Amount::ZERO);
        }
        if negative {
            return Err(NotAQuantity::Negative);
        }
        scanned.millionths().map(Amount)
    }
}

/// A number as written: its digits before and after the point, and its exponent.
struct Scanned<'a> {
    digits: [&'a [u8]; 2],
    exponent: i64,
}

impl<'a> Scanned<'a> {
    fn read(text: &'a [u8]) -> Result<Self, NotAQuantity> {
        let digits_at = |from: usize| text.get(from..).unwrap_or(&[]).iter().take_while(|b| b.is_ascii_digit()).count();
        let whole = digits_at(0);
        // JSON's grammar: no empty whole part, no leading zero before another digit.
        if whole == 0 || (whole > 1 && text.first() == Some(&b'0')) {
            return Err(NotAQuantity::NotANumber);
        }
        let mut at = whole;
        let mut fraction: &[u8] = &[];
        if text.get(at) == Some(&b'.') {
            let n = digits_at(at + 1);
            fraction = text.get(at + 1..at + 1 + n).unwrap_or(&[]);
            if n == 0 {
                return Err(NotAQuantity::NotANumber);
            }
            at += 1 + n;
        }
        let mut exponent = 0i64;
        if matches!(text.get(at), Some(b'e' | b'E')) {
            let sign = match text.get(at + 1) {
                Some(b'-') => -1,
                _ => 1,
            };
            let from = at + 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
            let n = digits_at(from);
            if n == 0 {
                return Err(NotAQuantity::NotANumber);
            }
            for d in text.get(from..from + n).unwrap_or(&[]) {
                // A line holds at most 64 KiB of digits, so an exponent beyond this decides by itself.
                exponent = (exponent * 10 + i64::from(d - b'0')).min(1_000_000);
            }
            exponent *= sign;
            at = from + n;
        }
        if at != text.len() {
            return Err(NotAQuantity::NotANumber);
        }
        Ok(Scanned { digits: [text.get(..whole).unwrap_or(&[]), fraction], exponent })
    }

    fn millionths(&self) -> Result<i128, NotAQuantity> {
        // value = digits × 10^scale, in millionths; trailing zeros move into the scale.
        let [whole, fraction] = self.digits;
        let mut scale = self.exponent - fraction.len() as i64 + i64::from(DECIMALS);
        let all = whole.iter().chain(fraction);
        let trailing = all.clone().rev().take_while(|d| **d == b'0').count();
        let significant = whole.len() + fraction.len() - trailing;
        scale += trailing as i64;
        if scale < 0 {
            return Err(NotAQuantity::TooFine);
        }
        let mut value: i128 = 0;
        for d in all.take(significant) {
            value = value * 10 + i128::from(d - b'0');
            if value >= QUANTITY_BELOW * MILLION {
                return Err(NotAQuantity::TooLarge);
            }
        }
        for _ in 0..scale {
            value *= 10;
            if value >= QUANTITY_BELOW * MILLION {
                return Err(NotAQuantity::TooLarge);
            }
        }
        Ok(value)
    }
}

impl FromStr for Amount {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Amount::parse_quantity(text)
    }
}

impl fmt::Display for Amount {
    /// Shortest exact form: `12.5`, `-0.000001`, `3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let (whole, part) = (magnitude / MILLION.unsigned_abs(), magnitude % MILLION.unsigned_abs());
        if part == 0 {
            return f.pad(&format!("{sign}{whole}"));
        }
        let part = format!("{part:06}");
        f.pad(&format!("{sign}{whole}.{}", part.trim_end_matches('0')))
    }
}

impl Add for Amount {
    type Output = Amount;
    fn add(self, other: Amount) -> Amount {
        // Money never wraps: see the type's bound.
        match self.0.checked_add(other.0) {
            Some(sum) => Amount(sum),
            None => unreachable!("a sum of usage passed 2^127 millionths"),
        }
    }
}

impl Neg for Amount {
    type Output = Amount;
    fn neg(self) -> Amount {
        Amount(-self.0)
    }
}

impl Sub for Amount {
    type Output = Amount;
    fn sub(self, other: Amount) -> Amount {
        self + -other
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        *self = *self + other;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Amount) {
        *self = *self - other;
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(iter: I) -> Amount {
        iter.fold(Amount::ZERO, Add::add)
    }
}
