//! `meterd reload`: the configuration, read again by the agent that runs.

use serde_json::json;

use super::client::{Target, post};
use super::exit;
use super::say::{complain, say};
use crate::ingest::listener::ADMIN;

/// Have the running agent read its configuration again
///
/// All or nothing: a file with a mistake in it, or with a change that takes a restart, is refused, and the agent runs on
/// with what it had. SIGHUP does the same. For root and the agent's own user.
#[derive(Debug, clap::Args)]
pub struct Reload {
    #[command(flatten)]
    target: Target,
}

#[derive(serde::Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    message: String,
    #[serde(default)]
    error: String,
}

/// Asks for it; returns the exit code.
pub fn run(args: &Reload) -> u8 {
    let socket = match args.target.socket_of_running() {
        Ok(socket) => socket.with_file_name(ADMIN),
        Err(message) => {
            complain!("meterd: {message}");
            return exit::CONFIG;
        }
    };
    match post::<Answer>(&socket, "/v1/reload", json!({}).to_string()) {
        Ok(answer) if answer.ok => {
            say!("the configuration was read again and is in force");
            exit::FINE
        }
        Ok(answer) => {
            complain!("meterd: {}", answer.message);
            if answer.error == "config_refused" { exit::CONFIG } else { exit::REFUSED }
        }
        Err(message) => {
            complain!("meterd: {message}");
            exit::UNREACHABLE
        }
    }
}
