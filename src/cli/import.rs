//! `meterd import`: usage by hand, from a table. All of it is looked at before any of it is sent.

mod sheet;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::{Target, connect, get};
use super::exit;
use super::say::{complain, on_one_line, say};
use crate::decimal::Amount;
use crate::hour::Timestamp;
use crate::ingest::protocol::LINE_BYTES_MAX;
use sheet::{Row, Sheet};

/// Wrong lines that are named.
const WRONG_SHOWN_MAX: usize = 100;

/// Report usage from a CSV file: by hand, or as a correction; all of it is checked before any of it is taken
///
/// The first line names the columns, in any order: `time`, `dimension` and (but for dimensions that count) `quantity` must
/// be there; `key`, `tags` (`team=blue;env=prod`), `id`, `customer` and `license` may. If a line is wrong, nothing is
/// taken, and every wrong line is named (the first 100). A row without a key gets one that is made from what it says and from
/// how many rows before it say the same, so that a file that is run twice, or mended and run again, adds nothing twice.
/// Times more than seven days back, or ahead, are refused, as on the socket; for as long as a time is taken its key is known.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only check, and say what it would come to
    #[arg(long)]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// The exit code, and what to say.
type Failure = (u8, String);

/// What the agent made of it.
#[derive(Debug, Default)]
struct Tally {
    taken: u64,
    known: u64,
}

/// Imports; returns the exit code.
pub fn run(args: &Import) -> u8 {
    match import(args) {
        Ok(code) => code,
        Err((code, message)) => {
            complain!("meterd: {message}");
            code
        }
    }
}

fn import(args: &Import) -> Result<u8, Failure> {
    let socket = args.target.socket().map_err(|message| (exit::CONFIG, message))?;
    let status = get(&socket, "/v1/status").map_err(|none| (none.code(), none.message))?;
    let status: Value = serde_json::from_slice(&status).map_err(|error| (exit::UNREACHABLE, error.to_string()))?;
    let (now, dimensions) = known(&status)?;
    let shown = args.file.display().to_string();
    let unread = |why: String| (exit::REFUSED, format!("{shown}: {why}; nothing was taken"));
    let sheet = if shown == "-" {
        Sheet::read(io::stdin().lock(), now, &dimensions)
    } else {
        std::fs::File::open(&args.file).map_err(|e| e.to_string()).and_then(|file| Sheet::read(file, now, &dimensions))
    };
    let sheet = sheet.map_err(unread)?;
    if !sheet.wrong.is_empty() {
        if args.json {
            let wrong = sheet.wrong.iter().map(|(line, why)| json!({ "line": line, "message": why }));
            say!("{}", json!({ "ok": false, "wrong": wrong.collect::<Vec<_>>(), "taken": 0 }));
        } else {
            refuse(&sheet, &shown);
        }
        return Ok(exit::REFUSED);
    }
    let mut tally = Tally::default();
    if !args.dry_run {
        let stream = connect(&socket).map_err(|message| (exit::UNREACHABLE, message))?;
        send(&sheet.rows, stream, &mut tally, args.json)?;
    }
    tell(args, &sheet, &tally);
    Ok(exit::FINE)
}

/// The agent's time, and the dimensions it takes.
fn known(status: &Value) -> Result<(Timestamp, Vec<String>), Failure> {
    let now = status["now"].as_str().and_then(Timestamp::parse);
    let names = status["books"].as_array().map(|books| books.iter().filter_map(|book| book["dimension"].as_str()));
    now.zip(names.map(|names| names.map(str::to_owned).collect()))
        .ok_or_else(|| (exit::UNREACHABLE, "the agent's status cannot be read; is it of another version?".to_owned()))
}

fn refuse(sheet: &Sheet, file: &str) {
    for (line, why) in sheet.wrong.iter().take(WRONG_SHOWN_MAX) {
        complain!("line {line}: {}", on_one_line(why));
    }
    let more = sheet.wrong.len().saturating_sub(WRONG_SHOWN_MAX);
    if more > 0 {
        complain!("and {more} more");
    }
    complain!("meterd: {file}: {} of {} rows are wrong; nothing was taken", sheet.wrong.len(), sheet.all());
}

/// Sends the rows in arrays, each as long as a line may be: each is taken whole or not at all, in one write to the disk.
fn send(rows: &[Row], mut stream: UnixStream, tally: &mut Tally, quiet: bool) -> Result<(), Failure> {
    let mut answers = BufReader::new(stream.try_clone().map_err(|error| (exit::RETRY, error.to_string()))?);
    let display = progress(rows.len(), quiet);
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let (array, count) = array(rest);
        let mut text = String::new();
        let asked = stream.write_all(array.as_bytes()).and_then(|()| answers.read_line(&mut text));
        let answer: Value = match asked {
            Ok(n) if n > 0 => serde_json::from_str(&text).unwrap_or_default(),
            _ => Value::Null,
        };
        if answer["ok"] != true {
            display.finish_and_clear();
            return Err(broken(&answer, rest, first.line));
        }
        let known = answer["duplicates"].as_u64().unwrap_or(0);
        tally.known += known;
        tally.taken += (count as u64).saturating_sub(known);
        rest = rest.get(count..).unwrap_or(&[]);
        display.inc(count as u64);
    }
    display.finish_and_clear();
    Ok(())
}

/// As many rows as one line takes.
fn array(rows: &[Row]) -> (String, usize) {
    let mut text = String::from("[");
    let mut count = 0;
    for row in rows {
        // The comma, the bracket and the line end.
        if count > 0 && text.len() + row.json.len() + 3 > LINE_BYTES_MAX {
            break;
        }
        text += if count > 0 { "," } else { "" };
        text += &row.json;
        count += 1;
    }
    (text + "]\n", count)
}

/// Why it went no further, and how to go on.
fn broken(answer: &Value, rest: &[Row], from: u64) -> Failure {
    let before = format!("what stands before line {from} is durable");
    let again = "run it again when that is mended: what was taken is known by its key, and adds nothing";
    let index = answer["index"].as_u64().and_then(|index| usize::try_from(index).ok());
    let line = index.and_then(|index| rest.get(index)).map_or(from, |row| row.line);
    match answer["message"].as_str() {
        None => (exit::RETRY, format!("the agent broke off: {before}, of what follows nobody knows; {again}")),
        Some(why) => {
            let code = if answer["retryable"] == true { exit::RETRY } else { exit::REFUSED };
            let error = answer["error"].as_str().unwrap_or_default();
            (code, format!("line {line}: {error}: {why}; {before}, nothing from there on; {again}"))
        }
    }
}

fn progress(rows: usize, quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(rows as u64);
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} {human_pos} of {human_len} rows are durable, {eta} to go")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn tell(args: &Import, sheet: &Sheet, tally: &Tally) {
    let mut sums: BTreeMap<&str, (u64, Amount)> = BTreeMap::new();
    for row in &sheet.rows {
        let sum = sums.entry(&row.dimension).or_default();
        sum.0 += 1;
        sum.1 += row.quantity;
    }
    if args.json {
        let sums = sums.iter().map(
            |(dimension, (rows, sum))| json!({ "dimension": dimension, "rows": rows, "quantity": sum.to_string() }),
        );
        let sums: Vec<Value> = sums.collect();
        let (dry_run, taken, known) = (args.dry_run, tally.taken, tally.known);
        say!(
            "{}",
            json!({ "ok": true, "dry_run": dry_run, "rows": sheet.rows.len(), "taken": taken, "known": known,
                           "dimensions": sums })
        );
        return;
    }
    for (dimension, (rows, sum)) in sums {
        say!("{:<20} {rows:>8} rows {sum:>20}", on_one_line(dimension));
    }
    if args.dry_run {
        say!("{} rows are right; nothing was taken (--dry-run)", sheet.rows.len());
    } else {
        say!("{} rows are durable; {} were known already and add nothing", tally.taken + tally.known, tally.known);
    }
}
