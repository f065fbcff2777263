//! A run: keys in order in one file that never changes, cut into pages, with a head that is held in memory.
//!
//! ```text
//! page 0 (4096 bytes) | page 1 | ... | head (bincode)
//! page: 113 x (hash 16 | seq 8 | content 8 | expires 4), zeros | crc32 of what came before
//! ```
//!
//! Numbers are little-endian. The head's place and checksum stand in the catalogue (see [`super::store`]), so a file that
//! a power cut emptied or left old is told from a whole one. Reading a page that is not whole is an error, never "no".

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::filter::{Filter, Probe};
use super::{KeyHash, Known};
use crate::entry::{decode, encode};
use crate::hour::Hour;

const PAGE_BYTES: usize = 4096;
const ENTRY_BYTES: usize = 36;
/// Keys in one page.
const PAGE_KEYS: usize = (PAGE_BYTES - 4) / ENTRY_BYTES;
/// Pages that are read at once where all of them are.
const READ_PAGES: usize = 16;

/// A key and what is known of it.
pub(super) type Item = (u128, Known);

/// Where a run stands in its file, as the catalogue has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Where its head begins.
    head_at: u64,
    head_bytes: u64,
    head_crc: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    count: u64,
    /// How many keys are remembered up to which hour, in order.
    expiries: Vec<(u32, u64)>,
    /// The first key of each page, in order.
    firsts: Vec<u128>,
    filter: Filter,
}

/// A run whose file is open.
#[derive(Debug)]
pub(super) struct Run {
    pub id: u64,
    pub place: Place,
    head: Head,
    file: File,
}

impl Run {
    /// Opens a run, and checks all that later answers rest upon.
    pub(super) fn open(path: &Path, id: u64, place: Place) -> Result<Run, String> {
        let failed = |why: String| format!("run {id}: {why}");
        let read = || -> io::Result<(File, Vec<u8>)> {
            let file = File::open(path)?;
            if file.metadata()?.len() != place.head_at + place.head_bytes {
                return Err(io::Error::other("it has another length"));
            }
            let mut head = vec![0; place.head_bytes as usize];
            file.read_exact_at(&mut head, place.head_at)?;
            Ok((file, head))
        };
        let (file, head) = read().map_err(|e| failed(e.to_string()))?;
        if crc32fast::hash(&head) != place.head_crc {
            return Err(failed("its head is damaged".into()));
        }
        let head: Head = decode(&head).map_err(|e| failed(e.to_string()))?;
        Ok(Run { id, place, head, file })
    }

    /// How many keys it has.
    pub(super) fn count(&self) -> u64 {
        self.head.count
    }

    /// How many of them are still remembered in the hour `now`.
    pub(super) fn live(&self, now: Hour) -> u64 {
        self.head.expiries.iter().filter(|(hour, _)| *hour >= now.index()).map(|(_, count)| count).sum()
    }

    /// Whether it may have what is looked for; asks memory only.
    pub(super) fn may_have(&self, probe: &Probe) -> bool {
        self.head.filter.may_have(probe)
    }

    /// What is known of a key.
    pub(super) fn find(&self, hash: KeyHash) -> Result<Option<Known>, String> {
        let Some(at) = self.head.firsts.partition_point(|first| *first <= hash.0).checked_sub(1) else {
            return Ok(None);
        };
        let mut page = [0; PAGE_BYTES];
        self.read_pages(at, &mut page)?;
        let (mut from, mut to) = (0, self.keys_in(at));
        while from < to {
            let middle = from.midpoint(to);
            let Some((found, known)) = item(&page, middle) else { return Ok(None) };
            match found.cmp(&hash.0) {
                std::cmp::Ordering::Equal => return Ok(Some(known)),
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Ok(None)
    }

    fn keys_in(&self, page: usize) -> usize {
        (self.head.count as usize).saturating_sub(page * PAGE_KEYS).min(PAGE_KEYS)
    }

    /// Fills `pages` with whole pages from page `at` on.
    fn read_pages(&self, at: usize, pages: &mut [u8]) -> Result<(), String> {
        let failed = |why: String| format!("run {}, page {at}: {why}", self.id);
        self.file.read_exact_at(pages, (at * PAGE_BYTES) as u64).map_err(|e| failed(e.to_string()))?;
        for page in pages.chunks(PAGE_BYTES) {
            let whole = page
                .split_last_chunk::<4>()
                .is_some_and(|(data, crc)| crc32fast::hash(data) == u32::from_le_bytes(*crc));
            if !whole {
                return Err(failed("it is damaged".into()));
            }
        }
        Ok(())
    }

    /// All keys in order.
    pub(super) fn items(&self) -> Items<'_> {
        Items { run: self, page: 0, pages: Vec::new(), begins: 0, at: 0 }
    }
}

fn item(page: &[u8], at: usize) -> Option<Item> {
    let bytes = page.get(at * ENTRY_BYTES..)?;
    let (hash, bytes) = bytes.split_first_chunk()?;
    let (seq, bytes) = bytes.split_first_chunk()?;
    let (content, bytes) = bytes.split_first_chunk()?;
    let (expires, _) = bytes.split_first_chunk()?;
    let known = Known {
        seq: u64::from_le_bytes(*seq),
        content: u64::from_le_bytes(*content),
        expires: Hour::from_index(u32::from_le_bytes(*expires)),
    };
    Some((u128::from_le_bytes(*hash), known))
}

/// A run's keys, read through once.
pub(super) struct Items<'r> {
    run: &'r Run,
    /// The page that `next` reads from.
    page: usize,
    /// Some pages, of which page `begins` is the first.
    pages: Vec<u8>,
    begins: usize,
    /// The next key in the page.
    at: usize,
}

impl Items<'_> {
    pub(super) fn next(&mut self) -> Result<Option<Item>, String> {
        if self.at == PAGE_KEYS {
            (self.page, self.at) = (self.page + 1, 0);
        }
        if self.at >= self.run.keys_in(self.page) {
            return Ok(None);
        }
        if (self.page - self.begins) * PAGE_BYTES >= self.pages.len() {
            let left = self.run.head.firsts.len() - self.page;
            self.pages.resize(left.min(READ_PAGES) * PAGE_BYTES, 0);
            self.begins = self.page;
            self.run.read_pages(self.page, &mut self.pages)?;
        }
        let page = self.pages.get((self.page - self.begins) * PAGE_BYTES..).unwrap_or(&[]);
        let found = item(page, self.at);
        self.at += 1;
        Ok(found)
    }
}

/// A run on its way to the disk.
pub(super) struct RunWriter {
    id: u64,
    file: BufWriter<File>,
    page: Vec<u8>,
    head: Head,
}

impl RunWriter {
    /// A new run in a new file, for so many keys at most.
    pub(super) fn new(path: &Path, id: u64, keys: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let firsts = Vec::with_capacity((keys as usize).div_ceil(PAGE_KEYS));
        let head = Head { count: 0, expiries: Vec::new(), firsts, filter: Filter::for_keys(keys) };
        Ok(RunWriter {
            id,
            file: BufWriter::with_capacity(READ_PAGES * PAGE_BYTES, file),
            page: Vec::with_capacity(PAGE_BYTES),
            head,
        })
    }

    /// Adds a key that is greater than those before.
    pub(super) fn push(&mut self, (hash, known): Item) -> io::Result<()> {
        if self.page.len() == PAGE_KEYS * ENTRY_BYTES {
            self.end_page()?;
        }
        if self.page.is_empty() {
            self.head.firsts.push(hash);
        }
        self.page.extend_from_slice(&hash.to_le_bytes());
        self.page.extend_from_slice(&known.seq.to_le_bytes());
        self.page.extend_from_slice(&known.content.to_le_bytes());
        self.page.extend_from_slice(&known.expires.index().to_le_bytes());
        self.head.filter.add(hash);
        self.head.count += 1;
        let hour = known.expires.index();
        // The rule is one hour, and a week of them at most.
        match self.head.expiries.iter_mut().find(|(known, _)| *known == hour) {
            Some((_, count)) => *count += 1,
            None => self.head.expiries.push((hour, 1)),
        }
        Ok(())
    }

    fn end_page(&mut self) -> io::Result<()> {
        self.page.resize(PAGE_BYTES - 4, 0);
        self.page.extend_from_slice(&crc32fast::hash(&self.page).to_le_bytes());
        self.file.write_all(&self.page)?;
        self.page.clear();
        Ok(())
    }

    /// The finished run; it is in the kernel's hands, not on the disk.
    pub(super) fn finish(mut self) -> Result<Run, String> {
        if !self.page.is_empty() {
            self.end_page().map_err(|e| e.to_string())?;
        }
        let bytes = encode(&self.head).map_err(|e| e.to_string())?;
        let head_at = (self.head.firsts.len() * PAGE_BYTES) as u64;
        let place = Place { head_at, head_bytes: bytes.len() as u64, head_crc: crc32fast::hash(&bytes) };
        self.file.write_all(&bytes).map_err(|e| e.to_string())?;
        let file = self.file.into_inner().map_err(|e| e.to_string())?;
        Ok(Run { id: self.id, place, head: self.head, file })
    }
}
