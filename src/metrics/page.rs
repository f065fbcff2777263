//! Prometheus's text format 0.0.4.

use std::fmt::{Display, Write};

use crate::decimal::Amount;
use crate::histogram::Histogram;

/// What a family is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// It only rises.
    Counter,
    /// It may fall.
    Gauge,
}

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// The samples of one name.
pub(super) struct Family<'p> {
    page: &'p mut Page,
    name: &'static str,
}

impl Page {
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Begins a family. One without samples says that it exists, and no more.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        self.head(name, if matches!(kind, Kind::Counter) { "counter" } else { "gauge" }, help);
        Family { page: self, name }
    }

    /// A family of one sample without labels.
    pub(super) fn one(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).put(&[], value);
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.counts(name, help, histogram, i128::from);
    }

    /// One whose values are microseconds, shown in seconds.
    pub(super) fn histogram_of_micros(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.counts(name, help, histogram, |micros| Amount::from_millionths(i128::from(micros)));
    }

    fn counts<T: Display>(&mut self, name: &str, help: &str, histogram: &Histogram, shown: impl Fn(u64) -> T) {
        self.head(name, "histogram", help);
        for (bound, count) in histogram.up_to() {
            self.line(format_args!("{name}_bucket{{le=\"{}\"}} {count}", shown(bound)));
        }
        let count = histogram.count();
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        self.line(format_args!("{name}_sum {}", shown(histogram.sum())));
        self.line(format_args!("{name}_count {count}"));
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // A string takes whatever is written to it.
        let _ = writeln!(self.0, "{line}");
    }
}

impl Family<'_> {
    /// A sample.
    pub(super) fn put(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.page.line(format_args!("{}{labels} {value}", self.name));
    }
}

/// A flag as a number.
pub(super) fn bit(flag: bool) -> u8 {
    u8::from(flag)
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
