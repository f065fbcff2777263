//! What verbs begin with that do an agent's work without one: the configuration, and a runtime to ask with.

use std::path::Path;

use tokio::runtime::{Builder, Runtime};

use super::exit;
use super::say::complain;
use crate::config::{Config, Overrides};

/// The configuration that an agent would run with, and a runtime; or the exit code, the reason being said.
pub(super) fn begin(config: Option<&Path>) -> Result<(Config, Runtime), u8> {
    let loaded = Overrides::from_env(|name| std::env::var_os(name))
        .and_then(|overrides| Config::load_for_run(&overrides.config_path(config), &overrides));
    let config = loaded.map_err(|errors| {
        complain!("meterd: {errors}");
        exit::CONFIG
    })?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
        complain!("meterd: starting: {error}");
        exit::REFUSED
    })?;
    Ok((config, runtime))
}
