//! Redis with every command synced before its answer, asked over a Unix socket by the same event loop as the agent.

use std::error::Error;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meterd::bench::words::Words;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running server; dropping it kills it.
pub struct Redis {
    child: Child,
    pub socket: PathBuf,
}

impl Redis {
    /// Starts one in `dir`; nothing if this machine has none.
    pub fn start(dir: &Path) -> Result<Option<Redis>, Box<dyn Error>> {
        let socket = dir.join("redis.sock");
        let started = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--loglevel",
                "warning",
            ])
            .arg("--dir")
            .arg(dir)
            .arg("--unixsocket")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = match started {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            started => started?,
        };
        let redis = Redis { child, socket };
        let began = Instant::now();
        while UnixStream::connect(&redis.socket).is_err() {
            if began.elapsed() > PATIENCE {
                return Err("redis-server does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Some(redis))
    }

    /// An increment in its protocol.
    pub fn increment() -> Words {
        let one = b"*3\r\n$6\r\nINCRBY\r\n$8\r\nrequests\r\n$1\r\n1\r\n".to_vec();
        Words { one, digits: None, good: b":", last: b'\n' }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
