//! Where is measured: a directory of the bench's own on the disk that is asked for, which goes when it is dropped.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::config::limits::SOCKET_PATH_BYTES_MAX;
use crate::disk::file_system;

/// The longest name of a socket within the place, with what stands before it.
const SOCKET_NAME_BYTES_MAX: usize = "/agent/admin.sock".len();

/// The directory; dropping it removes it and all that lies in it.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// Makes a new directory in `dir`, which exists and lies on a disk; never one that was there before. The error says
    /// which other directory to name.
    pub fn make(dir: &Path) -> Result<Place, String> {
        let shown = dir.display();
        let failed = |error: io::Error| format!("the directory {shown}: {error}; name another one with --dir");
        let within = dir.canonicalize().map_err(failed)?;
        let kind = file_system(&within).map_err(failed)?.kind;
        if matches!(kind, "tmpfs" | "ramfs") {
            return Err(format!(
                "the directory {shown} lies on {kind}, which is memory: name one on the disk that is to hold the state \
                 with --dir"
            ));
        }
        if within.join("wal").exists() {
            return Err(format!("the directory {shown} is an agent's state: name the one above it with --dir"));
        }
        let own = within.join(format!("meterd-bench-{}", std::process::id()));
        if own.as_os_str().len() + SOCKET_NAME_BYTES_MAX > SOCKET_PATH_BYTES_MAX {
            return Err(format!("the directory {shown} is too deep for a socket: name one further up with --dir"));
        }
        DirBuilder::new().mode(0o700).create(&own).map_err(failed)?;
        Ok(Place(own))
    }

    /// Absolute.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is named for what it is.
        let _ = fs::remove_dir_all(&self.0);
    }
}
