//! The report for a spreadsheet: one table, whose first column says what a line is about.
//!
//! `total` is a dimension in all, `day` one of its days, `customer` a customer's dimension in all, `rest` the customers that
//! are not listed, `record` a record as it was sealed.

use std::io::{self, Write};

use super::span::date;
use super::{Report, Sums, reason};
use crate::rollup::state::{Phase, RecordState};
use crate::view::RecordView;

const RECORD: [&str; 8] =
    ["state", "quantity", "metering_record_id", "carried_into", "attempts", "first_attempt", "last_attempt", "why"];

/// Writes all of it.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let names = Sums::default().columns().map(|(name, _)| name);
    let heading = ["row", "dimension", "day", "hour", "customer"];
    let units = ["billed_units", "accepted_units"];
    line(out, heading.into_iter().chain(names).chain(units).chain(RECORD))?;
    for dimension in &report.dimensions {
        sums(out, ["total", &dimension.name, "", "", ""], &dimension.total, true)?;
    }
    for dimension in &report.dimensions {
        for (day, of) in dimension.days() {
            sums(out, ["day", &dimension.name, &date(day), "", ""], &of, report.customers.is_none())?;
        }
    }
    for customer in report.customers.iter().flat_map(|customers| &customers.largest) {
        sums(out, ["customer", &customer.dimension, "", "", &customer.buyer], &customer.sums, true)?;
    }
    for (dimension, of) in report.customers.iter().flat_map(|customers| &customers.rest) {
        sums(out, ["rest", dimension, "", "", ""], of, true)?;
    }
    report.records.iter().try_for_each(|(_, r)| record(out, r))
}

fn sums(out: &mut impl Write, head: [&str; 5], of: &Sums, with_remainders: bool) -> io::Result<()> {
    let mut cells: Vec<String> = head.map(str::to_owned).to_vec();
    for (name, amount) in of.columns() {
        let known = with_remainders || !name.starts_with("remainder");
        cells.push(if known { amount.to_string() } else { String::new() });
    }
    cells.extend([of.units().to_string(), of.of(Phase::Accepted).units.to_string()]);
    cells.extend(RECORD.map(|_| String::new()));
    line(out, cells.iter().map(String::as_str))
}

fn record(out: &mut impl Write, r: &RecordState) -> io::Result<()> {
    let mut of = Sums::default();
    of.add_record(r);
    let view = RecordView::from(r);
    let day = date(super::span::day(r.record.key.hour));
    let head = ["record", &view.dimension, &day, &view.hour, view.customer.as_deref().unwrap_or_default()];
    let mut cells: Vec<String> = head.map(str::to_owned).to_vec();
    cells.extend(of.columns().map(|(_, amount)| amount.to_string()));
    cells.extend([of.units().to_string(), of.of(Phase::Accepted).units.to_string()]);
    cells.extend([
        view.state,
        view.quantity.to_string(),
        view.metering_record_id.unwrap_or_default(),
        view.carried_into.unwrap_or_default(),
        view.attempts.to_string(),
        view.first_attempt.unwrap_or_default(),
        view.last_attempt.unwrap_or_default(),
        reason(r),
    ]);
    line(out, cells.iter().map(String::as_str))
}

fn line<'a>(out: &mut impl Write, cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let cells: Vec<String> = cells.map(cell).collect();
    writeln!(out, "{}", cells.join(","))
}

/// Quoted where it has to be. What a spreadsheet would take for a formula is kept from it by an apostrophe; an amount is
/// none, also with its sign.
fn cell(text: &str) -> String {
    let is_amount = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
    let text = match text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_amount {
        true => format!("'{text}"),
        false => text.to_owned(),
    };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn what_others_wrote_is_text_to_a_spreadsheet() {
        assert_eq!(cell("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
        assert_eq!(
            ["-0.5", "2026-11-21", "@a", "-x", "a,b", ""].map(cell),
            ["-0.5", "2026-11-21", "'@a", "'-x", "\"a,b\"", ""]
        );
    }
}
