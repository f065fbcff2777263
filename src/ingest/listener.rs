//! The socket: taken over from systemd or made, and who is on the other end of a connection.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::entry::Peer;

/// The operator's socket, beside the writers'.
pub const ADMIN: &str = "admin.sock";
/// Its mode: the agent's own user, and root.
const ADMIN_MODE: u32 = 0o600;

/// The two listening sockets, non-blocking.
#[derive(Debug)]
pub struct Sockets {
    /// Where applications write.
    pub writers: UnixListener,
    /// Where operators decide.
    pub admin: UnixListener,
}

/// Makes the directory of the socket at `path`, if it is missing: as the umask says, for it is other users' way in.
pub fn make_dir(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

/// Takes the sockets over that systemd passed, told apart by their names, and makes what is missing: `path` with `mode`,
/// and `admin.sock` beside it. A file that an agent left behind is replaced; the caller holds the state directory's lock.
pub fn sockets(path: &Path, mode: u32) -> io::Result<Sockets> {
    let (mut writers, mut admin) = (None, None);
    let mut passed = listenfd::ListenFd::from_env();
    for at in 0..passed.len() {
        let Some(listener) = passed.take_unix_listener(at)? else { continue };
        listener.set_nonblocking(true)?;
        let name = listener.local_addr()?.as_pathname().and_then(Path::file_name).map(ToOwned::to_owned);
        if name.is_some_and(|name| name == ADMIN) {
            admin = Some(listener);
        } else {
            writers = Some(listener);
        }
    }
    let writers = writers.map_or_else(|| make(path, mode), Ok)?;
    let admin = admin.map_or_else(|| make(&path.with_file_name(ADMIN), ADMIN_MODE), Ok)?;
    Ok(Sockets { writers, admin })
}

fn make(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if UnixStream::connect(path).is_ok() {
        let message = format!("{} is in use by another process that answers there", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(named)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(named)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Who connected, as the kernel noted it then. A process that this name space does not see, as from another container
/// with the same socket, has the id 0.
pub fn peer(stream: &impl std::os::fd::AsFd) -> io::Result<Peer> {
    let credentials = getsockopt(stream, PeerCredentials)?;
    Ok(Peer { uid: credentials.uid(), gid: credentials.gid(), pid: u32::try_from(credentials.pid()).unwrap_or(0) })
}
