//! Which keys a running agent can be told anew, and why the others wait for a restart. Refused rather than put off: a file
//! that is half in force is one that nobody can read.

use std::path::{Path, PathBuf};

use super::limits::defaults;
use super::raw::KeyLines;
use super::{Config, ConfigError, ConfigErrors, Overrides};

/// The keys that are read at the start only, each with the reason. All others can change while the agent runs.
pub const AT_START: &[(&str, &str)] = &[
    ("product.code", "it is part of every request, and of the way to AWS that is made at the start"),
    ("product.kind", "it decides which API operation all records of the log go to"),
    ("dimension.measure", "what an hour has taken is measured in one way; another measure is another dimension"),
    ("socket.path", "the socket is made at the start, or by systemd"),
    ("socket.mode", "the socket is made at the start, or by systemd"),
    ("state.dir", "the log that is open lies there"),
    ("state.segment_bytes", "the next segment is made already"),
    ("state.allow_volatile", "where the log lies is judged at the start"),
    ("submit.region", "the way to AWS is made at the start"),
    ("submit.endpoint_url", "the way to AWS is made at the start, and the log says whether it is the real one"),
    ("submit.credentials", "the way to AWS is made at the start"),
    ("submit.profile", "the way to AWS is made at the start"),
    ("submit.role_arn", "the way to AWS is made at the start"),
    ("instance.id", "another one is another instance, whose log this is not"),
];

/// Where the socket of an agent lies by a file that may be wrong otherwise; the default where it does not say.
pub fn socket_of(path: &Path) -> PathBuf {
    let text = super::read(path, "").unwrap_or_default();
    let file = toml::from_str::<toml::Table>(&text).unwrap_or_default();
    let named = file.get("socket").and_then(|section| section.get("path")).and_then(toml::Value::as_str);
    PathBuf::from(named.unwrap_or(defaults::SOCKET_PATH))
}

impl Config {
    /// Like [`Config::load_for_run`], for an agent that runs with this configuration: refuses also what only a restart
    /// can change.
    pub fn load_to_replace(&self, path: &Path, overrides: &Overrides) -> Result<Config, ConfigErrors> {
        let (new, lines) = Config::load_with_lines(path, overrides)?;
        ConfigErrors::unless_any(self.at_start_only(&new, &path.display().to_string(), &lines), new)
    }

    /// One error for every key that differs and is read at the start only.
    fn at_start_only(&self, new: &Config, file: &str, lines: &KeyLines) -> Vec<ConfigError> {
        let [ours, theirs] = [self, new].map(Config::to_json);
        let mut found = Vec::new();
        for (key, reason) in AT_START {
            let mut refuse = |path: &str, named: &str| {
                let what = format!("{named} cannot change while the agent runs: {reason}");
                let remedy = "leave it as it was, or restart the agent (systemctl restart meterd)".to_owned();
                found.push(ConfigError { file: file.to_owned(), line: lines.get(path).copied(), what, remedy });
            };
            match key.split_once('.') {
                Some(("dimension", _)) => {
                    for (n, dimension) in new.dimensions.iter().enumerate() {
                        let before = self.dimensions.iter().find(|before| before.name == dimension.name);
                        if before.is_some_and(|before| before.measure != dimension.measure) {
                            refuse(&format!("dimension[{n}].measure"), &format!("{key} of {}", dimension.name));
                        }
                    }
                }
                Some((section, name)) if ours[section][name] != theirs[section][name] => refuse(key, key),
                _ => {}
            }
        }
        found
    }
}
