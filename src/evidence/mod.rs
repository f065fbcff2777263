//! What a month came to, in one file that shows when anybody has touched it.
//!
//! # The file
//!
//! JSON, an object a line, nothing else: `{"hash":"HASH","KIND":FACT}`. A hash is SHA-256, in 64 small hexadecimal digits, over
//! the 64 digits of the hash before it, a space, the kind, a space, and the fact's bytes as they stand there.
//!
//! | kind | how many | fact |
//! | --- | --- | --- |
//! | `evidence` | the first line | version of the format (1), month, product, instance, when it was made and by which version |
//! | `sealed` | one a record | what was measured: hour, dimension, customer, licence, usage, carried in, remainders, included, late |
//! | `outcome` | one a record | the request as it was fixed, the attempts, and what became of it |
//! | `entry` | those that the log still has | attempts, answers and decisions as they stand in the log, with place and checksum |
//! | `end` | the last line | how many lines there are of each kind |
//!
//! Before the first line stands the hash of `meterd evidence 1 MONTH`. `sealed` lines come in order of hour,
//! dimension, customer and licence, and the first of them follows that hash too: so the hash behind the last record of a
//! day is the same whenever the file is made. That is the [head](Head) which the agent writes into the journal once a day. The
//! first line counts in the last one, which holds its hash.
//!
//! # What it shows
//!
//! A byte that was changed, a line that is missing, added or moved breaks the chain ([`check`]). Somebody who makes all
//! hashes anew makes a chain that holds; a head from a journal that was sent elsewhere does not fit it any more. Such a head
//! covers what was measured, for that never changes. It does not cover outcomes, which come later: what AWS has accepted
//! AWS's own books show (`meterd reconcile`).

mod check;
mod entries;
mod write;

use sha2::{Digest, Sha256};

use crate::hour::Hour;
use crate::view::RecordView;

pub use check::{Checked, check};
pub use entries::entries;
pub use write::{Source, write};

/// The format that is written.
const VERSION: u32 = 1;

/// A chain of hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain(String);

impl Chain {
    fn begin(month: &str) -> Chain {
        Chain(hex(Sha256::digest(format!("meterd evidence {VERSION} {month}")).as_slice()))
    }

    fn after(&self, kind: &str, fact: &str) -> Chain {
        let mut hash = Sha256::new();
        for part in [self.0.as_str(), " ", kind, " ", fact] {
            hash.update(part.as_bytes());
        }
        Chain(hex(hash.finalize().as_slice()))
    }
}

/// A line, its end left out.
fn line(hash: &Chain, kind: &str, fact: &str) -> String {
    format!("{{\"hash\":\"{}\",\"{kind}\":{fact}}}", hash.0)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A month's records of which something was measured, each once, in the chain's order.
fn in_order(records: &[RecordView], month: Hour) -> Vec<&RecordView> {
    let of_month = |record: &&RecordView| record.hour.get(..7) == month.to_string().get(..7);
    let mut records: Vec<&RecordView> = records.iter().filter(of_month).collect();
    // Of one that was fixed anew the last; what was measured is the same in all.
    records.sort_by_key(|r| (place(r), std::cmp::Reverse(r.generation)));
    records.dedup_by_key(|record| place(record));
    records
}

fn place(record: &RecordView) -> (String, String, Option<String>, Option<String>) {
    let RecordView { hour, dimension, customer, license, .. } = record;
    (hour.clone(), dimension.clone(), customer.clone(), license.clone())
}

/// How far a month's chain of what was measured had come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `2026-11`.
    pub month: String,
    /// The last hour that it covers.
    pub through: String,
    /// How many lines.
    pub lines: u64,
    /// The hash behind the last of them.
    pub hash: String,
}

impl Head {
    /// That of the month in which `through` lies, over all records up to that hour.
    pub fn of(records: &[RecordView], through: Hour) -> Head {
        let shown = through.to_string();
        let month: String = shown.chars().take(7).collect();
        let mut chain = Chain::begin(&month);
        let mut lines = 0;
        for record in in_order(records, through.month()).into_iter().filter(|record| record.hour <= shown) {
            chain = chain.after("sealed", &write::sealed(record));
            lines += 1;
        }
        Head { month, through: shown, lines, hash: chain.0 }
    }

    /// Reads the journal's line; nothing if it is another one.
    pub fn read(line: &str) -> Option<Head> {
        let word = |name: &str| {
            let at = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
            Some(at.trim_matches('"').to_owned())
        };
        let head = Head {
            month: word("month")?,
            through: word("through")?,
            lines: word("lines")?.parse().ok()?,
            hash: word("head")?,
        };
        (head.hash.len() == 64 && head.through.starts_with(&head.month)).then_some(head)
    }
}
