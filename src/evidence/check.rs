//! Checks a file, with nothing but that file: a line at a time, so that it may be of any length.

use std::io::{BufRead, Read};

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Chain, Head, line};
use crate::hour::Timestamp;

/// The longest line: a record with all the allocations that AWS takes is a tenth of it.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Kinds in the order in which they stand.
const KINDS: [&str; 4] = ["sealed", "outcome", "entry", "end"];

/// What a file that holds says.
#[derive(Debug)]
pub struct Checked {
    /// Its month.
    pub month: String,
    /// Its product.
    pub product: String,
    /// How many records it has.
    pub records: u64,
    /// The hash of its last line.
    pub head: String,
    /// Heads that were held against it, and fit.
    pub anchored: u64,
    /// Heads of other months.
    pub of_other_months: u64,
}

/// A line, taken apart.
struct Parts {
    hash: String,
    kind: &'static str,
    fact: String,
}

/// How far a head that was written down has been followed.
struct Followed<'a> {
    head: &'a Head,
    lines: u64,
    hash: String,
}

/// Checks a file, and holds heads against it.
///
/// # Errors
/// A sentence with the line at which the chain breaks, or with the head that does not fit.
pub fn check(mut input: impl BufRead, heads: &[Head]) -> Result<Checked, String> {
    let mut number = 0;
    let first = next(&mut input, &mut number)?.ok_or("it is empty")?;
    let said = |what: &str| format!("line {number}: {what}");
    if first.kind != "evidence" {
        return Err(said("the first line is no evidence's"));
    }
    let about: Value = serde_json::from_str(&first.fact).map_err(|error| said(&error.to_string()))?;
    let word = |name: &str| about[name].as_str().map(str::to_owned).ok_or_else(|| format!("line 1: no {name}"));
    let (month, product) = (word("month")?, word("product")?);
    // Heads are of months as they are written here: by another name none would be held against it.
    if month.len() != 7 || Timestamp::parse(&format!("{month}-01T00:00:00Z")).is_none() {
        return Err(said("its month is none, as 2026-11 is one"));
    }
    let mut chain = Chain::begin(&month);
    if chain.after("evidence", &first.fact).0 != first.hash {
        return Err(said("it was changed: its hash is another"));
    }
    let mut followed: Vec<Followed<'_>> = heads
        .iter()
        .filter(|head| head.month == month)
        .map(|head| Followed { head, lines: 0, hash: chain.0.clone() })
        .collect();
    let (mut counts, mut at) = ([0_u64; 4], 0);
    let mut before = String::new();
    loop {
        let Some(parts) = next(&mut input, &mut number)? else {
            return Err(format!("it ends after line {number} without its end: lines are missing"));
        };
        let broken = |what: &str| format!("line {number}: {what}");
        chain = chain.after(parts.kind, &parts.fact);
        if chain.0 != parts.hash {
            return Err(broken("it was changed, or a line before it is missing, added or moved: its hash is another"));
        }
        let kind = KINDS.iter().position(|kind| *kind == parts.kind).filter(|kind| *kind >= at);
        at = kind.ok_or_else(|| broken("such a line does not stand here"))?;
        if let Some(count) = counts.get_mut(at) {
            *count += 1;
        }
        match parts.kind {
            "sealed" => {
                let fact: Value = serde_json::from_str(&parts.fact).map_err(|error| broken(&error.to_string()))?;
                let hour = fact["hour"].as_str().unwrap_or_default();
                let is_hour = Timestamp::parse(hour).is_some_and(|at| at.hour().to_string() == hour);
                if !is_hour || !hour.starts_with(&month) || hour < before.as_str() {
                    return Err(broken("its hour is none of this month, or before that of the line before"));
                }
                hour.clone_into(&mut before);
                for one in followed.iter_mut().filter(|one| hour <= one.head.through.as_str()) {
                    one.lines += 1;
                    one.hash.clone_from(&chain.0);
                }
            }
            "end" => {
                let fact: Value = serde_json::from_str(&parts.fact).map_err(|error| broken(&error.to_string()))?;
                let counted = KINDS.iter().zip(counts).take(3).all(|(kind, count)| fact[*kind] == count);
                if !counted || fact["first"] != first.hash.as_str() {
                    return Err(broken("it ends another file: lines are missing, or the first one is another's"));
                }
                break;
            }
            _ => {}
        }
    }
    if next(&mut input, &mut number)?.is_some() {
        return Err(format!("line {number}: it stands behind the end"));
    }
    for one in &followed {
        one.fits()?;
    }
    let anchored = followed.len() as u64;
    let [records, ..] = counts;
    let of_other_months = heads.len() as u64 - anchored;
    Ok(Checked { month, product, records, head: chain.0, anchored, of_other_months })
}

impl Followed<'_> {
    fn fits(&self) -> Result<(), String> {
        let Head { through, lines, hash, .. } = self.head;
        if self.lines != *lines {
            let what = if self.lines < *lines { "shortened" } else { "made longer" };
            return Err(format!(
                "it was {what}: up to {through} it has {} records, and there were {lines} when the head was written",
                self.lines
            ));
        }
        if self.hash == *hash {
            return Ok(());
        }
        Err(format!("it was rewritten: up to {through} its chain ends in {}, and the head is {hash}", self.hash))
    }
}

/// The next line, taken apart; nothing at the end.
fn next(input: &mut impl BufRead, number: &mut u64) -> Result<Option<Parts>, String> {
    let mut text = Vec::new();
    let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text).map_err(|error| error.to_string())?;
    if read == 0 {
        return Ok(None);
    }
    *number += 1;
    let wrong = |what: &str| format!("line {number}: {what}");
    let text = text.strip_suffix(b"\n").ok_or_else(|| wrong("it is cut off"))?;
    let text = std::str::from_utf8(text).map_err(|_| wrong("it is no text"))?;
    let members: std::collections::BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(text).map_err(|error| wrong(&format!("it is no line of evidence ({error})")))?;
    let hash: String = members
        .get("hash")
        .and_then(|hash| serde_json::from_str(hash.get()).ok())
        .ok_or_else(|| wrong("it has no hash"))?;
    let known = ["evidence"].into_iter().chain(KINDS);
    let parts = known
        .into_iter()
        .find_map(|kind| Some(Parts { hash: hash.clone(), kind, fact: members.get(kind)?.get().to_owned() }));
    let parts = parts.ok_or_else(|| wrong("it is of no kind that is known"))?;
    // Nothing stands in a line that the hash does not cover.
    if line(&Chain(parts.hash.clone()), parts.kind, &parts.fact) != text {
        return Err(wrong("it is not written as meterd writes it"));
    }
    Ok(Some(parts))
}
