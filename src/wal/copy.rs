//! Recovery's copy of the newest segment, and the room that is kept for it.
//!
//! The copy and the segment exchange names, so that the old file is the room for the next copy and nobody else gets it
//! on a full disk. Hence the one danger here: while an exchange is not durable, the room is what a power cut makes the
//! segment again. It is written to only after a sync of the directory, and after any that failed it is let go.

use std::io;

use super::DIR;
use super::segment::{self, FRAMES_AT, SegmentHeader, zero_fill};
use super::spares::COPY;
use crate::disk::{Disk, DiskFile, is_full};

/// Puts a copy in the place of the segment with this header: zeros, the header, and `valid` where its frames begin.
/// Until it returns the old file counts, or the copy: both hold the same frames.
pub(super) fn replace<D: Disk>(disk: &D, header: &SegmentHeader, valid: &[u8]) -> io::Result<D::File> {
    let copy = fill(disk, header, valid).inspect_err(|error| {
        // A full disk has filled nothing but the room itself, which is still good for the next try.
        if !is_full(error) {
            let_go(disk);
        }
    })?;
    put_in_place(disk, &segment::file_name(header.id)).inspect_err(|_| let_go(disk))?;
    Ok(copy)
}

fn fill<D: Disk>(disk: &D, header: &SegmentHeader, valid: &[u8]) -> io::Result<D::File> {
    let mut file = room(disk, header.bytes)?;
    zero_fill(&mut file, header.bytes)?;
    header.write(&mut file)?;
    file.write_all_at(valid, FRAMES_AT)?;
    file.sync_all()?;
    Ok(file)
}

/// The file that is kept, if it is as long as it must be, or a new one.
fn room<D: Disk>(disk: &D, bytes: u64) -> io::Result<D::File> {
    match disk.open(COPY) {
        Ok(kept) if kept.len()? == bytes => {
            // An exchange that a killed recovery made: from here on it holds, and what has this name is room only.
            disk.sync_dir(DIR).inspect_err(|_| let_go(disk))?;
            Ok(kept)
        }
        Ok(_) => {
            disk.remove(COPY)?;
            disk.create(COPY)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(COPY),
        Err(error) => Err(error),
    }
}

fn put_in_place<D: Disk>(disk: &D, segment: &str) -> io::Result<()> {
    match disk.exchange(COPY, segment) {
        // Not every file system has that.
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
            disk.rename(COPY, segment)?;
        }
        exchanged => exchanged?,
    }
    disk.sync_dir(DIR)
}

/// What has failed once is not used again. It may not even be there.
fn let_go<D: Disk>(disk: &D) {
    let _ = disk.remove(COPY);
}
