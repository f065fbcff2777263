//! What the log still has of a month: attempts, answers and decisions as they stand there. The log keeps entries for
//! `state.retain_days`; of what is older the outcome stands in the records.

use std::io;

use serde_json::{Value, json};

use crate::audit::describe::{self, Names};
use crate::disk::Disk;
use crate::hour::Hour;
use crate::wal::survey::{self, Entries, Piece, Put};

/// Kinds that say what was tried, answered and decided.
const KINDS: [&str; 10] = [
    "attempt",
    "answered",
    "closed",
    "settled",
    "released",
    "fixed-anew",
    "disposed",
    "batch-attempt",
    "batch-answered",
    "damaged",
];

/// The entries of a month, oldest first, each with its place and the checksum of its (last) frame.
///
/// # Errors
/// The disk's.
pub fn entries<D: Disk>(disk: &D, month: Hour) -> io::Result<Vec<Value>> {
    let (mut names, mut assembled, mut found) = (Names::default(), Entries::default(), Vec::new());
    let segments = survey::look(disk)?;
    for (at, file) in segments.iter().enumerate() {
        let Ok(header) = file.header() else { continue };
        let end = segments.get(at + 1).and_then(|next| next.header().ok()).map(|next| next.previous_end);
        let read = match survey::read(disk, header, end) {
            // Retention took it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read?,
        };
        for piece in read.pieces() {
            let Piece::Frame { offset, frame } = piece else { continue };
            let crc = frame.crc;
            let Put::Whole(whole) = assembled.push(file.id, offset, &frame) else { continue };
            let kind = describe::kind_name(whole.kind);
            // Also what is left out teaches names; usage teaches none.
            if kind == "usage" {
                continue;
            }
            let Ok(described) = describe::describe(whole.kind, whole.payload, &mut names) else { continue };
            let at = described.fields["at"].as_str().and_then(crate::hour::Timestamp::parse);
            if KINDS.contains(&kind) && at.is_some_and(|at| at.hour().month() == month) {
                found.push(json!({ "segment": whole.segment, "offset": whole.offset, "seq": whole.seq, "kind": kind,
                                   "crc32": format!("{crc:08x}"), "entry": described.fields }));
            }
        }
    }
    Ok(found)
}
