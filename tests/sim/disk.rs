//! A disk that loses what was not synced. Sees: every order and subset in which sectors, lengths and names can reach a
//! disk, failed syncs, full disks, rot. Cannot see: what a real file system or controller does beyond these rules.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use meterd::disk::Disk;

use super::file::SimFile;
use super::inode::Inode;
use super::names::{Change, Dir};

pub const ENOSPC: i32 = 28;
pub const EDQUOT: i32 = 122;
pub const EROFS: i32 = 30;
pub const EIO: i32 = 5;

/// What happens instead of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before it.
    Halt,
    /// The process dies in the middle of it: a write is there in part, a sync has written some sectors.
    HaltMidway,
    /// It fails with this errno; a write is there in part, and after a failed sync the pages count as clean.
    Fail(i32),
}

#[derive(Clone, Default)]
pub struct World {
    pub files: BTreeMap<u64, Inode>,
    dirs: BTreeMap<String, Dir>,
    next_file: u64,
    ops: u64,
    faults: BTreeMap<u64, Fault>,
    pub halted: bool,
    pub capacity: Option<usize>,
    pub rng: Rng0,
    trace: Option<Vec<String>>,
}

#[derive(Clone)]
pub struct Rng0(pub Rng);

impl Default for Rng0 {
    fn default() -> Self {
        Rng0(Rng::with_seed(0))
    }
}

/// The disk. Clones share it; [`SimDisk::fork`] makes another one like it.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<World>>);

/// Chooses what survives a power cut: how many of the `n` versions (0 is the durable one) a thing has, and whether
/// garbage is possible (answer `n`).
pub trait Fate {
    fn choose(&mut self, n: usize, garbage_possible: bool) -> usize;
}

impl<F: FnMut(usize, bool) -> usize> Fate for F {
    fn choose(&mut self, n: usize, garbage_possible: bool) -> usize {
        self(n, garbage_possible)
    }
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        let disk = SimDisk::default();
        disk.lock().rng = Rng0(Rng::with_seed(seed));
        disk
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn fork(&self) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// Draws anew what is there in part after a fault.
    pub fn reseed(&self, seed: u64) {
        self.lock().rng = Rng0(Rng::with_seed(seed));
    }

    /// Operations so far that change something.
    pub fn ops(&self) -> u64 {
        self.lock().ops
    }

    /// Lets `fault` happen instead of the operation `after` operations from now.
    pub fn inject(&self, after: u64, fault: Fault) {
        let mut world = self.lock();
        let at = world.ops + after;
        world.faults.insert(at, fault);
    }

    /// Bytes that files may have in all; `None`: as many as they like.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.lock().capacity = bytes;
    }

    /// Bytes that files have.
    pub fn used(&self) -> usize {
        self.lock().used()
    }

    pub fn is_halted(&self) -> bool {
        self.lock().halted
    }

    pub fn keep_trace(&self) {
        self.lock().trace = Some(Vec::new());
    }

    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.clone().unwrap_or_default()
    }

    /// The process is gone, the machine is not: what was written stays in the cache.
    pub fn crash(&self) {
        let mut world = self.lock();
        (world.halted, world.faults) = (false, BTreeMap::new());
        world.note(|| "-- the process died".into());
    }

    /// The power is gone: `fate` says what of the unsynced things is on the disk.
    pub fn cut(&self, fate: &mut dyn Fate) {
        self.crash();
        let mut world = self.lock();
        world.note(|| "-- the power was cut".into());
        let mut rng = world.rng.0.clone();
        let lost: Vec<String> = world.dirs.iter().filter(|(_, d)| !d.anchored).map(|(n, _)| n.clone()).collect();
        for name in lost {
            if fate.choose(2, false) == 0 {
                world.dirs.remove(&name);
            }
        }
        for dir in world.dirs.values_mut() {
            for change in std::mem::take(&mut dir.pending) {
                if fate.choose(2, false) == 1 {
                    dir.settle(change);
                }
            }
            dir.cache = dir.durable.clone();
            dir.anchored = true;
        }
        let reachable: BTreeSet<u64> = world.dirs.values().flat_map(|d| d.durable.values().copied()).collect();
        world.files.retain(|id, _| reachable.contains(id));
        world.files.values_mut().for_each(|file| file.cut(fate, &mut rng));
        world.rng.0 = rng;
    }

    /// The cache gives up pages that it holds to be clean.
    pub fn evict(&self) {
        self.lock().files.values_mut().for_each(Inode::evict);
    }

    /// Names of all files with their contents as the cache has them.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let world = self.lock();
        let names =
            world.dirs.iter().flat_map(|(dir, d)| d.cache.iter().map(move |(n, id)| (format!("{dir}/{n}"), id)));
        names.filter_map(|(name, id)| Some((name, world.files.get(id)?.read_all()))).collect()
    }

    /// Changes bytes at rest, in the cache and on the disk.
    pub fn rot(&self, name: &str, offset: usize, change: impl Fn(u8) -> u8) {
        let mut world = self.lock();
        let id = world.find(name).expect("a file to rot");
        if let Some(file) = world.files.get_mut(&id) {
            file.rot(offset, change);
        }
    }

    /// Cuts a file off at rest.
    pub fn truncate(&self, name: &str, len: usize) {
        let mut world = self.lock();
        let id = world.find(name).expect("a file to truncate");
        if let Some(file) = world.files.get_mut(&id) {
            file.truncate_at_rest(len);
        }
    }

    /// Stands for everything on it, unsynced things included: equal disks have equal marks.
    pub fn mark(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let world = self.lock();
        let mut hasher = DefaultHasher::new();
        for (name, dir) in &world.dirs {
            (name, format!("{:?}", dir)).hash(&mut hasher);
        }
        world.files.iter().for_each(|(id, file)| (id, file).hash(&mut hasher));
        hasher.finish()
    }
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

pub fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name} does not exist"))
}

impl World {
    pub fn used(&self) -> usize {
        let linked: BTreeSet<u64> = self.dirs.values().flat_map(|d| d.cache.values().copied()).collect();
        self.files.iter().filter(|(id, _)| linked.contains(id)).map(|(_, f)| f.len()).sum()
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let n = self.ops;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{n}: {}", what()));
        }
    }

    /// Counts an operation; `Ok(Some(_))`: do it in part and then fail so.
    pub fn begin(&mut self, what: impl FnOnce() -> String) -> io::Result<Option<io::Error>> {
        let dead = || io::Error::other("the process is dead");
        if self.halted {
            return Err(dead());
        }
        let fault = self.faults.remove(&self.ops);
        self.note(|| fault.map_or_else(String::new, |f| format!("{f:?} ")) + &what());
        self.ops += 1;
        match fault {
            None => Ok(None),
            Some(Fault::Halt) => {
                self.halted = true;
                Err(dead())
            }
            Some(Fault::HaltMidway) => {
                self.halted = true;
                Ok(Some(dead()))
            }
            Some(Fault::Fail(errno)) => Ok(Some(io::Error::from_raw_os_error(errno))),
        }
    }

    /// An operation that happens or does not.
    fn begin_whole(&mut self, what: impl FnOnce() -> String) -> io::Result<()> {
        self.begin(what)?.map_or(Ok(()), Err)
    }

    fn dir(&mut self, dir: &str) -> io::Result<&mut Dir> {
        self.dirs.get_mut(dir).ok_or_else(|| missing(dir))
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        let (dir, plain) = split(name);
        self.dirs.get(dir).and_then(|d| d.cache.get(plain)).copied().ok_or_else(|| missing(name))
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut world = self.lock();
        world.begin_whole(|| format!("create {name}"))?;
        let (dir, plain) = split(name);
        if let Ok(id) = world.find(name) {
            if let Some(file) = world.files.get_mut(&id) {
                file.truncate();
            }
            return Ok(SimFile { disk: self.clone(), id });
        }
        let id = world.next_file;
        world.next_file += 1;
        let entries = world.dir(dir)?;
        entries.cache.insert(plain.into(), id);
        entries.pending.push(Change::Link(plain.into(), id));
        world.files.insert(id, Inode::default());
        Ok(SimFile { disk: self.clone(), id })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let world = self.lock();
        let id = world.find(name)?;
        Ok(SimFile { disk: self.clone(), id })
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        Ok(self.lock().dirs.get(dir).map(|d| d.cache.keys().cloned().collect()).unwrap_or_default())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.lock();
        world.begin_whole(|| format!("rename {from} {to}"))?;
        let id = world.find(from)?;
        let ((dir, plain), (to_dir, to_plain)) = (split(from), split(to));
        assert_eq!(dir, to_dir, "renames stay within a directory");
        let entries = world.dir(dir)?;
        entries.cache.remove(plain);
        entries.cache.insert(to_plain.into(), id);
        entries.pending.push(Change::Rename(to_plain.into(), id));
        Ok(())
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        let mut world = self.lock();
        world.begin_whole(|| format!("exchange {one} {other}"))?;
        let ids = (world.find(one)?, world.find(other)?);
        let ((dir, one), (other_dir, other)) = (split(one), split(other));
        assert_eq!(dir, other_dir, "exchanges stay within a directory");
        let entries = world.dir(dir)?;
        entries.cache.insert(one.into(), ids.1);
        entries.cache.insert(other.into(), ids.0);
        entries.pending.push(Change::Exchange((one.into(), ids.1), (other.into(), ids.0)));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.lock();
        world.begin_whole(|| format!("remove {name}"))?;
        let id = world.find(name)?;
        let (dir, plain) = split(name);
        let entries = world.dir(dir)?;
        entries.cache.remove(plain);
        entries.pending.push(Change::Unlink(plain.into(), id));
        Ok(())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut world = self.lock();
        world.begin_whole(|| format!("create_dir {dir}"))?;
        world.dirs.entry(dir.into()).or_default();
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut world = self.lock();
        let failing = world.begin(|| format!("sync_dir {dir}"))?;
        if dir.is_empty() {
            if let Some(error) = failing {
                return Err(error);
            }
            world.dirs.values_mut().for_each(|d| d.anchored = true);
            return Ok(());
        }
        let mut rng = world.rng.0.clone();
        let halted = world.halted;
        let entries = world.dir(dir)?;
        // As with pages: what a failed sync did not write, no later one will; what a dying one did not write stays.
        for change in std::mem::take(&mut entries.pending) {
            if failing.is_none() || rng.bool() {
                // What came before it with the same file can no longer come after it.
                entries.pending.retain(|earlier| !earlier.files().iter().any(|file| change.files().contains(file)));
                entries.settle(change);
            } else if halted {
                entries.pending.push(change);
            }
        }
        world.rng.0 = rng;
        failing.map_or(Ok(()), Err)
    }
}
