//! Merging of runs: keeps their number, and with it the cost of a lookup, small however many keys there are.
//!
//! Runs have sizes: up to 4, 16 and 64 batches, and above. Of the first three at most three rest unmerged; the largest
//! are left alone, so that no merge holds more than some ten million keys. A run of which a quarter is forgotten is
//! written anew without it: the files and the filters hold at most 4/3 of what is remembered, and what one merge needs.

use std::sync::Arc;

use super::BATCH;
use super::run::{Item, Items, Run};
use super::store::Store;
use crate::hour::Hour;

/// Runs of one size that are merged into one of the next.
const FAN: usize = 4;
/// Sizes that are merged.
const SIZES: u32 = 3;
/// Keys between two looks at whether to stop.
const LOOK_EVERY: u64 = 16_384;

/// The runs to be merged now, or the one to be written anew.
pub(super) fn due(runs: &[Arc<Run>], now: Hour) -> Option<Vec<Arc<Run>>> {
    for size in 0..SIZES {
        let same: Vec<_> = runs.iter().filter(|run| size_of(run.count()) == size).take(FAN).cloned().collect();
        if same.len() == FAN {
            return Some(same);
        }
    }
    let stale = |run: &&Arc<Run>| run.live(now) < run.count() / 4 * 3;
    runs.iter().find(stale).map(|run| vec![Arc::clone(run)])
}

fn size_of(keys: u64) -> u32 {
    (0..SIZES).find(|size| keys < (BATCH * FAN.pow(size + 1)) as u64).unwrap_or(SIZES)
}

/// Writes what is still remembered of `old` into one new run; none if that is nothing.
pub(super) fn merge(old: &[Arc<Run>], store: &Store, stop: &dyn Fn() -> bool) -> Result<Option<Run>, String> {
    let now = store.now();
    let mut writer = store.new_run(old.iter().map(|run| run.live(now)).sum::<u64>().max(1))?;
    let mut heads: Vec<(Item, Items<'_>)> = Vec::new();
    for run in old {
        let mut items = run.items();
        if let Some(first) = items.next()? {
            heads.push((first, items));
        }
    }
    let (mut kept, mut waiting): (u64, Option<Item>) = (0, None);
    let mut seen = 0u64;
    while let Some(least) = (0..heads.len()).min_by_key(|at| heads.get(*at).map(|((hash, _), _)| *hash)) {
        let Some((item, items)) = heads.get_mut(least) else { break };
        let found = *item;
        match items.next()? {
            Some(next) => *item = next,
            None => drop(heads.swap_remove(least)),
        }
        seen += 1;
        if seen.is_multiple_of(LOOK_EVERY) && stop() {
            return Err("stopping".into());
        }
        if found.1.expires < now {
            continue;
        }
        // Of two uses of one key the later stays.
        match waiting {
            Some(before) if before.0 == found.0 => {
                if found.1.seq > before.1.seq {
                    waiting = Some(found);
                }
            }
            before => {
                if let Some(item) = before {
                    writer.push(item).map_err(|e| e.to_string())?;
                    kept += 1;
                }
                waiting = Some(found);
            }
        }
    }
    if let Some(item) = waiting {
        writer.push(item).map_err(|e| e.to_string())?;
        kept += 1;
    }
    if kept == 0 { Ok(None) } else { writer.finish().map(Some) }
}
