//! The real index in a directory of its own, and what becomes of it while the agent is down. Sees that nothing a user
//! can see depends on it. Cannot see what a power cut leaves of it: any loss of it is as good as that.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, process};

use fastrand::Rng;
use meterd::index::{Index, IndexError};
use meterd::wal::LogId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Deleted,
    /// Some bytes are others.
    Corrupted,
    /// Its files are empty.
    Emptied,
    /// It is as it was some time ago.
    Older,
    /// It is another log's.
    Foreign,
}

pub struct IndexDir(PathBuf);

/// The index of a start: on the disk where a day has one there, else in memory, where it can be asked only after some
/// commits.
pub fn open(dir: Option<&IndexDir>, log: LogId, commits: u32) -> Result<Index, IndexError> {
    dir.map_or_else(|| Ok(Index::in_memory_after(commits)), |dir| Index::open(&dir.live(), log))
}

impl IndexDir {
    pub fn new(seed: u64) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() { shm.to_owned() } else { env::temp_dir() };
        let name = format!("meterd-sim-{}-{}-{seed}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = IndexDir(base.join(name));
        fs::create_dir_all(&dir.0).expect("a directory for the index");
        dir
    }

    fn live(&self) -> PathBuf {
        self.0.join("live")
    }

    /// The agent is down.
    pub fn lose(&mut self, loss: Loss, rng: &mut Rng) {
        let (live, older) = (self.live(), self.0.join("older"));
        match loss {
            Loss::Deleted => drop(fs::remove_dir_all(&live)),
            Loss::Corrupted => files(&live).iter().for_each(|file| spoil(file, rng)),
            Loss::Emptied => files(&live).iter().for_each(|file| fs::write(file, "").expect("emptied")),
            Loss::Older if older.is_dir() => {
                let _ = fs::remove_dir_all(&live);
                fs::rename(&older, &live).expect("put back");
            }
            Loss::Older => copy(&live, &older),
            Loss::Foreign => {
                let _ = fs::remove_dir_all(&live);
                let index = Index::open(&live, LogId::random()).expect("another log's index");
                drop(index);
            }
        }
    }
}

impl Drop for IndexDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.flat_map(|e| if e.path().is_dir() { files(&e.path()) } else { vec![e.path()] }).collect()
}

fn spoil(file: &Path, rng: &mut Rng) {
    let mut bytes = fs::read(file).expect("a file of the index");
    // sled's file is mostly empty: what is spoilt must be where something is.
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    if used == 0 {
        return;
    }
    for _ in 0..rng.usize(1..20) {
        bytes[rng.usize(0..used)] = rng.u8(..);
    }
    fs::write(file, bytes).expect("spoilt");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a copy");
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
