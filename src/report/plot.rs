//! Plots as SVG, in integers: a plot is ten times as fine as its pixels.

use std::fmt::Write;

use super::outages::Outage;
use super::span::{date, day};
use super::{Dimension, Report, Sums};
use crate::decimal::Amount;
use crate::hour::{Hour, Timestamp};
use crate::rollup::state::Phase;

/// Of the whole picture.
const WIDTH: i64 = 9600;
/// Left of the plot, for amounts.
const LEFT: i64 = 760;
/// Above it.
const TOP: i64 = 120;
/// Of the plot alone.
const HEIGHT: i64 = 1400;
/// Below it, for dates.
const BELOW: i64 = 200;
const HOURS_OF_DAY: u32 = 24;

/// What a stacked column shows, from below.
const STACK: [(&str, &[Phase]); 4] = [
    ("accepted", &[Phase::Accepted]),
    ("waits", &[Phase::Pending]),
    ("person", &[Phase::Held, Phase::Conflict, Phase::InDoubt]),
    ("lost", &[Phase::Expired, Phase::Discarded]),
];

/// The round number at or above an amount that ends a scale; its half is round too.
fn top_of_scale(most: Amount) -> Amount {
    const ROUND: [i128; 9] = [10, 12, 16, 20, 24, 30, 40, 60, 80];
    let mut step = 1i128;
    loop {
        let fits = ROUND.iter().map(|times| step * times).find(|top| *top >= most.millionths());
        if let Some(top) = fits {
            return Amount::from_millionths(top);
        }
        step *= 10;
    }
}

/// An amount of a scale, short.
fn short(amount: Amount) -> String {
    const NAMES: [(i128, &str); 4] = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")];
    let whole = amount.millionths() / 1_000_000;
    let name = NAMES.iter().find(|(from, _)| whole >= *from);
    let Some((from, name)) = name else { return amount.to_string() };
    let unit = if *name == "k" { 1000 } else { *from };
    Amount::from_millionths(whole * 1_000_000 / unit).to_string() + name
}

struct Frame {
    svg: String,
    top: Amount,
}

impl Frame {
    fn new(label: &str, most: Amount) -> Frame {
        let (all, top) = (TOP + HEIGHT + BELOW, top_of_scale(most));
        let mut frame = Frame { svg: String::new(), top };
        frame.put(format_args!("<svg viewBox=\"0 0 {WIDTH} {all}\" role=\"img\" aria-label=\"{label}\">"));
        frame
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a string does not fail.
        let _ = self.svg.write_fmt(text);
    }

    fn scale(&mut self) {
        for (part, amount) in
            [(0, self.top), (1, Amount::from_millionths(self.top.millionths() / 2)), (2, Amount::ZERO)]
        {
            let y = TOP + HEIGHT * part / 2;
            self.put(format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y}\" y2=\"{y}\"/>"));
            let (x, y) = (LEFT - 80, y + 40);
            self.put(format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>", short(amount)));
        }
    }

    /// How high an amount stands.
    fn height(&self, amount: Amount) -> i64 {
        let height = amount.millionths().max(0) * i128::from(HEIGHT) / self.top.millionths().max(1);
        // Anything that is there can be seen.
        i64::try_from(height).unwrap_or(HEIGHT).max(i64::from(!amount.is_zero()) * 12)
    }

    fn column(&mut self, class: &str, x: i64, width: i64, from: i64, height: i64) {
        let y = TOP + HEIGHT - from - height;
        self.put(format_args!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"));
    }

    fn end(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// Usage and what became of it, day by day.
pub(super) fn by_day(report: &Report, dimension: &Dimension) -> String {
    let days = dimension.days();
    let stack = |sums: &Sums| STACK.map(|(class, phases)| (class, phases.iter().map(|p| sums.of(*p).value).sum()));
    let total = |sums: &Sums| stack(sums).into_iter().map(|(_, amount): (_, Amount)| amount).sum::<Amount>();
    let most = days.values().map(|sums| sums.received.max(total(sums))).max().unwrap_or_default();
    let mut frame = Frame::new("Usage and what became of it, by day", most);
    frame.scale();
    let count = report.span.days().count() as i64;
    let width = (WIDTH - LEFT) / count.max(1);
    let half = (width * 4 / 10).max(4);
    let labels = (count / 15).max(1);
    for (n, day) in (0..).zip(report.span.days()) {
        let x = LEFT + (WIDTH - LEFT) * n / count + width / 10;
        if n % labels == 0 {
            let label = if count > 31 { date(day) } else { (n + 1).to_string() };
            let (x, y) = (x + half, TOP + HEIGHT + 150);
            frame.put(format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>"));
        }
        let Some(sums) = days.get(&day) else { continue };
        let units = sums.of(Phase::Accepted).units;
        frame.put(format_args!(
            "<g><title>{}: received {}, accepted {} ({units} billed units)</title>",
            date(day),
            sums.received,
            sums.of(Phase::Accepted).value
        ));
        let height = frame.height(sums.received);
        frame.column("used", x, half, 0, height);
        let mut from = 0;
        for (class, amount) in stack(sums).into_iter().filter(|(_, amount): &(_, Amount)| !amount.is_zero()) {
            let height = frame.height(amount);
            frame.column(class, x + half, half, from, height);
            from += height;
        }
        frame.put(format_args!("</g>"));
    }
    frame.end()
}

/// Usage and accepted units hour by hour, with what was amiss behind them.
pub(super) fn by_hour(report: &Report, dimension: &Dimension) -> String {
    let accepted = |sums: &Sums| sums.of(Phase::Accepted).value;
    let most = dimension.hours.values().map(|sums| sums.received.max(accepted(sums))).max().unwrap_or_default();
    let mut frame = Frame::new("Usage and accepted units, by hour, with outages and gaps", most);
    let hours = i64::from(report.span.end.index() - report.span.first.index());
    let x_of = |hour: i64| LEFT + (WIDTH - LEFT) * hour / hours.max(1);
    let at = |moment: Timestamp| {
        let (first, end) = (report.span.first.start(), report.span.end.start());
        let seconds = moment.clamp(first, end).seconds() - first.seconds();
        LEFT + (WIDTH - LEFT) * seconds / (hours.max(1) * 3600)
    };
    let band = |frame: &mut Frame, class: &str, title: &str, from: Timestamp, until: Timestamp| {
        let (x, width) = (at(from), (at(until) - at(from)).max(20));
        if at(until) > LEFT {
            frame.put(format_args!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"{TOP}\" width=\"{width}\" height=\"{HEIGHT}\"><title>{title} {from} to \
                 {until}</title></rect>"
            ));
        }
    };
    for (from, until) in &report.away {
        band(&mut frame, "away", "no agent ran from", *from, *until);
    }
    for Outage { from, until, .. } in &report.outages {
        band(&mut frame, "outage", "AWS did not take records from", *from, *until);
    }
    frame.scale();
    let (mut area, mut trace) = (String::new(), String::new());
    for n in 0..hours {
        let hour = Hour::from_index(report.span.first.index() + u32::try_from(n).unwrap_or(0));
        let sums = dimension.hours.get(&hour);
        let (x, end) = (x_of(n), x_of(n + 1));
        if let Some(sums) = sums.filter(|sums| !sums.received.is_zero()) {
            let y = TOP + HEIGHT - frame.height(sums.received);
            let base = TOP + HEIGHT;
            let _ = write!(area, "M{x} {base}V{y}H{end}V{base}z");
        }
        if let Some(amount) = sums.map(accepted).filter(|amount| !amount.is_zero()) {
            let y = TOP + HEIGHT - frame.height(amount);
            let _ = write!(trace, "M{x} {y}H{end}");
        }
        if hour == day(hour) && (n / i64::from(HOURS_OF_DAY)) % 5 == 0 {
            let y = TOP + HEIGHT + 150;
            frame.put(format_args!("<text x=\"{x}\" y=\"{y}\">{}</text>", date(hour)));
        }
    }
    frame.put(format_args!("<path class=\"used\" d=\"{area}\"/><path class=\"trace\" d=\"{trace}\"/>"));
    frame.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_with_round_numbers() {
        let top = |n: i64| top_of_scale(Amount::from_units(n)).to_string();
        assert_eq!([0, 1, 3, 5, 7, 11, 4999].map(top), ["0.00001", "1", "3", "6", "8", "12", "6000"]);
        let shown = |n: i64| short(Amount::from_units(n));
        assert_eq!([5, 5000, 20_000, 2_500_000].map(shown), ["5", "5000", "20k", "2.5M"]);
    }
}
