//! One agent per state directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The lock on a state directory, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

/// Why the directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent has it.
    #[error("{dir} is in use by another meterd ({holder}): stop that one, or give this one its own state.dir")]
    InUse {
        /// The directory.
        dir: String,
        /// What is known of the other one.
        holder: String,
    },
    /// The lock file cannot be made or read.
    #[error("locking {dir}: {source}")]
    Io {
        /// The directory.
        dir: String,
        /// The system's words.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock of `dir`, leaving a note of who holds it, or says who does.
    pub fn take(dir: &Path) -> Result<Lock, LockError> {
        let shown = dir.display().to_string();
        let failed = |source| LockError::Io { dir: shown.clone(), source };
        let path = dir.join("lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = match open {
            // It can be locked all the same, and nobody else gets in before it is writable again.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(&path).map_err(failed)?,
            opened => opened.map_err(failed)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(failed)?;
                return Err(LockError::InUse { dir: shown, holder: holder.trim().to_owned() });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        let note = format!("pid {}\n", std::process::id());
        // The note is for people: a disk that does not take it must not keep the agent from the lock.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(note.as_bytes()));
        Ok(Lock(file))
    }
}
