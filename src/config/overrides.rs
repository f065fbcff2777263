//! What the environment says over the configuration: where the file and the socket lie.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Config;
use super::check::socket_path;
use super::error::{ConfigError, ConfigErrors, Refusal};

/// Where the configuration lies unless somebody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/meterd/meterd.toml";

const CONFIG: &str = "METERD_CONFIG";
const SOCKET: &str = "METERD_SOCKET";

/// `METERD_CONFIG` and `METERD_SOCKET`. A variable that is empty counts as not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// `socket.path`; within the same bounds.
    pub socket: Option<PathBuf>,
}

impl Overrides {
    /// Asks `variable` for each of them; a program passes [`std::env::var_os`].
    pub fn from_env(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigErrors> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let socket = set(SOCKET).map(|value| match value.to_str() {
            Some(text) => socket_path(text),
            None => Err(Refusal::new(format!("is {value:?}, which is not UTF-8"), "write the path in UTF-8")),
        });
        let socket = socket.transpose().map_err(|Refusal { what, remedy }| ConfigError {
            file: SOCKET.to_owned(),
            line: None,
            what,
            remedy,
        })?;
        Ok(Overrides { config: set(CONFIG).map(PathBuf::from), socket })
    }

    /// The configuration file: `flag` (`--config`), else the environment's, else [`DEFAULT_PATH`].
    pub fn config_path(&self, flag: Option<&Path>) -> PathBuf {
        flag.or(self.config.as_deref()).unwrap_or(Path::new(DEFAULT_PATH)).to_owned()
    }

    /// Lets the environment's socket stand in place of the file's.
    pub fn apply(&self, config: &mut Config) {
        if let Some(socket) = &self.socket {
            config.socket.path.clone_from(socket);
        }
    }
}
