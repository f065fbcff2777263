//! What the configuration can already say and this version cannot do yet. Refused rather than ignored: an ignored
//! line about money is a wrong bill. A feature that is built deletes its line here.

use super::raw::KeyLines;
use super::{Config, ConfigError, Measure, ProductKind, ZeroRecords};

/// Key, when it asks for something, what it cannot do, what to write instead.
type Entry = (&'static str, fn(&Config) -> bool, &'static str, &'static str);

#[rustfmt::skip] // one feature, one line
const NOT_BUILT: &[Entry] = &[
    ("dimension.measure", |c| is_saas(c) && c.dimensions.iter().any(|d| d.measure == Measure::Uptime), "meter running time for customers", "report a sum of seconds for each customer"),
    ("submit.zero_records", |c| is_saas(c) && c.submit.zero_records == ZeroRecords::All, "report hours without usage for customers", "leave it out: only what was used is reported"),
];

/// One error for everything in `config` that this version cannot do.
pub(super) fn not_built(config: &Config, file: &str, lines: &KeyLines) -> Vec<ConfigError> {
    let asked = NOT_BUILT.iter().filter(|(_, asks, ..)| asks(config));
    let refuse = |(key, _, inability, remedy): &Entry| {
        let what = format!("{key}: this version of meterd cannot {inability} yet");
        let line = lines.get(*key).copied();
        ConfigError { file: file.to_owned(), line, what, remedy: (*remedy).to_owned() }
    };
    asked.map(refuse).collect()
}

fn is_saas(config: &Config) -> bool {
    config.product.kind == ProductKind::Saas
}
