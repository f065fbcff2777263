//! Keys and ids as the index knows them: their hashes, what is remembered of them, and for how long.

use std::time::Duration;

use super::code::Code;
use super::take::{AT_BACK_MAX, Refusal, refuse};
use crate::entry::{AccountId, DimensionId, Increment, Peer, Run, Usage};
use crate::hour::{Hour, Timestamp};
use crate::index::{Intake, KeyHash, Known, Secret};

/// How long a key is remembered at least.
pub const KEY_REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 128;

/// Refuses a key that is none.
pub(super) fn check_key(key: &str) -> Result<(), Refusal> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let message = format!("a key has 1-{KEY_BYTES_MAX} bytes, this one has {}", key.len());
        return Err(refuse(Code::BadKey, message));
    }
    Ok(())
}

/// The hash of an increment's key, and what will be known of it.
pub(super) fn key_of(
    secret: Secret,
    peer: Peer,
    account: Option<AccountId>,
    increment: &Increment,
    now: Timestamp,
) -> Option<(KeyHash, Known)> {
    let key = increment.key.as_deref()?;
    // One name space of keys per writing user.
    let hash = secret.key(&[&peer.uid.to_le_bytes(), key.as_bytes()]);
    Some((hash, Known { seq: 0, content: content(secret, account, increment), expires: expiry(increment, now) }))
}

/// A digest of what the caller said. Numbers are compared as numbers, times as times.
fn content(secret: Secret, account: Option<AccountId>, increment: &Increment) -> u64 {
    let DimensionId(dimension) = increment.dimension;
    // Whether an id is the hour's first is not the caller's word.
    let quantity = if increment.id.is_some() { 0 } else { increment.quantity };
    let (dimension, quantity) = (dimension.to_le_bytes(), quantity.to_le_bytes());
    let at = increment.at.map(|at| at.millis().to_le_bytes());
    let fixed: [&[u8]; 3] = [&dimension, &quantity, at.as_ref().map_or(&[], |at| at.as_slice())];
    if increment.tags.is_empty() && increment.id.is_none() && account.is_none() {
        return secret.content(&fixed);
    }
    let mut parts = fixed.to_vec();
    for (key, value) in increment.tags.iter() {
        parts.push(key.as_bytes());
        parts.push(value.as_bytes());
    }
    parts.extend(increment.id.as_deref().map(str::as_bytes));
    let account = account.map(|account| account.0.to_le_bytes());
    parts.extend(account.as_ref().map(|bytes| bytes.as_slice()));
    secret.content(&parts)
}

/// The last hour in which a key is remembered: 24 hours on, and as long as its `at` would be taken. Counted from the hour
/// that the increment counts in where the clock lies behind it, for keys are forgotten by sealed hours.
fn expiry(increment: &Increment, now: Timestamp) -> Hour {
    let day = now.max(increment.hour.start()).plus(KEY_REMEMBERED);
    increment.at.map_or(day, |at| day.max(at.plus(AT_BACK_MAX))).hour()
}

/// The hash of an increment's id in its dimension and hour, and what will be known of it: only that it was there.
pub(super) fn id_of(
    secret: Secret,
    account: Option<AccountId>,
    increment: &Increment,
    now: Timestamp,
) -> Option<(KeyHash, Known)> {
    let id = increment.id.as_deref()?;
    let DimensionId(dimension) = increment.dimension;
    let hour = increment.hour.index().to_le_bytes();
    let dimension = dimension.to_le_bytes();
    let hash = match account {
        None => secret.key(&[b"id", &dimension, &hour, id.as_bytes()]),
        Some(account) => secret.key(&[b"id of", &account.0.to_le_bytes(), &dimension, &hour, id.as_bytes()]),
    };
    Some((hash, Known { seq: 0, content: 0, expires: expiry(increment, now) }))
}

/// Whether an entry has anything for the index.
pub(super) fn has_keys(usage: &Usage) -> bool {
    usage.runs.iter().any(|run| run.full().is_some_and(|(_, i)| i.key.is_some() || i.id.is_some()))
}

/// The last hour in which a key or an id of an entry is remembered.
pub(super) fn keys_until(usage: &Usage) -> Hour {
    let full = usage.runs.iter().filter_map(Run::full);
    let keys = full.filter(|(_, i)| i.key.is_some() || i.id.is_some()).map(|(_, i)| expiry(i, usage.received));
    keys.max().unwrap_or_default()
}

/// Hands an entry's keys and ids to the index, as `take` did when it was new.
pub(super) fn index_keys(usage: &Usage, intake: &mut Intake<'_>) {
    let (mut seq, secret) = (usage.first_seq, intake.secret());
    for run in &usage.runs {
        if let Some((account, increment)) = run.full() {
            let key = key_of(secret, usage.peer, account, increment, usage.received);
            let id = id_of(secret, account, increment, usage.received).filter(|_| increment.quantity > 0);
            for (hash, known) in key.into_iter().chain(id) {
                intake.add_key(hash, Known { seq, ..known });
            }
        }
        seq += run.count();
    }
}
