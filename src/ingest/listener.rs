//! The socket: taken over from systemd or made, and who is on the other end of a connection.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::sockopt::socket_peercred;

use crate::entry::Peer;

/// The listening socket, non-blocking: systemd's if it passed one, else made at `path` with `mode`. A file that an
/// agent left behind there is replaced; the caller holds the state directory's lock, so nobody listens on it any more.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Some(passed) = listenfd::ListenFd::from_env().take_unix_listener(0)? {
        passed.set_nonblocking(true)?;
        return Ok(passed);
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if UnixStream::connect(path).is_ok() {
        let message = format!("{} is in use by another process that answers there", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Who connected, as the kernel noted it then.
pub fn peer(stream: &impl std::os::fd::AsFd) -> io::Result<Peer> {
    let credentials = socket_peercred(stream)?;
    Ok(Peer {
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
        pid: u32::try_from(credentials.pid.as_raw_nonzero().get()).unwrap_or(0),
    })
}
