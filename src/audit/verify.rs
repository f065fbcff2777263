//! `meterd verify`: one way through the archive and the segments, everything checked that can be.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use super::ends::Ends;
use super::ledger::Ledger;
use crate::decimal::Amount;
use crate::disk::Disk;
use crate::entry::{self, Entry, kind};
use crate::rollup::books::Books;
use crate::rollup::state::{Phase, RecordState};
use crate::rollup::{Checkpoint, State};
use crate::wal::archive;
use crate::wal::log::kind as log_kind;
use crate::wal::retain;
use crate::wal::segment::{HeaderError, SegmentHeader, file_name};
use crate::wal::survey::{self, Entries, Found, Piece, Put, Segment, Whole};
use crate::wal::{LogId, OpenError};

const KEEP: &str = "keep the directory as it is, and report this with a copy of it";
const CHECK_DISK: &str = "check the disk; the agent copies what it meets to quarantine/ and goes on";

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub what: String,
    /// Where.
    #[serde(rename = "where")]
    pub place: String,
    /// What to do.
    #[serde(rename = "do")]
    pub remedy: &'static str,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The log's identity.
    pub log: String,
    /// The segments, first and last number.
    pub segments: Vec<u64>,
    /// Entries read.
    pub entries: u64,
    /// The last increment.
    pub increments: u64,
    /// Checkpoints met, and equal to the fold.
    pub checkpoints: u64,
    /// Files of the archive.
    pub archive_files: u64,
    /// Records in them.
    pub archived_records: u64,
    /// Records by what became of them.
    pub records: BTreeMap<&'static str, u64>,
    /// The books, as the agent's fold has them.
    pub books: Vec<Books>,
    /// Whether every sum was also reached by the other way.
    pub recomputed: bool,
    /// What is worth knowing and no damage.
    pub notes: Vec<String>,
    /// Damage and sums that differ.
    pub findings: Vec<Finding>,
}

/// Verifies the state directory that `disk` shows. An error: there is no log that could be read.
pub fn verify<D: Disk>(disk: &D) -> Result<Report, String> {
    // Retention may take a segment between its listing and its reading: then once more, without it.
    for _ in 0..4 {
        match Audit::default().run(disk) {
            Err(Stop::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(Stop::Io(error)) => return Err(format!("reading the log: {error}")),
            Err(Stop::Unreadable(why)) => return Err(why),
            Ok(report) => return Ok(report),
        }
    }
    Err("segments vanish while they are read: try again".into())
}

enum Stop {
    Io(io::Error),
    Unreadable(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

#[derive(Default)]
struct Audit {
    report: Report,
    /// The fold so far; none before the first checkpoint of a log whose beginning is gone or damaged.
    state: Option<State>,
    ledger: Ledger,
    ends: Ends,
    entries: Entries,
    /// Whether damage since the last checkpoint makes the sums differ.
    damaged: bool,
    /// The segment before.
    before: Option<Before>,
}

/// A segment, as its successor's header must describe it.
struct Before {
    id: u64,
    /// Where its frames end.
    end: u64,
    /// Number and checksum of its last frame; none where damage reaches it.
    last: Option<(u64, u32)>,
}

impl Audit {
    fn run<D: Disk>(mut self, disk: &D) -> Result<Report, Stop> {
        let mut found = survey::look(disk)?;
        if let Some(first) = retain::headers(disk).ok().and_then(|row| Some(row.first()?.id)) {
            let left = found.iter().filter(|file| file.id < first).map(|file| file_name(file.id));
            let note = |name| format!("{name} was retired and has come back: the agent removes it");
            self.report.notes.extend(left.map(note));
            found.retain(|file| file.id >= first);
        }
        let Some(newest) = found.last() else {
            return Err(Stop::Unreadable(
                "there is no log in it: no segment in wal/; is it the state directory (state.dir)?".into(),
            ));
        };
        let log = found.iter().find_map(|f| f.header().ok()).map(|header| header.log);
        if let Some(version) = found.iter().find_map(|f| f.header().err().filter(|e| *e != HeaderError::Damaged)) {
            return Err(Stop::Unreadable(version.to_string()));
        }
        let Some(log) = log else {
            return Err(Stop::Unreadable("no segment in wal/ has a header that holds".into()));
        };
        self.report.log = log.to_string();
        self.report.segments = vec![found.first().map_or(0, |f| f.id), newest.id];
        self.archive(disk, log)?;
        for (at, file) in found.iter().enumerate() {
            self.segment(disk, log, file, found.get(at + 1))?;
        }
        self.judge_books();
        Ok(self.report)
    }

    fn find(&mut self, what: impl Into<String>, place: impl Into<String>, remedy: &'static str) {
        self.report.findings.push(Finding { what: what.into(), place: place.into(), remedy });
    }

    fn archive<D: Disk>(&mut self, disk: &D, log: LogId) -> Result<(), Stop> {
        for id in archive::list(disk)? {
            let place = archive::file_name(id);
            let file = match archive::read(disk, id) {
                Ok(file) => file,
                Err(OpenError::Io { source, .. }) => return Err(source.into()),
                Err(error) => {
                    self.find(error.to_string(), place, CHECK_DISK);
                    continue;
                }
            };
            self.report.archive_files += 1;
            if !file.whole_header {
                self.find("a copy of its header is damaged", place.as_str(), CHECK_DISK);
            }
            if file.header.log != log {
                self.find(format!("it belongs to log {}", file.header.log), place.as_str(), "move it away");
            }
            for damage in &file.damage {
                let what = format!("bytes {} to {} do not hold", damage.span.from, damage.span.to);
                self.find(what, place.as_str(), "the records in them are no longer shown: take them from a copy");
            }
            for (kind, payload) in &file.entries {
                let record = entry::decode::<RecordState>(payload);
                match record {
                    Ok(record) if *kind == kind::ARCHIVED && record.is_final() => self.report.archived_records += 1,
                    _ => self.find(format!("an entry of kind {kind} that is no final record"), place.as_str(), KEEP),
                }
            }
        }
        Ok(())
    }

    fn segment<D: Disk>(&mut self, disk: &D, log: LogId, file: &Found, next: Option<&Found>) -> Result<(), Stop> {
        let place = file_name(file.id);
        if let Some(Before { id: before, .. }) = self.before
            && before + 1 != file.id
        {
            let remedy = "put them back from a copy; a left-over of retention is removed by the agent";
            self.find(format!("segments {} to {} are missing", before + 1, file.id - 1), "wal/", remedy);
            self.lose_track();
        }
        let header = match file.header() {
            Ok(header) if header.log == log => header,
            Ok(header) => {
                self.find(format!("it belongs to log {}", header.log), place, "move it out of the directory");
                return Ok(());
            }
            Err(error) => {
                self.find(error.to_string(), place, "the agent does not start: put it back from a copy");
                (self.before, self.damaged) = (Some(Before { id: file.id, end: 0, last: None }), true);
                return Ok(());
            }
        };
        if file.copies.iter().any(|copy| copy.as_ref() != Ok(header)) {
            self.find("a copy of its header is damaged", place.as_str(), CHECK_DISK);
        }
        self.chain(header, &place);
        let end = next.and_then(|next| next.header().ok()).map(|next| next.previous_end);
        let segment = survey::read(disk, header, end)?;
        if let Some(stray) = segment.stray {
            let what = format!("bytes {} to {} stand behind the end of its frames", stray.from, stray.to);
            self.find(what, place.as_str(), CHECK_DISK);
        }
        if self.before.is_none() {
            self.state = (file.id == 1).then(State::default);
        }
        for piece in segment.pieces() {
            self.piece(file.id, &place, piece);
        }
        self.before = Some(Before { id: file.id, end: segment.end(), last: last_frame(&segment) });
        Ok(())
    }

    fn chain(&mut self, header: &SegmentHeader, place: &str) {
        let Some(Before { id: before, end, last }) = self.before else {
            if header.id == 1 && (header.previous_end, header.previous_crc, header.first_seq) != (0, 0, 1) {
                self.find("the first segment names one before it", place, KEEP);
            }
            return;
        };
        let Some((seq, crc)) = last else { return };
        if before + 1 == header.id
            && (header.previous_end, header.previous_crc, header.first_seq) != (end, crc, seq + 1)
        {
            let what =
                format!("its header does not follow the end of segment {before}: frames are lost or not its own");
            self.find(what, place, KEEP);
        }
    }

    fn piece(&mut self, segment: u64, place: &str, piece: Piece<'_>) {
        match piece {
            Piece::Damage(damage) => {
                let (from, to) = (damage.span.from, damage.span.to);
                let lost = match damage.next_seq {
                    Some(next) => format!("frames {} to {} are lost", damage.first_lost, next - 1),
                    None => format!("frames from {} on are lost", damage.first_lost),
                };
                self.find(format!("bytes {from} to {to} do not hold: {lost}"), place, CHECK_DISK);
                self.damaged = true;
            }
            Piece::Unsynced { span, suspicious } => {
                let odd = if suspicious { ", which look unlike a torn batch" } else { "" };
                let what = "were never acknowledged: a batch under way, or one that a crash cut short";
                self.report.notes.push(format!("{place}: bytes {} to {}{odd} {what}", span.from, span.to));
            }
            Piece::Frame { offset, frame } => {
                let mut entries = std::mem::take(&mut self.entries);
                let unfinished = entries.open.filter(|_| frame.header.part.begins());
                if let Some(seq) = unfinished {
                    let what = "was never finished, so it does not count";
                    self.report.notes.push(format!("the entry that begins with frame {seq} {what}"));
                }
                match entries.push(segment, offset, &frame) {
                    Put::Whole(whole) => self.entry(whole),
                    Put::More => {}
                    Put::Broken if self.damaged => {}
                    Put::Broken => {
                        let what = format!("the frames of an entry that ends with {} do not fit", frame.header.seq);
                        self.find(what, format!("{place} at byte {offset}"), KEEP);
                        self.damaged = true;
                    }
                }
                self.entries = entries;
            }
        }
    }

    fn entry(&mut self, whole: Whole<'_>) {
        if whole.kind >= log_kind::CLEAN_STOP {
            return;
        }
        self.report.entries += 1;
        let place = format!("entry {} in {} at byte {}", whole.seq, file_name(whole.segment), whole.offset);
        if whole.kind == kind::CHECKPOINT {
            return match Checkpoint::decode(whole.payload) {
                Ok(checkpoint) => self.checkpoint(checkpoint, place),
                Err(error) => self.find(format!("a checkpoint that cannot be read: {error}"), place, KEEP),
            };
        }
        let entry = match Entry::decode(whole.kind, whole.payload) {
            Ok(entry) => entry,
            Err(error) => {
                self.damaged = true;
                return self.find(
                    format!("it cannot be read: {error}"),
                    place,
                    "is it of a newer meterd? use that one",
                );
            }
        };
        let Some(state) = &mut self.state else { return };
        state.apply(&entry);
        let mut wrong = self.ledger.apply(&entry);
        wrong.extend(self.ends.apply(&entry));
        // Behind damage sums are known to differ, until a checkpoint says where the agent stood.
        if !self.damaged {
            wrong.into_iter().for_each(|what| self.find(what, place.as_str(), KEEP));
        }
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint, place: String) {
        match &self.state {
            Some(state) if checkpoint.agrees_with(state) => self.report.checkpoints += 1,
            Some(_) if !self.damaged => {
                self.find("the checkpoint is not what the entries before it come to", place, KEEP);
            }
            Some(_) | None => {}
        }
        if self.state.is_some() && !self.damaged {
            self.judge_books();
        } else {
            (self.ledger, self.ends) = (Ledger::from_state(&checkpoint.state), Ends::default());
        }
        (self.state, self.damaged) = (Some(checkpoint.state), false);
    }

    fn lose_track(&mut self) {
        (self.state, self.damaged) = (None, true);
    }

    /// Both ways to the books, side by side.
    fn judge_books(&mut self) {
        let Some(state) = &self.state else {
            let what = "no checkpoint holds, and the log's beginning is gone: its books are not known";
            return self.find(what, "wal/", "put the segments back from a copy");
        };
        let books = state.books();
        let mut records: BTreeMap<&'static str, u64> = Phase::ALL.iter().map(|phase| (phase.name(), 0)).collect();
        let ended = state.ended;
        let phases = state.records.values().map(|r| (r.phase, 1));
        let ended = [
            (Phase::Accepted, ended.accepted),
            (Phase::Carried, ended.carried),
            (Phase::Expired, ended.expired),
            (Phase::Discarded, ended.discarded),
        ];
        phases.chain(ended).for_each(|(phase, n)| *records.entry(phase.name()).or_default() += n);
        (self.report.increments, self.report.records) = (state.accepted_seq, records);
        let mut findings = Vec::new();
        let summed = self.ledger.books();
        for theirs in &books {
            let Some((mine, plain)) = summed.iter().find(|(mine, _)| mine.dimension == theirs.dimension) else {
                findings.push(("no entry has configured it".into(), theirs.dimension.clone()));
                continue;
            };
            if !theirs.balanced() {
                findings.push((format!("the books of {} do not balance", theirs.dimension), theirs.dimension.clone()));
            }
            for ((column, mine), (_, theirs_amount)) in mine.columns().into_iter().zip(theirs.columns()) {
                // Of what is not decided by increments alone the open hours are the fold's own.
                let open = matches!(column, "received" | "open") && !plain;
                let with_others = column == "with_person" && !plain;
                let believed = if with_others { open_elsewhere(state, &theirs.dimension) } else { Amount::ZERO };
                let theirs_amount = theirs_amount - believed;
                if mine != theirs_amount && !self.damaged && !open {
                    let what = format!("{column} is {theirs_amount} in the agent's books and {mine} by the entries");
                    findings.push((what, theirs.dimension.clone()));
                }
            }
        }
        self.report.recomputed = findings.is_empty() && !self.damaged;
        self.report.books = books;
        findings.into_iter().for_each(|(what, place)| self.find(what, place, KEEP));
    }
}

/// What other instances have of a dimension in hours that were never sealed.
fn open_elsewhere(state: &State, dimension: &str) -> Amount {
    let open = state.others().flat_map(|(_, other)| other.never_sealed());
    open.filter(|(id, _)| state.dimension_named(dimension) == Some(*id)).map(|(_, amount)| amount).sum()
}

/// What the next header must say of this segment's end; nothing where damage reaches it.
fn last_frame(segment: &Segment) -> Option<(u64, u32)> {
    let whole = segment.damage().iter().all(|damage| damage.next_seq.is_some());
    segment.last().filter(|_| whole)
}
