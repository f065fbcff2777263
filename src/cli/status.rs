//! `meterd status`: is metering working, and if not what to do.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::client::{Target, get};
use super::exit;
use super::say::{complain, say};
use crate::disk::RealDisk;
use crate::engine;

/// Show whether metering works, and if not what to do
///
/// Where no agent answers it shows what the state directory holds.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// The agent's own JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Shows it; returns the exit code.
pub fn run(args: &StatusArgs) -> u8 {
    let socket = match args.target.socket() {
        Ok(socket) => socket,
        Err(message) => {
            complain!("meterd: {message}");
            return exit::CONFIG;
        }
    };
    let status: Result<Value, String> = get(&socket, "/v1/status")
        .and_then(|body| serde_json::from_slice(&body).map_err(|e| format!("the agent's answer cannot be read: {e}")));
    match status {
        Err(message) => {
            complain!("meterd: {message}");
            offline(args);
            exit::UNREACHABLE
        }
        Ok(status) => {
            if args.json {
                say!("{status}");
            } else {
                say!("{}", shown(&status).trim_end());
            }
            let fine = status["attention"].as_array().is_some_and(Vec::is_empty);
            if fine { exit::FINE } else { exit::REFUSED }
        }
    }
}

/// What the state directory shows when no agent answers.
fn offline(args: &StatusArgs) {
    let Some(dir) = args.target.state_dir() else { return };
    match engine::read_only(&RealDisk::read_only(&dir)) {
        Ok(state) if args.json => {
            let books = serde_json::to_value(state.books()).unwrap_or_default();
            say!("{}", serde_json::json!({ "ready": false, "state_dir": dir, "books": books }));
        }
        Ok(state) => {
            let books = serde_json::to_value(state.books()).unwrap_or_default();
            say!("what {} shows ({} increments acknowledged):", dir.display(), state.accepted_seq);
            say!("{}", table(&books).trim_end());
        }
        Err(error) => complain!("meterd: {}: {error}", show_dir(&dir)),
    }
}

fn show_dir(dir: &Path) -> String {
    format!("the state directory {}", dir.display())
}

fn shown(status: &Value) -> String {
    let mut out = String::new();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let attention = status["attention"].as_array().cloned().unwrap_or_default();
    let works = match (status["ready"] == true, attention.is_empty()) {
        (true, true) => "metering works",
        (true, false) => "metering works, and something needs a look",
        (false, _) => "usage is NOT being taken",
    };
    // Writing into a string does not fail.
    let _ = writeln!(out, "{works}  (meterd {}, {})", text(&status["version"]), text(&status["now"]));
    for item in &attention {
        let _ = writeln!(out, "\n  {}: {}\n  do: {}", text(&item["code"]), text(&item["message"]), text(&item["do"]));
    }
    let instance = status["instance_id"].as_str().unwrap_or("not known yet");
    let _ = writeln!(out, "\nproduct {}   instance {instance}", text(&status["product_code"]));
    let open = &status["open_hour"];
    let _ = write!(out, "open hour {}:", text(&open["hour"]));
    // Moments in this form sort as text.
    if text(&open["hour"]) > text(&status["now"]) {
        out.push_str(" (the one before it was closed early)");
    }
    for dimension in open["dimensions"].as_array().into_iter().flatten() {
        let _ = write!(out, "  {} {}", text(&dimension["name"]), text(&dimension["usage"]));
    }
    out.push_str("\nrecords:");
    for (state, count) in status["records"].as_object().into_iter().flatten() {
        if state == "pending" || state == "accepted" || *count != 0 {
            let _ = write!(out, "  {state} {count}");
        }
    }
    out.push('\n');
    if let Some(pending) = status["oldest_pending"].as_object() {
        let (hour, deadline) = (text(&pending["hour"]), text(&pending["deadline"]));
        let _ = writeln!(out, "oldest waiting: {} {hour}, AWS takes it until {deadline}", text(&pending["dimension"]));
    }
    let last = status["aws"]["last_success"].as_str().unwrap_or("never");
    let _ = writeln!(out, "AWS last accepted a record: {last}");
    if let Some(error) = status["aws"]["last_error"].as_str() {
        let failures = &status["aws"]["consecutive_failures"];
        let _ = writeln!(out, "AWS: {failures} failures in a row, the last one: {error}");
    }
    let _ = write!(out, "\n{}", table(&status["books"]));
    out
}

/// The books: received = everything else.
pub(super) fn table(books: &Value) -> String {
    const COLUMNS: [&str; 6] = ["received", "open", "pending", "accepted", "with_person", "remainder"];
    let mut out = format!("{:<15}", "books");
    for column in COLUMNS {
        let _ = write!(out, " {column:>14}");
    }
    out.push('\n');
    for row in books.as_array().into_iter().flatten() {
        let _ = write!(out, "{:<15}", row["dimension"].as_str().unwrap_or_default());
        for column in COLUMNS {
            let _ = write!(out, " {:>14}", row[column].as_str().unwrap_or_default());
        }
        for column in ["expired", "included", "discarded", "lost", "rounded"] {
            if let Some(amount) = row[column].as_str().filter(|a| *a != "0") {
                let _ = write!(out, "  {column} {amount}");
            }
        }
        out.push_str(if row["balanced"] == true { "  balanced\n" } else { "  DOES NOT BALANCE\n" });
    }
    out
}
