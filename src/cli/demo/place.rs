//! Where the demo's files lie: a temporary directory, or one that is named and kept.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::config::limits::SOCKET_PATH_BYTES_MAX;

/// The demo's directory.
pub struct Place {
    /// Absolute.
    pub dir: PathBuf,
    /// Whether it goes when all went well.
    pub temporary: bool,
}

impl Place {
    /// Makes the directory: `named`, which must be new or empty, or one of this process's own.
    pub fn make(named: Option<&Path>) -> Result<Place, String> {
        let temporary = named.is_none();
        let dir = match named {
            Some(dir) => dir.to_owned(),
            None => std::env::temp_dir().join(format!("meterd-demo-{}", std::process::id())),
        };
        let shown = dir.display();
        let failed = |error: std::io::Error| format!("the directory {shown}: {error}; name another one with --dir");
        // A temporary one must be new: whoever had made it before us could look into it.
        fs::DirBuilder::new().recursive(!temporary).mode(0o700).create(&dir).map_err(failed)?;
        let place = Place { dir: dir.canonicalize().map_err(failed)?, temporary };
        if fs::read_dir(&place.dir).map_err(failed)?.next().is_some() {
            return Err(format!("the directory {shown} is not empty; name a new one with --dir"));
        }
        let bytes = place.socket().as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            place.remove();
            let message = "is too deep for a socket, whose path has at most";
            return Err(format!(
                "the directory {shown} {message} {SOCKET_PATH_BYTES_MAX} bytes: name another with --dir"
            ));
        }
        Ok(place)
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("meterd.sock")
    }

    /// The agent's configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("meterd.toml")
    }

    /// The agent's log lines.
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Writes the configuration, as a seller would.
    pub fn write_config(&self, dimensions: &str, aws: SocketAddr) -> Result<(), String> {
        let quoted = |path: &Path| {
            let text = path.to_str().ok_or("the directory's name is not UTF-8; name another with --dir")?;
            Ok::<_, String>(toml::Value::from(text).to_string())
        };
        let (socket, state) = (quoted(&self.socket())?, quoted(&self.dir.join("state"))?);
        let text = format!(
            "# Written by `meterd demo`.\n[product]\ncode = \"demo\"\n{dimensions}\n\
             [socket]\npath = {socket}\nmode = \"0600\"\n\n\
             [state]\ndir = {state}\nallow_volatile = true\n\n\
             [submit]\nregion = \"us-east-1\"\nendpoint_url = \"http://{aws}\"\ncredentials = \"environment\"\noffset = \"5m\"\n\n\
             [instance]\nid = \"i-0123456789abcdef0\"\n\n\
             [hour]\ngrace = \"5m\"\n"
        );
        fs::write(self.config(), text).map_err(|error| format!("writing {}: {error}", self.config().display()))
    }

    /// Takes everything away if it is temporary.
    pub fn remove(&self) {
        if self.temporary {
            // What cannot be removed is left to whoever empties the temporary directory.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
