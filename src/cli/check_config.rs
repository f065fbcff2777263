//! `meterd check-config`: the configuration with defaults filled in, or what is wrong.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::exit;
use super::say::{json_line, plain};
use crate::config::{Config, ConfigError, ConfigErrors, Overrides};

/// Show the configuration with defaults filled in, or what is wrong with it
#[derive(Debug, clap::Args)]
pub struct CheckConfig {
    /// The configuration file [default: METERD_CONFIG, else /etc/meterd/meterd.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON: the configuration, or {"errors":[…]}
    #[arg(long)]
    pub json: bool,
}

/// Prints to standard output, mistakes for people to standard error. Returns the exit code: 0 fine, 78 refused.
pub fn run(args: &CheckConfig) -> u8 {
    let loaded = Overrides::from_env(|name| std::env::var_os(name)).and_then(|overrides| {
        let path = overrides.config_path(args.config.as_deref());
        Config::load_for_run(&path, &overrides).map(|config| (path, config))
    });
    let (written, code) = match &loaded {
        Ok((_, config)) if args.json => (json_line(&mut io::stdout(), &config.to_json()), exit::FINE),
        Ok((path, config)) => {
            let heading = format!("# {} with defaults filled in", path.display());
            (write!(io::stdout(), "{}", plain(&format!("{heading}\n\n{}", config.to_toml()))), exit::FINE)
        }
        Err(errors) if args.json => (json_line(&mut io::stdout(), &to_json(errors)), exit::CONFIG),
        Err(errors) => (writeln!(io::stderr(), "{}", plain(&errors.to_string())), exit::CONFIG),
    };
    match written {
        // Somebody who closes the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe && code == exit::FINE => exit::DISK,
        _ => code,
    }
}

fn to_json(errors: &ConfigErrors) -> Value {
    let error = |ConfigError { file, line, what, remedy }: &ConfigError| json!({ "file": file, "line": line, "what": what, "remedy": remedy });
    json!({ "errors": errors.iter().map(error).collect::<Vec<_>>() })
}
