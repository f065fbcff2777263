//! The index: idempotency keys, ids of `unique` dimensions, and the records that are final. A cache derived from the log.
//!
//! It is tagged with the log's identity and the number of the last frame applied, and thrown away and rebuilt from the
//! log on any doubt: an error, a panic while opening, another log's tag, a gap, a page that is damaged. What was not yet
//! applied when the agent died is applied again from the log. It never decides what may be deleted.
//!
//! # Behind
//!
//! A thread opens it and reads what it lacks, while the agent takes usage already. Until that is done nobody can tell
//! whether a key is known: who asks gets [`NotNow`], and the writer `not_ready`. Usage without keys does not ask. The
//! same holds when the index fails while the agent runs: it is made anew, and no memory gathers what cannot be written.
//!
//! # Where a key is
//!
//! First in a table of what is fresh; by `BATCH` keys (or as many as a segment of the log holds) it goes to the
//! `keeper` in a sorted `run`, and runs are merged (`merge`) into larger ones. A lookup asks the fresh table, up to two
//! batches on their way, and the `filter` of every run: about ten at a million keys, twenty at the limit.
//!
//! # Limits
//!
//! | | |
//! | --- | --- |
//! | keys and ids remembered | [`KEYS_MAX`]; from there on new ones are refused as `overloaded` (known ones are still answered) until some are forgotten; `status` says so from nine tenths on |
//! | memory | 1.7 bytes a key in a run, at most 115 MB at the limit; while runs are merged up to 50 MB more; up to 35 MB of fresh keys |
//! | disk | 38 bytes a key in a run, at most 2.5 GB at the limit; while runs are merged up to 1.1 GB more; the records beside them |
//!
//! A run whose keys are forgotten goes as a whole; one of which a quarter is forgotten is written anew. Without room on
//! the disk the index cannot be written: keys are answered `not_ready`, saying so, until there is.

mod filter;
mod hash;
mod keeper;
mod merge;
mod merger;
mod run;
mod store;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::hour::Hour;
use crate::rollup::state::RecordState;
use crate::wal::LogId;
pub use hash::{KeyHash, Secret};
use keeper::Keeper;
use store::Store;

/// Most keys and ids that are remembered at once.
pub const KEYS_MAX: u64 = 50_000_000;
/// As many keys and records are handed over at once: what a table of 2^17 places holds. A large batch makes few runs.
const BATCH: usize = 114_688;
/// Records are handed over sooner: each takes as much memory as twenty keys.
const RECORDS_BATCH: usize = 8192;

/// What is remembered of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The increment's number.
    pub seq: u64,
    /// A digest of the increment's content.
    pub content: u64,
    /// The last hour in which it is remembered.
    pub expires: Hour,
}

type Keys = HashMap<KeyHash, Known, BuildHasherDefault<hash::Uniform>>;

/// What has happened since the index was last written.
#[derive(Debug, Clone, Default)]
struct Fresh {
    keys: Keys,
    records: Vec<RecordState>,
    /// Records of hours before it are to be forgotten.
    forget_before: Hour,
    /// All frames up to this number are in here or in the store.
    applied: u64,
}

impl Fresh {
    fn len(&self) -> usize {
        self.keys.len() + self.records.len()
    }
}

/// What the log has for the index, on its way there.
pub struct Intake<'a> {
    secret: Secret,
    now: Hour,
    fresh: Fresh,
    reached: &'a mut dyn FnMut(&mut Fresh) -> Result<(), String>,
}

impl<'a> Intake<'a> {
    fn new(secret: Secret, now: Hour, reached: &'a mut dyn FnMut(&mut Fresh) -> Result<(), String>) -> Self {
        Intake { secret, now, fresh: Fresh::default(), reached }
    }

    fn into_fresh(self) -> Fresh {
        self.fresh
    }

    /// What keys are hashed with.
    pub fn secret(&self) -> Secret {
        self.secret
    }

    /// Remembers a key, if it is to be remembered still.
    pub fn add_key(&mut self, hash: KeyHash, known: Known) {
        if known.expires >= self.now {
            self.fresh.keys.insert(hash, known);
        }
    }

    /// Keeps a record that is final.
    pub fn add_record(&mut self, record: RecordState) {
        self.fresh.records.push(record);
    }

    /// Notes that all of the log up to frame `seq` has been added; an error says why to stop.
    pub fn reached(&mut self, seq: u64) -> Result<(), String> {
        self.fresh.applied = seq;
        (self.reached)(&mut self.fresh)
    }
}

/// Reads the log's frames from one number through another into an intake.
pub type Source = Arc<dyn Fn(u64, u64, &mut Intake<'_>) -> Result<(), String> + Send + Sync>;

/// Why the index cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// It is being opened.
    Opening,
    /// It is being brought up to the log.
    Reading {
        /// The last frame applied.
        done: u64,
        /// The last one to be.
        through: u64,
    },
    /// That failed, and is tried again.
    Failed(String),
}

/// Nobody can tell for now whether a key is known, which is not the same as unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotNow(pub Behind);

impl std::fmt::Display for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Behind::Opening => write!(f, "the index of keys is being opened"),
            Behind::Reading { done, through } => {
                let percent = done.saturating_mul(100) / (*through).max(1);
                write!(f, "the index of keys is being rebuilt from the log: {percent} % ({done} of {through} frames)")
            }
            Behind::Failed(why) => write!(f, "the index of keys cannot be used ({why}); it is tried again"),
        }
    }
}

/// Why the index cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("the index at {path}: {why}")]
pub struct IndexError {
    path: String,
    why: String,
}

/// The index of one log.
pub struct Index {
    fresh: Fresh,
    backing: Backing,
    keys_max: u64,
    /// Keys remembered but for the fresh ones, when that was last counted.
    held: u64,
    /// Where it is made from.
    source: Option<Source>,
    /// The log's segment has ended since something was handed over.
    hand_over: bool,
}

enum Backing {
    /// Nothing but memory. The log is read into it after so many more commits.
    Memory { commits: u32, through: Option<u64>, forgotten_before: Hour },
    /// sled and files, kept by a thread; with the store once that can be asked.
    Disk { keeper: Keeper, ready: Option<(Arc<Store>, Secret)> },
}

impl Index {
    fn with(backing: Backing) -> Self {
        Index { fresh: Fresh::default(), backing, keys_max: KEYS_MAX, held: 0, source: None, hand_over: false }
    }

    /// An index that lives in memory only, for simulations.
    pub fn in_memory() -> Self {
        Index::in_memory_after(0)
    }

    /// The same, but it can be asked only after so many commits, as one on a disk that is slow.
    pub fn in_memory_after(commits: u32) -> Self {
        Index::with(Backing::Memory { commits, through: Some(0), forgotten_before: Hour::default() })
    }

    /// An index that remembers fewer keys than [`KEYS_MAX`].
    pub fn remembering(self, keys_max: u64) -> Self {
        Index { keys_max, ..self }
    }

    /// The index in `dir`, which a thread opens; it is wiped if it cannot be trusted to belong to `log`.
    pub fn open(dir: &Path, log: LogId) -> Result<Self, IndexError> {
        let keeper = Keeper::start(dir, log)
            .map_err(|e| IndexError { path: dir.display().to_string(), why: format!("starting its thread: {e}") })?;
        Ok(Index::with(Backing::Disk { keeper, ready: None }))
    }

    /// Has it brought up to frame `through` of the log, all before anything else is added. `now`: the hour before which
    /// keys are forgotten.
    pub fn begin(&mut self, source: Source, through: u64, now: Hour) {
        self.fresh = Fresh { applied: through, forget_before: self.fresh.forget_before, ..Fresh::default() };
        self.source = Some(Arc::clone(&source));
        match &mut self.backing {
            Backing::Memory { through: to, .. } => {
                *to = Some(through);
                self.read_into_memory(now);
            }
            Backing::Disk { keeper, ready } => {
                // The keeper must be able to close it.
                *ready = None;
                keeper.build(source, through, now);
            }
        }
    }

    fn read_into_memory(&mut self, now: Hour) {
        let Backing::Memory { commits: 0, through, .. } = &mut self.backing else { return };
        let (Some(last), Some(source)) = (*through, &self.source) else { return };
        let mut reached = |_: &mut Fresh| Ok(());
        let mut intake = Intake::new(Secret::none(), now, &mut reached);
        match source(1, last, &mut intake) {
            Ok(()) => {
                let read = intake.into_fresh();
                self.fresh.keys.extend(read.keys);
                self.fresh.records.extend(read.records);
                *through = None;
            }
            Err(why) => tracing::warn!(why, "the log cannot be read for the index; trying again"),
        }
    }

    /// Waits until it can be asked, but not for long: a writer should not be refused for some milliseconds' sake.
    pub fn wait(&self, most: Duration) {
        if let Backing::Disk { keeper, .. } = &self.backing {
            keeper.wait(most);
        }
    }

    /// Looks whether it can be asked by now.
    pub fn look(&mut self) {
        if let Backing::Disk { keeper, ready: ready @ None } = &mut self.backing {
            *ready = keeper.store().map(|store| (Arc::clone(&store), store.secret()));
        }
    }

    /// Why it cannot be asked, if so.
    pub fn behind(&self) -> Option<Behind> {
        match &self.backing {
            Backing::Memory { through: Some(through), .. } => Some(Behind::Reading { done: 0, through: *through }),
            Backing::Memory { .. } => None,
            Backing::Disk { keeper, .. } => keeper.behind(),
        }
    }

    /// What keys are hashed with.
    pub fn secret(&self) -> Result<Secret, NotNow> {
        match &self.backing {
            Backing::Memory { through: None, .. } => Ok(Secret::none()),
            Backing::Disk { ready: Some((_, secret)), .. } => Ok(*secret),
            _ => Err(NotNow(self.behind().unwrap_or(Behind::Opening))),
        }
    }

    /// What is known of a key.
    pub fn key(&self, hash: KeyHash) -> Result<Option<Known>, NotNow> {
        // Who has a hash asked for the secret, so the rest is there.
        let fresh = self.fresh.keys.get(&hash).copied();
        let Backing::Disk { keeper, ready } = &self.backing else { return Ok(fresh) };
        let unwritten = || keeper.unwritten.iter().rev().find_map(|batch| batch.keys.get(&hash).copied());
        if let Some(known) = fresh.or_else(unwritten) {
            return Ok(Some(known));
        }
        let Some((store, _)) = ready else { return Err(NotNow(Behind::Opening)) };
        store.key(hash).map_err(|why| {
            tracing::error!(why, "the index cannot be read; making it anew from the log");
            keeper.doubt();
            NotNow(Behind::Failed(why))
        })
    }

    /// Remembers a key.
    pub fn add_key(&mut self, hash: KeyHash, known: Known) {
        self.fresh.keys.insert(hash, known);
    }

    /// Keeps a record that is final.
    pub fn add_record(&mut self, record: RecordState) {
        self.fresh.records.push(record);
    }

    /// Forgets the records of hours before this one.
    pub fn forget_before(&mut self, hour: Hour) {
        self.fresh.forget_before = hour;
    }

    /// How many keys and ids are remembered, and how many can be.
    pub fn fill(&self) -> (u64, u64) {
        (self.held + self.fresh.keys.len() as u64, self.keys_max)
    }

    /// Notes that a segment of the log has ended: a start after a crash reads the log from what was handed over last.
    pub fn segment_ended(&mut self) {
        self.hand_over = true;
    }

    /// Notes that the log is durable up to frame `seq`, all of which has been added; hands over what has gathered, now
    /// and then. `now` is the hour before which keys are forgotten.
    pub fn advance(&mut self, seq: u64, now: Hour) {
        self.fresh.applied = seq;
        self.look();
        match &mut self.backing {
            Backing::Memory { commits, through, forgotten_before } => {
                *commits = commits.saturating_sub(1);
                let forget = std::mem::replace(forgotten_before, now) < now;
                if through.is_some() {
                    self.read_into_memory(now);
                } else if forget {
                    self.fresh.keys.retain(|_, known| known.expires >= now);
                }
            }
            Backing::Disk { keeper, .. } if keeper.is_broken() => {
                if let Some(source) = self.source.clone() {
                    // All of what is in memory is in the log by now, and comes back from there.
                    self.begin(source, seq, now);
                }
            }
            Backing::Disk { ready: Some(_), .. }
                if self.hand_over || self.fresh.len() >= BATCH || self.fresh.records.len() >= RECORDS_BATCH =>
            {
                self.write(now);
            }
            Backing::Disk { .. } => {}
        }
        if let Backing::Disk { keeper, ready: Some((store, _)) } = &mut self.backing {
            keeper.sweep();
            self.held = store.live() + keeper.unwritten.iter().map(|batch| batch.keys.len() as u64).sum::<u64>();
        }
    }

    fn write(&mut self, now: Hour) {
        let Backing::Disk { keeper, .. } = &mut self.backing else { return };
        let mut next =
            Fresh { applied: self.fresh.applied, forget_before: self.fresh.forget_before, ..Fresh::default() };
        // There may well be as many again: no growing on the way.
        next.keys.reserve(self.fresh.keys.len());
        self.hand_over = false;
        keeper.write(std::mem::replace(&mut self.fresh, next), now);
    }

    /// The final records, for another thread; none while nobody can tell.
    pub fn history(&self) -> Result<History, NotNow> {
        if let Some(behind) = self.behind() {
            return Err(NotNow(behind));
        }
        let mut recent = self.fresh.records.clone();
        let mut store = None;
        if let Backing::Disk { keeper, .. } = &self.backing {
            recent.extend(keeper.unwritten.iter().flat_map(|batch| batch.records.clone()));
            store = keeper.store();
        }
        Ok(History { recent, store, from: self.fresh.forget_before })
    }

    /// Notes that the log ends, in order, with frame `seq`; writes what is left and waits for it.
    pub fn close(mut self, seq: u64, now: Hour) {
        self.advance(seq, now);
        if matches!(self.backing, Backing::Disk { ready: Some(_), .. }) {
            self.write(now);
        }
    }
}

/// Final records: those in the store, and those on the way there.
pub struct History {
    recent: Vec<RecordState>,
    store: Option<Arc<Store>>,
    /// The first hour that is not forgotten.
    from: Hour,
}

impl History {
    /// All of them, oldest first.
    pub fn read(self) -> Result<Vec<RecordState>, String> {
        let mut records = self.recent;
        if let Some(store) = self.store {
            records.extend(store.records()?);
        }
        records.retain(|r| r.record.key.hour >= self.from);
        records.sort_by_key(|r| r.record.key);
        records.dedup_by_key(|r| r.record.key);
        Ok(records)
    }
}
