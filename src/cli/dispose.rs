//! `meterd adopt` and `meterd discard`: a person's word on what another instance left unsent in this log.

use serde_json::{Value, json};

use super::client::{Target, post};
use super::exit;
use super::say::{complain, say};
use crate::ingest::listener::ADMIN;

/// Bill what another instance left unsent as this instance's: for a replacement
///
/// For an instance that took over another one's disk. The other's usage goes out with this instance's next records, once;
/// what the other may have sent already stays in doubt, for `meterd settle`. Never on a copy whose original goes on: both
/// would bill it. For root and the agent's own user. The log keeps who decided.
#[derive(Debug, clap::Args)]
pub struct Adopt {
    #[command(flatten)]
    args: Args,
}

/// Give up what another instance left unsent in this log: for a copy
///
/// For an instance that woke up with a copy of another one's state (an image of a running machine, a snapshot): the other
/// one bills that usage itself. Nobody is billed for it here. For root and the agent's own user. The log keeps who decided.
#[derive(Debug, clap::Args)]
pub struct Discard {
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, clap::Args)]
struct Args {
    /// The other instance, as `meterd status` names it [default: the only one]
    #[arg(value_name = "INSTANCE")]
    instance: Option<String>,
    /// The agent's own JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Sends the decision to adopt; returns the exit code.
pub fn adopt(adopt: &Adopt) -> u8 {
    decide(&adopt.args, "/v1/adopt", "adopted: it is billed with this instance's next records")
}

/// Sends the decision to discard; returns the exit code.
pub fn discard(discard: &Discard) -> u8 {
    decide(&discard.args, "/v1/discard", "discarded: nobody is billed for it here")
}

fn decide(args: &Args, path: &str, done: &str) -> u8 {
    let socket = match args.target.socket() {
        Ok(socket) => socket.with_file_name(ADMIN),
        Err(message) => {
            complain!("meterd: {message}");
            return exit::CONFIG;
        }
    };
    let answer: Value = match post(&socket, path, json!({ "instance": args.instance }).to_string()) {
        Ok(answer) => answer,
        Err(message) => {
            complain!("meterd: {message}");
            return exit::UNREACHABLE;
        }
    };
    let ok = answer["ok"] == true;
    if args.json {
        say!("{answer}");
    } else if ok {
        say!("{}", shown(&answer, done));
    } else {
        complain!("meterd: {}", answer["message"].as_str().unwrap_or("refused"));
    }
    if ok { exit::FINE } else { exit::REFUSED }
}

fn shown(answer: &Value, done: &str) -> String {
    let usage = answer["usage"].as_object().into_iter().flatten();
    let mut all: Vec<String> =
        usage.map(|(name, amount)| format!("{} of {name}", amount.as_str().unwrap_or_default())).collect();
    all.push(format!("{} records", answer["records"]));
    let mut text = format!("{} of {}, {done}", all.join(", "), answer["instance"].as_str().unwrap_or_default());
    if answer["in_doubt"] != 0 {
        text += &format!(
            "\n{} records may have been sent by it: look them up in AWS's records, then `meterd settle` each",
            answer["in_doubt"]
        );
    }
    text
}
