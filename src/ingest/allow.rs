//! Who may write what, and who may read: the configuration's allow-lists, and what they grant whoever connects.
//!
//! | list | grants | if it is empty |
//! | --- | --- | --- |
//! | `socket.allow_users`, `socket.allow_groups` | writing | both: whoever the socket's mode lets in |
//! | `dimension.allow_users` | writing that dimension, in place of the socket's lists | as the socket's lists |
//! | `socket.allow_read_users` | reading | whoever may write any dimension |
//!
//! Root and the agent's own user always read: the state directory and `admin.sock` are theirs anyway. To write, they have
//! to be listed like anybody else, so that no stray script of root's ends on a bill.
//!
//! A group's people are the processes that run under it (`SO_PEERCRED`) and the members that the user data base names,
//! looked up once, when [`Allowed`] is made: an LDAP server that is slow holds up no writer. The kernel's own list
//! (`SO_PEERGROUPS`) would be better, but no library hands it out without unsafe code, and what `/proc` tells of a
//! process may be about its successor.

use std::sync::Arc;

use nix::unistd::{Gid, Group, User};

use super::protocol::Line;
use crate::config::Config;
use crate::engine::{Code, Refusal};
use crate::entry::Peer;

/// The lists with every name resolved. Made anew it can take the place of the one before. By default nobody is kept out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    users: Vec<u32>,
    groups: Vec<u32>,
    /// Users whom the user data base names as members of `groups`.
    members: Vec<u32>,
    readers: Vec<u32>,
    /// Each dimension with its own list.
    dimensions: Vec<(String, Vec<u32>)>,
    /// The agent's own user.
    own: u32,
}

/// What one peer may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Status, records, gate and metrics.
    pub reads: bool,
    writes: Writes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Writes {
    Everything,
    /// All but these dimensions.
    AllBut(Arc<[String]>),
    Nothing,
}

/// Who writes, and what they may.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The process, as it stands in the log.
    pub peer: Peer,
    /// What it may do.
    pub rights: Rights,
}

impl Allowed {
    /// Those of `config`, for an agent that runs as the user `own`. Looks the members of its groups up.
    pub fn of(config: &Config, own: u32) -> Allowed {
        let socket = &config.socket;
        Allowed {
            users: socket.allow_users.clone(),
            groups: socket.allow_groups.clone(),
            members: socket.allow_groups.iter().flat_map(|gid| members(*gid)).collect(),
            readers: socket.allow_read_users.clone(),
            dimensions: config.dimensions.iter().map(|d| (d.name.clone(), d.allow_users.clone())).collect(),
            own,
        }
    }

    /// The lists of another configuration take the place of these.
    pub fn renew(&mut self, config: &Config) {
        *self = Allowed::of(config, self.own);
    }

    /// What `peer` may do.
    pub fn rights(&self, peer: Peer) -> Rights {
        let writes = self.writes(peer);
        let reads = if self.readers.is_empty() { writes != Writes::Nothing } else { self.readers.contains(&peer.uid) };
        Rights { reads: reads || peer.uid == 0 || peer.uid == self.own, writes }
    }

    fn writes(&self, peer: Peer) -> Writes {
        let by_socket = (self.users.is_empty() && self.groups.is_empty())
            || self.users.contains(&peer.uid)
            || self.groups.contains(&peer.gid)
            || self.members.contains(&peer.uid);
        let may = |users: &[u32]| if users.is_empty() { by_socket } else { users.contains(&peer.uid) };
        let denied: Arc<[String]> =
            self.dimensions.iter().filter(|(_, users)| !may(users)).map(|(name, _)| name.clone()).collect();
        match denied.len() {
            0 => Writes::Everything,
            all if all == self.dimensions.len() => Writes::Nothing,
            _ => Writes::AllBut(denied),
        }
    }
}

/// The members of a group that the user data base names. Who cannot be looked up is not let in.
fn members(gid: u32) -> Vec<u32> {
    let names = match Group::from_gid(Gid::from_raw(gid)) {
        Ok(group) => group.map(|group| group.mem).unwrap_or_default(),
        Err(error) => {
            tracing::warn!(gid, %error, "the members of an allowed group cannot be looked up: only processes that run under it may write");
            return Vec::new();
        }
    };
    let uid = |name: String| match User::from_name(&name) {
        Ok(user) => user.map(|user| user.uid.as_raw()),
        Err(error) => {
            tracing::warn!(gid, name, %error, "a member of an allowed group cannot be looked up, and may not write");
            None
        }
    };
    names.into_iter().filter_map(uid).collect()
}

impl Rights {
    /// Whether anything at all is granted. To whom nothing is, nothing is told.
    pub fn any(&self) -> bool {
        self.reads || self.writes != Writes::Nothing
    }
}

impl Writer {
    /// Whether it may write anything: asked before a line is looked at.
    pub fn may_write(&self) -> Result<(), Refusal> {
        match self.rights.writes {
            Writes::Nothing => Err(not_allowed(self.peer, "write here", "socket.allow_users or socket.allow_groups")),
            Writes::Everything | Writes::AllBut(_) => Ok(()),
        }
    }

    /// Whether it may write every dimension that a line names.
    pub fn may_write_all(&self, line: &Line<'_>) -> Result<(), Refusal> {
        let Writes::AllBut(denied) = &self.rights.writes else { return Ok(()) };
        let one = |name: &str| match denied.iter().any(|denied| denied == name) {
            true => Err(not_allowed(self.peer, &format!("write dimension {name:?}"), "its allow_users")),
            false => Ok(()),
        };
        match line {
            Line::One(new) => one(&new.dimension),
            Line::Many(news) => news
                .iter()
                .enumerate()
                .try_for_each(|(i, new)| one(&new.dimension).map_err(|why| Refusal { index: Some(i), ..why })),
        }
    }

    /// Whether it may read.
    pub fn may_read(&self) -> Result<(), Refusal> {
        match self.rights.reads {
            true => Ok(()),
            false => Err(not_allowed(self.peer, "read here", "socket.allow_read_users")),
        }
    }

    /// Whether it is to be told anything.
    pub fn may_ask(&self) -> Result<(), Refusal> {
        if self.rights.any() { Ok(()) } else { self.may_read().and(self.may_write()) }
    }
}

fn not_allowed(peer: Peer, what: &str, list: &str) -> Refusal {
    let message = format!(
        "user {} may not {what}; ask whoever configures meterd to list this user in {list}, or run this as one who is listed",
        peer.uid
    );
    Refusal { code: Code::NotAllowed, message, index: None }
}
