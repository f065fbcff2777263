//! The work of retention on the disk: reads the oldest stretch of the log and those that verify it, archives its final
//! records, and forgets what is out of date. Runs in a thread of its own beside the engine.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::echo::Folding;
use super::keys;
use super::recover::Change;
use crate::disk::Disk;
use crate::entry::{self, RecordKey, kind};
use crate::hour::{Hour, Timestamp};
use crate::index::Intake;
use crate::rollup::state::RecordState;
use crate::rollup::{Checkpoint, State};
use crate::wal::OpenError;
use crate::wal::archive::{self, Owner};
use crate::wal::retain::{self, Event, Footprint};
use crate::wal::segment::SegmentHeader;

/// Whole months that a record is kept after the month of its hour.
const MONTHS_KEPT: u32 = 13;
/// Checkpoints behind a stretch that must be verified before it goes.
const VERIFIED: usize = 2;
/// An archive file that is longer than this is not replaced by a longer one any more.
const ARCHIVE_FILE_BYTES: u64 = 1024 * 1024;
/// Archive files are numbered by month, and within the month by this many.
const FILES_PER_MONTH: u64 = 1_000_000;

/// The month whose records an archive file holds, as [`Hour::year_month`] has it.
pub(super) fn month_of_file(id: u64) -> u64 {
    id / FILES_PER_MONTH
}

/// What a look came to.
pub(super) struct Looked {
    pub pass: Pass,
    /// The first segment kept, if a stretch stands in the archive now.
    pub retired: Option<u64>,
    /// What left-overs of an earlier retirement took.
    pub removed: Footprint,
}

/// What to look for.
pub(super) struct Look<D> {
    pub disk: Arc<D>,
    pub owner: Owner,
    pub keep: Duration,
    /// Confirmed time.
    pub now: Timestamp,
    /// The first hour that is not sealed.
    pub open_from: Hour,
    /// The last hour with usage that is not sealed.
    pub open_until: Option<Hour>,
    /// Records of hours before it go from the archive.
    pub forget_before: Hour,
    pub stop: Arc<AtomicBool>,
}

/// A stretch as folded.
#[derive(Debug, Clone)]
struct Folded {
    first: u64,
    /// The first segment of the next stretch.
    next: u64,
    /// Records that became final in it.
    records: Vec<RecordState>,
    /// The last hour in which a key of it is remembered.
    keys_until: Hour,
    /// The last hour with usage that was not sealed at its end.
    open_until: Option<Hour>,
    damaged: Vec<u64>,
    /// Whether the checkpoint behind it is what it comes to.
    verified: bool,
}

/// Stretches folded so far, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Pass {
    folded: VecDeque<Folded>,
}

/// Records of hours before this one are forgotten: [`MONTHS_KEPT`] months, or `keep` where that is longer.
pub(super) fn forget_before(now: Timestamp, keep: Duration) -> Hour {
    now.hour().start_of_month(MONTHS_KEPT).min(now.minus(keep).hour())
}

impl<D: Disk> Look<D> {
    /// Looks at the oldest stretch; archives it if nothing needs it.
    pub(super) fn take(&self, mut pass: Pass) -> Result<Looked, OpenError> {
        let headers = retain::headers(&*self.disk)?;
        let (Some(oldest), Some(behind)) = (headers.first(), headers.get(1)) else {
            self.forget()?;
            return Ok(Looked { pass, retired: None, removed: Footprint::default() });
        };
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| OpenError::Io { what, source }
        };
        // What a start passed over in front of a hole.
        let removed = retain::remove(&*self.disk, oldest.id).map_err(failed("removing left-over segments"))?;
        self.forget()?;
        let mut retired = None;
        if self.is_old(&headers, behind.id) {
            pass.folded.retain(|stretch| stretch.first >= oldest.id);
            self.fold_ahead(&headers, &mut pass)?;
            let old_enough = |stretch: &Folded| {
                let forgotten = stretch.keys_until < self.open_from.min(self.now.hour()).previous();
                // Or taken back by a clock that was set right, into an hour that was current then.
                let sealed =
                    stretch.open_until.is_none_or(|hour| hour < self.open_from || self.open_until < Some(hour));
                self.is_old(&headers, stretch.next) && forgotten && sealed
            };
            let verified = pass.folded.iter().filter(|stretch| stretch.verified).count() >= VERIFIED;
            if verified
                && pass.folded.front().is_some_and(old_enough)
                && let Some(stretch) = pass.folded.pop_front()
            {
                self.keep_damage(&stretch, &headers)?;
                self.archive(&stretch.records)?;
                let (first, last, records) = (stretch.first, stretch.next - 1, stretch.records.len());
                tracing::info!(first, last, records, "segments are in the archive");
                retired = Some(stretch.next);
            }
        }
        Ok(Looked { pass, retired, removed })
    }

    /// Whether the time to keep what came before segment `id` is over. A segment that was begun in what is still to come
    /// was begun by a clock that was ahead; in truth that was before the one behind it.
    fn is_old(&self, headers: &[SegmentHeader], id: u64) -> bool {
        let mut begun = headers.iter().filter(|h| h.id >= id).map(|h| Timestamp::from_millis(h.created_ms));
        begun.find(|begun| *begun <= self.now).is_some_and(|begun| begun.plus(self.keep) <= self.now)
    }

    /// Folds stretches until enough checkpoints are verified, or the log ends.
    fn fold_ahead(&self, headers: &[SegmentHeader], pass: &mut Pass) -> Result<(), OpenError> {
        let enough = |pass: &Pass| pass.folded.iter().filter(|stretch| stretch.verified).count() >= VERIFIED;
        if enough(pass) {
            return Ok(());
        }
        let from = pass.folded.back().map_or(headers.first().map_or(0, |h| h.id), |stretch| stretch.next);
        let at = headers.partition_point(|h| h.id < from);
        let mut folding = Folding::default();
        let mut stretch = Folded::new(from);
        retain::walk(&*self.disk, headers.get(at..).unwrap_or(&[]), &mut |event| {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(ControlFlow::Break(()));
            }
            match event {
                Event::Damaged(segment) => stretch.damaged.push(segment),
                Event::Retired(_) => {}
                Event::Entry { segment, first: true, entry } if entry.kind == kind::CHECKPOINT && segment > from => {
                    let checkpoint = Checkpoint::decode(entry.payload).map_err(|e| e.to_string())?;
                    let mut next = Folded::new(segment);
                    // Told before its entries, this segment's damage was put down to the stretch that ends here.
                    next.damaged = stretch.damaged.split_off(stretch.damaged.partition_point(|id| *id < segment));
                    let done = std::mem::replace(&mut stretch, next);
                    pass.folded.push_back(done.end(segment, &folding.state, checkpoint.agrees_with(&folding.state))?);
                    folding.fold(entry, &mut drop)?;
                    if enough(pass) {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Event::Entry { entry, .. } => folding.fold(entry, &mut |change| stretch.take(change))?,
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Damage that recovery never met, for it reads from the newest checkpoint on.
    fn keep_damage(&self, stretch: &Folded, headers: &[SegmentHeader]) -> Result<(), OpenError> {
        for pair in headers.windows(2) {
            if let [header, next] = pair
                && stretch.damaged.contains(&header.id)
            {
                tracing::error!(segment = header.id, "a segment that goes is damaged; a copy is in quarantine/");
                retain::keep_damage(&*self.disk, header, next.previous_end)?;
            }
        }
        Ok(())
    }

    /// Adds records to the archive. Durable when it returns, even if all of them seem to be there already: what is
    /// merely read may never have reached the disk.
    fn archive(&self, records: &[RecordState]) -> Result<(), OpenError> {
        let disk = &*self.disk;
        let failed = |source| OpenError::Io { what: "writing the archive".into(), source };
        let mut months: BTreeMap<u64, BTreeMap<RecordKey, Vec<u8>>> = BTreeMap::new();
        for record in records {
            let payload = entry::encode(record).map_err(|e| failed(std::io::Error::other(e.to_string())))?;
            let hour = record.record.key.hour;
            if hour >= self.forget_before {
                months.entry(u64::from(hour.year_month())).or_default().insert(record.record.key, payload);
            }
        }
        let files = archive::list(disk).map_err(failed)?;
        for (month, mut records) in months {
            let newest = files.iter().rev().find(|id| month_of_file(**id) == month);
            let mut id = newest.copied().unwrap_or(month * FILES_PER_MONTH);
            match newest.map(|id| self.longer(*id)).transpose()?.flatten() {
                Some(before) => records.extend(before),
                None => id += 1,
            }
            let entries = records.values().map(|payload| (kind::ARCHIVED, payload.as_slice()));
            archive::write(disk, id, self.owner, self.now, entries).map_err(failed)?;
        }
        Ok(())
    }

    /// What stands in a file that may be replaced by a longer one.
    fn longer(&self, id: u64) -> Result<Option<BTreeMap<RecordKey, Vec<u8>>>, OpenError> {
        let file = match archive::read(&*self.disk, id) {
            Err(OpenError::Archive { .. }) => return Ok(None),
            read => read?,
        };
        if !file.is_whole() || file.bytes >= ARCHIVE_FILE_BYTES || file.header.log != self.owner.log {
            return Ok(None);
        }
        let key = |(_, payload): (u8, Vec<u8>)| {
            let record: RecordState = entry::decode(&payload).ok()?;
            Some((record.record.key, payload))
        };
        let known = file.entries.iter().all(|(kind, _)| *kind == kind::ARCHIVED);
        Ok(if known { file.entries.into_iter().map(key).collect() } else { None })
    }

    /// Removes archive files of months that are out of date.
    fn forget(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io { what: "removing old archive files".into(), source };
        let first = u64::from(self.forget_before.year_month()) * FILES_PER_MONTH;
        let mut files = archive::list(&*self.disk).map_err(failed)?;
        files.retain(|id| *id < first);
        archive::remove(&*self.disk, &files).map_err(failed)
    }
}

impl Folded {
    fn new(first: u64) -> Self {
        Folded {
            first,
            next: 0,
            records: Vec::new(),
            keys_until: Hour::default(),
            open_until: None,
            damaged: Vec::new(),
            verified: false,
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Usage(usage) => self.keys_until = self.keys_until.max(keys::keys_until(&usage)),
            Change::Records(records) => self.records.extend(records),
        }
    }

    /// Ends it in front of segment `next`. `state` is what it comes to.
    fn end(mut self, next: u64, state: &State, verified: bool) -> Result<Folded, String> {
        if !verified && self.damaged.is_empty() {
            let (first, last) = (self.first, next - 1);
            return Err(format!("the checkpoint is not what the entries of segments {first} to {last} come to"));
        }
        self.open_until = open_until(state);
        (self.next, self.verified) = (next, verified);
        Ok(self)
    }
}

/// The last hour with usage that is not sealed.
pub(super) fn open_until(state: &State) -> Option<Hour> {
    let customers = state.customers().and_then(|customers| customers.open_hours()).map(|(_, last)| last);
    state.dimensions.iter().flat_map(|d| d.open.keys().copied()).chain(customers).max()
}

/// Puts what is in the archive into the index.
pub(super) fn index_archive<D: Disk>(disk: &D, intake: &mut Intake<'_>) -> Result<(), String> {
    for id in archive::list(disk).map_err(|e| e.to_string())? {
        let file = match archive::read(disk, id) {
            Err(error @ OpenError::Archive { .. }) => {
                tracing::error!(%error, "a file of the archive cannot be read; its records are not shown");
                continue;
            }
            read => read.map_err(|e| e.to_string())?,
        };
        if !file.is_whole() {
            tracing::error!(id, "a file of the archive is damaged; the records that hold are shown");
        }
        for (kind, payload) in &file.entries {
            match entry::decode(payload) {
                Ok(record) if *kind == kind::ARCHIVED => intake.add_record(record),
                _ => tracing::error!(id, kind, "an entry of the archive is of another version; it is not shown"),
            }
        }
    }
    Ok(())
}
