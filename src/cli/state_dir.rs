//! The state directory that an offline command is to read.

use std::path::PathBuf;

use super::exit;
use crate::config::{Config, Overrides};
use crate::disk::RealDisk;
use crate::wal;

/// Which state directory.
#[derive(Debug, Clone, clap::Args)]
pub struct StateDir {
    /// The state directory, or a copy of one [default: the configuration's state.dir]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The configuration that names it [default: METERD_CONFIG, else /etc/meterd/meterd.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The exit code, and what to say.
pub type Failure = (u8, String);

impl StateDir {
    /// The directory, for reading only, and its name.
    pub fn open(&self) -> Result<(RealDisk, PathBuf), Failure> {
        let dir = self.path()?;
        let shown = dir.display();
        let unreadable = |what: String| (exit::UNSAFE_LOG, format!("{shown}: {what}"));
        match std::fs::read_dir(dir.join(wal::DIR)) {
            Ok(_) => Ok((RealDisk::read_only(&dir), dir)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(unreadable(format!(
                "not a state directory: there is no {}/ in it; name state.dir, which `meterd check-config` shows",
                wal::DIR
            ))),
            Err(error) => Err(unreadable(format!("{error}; run this as root or as the agent's own user"))),
        }
    }

    /// The directory, whatever is in it.
    pub fn path(&self) -> Result<PathBuf, Failure> {
        self.dir.clone().map_or_else(|| self.configured(), Ok)
    }

    /// The configuration, whoever's directory it is.
    pub fn config(&self) -> Result<Config, Failure> {
        let overrides =
            Overrides::from_env(|name| std::env::var_os(name)).map_err(|e| (exit::CONFIG, e.to_string()))?;
        Config::load(&overrides.config_path(self.config.as_deref())).map_err(|e| (exit::CONFIG, e.to_string()))
    }

    fn configured(&self) -> Result<PathBuf, Failure> {
        let named = |(code, message)| (code, format!("{message}\nmeterd: or name the directory"));
        self.config().map(|config| config.state.dir).map_err(named)
    }
}
