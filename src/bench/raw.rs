//! What the disk can do by itself: a small write and its sync, over and over.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::figures::Slice;

const PAGE: usize = 4096;
const PAGES: u64 = 4096;

/// A file of zeros in which page after page is written and synced with `fdatasync`: neither its length nor its blocks
/// change, so that each sync is one write to the disk.
#[derive(Debug)]
pub struct Raw {
    file: File,
    path: PathBuf,
    next: u64,
}

impl Raw {
    /// Makes it in `dir`.
    pub fn new(dir: &Path) -> io::Result<Raw> {
        let path = dir.join("raw");
        let file = File::create_new(&path)?;
        (0..PAGES).try_for_each(|page| file.write_all_at(&[0; PAGE], page * PAGE as u64))?;
        file.sync_all()?;
        Ok(Raw { file, path, next: 0 })
    }

    /// Writes a page and syncs it.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.write_all_at(&[7; PAGE], (self.next % PAGES) * PAGE as u64)?;
        self.next += 1;
        self.file.sync_data()
    }

    /// Syncs one after the other for `span`.
    pub fn measure(&mut self, span: Duration) -> io::Result<Slice> {
        one_by_one(span, || self.sync())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Does `work` again and again for `span`, and times each.
pub fn one_by_one(span: Duration, mut work: impl FnMut() -> io::Result<()>) -> io::Result<Slice> {
    let mut slice = Slice::default();
    let started = Instant::now();
    let mut before = started;
    while before.duration_since(started) < span {
        work()?;
        let now = Instant::now();
        slice.took(now - before);
        before = now;
    }
    slice.done = slice.waits.len() as u64;
    slice.lasted = before - started;
    Ok(slice)
}
