//! What the configuration can already say and this version cannot do yet. Refused rather than ignored: an ignored
//! line about money is a wrong bill. A feature that is built deletes its line here.

use super::raw::KeyLines;
use super::{Config, ConfigError, Dimension, Measure, ProductKind, ZeroRecords};

/// Who asks for it.
enum Asked {
    /// The agent as a whole.
    Config(fn(&Config) -> bool),
    /// A dimension.
    Dimension(fn(&Dimension) -> bool),
    /// A dimension of a SaaS product.
    Customers(fn(&Dimension) -> bool),
}
use Asked::{Config as Agent, Customers as OfCustomers, Dimension as Each};

/// Key, when it asks for something, what it cannot do, what to write instead.
type Entry = (&'static str, Asked, &'static str, &'static str);

#[rustfmt::skip] // one feature, one line
const NOT_BUILT: &[Entry] = &[
    ("dimension.measure", OfCustomers(|d| d.measure == Measure::Uptime), "meter running time for customers", "report a sum of seconds for each customer"),
    ("submit.zero_records", Agent(|c| c.product.kind == ProductKind::Saas && c.submit.zero_records == ZeroRecords::All), "report hours without usage for customers", "leave it out: only what was used is reported"),
    ("dimension.allow_users", Each(|d| !d.allow_users.is_empty()), "restrict who writes a dimension", "leave it out: socket.mode says who may write"),
    ("socket.allow_users", Agent(|c| !c.socket.allow_users.is_empty()), "restrict who writes by name", "leave it out: socket.mode says who may write"),
    ("socket.allow_groups", Agent(|c| !c.socket.allow_groups.is_empty()), "restrict who writes by name", "leave it out: socket.mode says who may write"),
    ("socket.allow_read_users", Agent(|c| !c.socket.allow_read_users.is_empty()), "restrict who reads by name", "leave it out: who may write may read"),
];

/// One error for everything in `config` that this version cannot do.
pub(super) fn not_built(config: &Config, file: &str, lines: &KeyLines) -> Vec<ConfigError> {
    let mut found = Vec::new();
    for (key, asked, inability, remedy) in NOT_BUILT {
        let mut refuse = |path: &str| {
            let what = format!("{key}: this version of meterd cannot {inability} yet");
            let line = lines.get(path).copied();
            found.push(ConfigError { file: file.to_owned(), line, what, remedy: (*remedy).to_owned() });
        };
        match asked {
            Agent(asks) if asks(config) => refuse(key),
            Agent(_) => {}
            OfCustomers(_) if config.product.kind != ProductKind::Saas => {}
            Each(asks) | OfCustomers(asks) => {
                for (n, _) in config.dimensions.iter().enumerate().filter(|(_, dimension)| asks(dimension)) {
                    refuse(&key.replacen("dimension", &format!("dimension[{n}]"), 1));
                }
            }
        }
    }
    found
}
