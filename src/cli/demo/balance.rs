//! The demo's judgement: what was acknowledged against what is billed. Pure.

use std::fmt::Write;

use crate::decimal::Amount;

/// One dimension at the end. Each figure has another source, so that nobody marks their own homework.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The dimension.
    pub dimension: String,
    /// Usage units in one billed unit: the demo's configuration.
    pub unit: Amount,
    /// What the writers were told `ok` for: their own tally.
    pub acknowledged: Amount,
    /// Billed units: the simulated AWS's ledger.
    pub billed_units: u64,
    /// Below one unit, for the next hour: the agent's books.
    pub remainder: Amount,
}

impl Row {
    /// What the billed units stand for.
    pub fn billed(&self) -> Amount {
        // More than an `i64` of units cannot come together in a minute; were it so, the row would not balance.
        i64::try_from(self.billed_units).ok().and_then(|units| self.unit.times(units)).unwrap_or_default()
    }

    /// Acknowledged and found nowhere; negative for what was billed and never acknowledged.
    pub fn missing(&self) -> Amount {
        self.acknowledged - self.billed() - self.remainder
    }

    /// acknowledged = billed + remainder, to the last decimal.
    pub fn balanced(&self) -> bool {
        self.missing().is_zero()
    }

    fn verdict(&self) -> String {
        let missing = self.missing();
        if missing.is_zero() {
            "balanced".to_owned()
        } else if missing.is_negative() {
            format!("{} TOO MUCH", grouped(&(-missing).to_string()))
        } else {
            format!("{} MISSING", grouped(&missing.to_string()))
        }
    }
}

/// Whether there is something to judge, and every dimension balances.
pub fn all_balanced(rows: &[Row]) -> bool {
    !rows.is_empty() && rows.iter().all(Row::balanced)
}

/// The rows as a table with aligned columns, a line each.
pub fn table(rows: &[Row]) -> String {
    const HEAD: [&str; 5] = ["dimension", "acknowledged", "= billed at AWS", "+ remainder", ""];
    let line = |row: &Row| -> [String; 5] {
        let billed = grouped(&row.billed().to_string());
        let units = grouped(&row.billed_units.to_string());
        let billed = if row.unit == Amount::from_units(1) {
            billed
        } else {
            format!("{units} × {} = {billed}", grouped(&row.unit.to_string()))
        };
        let (acknowledged, remainder) = (row.acknowledged.to_string(), row.remainder.to_string());
        [row.dimension.clone(), grouped(&acknowledged), billed, grouped(&remainder), row.verdict()]
    };
    let lines: Vec<[String; 5]> = std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(line)).collect();
    let width = |column: usize| lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max();
    let widths: [usize; 5] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut out = String::new();
    for [dimension, acknowledged, billed, remainder, verdict] in &lines {
        let [w0, w1, w2, w3, _] = widths;
        // Writing into a string does not fail.
        let _ = writeln!(out, "{dimension:<w0$}   {acknowledged:>w1$}   {billed:>w2$}   {remainder:>w3$}   {verdict}");
    }
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A number with its thousands apart: `1,234,567.25`.
pub fn grouped(number: &str) -> String {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(whole, part)| (whole, Some(part)));
    let mut out = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(unit: &str, acknowledged: &str, billed_units: u64, remainder: &str) -> Row {
        let amount = |text: &str| text.parse().unwrap();
        Row {
            dimension: "gigabytes".into(),
            unit: amount(unit),
            acknowledged: amount(acknowledged),
            billed_units,
            remainder: amount(remainder),
        }
    }

    #[test]
    fn a_row_balances_to_the_last_decimal_or_not_at_all() {
        let exact = row("0.5", "1234.600001", 2469, "0.100001");
        assert!(exact.balanced() && all_balanced(std::slice::from_ref(&exact)));

        let lost = row("0.5", "1234.600002", 2469, "0.100001");
        assert_eq!(lost.missing(), "0.000001".parse().unwrap());
        assert!(!all_balanced(&[exact.clone(), lost.clone()]), "one row that differs is enough");
        assert!(table(&[lost]).contains("0.000001 MISSING"));

        let twice = row("0.5", "1234.600001", 2470, "0.100001");
        assert!(twice.missing().is_negative() && !all_balanced(std::slice::from_ref(&twice)));
        assert!(table(&[twice]).contains("0.5 TOO MUCH"));
    }

    #[test]
    fn nothing_to_judge_is_no_success() {
        assert!(!all_balanced(&[]));
    }

    #[test]
    fn the_table_shows_where_each_unit_is() {
        let requests = Row { dimension: "requests".into(), ..row("1000", "1234567", 1234, "567") };
        let users = Row { dimension: "users".into(), ..row("1", "431", 431, "0") };
        let shown = table(&[requests, users]);
        let expected = "\
dimension   acknowledged             = billed at AWS   + remainder
requests       1,234,567   1,234 × 1,000 = 1,234,000           567   balanced
users                431                         431             0   balanced
";
        assert_eq!(shown, expected);
    }
}
