//! One agent per state directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

/// How long to wait for a holder that may be about to end: it has its lock to the last.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
    /// An agent that was killed has it, and cannot end before the disk answers it.
    #[error("{dir} is still held by a meterd that was killed ({holder}) and waits for the disk")]
    Ending {
        /// The directory.
        dir: String,
        /// What is known of it.
        holder: String,
    },
    /// The lock file cannot be made or read.
    #[error("locking {dir}: {source}{}", remedy(.source))]
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
        let asked = Instant::now();
        while let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(failed(errno.into()));
            }
            if asked.elapsed() >= PATIENCE {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(failed)?;
                let (dir, holder) = (shown, holder.trim().to_owned());
                return Err(match is_killed(&holder) {
                    true => LockError::Ending { dir, holder },
                    false => LockError::InUse { dir, holder },
                });
            }
            sleep(LOOK_EVERY);
        }
        let note = format!("pid {}\n", std::process::id());
        // The note is for people: a disk that does not take it must not keep the agent from the lock.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(note.as_bytes()));
        Ok(Lock(file))
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run it as root, or as the user that the directory belongs to",
        _ => "",
    }
}

/// Whether the process of this note has been sent SIGKILL, or has ended but for a thread that hangs in the kernel.
fn is_killed(note: &str) -> bool {
    let pid = note.strip_prefix("pid ").and_then(|pid| pid.parse::<u32>().ok());
    let status = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok()).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let pending = |name| field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    let sigkill = 1 << (Signal::KILL.as_raw() - 1);
    field("State:").is_some_and(|state| state.starts_with('Z'))
        || (pending("SigPnd:") | pending("ShdPnd:")) & sigkill != 0
}
