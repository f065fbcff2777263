//! The narrow door to the disk. Everything durable passes through [`Disk`], so that the whole agent also runs on a
//! simulated one, where power fails at any moment.
//!
//! Names are relative to one directory, with `/` between parts, e.g. `wal/0000000000000001.seg`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Advice, CWD, RenameFlags, access, fadvise, renameat_with, statfs};

/// A directory in which the agent keeps its state.
pub trait Disk: Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Makes an empty file, in place of one that may already stand there. Neither it nor its name is durable yet.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// The plain names in a directory, sorted; none if the directory does not exist.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Renames a file within the directory tree; durable only after `sync_dir`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Lets two files change their names, at once and both; durable only after `sync_dir`. An error of kind `Unsupported`
    /// or `InvalidInput` where the file system has no such thing.
    fn exchange(&self, one: &str, other: &str) -> io::Result<()>;
    /// Removes a file; durable only after `sync_dir`.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes a directory if it is missing; durable only after `sync_dir` of its parent.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes the names in a directory durable. The empty name is the root.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
}

/// An open file: reads and writes at offsets, and the two kinds of sync.
pub trait DiskFile: Send {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buf` from `offset`; an error of kind `UnexpectedEof` where the file ends sooner.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `data` at `offset`, through short writes and interruptions.
    fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the contents durable (`fdatasync`). After an error nothing about the file is certain.
    fn sync_data(&mut self) -> io::Result<()>;
    /// Makes the contents and the length durable (`fsync`). After an error nothing about the file is certain.
    fn sync_all(&mut self) -> io::Result<()>;
}

/// Whether an error means that there is no room (which heals) rather than that the disk is broken (which does not).
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A real directory. Files are made with mode 0600, directories with 0700.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: PathBuf,
    read_only: bool,
}

impl RealDisk {
    /// The directory `root`, which exists.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        RealDisk { root: root.into(), read_only: false }
    }

    /// The same, opened for reading only: whatever would change it is an error.
    pub fn read_only(root: impl Into<PathBuf>) -> Self {
        RealDisk { root: root.into(), read_only: true }
    }

    /// The full path of what is to be changed.
    fn to_change(&self, name: &str) -> io::Result<PathBuf> {
        if self.read_only {
            return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "opened for reading only"));
        }
        Ok(self.root.join(name))
    }
}

impl Disk for RealDisk {
    type File = File;

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(self.to_change(name)?)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(!self.read_only).open(self.root.join(name))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.root.join(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.to_change(from)?, self.to_change(to)?)
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        let (one, other) = (self.root.join(one), self.root.join(other));
        Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.to_change(name)?)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(self.to_change(dir)?) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.to_change(dir)?)?.sync_all()
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }

    fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, data, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        File::sync_all(self)
    }
}

/// What a file system is, and how much room it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Its kind, as far as it is known.
    pub kind: &'static str,
    /// Whether a reboot empties it.
    pub forgets: bool,
    /// Bytes free for users other than root.
    pub free: u64,
}

/// Kinds by the number that statfs tells, and whether they forget everything at a reboot.
const KINDS: [(i64, &str, bool); 8] = [
    (0x0102_1994, "tmpfs", true),
    (0x8584_58f6, "ramfs", true),
    (0x794c_7630, "overlay", true),
    (0xef53, "ext4", false),
    (0x5846_5342, "xfs", false),
    (0x9123_683e, "btrfs", false),
    (0x2fc1_2fc1, "zfs", false),
    (0x6969, "nfs", false),
];

/// The file system that `path` lies on.
pub fn file_system(path: &Path) -> io::Result<FileSystem> {
    let found = statfs(path)?;
    #[allow(clippy::useless_conversion, reason = "its width depends on the architecture")]
    let number = i64::from(found.f_type);
    let known = KINDS.iter().find(|(kind, _, _)| *kind == number);
    let (kind, forgets) = known.map_or(("a file system", false), |(_, name, forgets)| (*name, *forgets));
    let block = u64::try_from(found.f_bsize).unwrap_or(0);
    Ok(FileSystem { kind, forgets, free: found.f_bavail.saturating_mul(block) })
}

/// Asks the kernel to forget what it holds of a file that is on disk, so that it is read from there again.
pub fn forget_cached(path: &Path) -> io::Result<()> {
    Ok(fadvise(File::open(path)?, 0, None, Advice::DontNeed)?)
}

/// Whether this user may make files in `dir`; the error is why not.
pub fn may_write(dir: &Path) -> io::Result<()> {
    Ok(access(dir, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Whether this user may execute `program`; the error is why not.
pub fn may_run(program: &Path) -> io::Result<()> {
    Ok(access(program, Access::EXEC_OK)?)
}
