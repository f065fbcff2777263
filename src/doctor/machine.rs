//! The state directory's disk, and the socket.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User, geteuid};

use super::Finding;
use crate::config::{self, Config};
use crate::disk::{RealDisk, file_system, is_full, may_run, may_write};
use crate::wal::spares::room_wanted;

/// What is written for a try: as much as the log writes at least.
const SCRATCH: [u8; 4096] = [0; 4096];
/// How long an agent may take to say that it is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Looks at the state directory, or where it would be made.
pub(super) fn disk(state: &config::State) -> Finding {
    let dir = &state.dir;
    let shown = dir.display();
    let standing = standing(dir);
    let missing = if standing == dir.as_path() { "" } else { " (to be made)" };
    let system = match file_system(standing) {
        Ok(system) => system,
        Err(error) => return unreadable("disk", standing, &error),
    };
    let where_it_is = format!("{shown}{missing} on {}, {} free", system.kind, bytes(system.free));
    if system.forgets && !state.allow_volatile {
        let found = format!("{shown} lies on {}, which a reboot empties", system.kind);
        return Finding::fails(
            "disk",
            found,
            "put state.dir on a real disk, or set state.allow_volatile = true for a try",
        );
    }
    let wanted = match room_wanted(&RealDisk::read_only(dir), u64::from(state.segment_bytes)) {
        Ok(wanted) => wanted,
        Err(error) => return unreadable("disk", dir, &error),
    };
    if system.free < wanted {
        let found = format!("{where_it_is}, and the log wants {} more", bytes(wanted));
        let remedy = format!("free {} there, or put state.dir on a larger disk", bytes(wanted - system.free));
        return Finding::fails("disk", found, remedy);
    }
    match try_writing(standing) {
        Ok(()) => Finding::ok("disk", format!("{where_it_is}; written and synced")),
        Err(error) if is_full(&error) => {
            Finding::fails("disk", format!("{where_it_is}: {error}"), "free some space or inodes: `df -h`, `df -i`")
        }
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let remedy = "find out why its file system is read-only (`dmesg`), and mount it writable";
            Finding::fails("disk", format!("{where_it_is}: {error}"), remedy)
        }
        Err(error) => unreadable("disk", standing, &error),
    }
}

/// Looks at the alert command, where there is one.
pub(super) fn alert(alert: &config::Alert) -> Option<Finding> {
    let program = Path::new(alert.command.first()?);
    let shown = program.display();
    let mend = "name an executable file in alert.command; a script begins with #!";
    Some(match (fs::metadata(program), may_run(program)) {
        (Ok(found), _) if !found.is_file() => Finding::fails("alert", format!("{shown} is no file"), mend),
        (Ok(_), Ok(())) => Finding::ok("alert", format!("{shown} can be executed")),
        (Err(error), _) | (_, Err(error))
            if error.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root() =>
        {
            let remedy = "run this as root or as the agent's own user (sudo -u meterd meterd doctor)";
            Finding::unknown("alert", format!("{shown}: {error}"), remedy)
        }
        (Err(error), _) | (_, Err(error)) => Finding::fails("alert", format!("{shown}: {error}"), mend),
    })
}

/// The nearest of `dir` and the directories above it that is there.
fn standing(dir: &Path) -> &Path {
    dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// Writes and syncs a file that has lost its name before its first byte: nothing but a kill in that very moment leaves
/// one behind, and that is empty.
fn try_writing(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".meterd-doctor-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    file.write_all(&SCRATCH)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Looks at the socket and its directory.
pub(super) fn socket(config: &Config) -> Finding {
    let path = &config.socket.path;
    let shown = path.display();
    let dir = path.parent().unwrap_or(Path::new("/"));
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let standing = standing(dir);
            match may_write(standing) {
                Ok(()) => Finding::ok("socket", format!("{shown} is not there yet: the agent makes it when it starts")),
                Err(error) => unreadable("socket", standing, &error),
            }
        }
        Err(error) => unreadable("socket", dir, &error),
        Ok(found) if !found.file_type().is_socket() => {
            let what = format!("{shown} is there and is no socket");
            Finding::fails(
                "socket",
                what,
                format!("move it away, or choose another socket.path: `mv {shown} {shown}.old`"),
            )
        }
        Ok(found) => existing_socket(config, dir, &found),
    }
}

fn existing_socket(config: &Config, dir: &Path, found: &Metadata) -> Finding {
    let path = &config.socket.path;
    let (shown, mode, wanted) = (path.display(), found.mode() & 0o777, config.socket.mode);
    let answers = match agent_answers(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let (what, group) = (format!("{shown} does not let this user in"), group(found.gid()));
            return Finding::unknown(
                "socket",
                what,
                format!("run this as root, or join its group: `usermod -aG {group} USER`"),
            );
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Finding::ok("socket", format!("{shown} was left behind: the agent replaces it when it starts"));
        }
        Err(error) => {
            let remedy = "see the agent's journal (`journalctl -u meterd`); restart it if it stays so";
            return Finding::fails("socket", format!("{shown}: {error}"), remedy);
        }
        Ok(answer) => answer,
    };
    if mode != wanted {
        let what = format!("{shown} has mode {mode:04o}, socket.mode is {wanted:04o}");
        let remedy = format!(
            "set SocketMode={wanted:04o} in meterd.socket (`systemctl edit meterd.socket`), or restart the agent"
        );
        return Finding::fails("socket", what, remedy);
    }
    // Whoever the socket lets in has to get as far as the socket.
    let enter = fs::metadata(dir).map(|dir| dir.permissions().mode()).unwrap_or(0o111);
    if (mode & 0o006 != 0 && enter & 0o001 == 0) || (mode & 0o060 != 0 && enter & 0o011 == 0) {
        let what = format!("{} lets nobody through to the socket", dir.display());
        return Finding::fails("socket", what, format!("let everybody through: `chmod a+x {}`", dir.display()));
    }
    let who = match mode & 0o006 {
        0 => format!("user {} and members of group {} may write", user(found.uid()), group(found.gid())),
        _ => "every user may write".to_owned(),
    };
    Finding::ok("socket", format!("{shown}, mode {mode:04o}: {who}; {answers}"))
}

/// Asks whoever listens whether it is well.
fn agent_answers(path: &Path) -> io::Result<&'static str> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: meterd\r\nconnection: close\r\n\r\n")?;
    let mut head = [0u8; 12];
    match stream.read_exact(&mut head) {
        Ok(()) if head == *b"HTTP/1.1 200" => Ok("an agent answers there"),
        Ok(()) => Ok("an agent answers there and is not ready (meterd status)"),
        Err(_) => Err(io::Error::other("somebody listens there, and nobody answers")),
    }
}

/// What the system's refusal to look or to write means.
fn unreadable(check: &str, path: &Path, error: &io::Error) -> Finding {
    let found = format!("{}: {error}", path.display());
    match error.kind() {
        // Whether the agent may is not this user's to find out.
        io::ErrorKind::PermissionDenied if !geteuid().is_root() => Finding::unknown(
            check,
            found,
            "run this as root or as the agent's own user (`sudo -u meterd meterd doctor`)",
        ),
        io::ErrorKind::PermissionDenied => Finding::fails(check, found, "let the agent's user write there"),
        io::ErrorKind::NotADirectory => Finding::fails(check, found, "move the file away, or choose another directory"),
        _ => Finding::fails(check, found, "check the disk and its file system: `dmesg`"),
    }
}

fn user(uid: u32) -> String {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| uid.to_string(), |user| user.name)
}

fn group(gid: u32) -> String {
    let known = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    known.map_or_else(|| gid.to_string(), |group| group.name)
}

/// `1.5 GiB`, rounded down.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut unit, mut tenths) = (0, n.saturating_mul(10) / 1024);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&""))
}
