//! The names of the simulated disk: what the cache shows and what is durable. Sees every change of a name on its own.
//! Cannot see a rename torn in two, which no journalling file system shows.

use std::collections::BTreeMap;

/// A change of a directory that is not durable yet.
#[derive(Debug, Clone)]
pub enum Change {
    Link(String, u64),
    Unlink(String, u64),
    Rename(String, u64),
    /// Both names, each with the file it has from now on.
    Exchange((String, u64), (String, u64)),
}

impl Change {
    pub fn files(&self) -> Vec<u64> {
        match self {
            Change::Link(_, id) | Change::Unlink(_, id) | Change::Rename(_, id) => vec![*id],
            Change::Exchange((_, one), (_, other)) => vec![*one, *other],
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Dir {
    pub cache: BTreeMap<String, u64>,
    pub durable: BTreeMap<String, u64>,
    pub pending: Vec<Change>,
    /// Whether the directory's own name is durable.
    pub anchored: bool,
}

impl Dir {
    /// Makes a change durable. A file has one name at any time, whichever of its renames got there.
    pub fn settle(&mut self, change: Change) {
        match change {
            Change::Link(name, id) => {
                self.durable.retain(|_, other| *other != id);
                self.durable.insert(name, id);
            }
            Change::Unlink(name, id) => {
                if self.durable.get(&name) == Some(&id) {
                    self.durable.remove(&name);
                }
            }
            Change::Exchange(one, other) => {
                self.durable.retain(|_, id| *id != one.1 && *id != other.1);
                self.durable.extend([one, other]);
            }
            Change::Rename(to, id) => {
                self.durable.retain(|_, other| *other != id);
                self.durable.insert(to, id);
            }
        }
    }
}
