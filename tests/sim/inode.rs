//! One file of the simulated disk: what is written and what is durable, sector by sector. Sees torn writes down to 512
//! bytes. Cannot see: a sector torn inside, which the log assumes not to happen to one that held data.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use fastrand::Rng;

use super::disk::Fate;

pub const SECTOR: usize = 512;

type Sector = Arc<[u8; SECTOR]>;

static ZERO: LazyLock<Sector> = LazyLock::new(|| Arc::new([0; SECTOR]));

/// A file. Sectors that are not there are zeros.
#[derive(Debug, Clone, Default, Hash)]
pub struct Inode {
    cache: Sectors,
    durable: Sectors,
    cache_len: usize,
    durable_len: usize,
    /// Lengths since the last sync; any of them may be the one on the disk.
    lens: Vec<usize>,
    /// Contents of each sector since the last sync.
    dirty: BTreeMap<usize, Vec<Sector>>,
    /// Sectors that were written to since they were filled and have been durable so: they hold data, be it zeros.
    data: BTreeSet<usize>,
}

#[derive(Debug, Clone, Default)]
struct Sectors(Vec<Sector>);

impl Hash for Sectors {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (i, sector) in self.0.iter().enumerate() {
            if !Arc::ptr_eq(sector, &ZERO) && sector != &*ZERO {
                (i, sector).hash(state);
            }
        }
    }
}

impl Sectors {
    fn get(&self, i: usize) -> &Sector {
        self.0.get(i).unwrap_or(&ZERO)
    }

    fn put(&mut self, i: usize, sector: Sector) {
        if self.0.len() <= i {
            self.0.resize(i + 1, Arc::clone(&ZERO));
        }
        self.0[i] = sector;
    }
}

fn is_zero(sector: &Sector) -> bool {
    Arc::ptr_eq(sector, &ZERO) || sector.iter().all(|b| *b == 0)
}

impl Inode {
    pub fn len(&self) -> usize {
        self.cache_len
    }

    pub fn read(&self, buf: &mut [u8], offset: usize) -> Option<()> {
        if offset + buf.len() > self.cache_len {
            return None;
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done;
            let (i, within) = (at / SECTOR, at % SECTOR);
            let n = (SECTOR - within).min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&self.cache.get(i)[within..within + n]);
            done += n;
        }
        Some(())
    }

    pub fn read_all(&self) -> Vec<u8> {
        let mut all = vec![0; self.cache_len];
        self.read(&mut all, 0).expect("its own length");
        all
    }

    pub fn write(&mut self, data: &[u8], offset: usize) {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done;
            let (i, within) = (at / SECTOR, at % SECTOR);
            let n = (SECTOR - within).min(data.len() - done);
            let mut sector = **self.cache.get(i);
            sector[within..within + n].copy_from_slice(&data[done..done + n]);
            let sector = if sector == **ZERO { Arc::clone(&ZERO) } else { Arc::new(sector) };
            self.dirty.entry(i).or_default().push(Arc::clone(&sector));
            self.cache.put(i, sector);
            done += n;
        }
        if !data.is_empty() && offset + data.len() > self.cache_len {
            self.cache_len = offset + data.len();
            self.lens.push(self.cache_len);
        }
    }

    pub fn truncate(&mut self) {
        for i in 0..self.cache.0.len() {
            if !is_zero(self.cache.get(i)) {
                self.cache.put(i, Arc::clone(&ZERO));
                self.dirty.entry(i).or_default().push(Arc::clone(&ZERO));
            }
        }
        self.data.clear();
        self.cache_len = 0;
        self.lens.push(0);
    }

    pub fn sync(&mut self, with_length: bool) {
        for (i, _) in std::mem::take(&mut self.dirty) {
            let sector = Arc::clone(self.cache.get(i));
            self.durable.put(i, sector);
            // What was written beyond the length is its filling.
            if i * SECTOR < self.durable_len {
                self.data.insert(i);
            }
        }
        if with_length {
            self.durable_len = self.cache_len;
            self.lens.clear();
        }
    }

    /// A sync that fails or dies: some sectors are written. With `give_up` the others count as clean from now on.
    pub fn sync_in_part(&mut self, rng: &mut Rng, give_up: bool) {
        for (i, versions) in std::mem::take(&mut self.dirty) {
            if rng.bool() {
                let sector = Arc::clone(self.cache.get(i));
                self.durable.put(i, sector);
            } else if !give_up {
                self.dirty.insert(i, versions);
            }
        }
        if give_up {
            self.lens.clear();
        }
    }

    /// Forgets what the cache holds to be clean, so that the disk is asked.
    pub fn evict(&mut self) {
        for i in 0..self.cache.0.len().max(self.durable.0.len()) {
            if !self.dirty.contains_key(&i) {
                let sector = Arc::clone(self.durable.get(i));
                self.cache.put(i, sector);
            }
        }
    }

    pub fn cut(&mut self, fate: &mut dyn Fate, rng: &mut Rng) {
        for (i, versions) in std::mem::take(&mut self.dirty) {
            let old = self.durable.get(i);
            let mut states: Vec<Sector> = vec![Arc::clone(old)];
            for version in versions {
                if !states.contains(&version) {
                    states.push(version);
                }
            }
            // Zeros written where the file never was are as uncertain as anything else.
            let new = i * SECTOR >= self.durable_len;
            if states.len() == 1 && !new {
                continue;
            }
            let blank = is_zero(old) && !self.data.contains(&i);
            let choice = fate.choose(states.len(), blank);
            let sector = match states.get(choice) {
                Some(sector) => Arc::clone(sector),
                None => {
                    assert!(blank, "garbage is for blank sectors only");
                    let mut garbage = [0; SECTOR];
                    rng.fill(&mut garbage);
                    Arc::new(garbage)
                }
            };
            self.durable.put(i, sector);
        }
        let mut lens = std::mem::take(&mut self.lens);
        lens.retain(|len| *len != self.durable_len);
        lens.dedup();
        if !lens.is_empty() {
            let choice = fate.choose(lens.len() + 1, false);
            if let Some(len) = choice.checked_sub(1).and_then(|c| lens.get(c)) {
                self.durable_len = *len;
            }
        }
        // Bytes behind the end are gone.
        for i in self.durable_len.div_ceil(SECTOR)..self.durable.0.len() {
            self.durable.put(i, Arc::clone(&ZERO));
        }
        (self.cache, self.cache_len) = (self.durable.clone(), self.durable_len);
    }

    pub fn rot(&mut self, offset: usize, change: impl Fn(u8) -> u8) {
        let (i, within) = (offset / SECTOR, offset % SECTOR);
        for sectors in [&mut self.cache, &mut self.durable] {
            let mut sector = **sectors.get(i);
            sector[within] = change(sector[within]);
            sectors.put(i, Arc::new(sector));
        }
    }

    pub fn truncate_at_rest(&mut self, len: usize) {
        (self.cache_len, self.durable_len) = (len.min(self.cache_len), len.min(self.durable_len));
    }
}
