//! `meterd scrub`: takes the state out of a machine that is to become an image. The configuration stays.
//!
//! A log in an image would wake up under every instance made from it. What is removed goes in an order in which whatever
//! is left at any moment is either the whole log or none: first what is derived from it or kept beside it, then the log
//! itself in one rename.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde_json::json;

use super::books;
use super::exit;
use super::say::{complain, say};
use super::state_dir::{Failure, StateDir};
use super::terminal::Terminal;
use crate::agent::lock::{Lock, LockError};
use crate::agent::recovery::INDEX_DIR;
use crate::decimal::Amount;
use crate::disk::RealDisk;
use crate::engine;
use crate::rollup::books::Books;
use crate::wal;

/// What the log is called between its rename and its removal.
const GOING: &str = "wal.scrubbed";

/// Take the state out of a machine that is to become an image
///
/// Removes the log and all that belongs to it from the state directory, so that each instance made from the image begins a
/// log of its own; the configuration stays. Stop the agent first. Refuses while unsent usage is there.
#[derive(Debug, clap::Args)]
pub struct Scrub {
    /// Give up what was not sent, or cannot be read
    #[arg(long)]
    discard_unsent: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateDir,
}

/// Scrubs; returns the exit code.
pub fn run(args: &Scrub) -> u8 {
    match scrub(args) {
        Ok(()) => exit::FINE,
        Err((code, message)) => {
            complain!("meterd: {message}");
            code
        }
    }
}

fn scrub(args: &Scrub) -> Result<(), Failure> {
    let dir = args.state.path()?;
    let shown = dir.display().to_string();
    if !dir.exists() {
        return done(args, &shown, &[], &[]);
    }
    let lock = Lock::take(&dir).map_err(|error| match error {
        LockError::InUse { .. } => (exit::IN_USE, format!("{error}; stop the agent first")),
        LockError::Ending { .. } | LockError::Io { .. } => (exit::IN_USE, error.to_string()),
    })?;
    let unsent = if dir.join(wal::DIR).exists() { unsent(args, &dir)? } else { Vec::new() };
    if !unsent.is_empty() && !args.discard_unsent {
        refuse(args, &shown, &unsent);
        let advice = "let the agent send it, or give it up with --discard-unsent";
        return Err((exit::REFUSED, format!("{shown} holds usage that was not sent: {advice}")));
    }
    let failed =
        |error: io::Error| (exit::IN_USE, format!("{shown}: {error}; run it again as root or the agent's user"));
    let removed = remove(&dir).map_err(failed)?;
    // It may be another user's than the one that the agent of the next machine runs as.
    fs::remove_file(dir.join("lock")).and_then(|()| sync(&dir)).map_err(failed)?;
    drop(lock);
    done(args, &shown, &removed, &unsent)
}

/// The books of dimensions that have something unsent.
fn unsent(args: &Scrub, dir: &Path) -> Result<Vec<Books>, Failure> {
    let state = match engine::read_only(&RealDisk::read_only(dir)) {
        Ok(state) => state,
        Err(_) if args.discard_unsent => return Ok(Vec::new()),
        Err(error) => {
            let what = "what is unsent in it cannot be told; --discard-unsent scrubs it all the same";
            return Err((exit::UNSAFE_LOG, format!("{}: {error}; {what}", dir.display())));
        }
    };
    let mut books = state.books();
    books.retain(|b| [b.open, b.pending, b.with_person, b.remainder].iter().any(|amount| *amount != Amount::ZERO));
    Ok(books)
}

/// Removes everything that is the agent's; says what there was.
fn remove(dir: &Path) -> io::Result<Vec<&'static str>> {
    let mut removed = Vec::new();
    for part in [GOING, INDEX_DIR, "quarantine", "archive"] {
        if remove_tree(&dir.join(part))? {
            removed.push(part);
        }
    }
    sync(dir)?;
    match fs::rename(dir.join(wal::DIR), dir.join(GOING)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
        renamed => renamed?,
    }
    sync(dir)?;
    remove_tree(&dir.join(GOING))?;
    removed.push(wal::DIR);
    Ok(removed)
}

fn remove_tree(path: &Path) -> io::Result<bool> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn refuse(args: &Scrub, dir: &str, unsent: &[Books]) {
    let books = serde_json::to_value(unsent).unwrap_or_default();
    if args.json {
        say!("{}", json!({ "ok": false, "dir": dir, "unsent": books }));
    } else {
        say!("{}", books::shown(unsent, &Terminal::look()));
    }
}

fn done(args: &Scrub, dir: &str, removed: &[&str], given_up: &[Books]) -> Result<(), Failure> {
    if args.json {
        let given_up = serde_json::to_value(given_up).unwrap_or_default();
        say!("{}", json!({ "ok": true, "dir": dir, "removed": removed, "given_up": given_up }));
    } else if removed.is_empty() {
        say!("{dir}: there is no log in it");
    } else {
        say!("{dir}: removed {}; the next start begins a new log", removed.join(", "));
    }
    Ok(())
}
