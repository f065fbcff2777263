//! Recovery: what happens between a start and the first append. Every step can be repeated after a crash in it.
//!
//! 1. Find the newest segment that begins with a whole checkpoint; everything before it is history.
//! 2. Read from there on, telling torn from corrupt (see [`super::scan`]), and hand every entry to the fold.
//! 3. After a stop in order, write the second stop mark once more and go on behind it. Otherwise copy the newest
//!    segment's valid part into a new file of zeros with the same header, sync, rename, sync the directory: what was
//!    merely read (perhaps from a cache that the disk never got) is never trusted, and nothing is ever appended behind
//!    a recovered tail.
//! 4. Note damage that was not known before: a copy in quarantine, a gap entry in the log.

use std::io;
use std::sync::Arc;

use super::assemble::{Assembler, Holes};
use super::frame::Frame;
use super::log::{Current, Log, activate, kind};
use super::report::io_error;
pub use super::report::{Gap, OpenError, Report};
use super::scan::{self, Scanned, Span, Tail};
use super::segment::{self, FRAMES_AT, HeaderError, SegmentHeader};
use super::spares::{Need, Spares};
use super::{DIR, LogId, Purpose, QUARANTINE, copy, retain};
use crate::disk::{Disk, DiskFile, is_full};
use crate::hour::Timestamp;

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Length of a new segment in bytes.
    pub segment_bytes: u64,
    /// Whether usage is real or a test's; must match an existing log.
    pub purpose: Purpose,
    /// Whether spares are made by a thread of their own.
    pub background: bool,
    /// The kind of entry that says all that came before it.
    pub checkpoint_kind: u8,
    /// Stamped on what is created.
    pub now: Timestamp,
}

/// One entry as it comes back from the log.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The number of its first frame.
    pub seq: u64,
    /// What it is.
    pub kind: u8,
    /// Its bytes.
    pub payload: &'a [u8],
    /// Frames that stood between it and the entry before it are lost.
    pub after_gap: bool,
}

/// Takes entries in order; its error says why an entry cannot be understood.
pub type Fold<'a> = dyn FnMut(Entry<'_>) -> Result<(), String> + 'a;

/// A log ready to append to, and how it got there.
pub struct Opened<D: Disk> {
    /// The log.
    pub log: Log<D>,
    /// What was found.
    pub report: Report,
}

/// Opens the log in `disk`, making it if there is none, and hands every entry from the newest checkpoint on to `fold`.
pub fn open<D: Disk>(disk: Arc<D>, options: &Options, fold: &mut Fold<'_>) -> Result<Opened<D>, OpenError> {
    for dir in [DIR, QUARANTINE] {
        disk.create_dir(dir).map_err(io_error(format!("making {dir}")))?;
    }
    disk.sync_dir("").map_err(io_error("syncing the state directory"))?;
    let headers = retain::headers(&*disk)?;
    if let Some(found) = headers.last().map(|newest| newest.purpose).filter(|found| *found != options.purpose) {
        return Err(OpenError::Purpose { found });
    }
    let mut pass = Pass { known: Vec::new(), report: Report::default(), found: Vec::new() };
    let start = if headers.is_empty() { 0 } else { pass.start_of_fold(&*disk, &headers, options.checkpoint_kind)? };
    let last = pass.read(&*disk, headers.get(start..).unwrap_or(&[]), options.checkpoint_kind, fold)?;
    // From here on files are made and removed: the log is ours, and all of it that counts can be read.
    let spares =
        Spares::take_stock(Arc::clone(&disk), options.segment_bytes).map_err(io_error("looking for spare segments"))?;
    let mut opened = match last {
        Some(last) => recover(disk, spares, pass, last, options)?,
        None => create(disk, spares, options)?,
    };
    if options.background {
        opened.log.keep_spares_filled().map_err(io_error("starting the thread that makes spare segments"))?;
    }
    Ok(opened)
}

/// Makes the newest segment, as it was read, safe to append to.
fn recover<D: Disk>(
    disk: Arc<D>,
    spares: Spares<D>,
    mut pass: Pass,
    last: Loaded,
    options: &Options,
) -> Result<Opened<D>, OpenError> {
    let known = std::mem::take(&mut pass.known);
    let fresh: Vec<Gap> = pass.found.iter().filter(|g| !known.contains(g)).copied().collect();
    for gap in &fresh {
        quarantine(&*disk, "corrupt", gap.segment, gap.span)?;
    }
    if let Tail::Torn { span, suspicious } = last.scanned.tail {
        match quarantine(&*disk, "torn", last.header.id, span) {
            // Nothing in it was ever acknowledged: it is not worth as much as a start.
            Err(OpenError::Io { what, source }) if is_full(&source) => {
                tracing::warn!(what, %source, "no room to keep what is cut from the log's end");
            }
            kept => kept?,
        }
        pass.report.torn_bytes = span.to - span.from;
        pass.report.suspicious = suspicious;
    }
    let mut log = last.resume(disk, spares, &mut pass.report)?;
    for gap in &fresh {
        log.append(kind::GAP, &gap.encode(), Need::Control, options.now)?;
    }
    log.commit()?;
    pass.report.gaps = fresh;
    Ok(Opened { log, report: pass.report })
}

/// Reads the newest checkpoint and what follows it, changing nothing.
pub fn peek<D: Disk>(disk: &D, checkpoint_kind: u8, fold: &mut Fold<'_>) -> Result<Report, OpenError> {
    let headers = retain::headers(disk)?;
    let mut pass = Pass { known: Vec::new(), report: Report::default(), found: Vec::new() };
    let start = if headers.is_empty() { 0 } else { pass.start_of_fold(disk, &headers, checkpoint_kind)? };
    pass.read(disk, headers.get(start..).unwrap_or(&[]), checkpoint_kind, fold)?;
    pass.report.gaps = pass.found;
    Ok(pass.report)
}

/// Reads the entries of a log from the last checkpoint before frame `from_seq` on, in order, changing nothing.
pub fn replay<D: Disk>(disk: &D, from_seq: u64, checkpoint_kind: u8, fold: &mut Fold<'_>) -> Result<Report, OpenError> {
    let headers = retain::headers(disk)?;
    let mut pass = Pass { known: Vec::new(), report: Report::default(), found: Vec::new() };
    let mut start = headers.partition_point(|h| h.first_seq <= from_seq).saturating_sub(1);
    while start > 0 && !begins_with_checkpoint(disk, headers.get(start..).unwrap_or(&[]), checkpoint_kind)? {
        start -= 1;
    }
    pass.read(disk, headers.get(start..).unwrap_or(&[]), checkpoint_kind, fold)?;
    pass.report.gaps = pass.found;
    Ok(pass.report)
}

pub(super) fn read_headers<D: Disk>(disk: &D, ids: &[u64]) -> Result<Vec<SegmentHeader>, OpenError> {
    let mut headers: Vec<SegmentHeader> = Vec::with_capacity(ids.len());
    for id in ids {
        let name = segment::file_name(*id);
        let file = disk.open(&name).map_err(io_error(format!("opening {name}")))?;
        let header = SegmentHeader::read(&file)
            .map_err(io_error(format!("reading {name}")))?
            .map_err(|source| OpenError::Header { segment: *id, source })?;
        if header.id != *id {
            return Err(OpenError::Header { segment: *id, source: HeaderError::Damaged });
        }
        if let Some(before) = headers.last() {
            if before.id + 1 != *id {
                return Err(OpenError::Missing(before.id + 1));
            }
            if before.log != header.log {
                return Err(OpenError::Foreign { segment: *id, found: header.log, expected: before.log });
            }
        }
        headers.push(header);
    }
    Ok(headers)
}

fn create<D: Disk>(disk: Arc<D>, spares: Spares<D>, options: &Options) -> Result<Opened<D>, OpenError> {
    let spare = spares.take(Need::Control).map_err(io_error("making the first log segment"))?;
    let header = SegmentHeader {
        id: 1,
        first_seq: 1,
        salt: fastrand::u64(..),
        log: LogId::random(),
        purpose: options.purpose,
        created_ms: options.now.millis(),
        bytes: options.segment_bytes,
        previous_end: 0,
        previous_crc: 0,
    };
    let segment = activate(&*disk, &spare, header).map_err(io_error("activating the first log segment"))?;
    let report = Report { created: true, clean: true, ..Report::default() };
    Ok(Opened { log: Log::new(disk, spares, segment, 1, 0), report })
}

/// One segment as read, with what the next one says of its end.
pub(super) struct Loaded {
    pub header: SegmentHeader,
    pub bytes: Vec<u8>,
    pub scanned: Scanned,
}

impl Loaded {
    pub fn read<D: Disk>(disk: &D, header: &SegmentHeader, end: Option<u64>) -> Result<Loaded, OpenError> {
        let name = segment::file_name(header.id);
        let read = || -> io::Result<Vec<u8>> {
            let file = disk.open(&name)?;
            // A closed segment is read only as far as it was written.
            let len = end.unwrap_or(u64::MAX).min(file.len()?);
            let mut bytes = vec![0; len as usize];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        let bytes = read().map_err(io_error(format!("reading {name}")))?;
        let scanned = match end {
            Some(end) => scan::closed(&bytes, header, end),
            None => scan::newest(&bytes, header),
        };
        Ok(Loaded { header: header.clone(), bytes, scanned })
    }

    pub fn frames(&self) -> impl DoubleEndedIterator<Item = (u64, Frame<'_>)> {
        let at = |offset: &u64| Some((*offset, scan::frame_at(&self.bytes, *offset, &self.header)?));
        self.scanned.frames.iter().filter_map(at)
    }

    /// Opens this segment, the newest, for appending.
    fn resume<D: Disk>(self, disk: Arc<D>, spares: Spares<D>, report: &mut Report) -> Result<Log<D>, OpenError> {
        let is_stop = |frame: &Frame<'_>| frame.header.kind == kind::CLEAN_STOP;
        let mut backwards = self.frames().rev();
        let (last, before) = (backwards.next(), backwards.next());
        let stopped = [&last, &before].iter().all(|f| f.as_ref().is_some_and(|(_, f)| is_stop(f)));
        report.clean = stopped && self.scanned.tail == Tail::Clean && self.scanned.damage.is_empty();
        let name = segment::file_name(self.header.id);
        let segment =
            |file, batch_at| Current { seed: self.header.seed(), header: self.header.clone(), file, batch_at };
        if report.clean
            && let Some((offset, last)) = last
        {
            // The first stop mark is durable, for the second was written only after its sync. The second one may not
            // be, so it is written once more. Never something else in its place: if the power failed in that batch,
            // the old mark could survive in front of its later frames and pass for the first of them.
            let mark_again = || -> io::Result<D::File> {
                let mut file = disk.open(&name)?;
                let mark = self.bytes.get(offset as usize..self.scanned.end as usize).unwrap_or(&[]);
                file.write_all_at(mark, offset)?;
                file.sync_data()?;
                Ok(file)
            };
            let file = mark_again().map_err(io_error(format!("going on in {name}")))?;
            return Ok(Log::new(disk, spares, segment(file, self.scanned.end), last.header.seq + 1, last.crc));
        }
        // Of several stop marks at the end the copy keeps the first only: it must not pass for a stop in order if the
        // process dies before its name is durable.
        let mut kept: Option<(u64, Frame<'_>)> = None;
        for (offset, frame) in self.frames().rev() {
            let row = |next: &Frame<'_>| is_stop(next) && is_stop(&frame) && frame.header.seq + 1 == next.header.seq;
            if kept.as_ref().is_some_and(|(_, next)| !row(next)) {
                break;
            }
            kept = Some((offset, frame));
        }
        let (end, next_seq, last_crc) = kept
            .map_or((FRAMES_AT, self.header.first_seq, self.header.previous_crc), |(offset, f)| {
                (offset + f.bytes() as u64, f.header.seq + 1, f.crc)
            });
        let valid = self.bytes.get(FRAMES_AT as usize..end as usize).unwrap_or(&[]);
        let copied = copy::replace(&*disk, &self.header, valid);
        let file = copied.map_err(io_error(format!("copying the valid part of {name}")))?;
        spares.look_at_copy();
        Ok(Log::new(disk, spares, segment(file, end), next_seq, last_crc))
    }
}

/// One way through the segments.
struct Pass {
    /// Gaps that gap entries already name.
    known: Vec<Gap>,
    /// Gaps as found.
    found: Vec<Gap>,
    report: Report,
}

impl Pass {
    /// The index of the newest segment that begins with a whole checkpoint; else the first segment of the log.
    fn start_of_fold<D: Disk>(
        &self,
        disk: &D,
        headers: &[SegmentHeader],
        checkpoint_kind: u8,
    ) -> Result<usize, OpenError> {
        for start in (0..headers.len()).rev() {
            if begins_with_checkpoint(disk, headers.get(start..).unwrap_or(&[]), checkpoint_kind)? {
                return Ok(start);
            }
            if start == 0 && headers.first().is_some_and(|h| h.id == 1) {
                return Ok(0);
            }
        }
        Err(OpenError::NoStart)
    }

    /// Reads `headers` in order, folds their entries, notes damage; returns the last segment.
    fn read<D: Disk>(
        &mut self,
        disk: &D,
        headers: &[SegmentHeader],
        checkpoint_kind: u8,
        fold: &mut Fold<'_>,
    ) -> Result<Option<Loaded>, OpenError> {
        let mut assembler = Assembler::default();
        let mut holes = Holes::before(headers).but_for_checkpoints(checkpoint_kind);
        let mut last = None;
        for (at, header) in headers.iter().enumerate() {
            let end = headers.get(at + 1).map(|next| next.previous_end);
            let loaded = Loaded::read(disk, header, end)?;
            self.report.segments_read += 1;
            holes.segment(header);
            for (_, frame) in loaded.frames() {
                let after_gap = holes.meet(&frame);
                let Some((seq, payload)) = assembler.push(&frame) else { continue };
                let entry = Entry { seq, kind: frame.header.kind, payload, after_gap };
                if entry.kind == kind::GAP {
                    self.known.extend(Gap::decode(payload));
                } else if entry.kind < kind::CLEAN_STOP {
                    self.report.entries += 1;
                    fold(entry).map_err(|why| OpenError::Entry { seq, kind: entry.kind, why })?;
                    holes.told();
                }
            }
            let gaps = loaded.scanned.damage.iter().map(|damage| Gap::of(header.id, damage));
            self.found.extend(gaps);
            last = Some(loaded);
        }
        self.report.ends_in_gap = holes.is_open();
        Ok(last)
    }
}

/// Whether the first entry in the first of `headers` is a checkpoint and whole; it may end in a later segment.
fn begins_with_checkpoint<D: Disk>(
    disk: &D,
    headers: &[SegmentHeader],
    checkpoint_kind: u8,
) -> Result<bool, OpenError> {
    let mut assembler = Assembler::default();
    let mut expected = None;
    for (at, header) in headers.iter().enumerate() {
        let end = headers.get(at + 1).map(|next| next.previous_end);
        let loaded = Loaded::read(disk, header, end)?;
        for (offset, frame) in loaded.frames() {
            let right_place = expected.is_some() || offset == FRAMES_AT;
            let first = *expected.get_or_insert(frame.header.seq);
            if !right_place || frame.header.kind != checkpoint_kind {
                return Ok(false);
            }
            if let Some((seq, _)) = assembler.push(&frame) {
                return Ok(seq == first);
            }
        }
    }
    Ok(false)
}

/// Keeps a copy of bytes that are about to be cut off or passed over. Done again after a crash, it writes the same.
pub(super) fn quarantine<D: Disk>(disk: &D, why: &str, segment: u64, span: Span) -> Result<(), OpenError> {
    let name = format!("{QUARANTINE}/{why}-{segment:016}-{}-{}", span.from, span.to);
    let keep = || -> io::Result<()> {
        let damaged = disk.open(&segment::file_name(segment))?;
        // A file that lost its end has less than that.
        let to = span.to.min(damaged.len()?);
        let mut bytes = vec![0; to.saturating_sub(span.from) as usize];
        damaged.read_exact_at(&mut bytes, span.from.min(to))?;
        let mut file = disk.create(&name)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        disk.sync_dir(QUARANTINE)
    };
    keep().map_err(io_error(format!("keeping {name}")))
}
