//! `meterd add`: increments from a shell.

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::client::{Target, connect};
use super::exit;
use super::say::{complain, say};

/// Report usage; exits with 0 only when it is durable
///
/// `meterd add requests 1`, `meterd add gigabytes 0.25 --key upload-7f3a --tag team=blue`. With `-` in place of the
/// dimension, reads standard input: a JSON increment or array a line, as the socket takes them, or `DIMENSION QUANTITY
/// [KEY]`. Exit codes: 0 durable, 1 refused, 69 no agent, 75 not taken (or perhaps) and worth a retry with the same key.
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
    let socket = match args.target.socket() {
        Ok(socket) => socket,
        Err(message) => return fail(exit::CONFIG, &message),
    };
    let stream = match connect(&socket) {
        Ok(stream) => stream,
        Err(message) => return fail(exit::UNREACHABLE, &message),
    };
    let done = if args.dimension == "-" { many(args, stream) } else { one(args, stream) };
    done.unwrap_or_else(|error| {
        fail(exit::RETRY, &format!("the agent broke off ({error}): whether it was recorded is unknown; with a --key it is safe to run this again"))
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

/// Sends every line of standard input, many at a time, while the answers are read.
fn many(args: &Add, stream: UnixStream) -> io::Result<u8> {
    let writer = stream.try_clone()?;
    let ended = Arc::new(AtomicBool::new(false));
    let sender = thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            let sent = send_lines(&writer);
            ended.store(true, Ordering::Release);
            writer.shutdown(Shutdown::Write)?;
            sent
        }
    });
    let progress = progress();
    let (mut answered, mut refused, mut code) = (0u64, 0u64, exit::FINE);
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        answered += 1;
        progress.set_position(answered);
        if args.json {
            say!("{line}");
        }
        if line.starts_with("{\"ok\":true") {
            continue;
        }
        let answer: Value = serde_json::from_str(&line).map_err(io::Error::other)?;
        refused += 1;
        // What a person must mend weighs more than what a retry mends.
        code = if code == exit::REFUSED { code } else { code_of(&answer) };
        if !args.json {
            progress.suspend(|| complain!("line {answered}: {}: {}", word(&answer["error"]), word(&answer["message"])));
        }
    }
    progress.finish_and_clear();
    let sent = if ended.load(Ordering::Acquire) {
        sender.join().unwrap_or_else(|_| Err(io::Error::other("reading standard input failed")))
    } else {
        // The agent is gone while standard input goes on: nobody waits for its next line.
        Err(io::ErrorKind::UnexpectedEof.into())
    };
    match sent {
        Ok(sent) if sent == answered => {
            if !args.json {
                say!("{} of {sent} lines are durable, {refused} refused", sent - refused);
            }
            Ok(code)
        }
        // A line that ends the connection does so again.
        _ if code == exit::REFUSED => {
            complain!("meterd: the agent broke off; whether lines after number {answered} were recorded is unknown");
            Ok(code)
        }
        Ok(sent) => Err(io::Error::other(format!("{answered} of {sent} lines were answered"))),
        Err(error) => Err(error),
    }
}

/// Sends each line as soon as no other waits behind it; how many.
fn send_lines(writer: &UnixStream) -> io::Result<u64> {
    let mut sent = 0;
    let mut out = io::BufWriter::with_capacity(64 * 1024, writer);
    let mut input = BufReader::with_capacity(64 * 1024, io::stdin().lock());
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        let text = line.trim();
        match text.as_bytes().first() {
            None => {}
            Some(b'{' | b'[') => writeln!(out, "{text}")?,
            Some(_) => match *text.split_whitespace().collect::<Vec<_>>() {
                [dimension] => writeln!(out, "{}", Value::Object(increment(dimension, None, None)))?,
                [dimension, n] => writeln!(out, "{}", Value::Object(increment(dimension, Some(n), None)))?,
                [dimension, n, key] => writeln!(out, "{}", Value::Object(increment(dimension, Some(n), Some(key))))?,
                // The agent says what is wrong with it, in its place among the answers. (A letter would open HTTP.)
                _ => writeln!(out, " {text}")?,
            },
        }
        sent += u64::from(!text.is_empty());
        line.clear();
        if input.buffer().is_empty() {
            // Whoever writes a line now and then wants each of them on disk, not the last sixty thousand bytes' worth.
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(sent)
}

/// A counter on a terminal, nothing elsewhere.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} durable, {per_sec}") {
        bar.set_style(style);
    }
    bar
}
