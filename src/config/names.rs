//! User and group names to ids, through the machine's own data base (`/etc/passwd`, LDAP, …).

use nix::errno::Errno;
use nix::unistd::{Group, User};

use super::error::{Refusal, quoted};
use super::limits::ID_MAX;
use super::table::RawId;

/// The kind of name that a list holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    User,
    Group,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Group => "group",
        }
    }

    fn look_up(self, name: &str) -> Result<Option<u32>, Errno> {
        match self {
            Kind::User => User::from_name(name).map(|user| user.map(|user| user.uid.as_raw())),
            Kind::Group => Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw())),
        }
    }
}

/// The id of one entry. A name that the machine does not know is tried as a number, as `chown` does.
pub(super) fn id(entry: &RawId, kind: Kind) -> Result<u32, Refusal> {
    let noun = kind.noun();
    let allowed = || format!("allowed: the name of a {noun} of this machine, or a {noun} id from 0 to {ID_MAX}");
    let number = |text: &str| text.parse().ok().filter(|id| *id <= ID_MAX);
    match entry {
        RawId::Number(text) => number(text).ok_or_else(|| Refusal::new(format!("is {text}"), allowed())),
        RawId::Name(name) => match kind.look_up(name) {
            Ok(Some(id)) => Ok(id),
            Ok(None) if name.bytes().all(|b| b.is_ascii_digit()) => {
                number(name).ok_or_else(|| Refusal::new(format!("is {}", quoted(name)), allowed()))
            }
            Ok(None) => Err(Refusal::new(format!("is {}, but there is no such {noun} here", quoted(name)), allowed())),
            Err(error) => Err(Refusal::new(
                format!("is {}, which could not be looked up ({})", quoted(name), error.desc()),
                format!("mend the machine's {noun} data base, or write the id as a number"),
            )),
        },
    }
}
