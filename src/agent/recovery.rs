//! From a state directory to an open log: one attempt, which can be made again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::Lock;
use super::run::RunError;
use crate::clock::Clock;
use crate::config::State;
use crate::disk::{RealDisk, file_system};
use crate::engine::{Engine, EngineError, Options};
use crate::index::Index;
use crate::wal::OpenError;

/// Where the index lies, below the state directory.
pub(crate) const INDEX_DIR: &str = "index";

/// All that an attempt needs. Holds the state directory's lock from the first one that got it until it is dropped.
pub(super) struct Recovery {
    pub(super) dir: PathBuf,
    allow_volatile: bool,
    options: Options,
    clock: Arc<dyn Clock>,
    lock: Option<Lock>,
}

impl Recovery {
    pub(super) fn new(state: &State, options: Options, clock: Arc<dyn Clock>) -> Self {
        Recovery { dir: state.dir.clone(), allow_volatile: state.allow_volatile, options, clock, lock: None }
    }

    /// Makes the state directory if it is missing, locks it, and opens what is in it.
    pub(super) fn attempt(&mut self) -> Result<Engine<RealDisk>, RunError> {
        self.prepare()?;
        if self.lock.is_none() {
            self.lock = Some(Lock::take(&self.dir)?);
        }
        let (disk, index) = (Arc::new(RealDisk::new(&self.dir)), self.dir.join(INDEX_DIR));
        Ok(Engine::open(disk, self.options.clone(), self.clock.read(), |log| Index::open(&index, log))?)
    }

    /// Makes the state directory if it is missing and refuses one that forgets.
    fn prepare(&self) -> Result<(), RunError> {
        let failed = |what: &str| {
            let what = format!("{what} the state directory");
            move |source: io::Error| EngineError::Open(OpenError::Io { what, source })
        };
        make_private(&self.dir).map_err(failed("making"))?;
        let found = file_system(&self.dir).map_err(failed("looking at"))?;
        match found.forgets && !self.allow_volatile {
            true => Err(RunError::Volatile { dir: self.dir.clone(), name: found.kind }),
            false => Ok(()),
        }
    }
}

fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
