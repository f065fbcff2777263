//! An open file of the simulated disk. Sees short writes under a full disk and syncs that fail half-way. Cannot see
//! a read that fails.

use std::io;

use meterd::disk::DiskFile;

use super::disk::{ENOSPC, SimDisk, missing};
use super::inode::Inode;

/// An open file.
pub struct SimFile {
    pub disk: SimDisk,
    pub id: u64,
}

impl SimFile {
    fn with<T>(&self, read: impl FnOnce(&Inode) -> T) -> io::Result<T> {
        self.disk.lock().files.get(&self.id).map(read).ok_or_else(|| missing("the file"))
    }

    fn sync(&mut self, name: &str, with_length: bool) -> io::Result<()> {
        let mut world = self.disk.lock();
        let id = self.id;
        let failing = world.begin(|| format!("{name} #{id}"))?;
        let (mut rng, halted) = (world.rng.0.clone(), world.halted);
        let file = world.files.get_mut(&id).ok_or_else(|| missing("the file"))?;
        match &failing {
            None => file.sync(with_length),
            Some(_) if halted => file.sync_in_part(&mut rng, false),
            Some(_) => file.sync_in_part(&mut rng, true),
        }
        world.rng.0 = rng;
        failing.map_or(Ok(()), Err)
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|file| file.len() as u64)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|file| file.read(buf, offset as usize))?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.lock();
        let id = self.id;
        let mut failing = world.begin(|| format!("write #{id} {} bytes at {offset}", data.len()))?;
        let used = world.used();
        let room = world.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used));
        let mut rng = world.rng.0.clone();
        let file = world.files.get_mut(&id).ok_or_else(|| missing("the file"))?;
        let growth = (offset as usize + data.len()).saturating_sub(file.len());
        if growth > room {
            failing.get_or_insert_with(|| io::Error::from_raw_os_error(ENOSPC));
        }
        let n = if failing.is_some() { rng.usize(0..=data.len() - growth) } else { data.len() };
        file.write(&data[..n], offset as usize);
        world.rng.0 = rng;
        failing.map_or(Ok(()), Err)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.sync("sync_data", false)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.sync("sync_all", true)
    }
}
