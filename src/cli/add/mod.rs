//! `meterd add`: increments from a shell.

mod many;
mod progress;
mod sender;

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Map, Value, json};

use super::client::{Target, connect};
use super::exit;
use super::say::{complain, say};

/// Report usage; exits with 0 only when it is durable
///
/// `meterd add requests 1`, `meterd add gigabytes 0.25 --key upload-7f3a --tag team=blue`. With `-` in place of the
/// dimension, reads standard input: a JSON increment or array a line, as the socket takes them, or `DIMENSION QUANTITY
/// [KEY]`; a refused line is told with its number, and the others go on. Lines are sent ahead of their answers, so that many
/// share a write to the disk. Ctrl-C ends it in order: what was sent is answered first, and the next line is named.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The dimension, or - to read lines from standard input
    #[arg(value_name = "DIM")]
    dimension: String,
    /// The quantity; may be left out for a dimension that counts
    #[arg(value_name = "QTY", allow_hyphen_values = true)]
    quantity: Option<String>,
    /// An idempotency key: the same key again adds nothing
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// A tag (repeatable); tags become usage allocations
    #[arg(long = "tag", value_name = "K=V", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// When it happened: RFC 3339 or Unix seconds
    #[arg(long, value_name = "T")]
    at: Option<String>,
    /// Print the agent's answers as they are
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Adds; returns the exit code.
pub fn run(args: &Add) -> u8 {
    let of_one = args.quantity.is_some() || args.key.is_some() || args.at.is_some() || !args.tags.is_empty();
    if args.dimension == "-" && of_one {
        // Left aside they would be missing from the bill.
        return fail(exit::USAGE, "with - everything stands in the lines: leave out QTY, --key, --tag and --at");
    }
    let twice = |(n, (key, _)): (usize, &(String, String))| args.tags.iter().skip(n + 1).any(|(other, _)| other == key);
    if let Some((key, _)) = args.tags.iter().enumerate().find(|tag| twice(*tag)).map(|(_, tag)| tag) {
        return fail(exit::USAGE, &format!("the tag {key:?} is given twice: an increment has each tag once"));
    }
    let socket = match args.target.socket() {
        Ok(socket) => socket,
        Err(message) => return fail(exit::CONFIG, &message),
    };
    let stream = match connect(&socket) {
        Ok(stream) => stream,
        Err(message) => return fail(exit::UNREACHABLE, &message),
    };
    let done = if args.dimension == "-" { many::add(args.json, stream) } else { one(args, stream) };
    done.unwrap_or_else(|error| {
        let known = "whether it was recorded is unknown; with a --key it is safe to run this again";
        fail(exit::RETRY, &format!("the agent at {} broke off ({error}): {known}", socket.display()))
    })
}

fn fail(code: u8, message: &str) -> u8 {
    complain!("meterd: {message}");
    code
}

/// How an answer line is to be taken.
fn code_of(answer: &Value) -> u8 {
    match (answer["ok"].as_bool(), answer["retryable"].as_bool()) {
        (Some(true), _) => exit::FINE,
        (_, Some(true)) => exit::RETRY,
        _ => exit::REFUSED,
    }
}

fn one(args: &Add, mut stream: UnixStream) -> io::Result<u8> {
    let mut line = increment(&args.dimension, args.quantity.as_deref(), args.key.as_deref());
    if let Some(at) = &args.at {
        line.insert("at".into(), json!(at));
    }
    if !args.tags.is_empty() {
        let tags: Map<String, Value> = args.tags.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        line.insert("tags".into(), Value::Object(tags));
    }
    writeln!(stream, "{}", Value::Object(line))?;
    let mut text = String::new();
    if BufReader::new(stream).read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let answer: Value = serde_json::from_str(&text).map_err(io::Error::other)?;
    let code = code_of(&answer);
    if args.json {
        say!("{}", text.trim_end());
    } else if code == exit::FINE {
        let known = if answer["duplicate"] == true { " (known already; nothing added)" } else { "" };
        say!("ok, increment {}{known}", answer["seq"]);
    } else {
        complain!("meterd: {}: {}", word(&answer["error"]), word(&answer["message"]));
    }
    Ok(code)
}

fn increment(dimension: &str, quantity: Option<&str>, key: Option<&str>) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("dimension".into(), json!(dimension));
    let optional = [("quantity", quantity), ("key", key)];
    fields.extend(optional.iter().filter_map(|(name, value)| value.map(|v| ((*name).to_owned(), json!(v)))));
    fields
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("no answer")
}
