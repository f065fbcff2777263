//! What makes damage to the log cost no more than it must: everything but usage is written a second time, and a fold
//! that finds frames missing puts the second copy where the first one stood.

use super::recover::Change;
use crate::entry::{Echo, Echoed, Entry, kind};
use crate::rollup::{Checkpoint, State};
use crate::wal::open::Entry as LogEntry;

/// An entry that is longer is not repeated: a seal of tens of thousands of shares. Nor is it lost easily: it fills
/// hundreds of sectors, and a checkpoint follows when the segment is full.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// So many entries are repeated at the latest, even if the agent is never idle.
const ENTRIES_MAX: usize = 32;

/// The entries that are to be repeated. Each stands in two echoes, so that damage to one of them does no harm.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    /// The frame after which `older` is complete.
    after: u64,
    older: Vec<Echoed>,
    /// The frame after which `fresh` is complete.
    fresh_after: u64,
    fresh: Vec<Echoed>,
}

impl Echoes {
    /// Notes an entry that was written at `seq`.
    pub(super) fn note(&mut self, seq: u64, kind: u8, payload: &[u8]) {
        match kind {
            kind::USAGE | kind::ECHO => {}
            // Everything before it is in it.
            kind::CHECKPOINT => *self = Echoes { after: seq, fresh_after: seq, ..Echoes::default() },
            _ if payload.len() > ENTRY_BYTES_MAX => {
                *self = Echoes { after: seq, fresh_after: seq, ..Echoes::default() }
            }
            _ => self.fresh.push(Echoed { seq, kind, payload: payload.to_vec() }),
        }
    }

    /// Notes that what was fresh has had its turn at `seq`: in an echo, or in none where none fitted, and stands in the
    /// next one once more.
    pub(super) fn turned(&mut self, seq: u64) {
        self.after = self.fresh_after;
        self.older = std::mem::take(&mut self.fresh);
        self.fresh_after = seq;
    }

    /// Takes in an echo that was read at `seq`. What damage took of the entries it repeats is in it, and goes on from here
    /// into the next one.
    fn read(&mut self, seq: u64, echo: &Echo) {
        self.after = self.fresh_after.max(echo.after);
        self.older = echo.entries.iter().filter(|echoed| echoed.seq > self.after).cloned().collect();
        self.fresh.clear();
        self.fresh_after = seq;
    }

    /// Whether something has not been repeated at all.
    pub(super) fn is_due(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Whether so much has not been repeated that it should not wait for an idle moment.
    pub(super) fn is_overdue(&self) -> bool {
        self.fresh.len() >= ENTRIES_MAX
    }

    /// What to write.
    pub(super) fn echo(&self) -> Echo {
        Echo { after: self.after, entries: self.older.iter().chain(&self.fresh).cloned().collect() }
    }
}

/// A fold of the log's entries under way.
#[derive(Default)]
pub(super) struct Folding {
    pub(super) state: State,
    pub(super) echoes: Echoes,
    /// The last entry's number.
    last_seq: u64,
    gap: Option<Gap>,
}

/// Frames are missing, and it is not known yet what they held.
struct Gap {
    /// The last entry before them.
    after: u64,
    /// The state there.
    state: Box<State>,
    /// What was folded since.
    entries: Vec<(u64, Entry)>,
}

impl Folding {
    /// Folds one entry in, and says what that means for the index.
    pub(super) fn fold(&mut self, e: LogEntry<'_>, changed: &mut dyn FnMut(Change)) -> Result<(), String> {
        if e.after_gap && self.gap.is_none() {
            self.open_gap();
        }
        self.last_seq = e.seq;
        if e.kind == kind::CHECKPOINT {
            self.state = Checkpoint::decode(e.payload).map_err(|e| e.to_string())?.state;
            self.echoes.note(e.seq, e.kind, e.payload);
            self.gap = None;
            return Ok(());
        }
        let entry = Entry::decode(e.kind, e.payload).map_err(|e| e.to_string())?;
        match &entry {
            Entry::Echo(echo) => {
                self.mend(echo, changed)?;
                self.echoes.read(e.seq, echo);
                return Ok(());
            }
            Entry::Damaged(_) => self.gap = None,
            _ => {}
        }
        self.echoes.note(e.seq, e.kind, e.payload);
        self.apply(&entry, changed);
        if let Some(gap) = &mut self.gap {
            gap.entries.push((e.seq, entry));
        }
        Ok(())
    }

    /// Whether entries are missing of which nobody knows what they were.
    pub(super) fn is_damaged(&self) -> bool {
        self.gap.is_some()
    }

    /// Frames are missing behind the last entry.
    pub(super) fn open_gap(&mut self) {
        self.gap = Some(Gap { after: self.last_seq, state: Box::new(self.state.clone()), entries: Vec::new() });
    }

    /// Puts the entries that damage took back where they stood, if this echo has all of them.
    fn mend(&mut self, echo: &Echo, changed: &mut dyn FnMut(Change)) -> Result<(), String> {
        let Some(gap) = self.gap.take_if(|gap| echo.after <= gap.after) else { return Ok(()) };
        let mut entries = gap.entries;
        for echoed in echo.entries.iter().filter(|echoed| echoed.seq > gap.after) {
            if entries.iter().all(|(seq, _)| *seq != echoed.seq) {
                let entry = Entry::decode(echoed.kind, &echoed.payload).map_err(|e| e.to_string())?;
                tracing::warn!(seq = echoed.seq, kind = echoed.kind, "an entry that damage took is in its echo");
                entries.push((echoed.seq, entry));
            }
        }
        entries.sort_by_key(|(seq, _)| *seq);
        self.state = *gap.state;
        for (_, entry) in &entries {
            self.apply(entry, changed);
        }
        Ok(())
    }

    fn apply(&mut self, entry: &Entry, changed: &mut dyn FnMut(Change)) {
        let finished = self.state.apply(entry);
        if !finished.is_empty() {
            changed(Change::Records(finished));
        }
        if let Entry::Usage(usage) = entry
            && super::keys::has_keys(usage)
        {
            changed(Change::Usage(usage.clone()));
        }
    }
}
