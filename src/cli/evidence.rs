//! `meterd evidence`: a month in one file that shows when it was touched, and its check.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::client::{Target, get};
use super::exit;
use super::period::month;
use super::say::{complain, say};
use crate::disk::RealDisk;
use crate::evidence::{self, Head, Source};
use crate::hour::{Hour, Timestamp};
use crate::view::RecordView;

/// Write a month's records, attempts and outcomes into one file, chained by hash; or check such a file
///
/// Each line holds a hash over itself and the line before it, so that one that was changed, left out, added or moved
/// shows. `check` needs nothing but the file. The agent writes the head of the chain into the journal once a day; with
/// `--anchor` the check finds a file that was made anew as a whole. Attempts and decisions are in it as far as the log still has
/// them and this user may read the state directory.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct EvidenceArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// The month
    #[arg(long, value_name = "YYYY-MM", value_parser = month, required = true)]
    month: Option<Hour>,
    /// The file, which must not be there yet
    #[arg(short, long, value_name = "FILE", required = true)]
    output: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Check a file: whether it is as it was made, and fits what the journal says
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// A line of the agent's journal with a head, or a file with such lines (can be given several times)
        #[arg(long, value_name = "LINE|FILE")]
        anchor: Vec<String>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// The exit code, and what to say.
type Failure = (u8, String);

/// Writes or checks; returns the exit code.
pub fn run(args: &EvidenceArgs) -> u8 {
    let done = match (&args.what, args.month, &args.output) {
        (Some(What::Check { file, anchor, json }), ..) => check(file, anchor, *json),
        (None, Some(month), Some(output)) => write(args, month, output),
        // clap asks for both.
        (None, ..) => Err((exit::USAGE, "say which --month, and into which file: -o FILE".into())),
    };
    done.map_or_else(
        |(code, message)| {
            complain!("meterd: {message}");
            code
        },
        |()| exit::FINE,
    )
}

fn write(args: &EvidenceArgs, month: Hour, output: &Path) -> Result<(), Failure> {
    let socket = args.target.socket().map_err(|message| (exit::CONFIG, message))?;
    let ask = |path| get(&socket, path).map_err(|none| (none.code(), none.message));
    let unlike = |error: serde_json::Error| {
        (exit::UNREACHABLE, format!("the agent's answer cannot be read ({error}); is it of another version?"))
    };
    let records: Vec<RecordView> = serde_json::from_slice(&ask("/v1/records")?).map_err(unlike)?;
    let status: Value = serde_json::from_slice(&ask("/v1/status")?).map_err(unlike)?;
    let entries = entries(args, month);
    let source = Source {
        month,
        product: status["product_code"].as_str().unwrap_or_default(),
        instance: status["instance_id"].as_str(),
        now: status["now"].as_str().and_then(Timestamp::parse).unwrap_or_default(),
        records: &records,
        entries: &entries,
    };
    let written = File::create_new(output).and_then(|file| evidence::write(&source, BufWriter::new(file)));
    let count = written.map_err(|error| (exit::REFUSED, format!("{}: {error}", output.display())))?;
    say!("{}: {count} records, {} entries of the log", output.display(), entries.len());
    Ok(())
}

/// What the log still has; nothing, and a word about it, where it cannot be read.
fn entries(args: &EvidenceArgs, month: Hour) -> Vec<Value> {
    let Some(dir) = args.target.state_dir() else { return Vec::new() };
    evidence::entries(&RealDisk::read_only(&dir), month).unwrap_or_else(|error| {
        complain!("meterd: without attempts and decisions: {}: {error}; root may read it", dir.display());
        Vec::new()
    })
}

fn check(file: &Path, anchors: &[String], json: bool) -> Result<(), Failure> {
    let refused = |what: String| (exit::REFUSED, what);
    let mut heads = Vec::new();
    for anchor in anchors {
        let text = match std::fs::read(anchor) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => anchor.clone(),
        };
        let before = heads.len();
        heads.extend(text.lines().filter_map(Head::read));
        if heads.len() == before {
            return Err(refused(format!(
                "--anchor {anchor}: neither a line of the agent's with a head nor a file with one"
            )));
        }
    }
    let shown = file.display();
    let input = File::open(file).map_err(|error| refused(format!("{shown}: {error}")))?;
    match evidence::check(BufReader::new(input), &heads) {
        Ok(held) if held.anchored == 0 && !heads.is_empty() => {
            let why = format!("none of these heads is of its month, {}", held.month);
            if json {
                say!("{}", json!({ "holds": false, "message": why }));
            }
            return Err(refused(format!("{shown} holds by itself, but {why}: nothing tells whether it was made anew")));
        }
        Ok(held) if json => {
            say!(
                "{}",
                json!({ "holds": true, "month": held.month, "product": held.product, "records": held.records,
                               "head": held.head, "anchored": held.anchored, "of_other_months": held.of_other_months })
            );
        }
        Ok(held) => {
            say!(
                "{shown} holds: {}, product {}, {} records, head {}",
                held.month,
                held.product,
                held.records,
                held.head
            );
            if held.anchored > 0 {
                say!("{} heads fit", held.anchored);
            } else {
                say!(
                    "no head was held against it: whether it was made anew as a whole only a journal tells (--anchor)"
                );
            }
        }
        Err(why) if json => {
            say!("{}", json!({ "holds": false, "message": why }));
            return Err(refused(format!("{shown} does not hold")));
        }
        Err(why) => return Err(refused(format!("{shown} does not hold: {why}"))),
    }
    Ok(())
}
