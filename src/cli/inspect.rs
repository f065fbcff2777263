//! `meterd inspect`: the log frame by frame, in words.

use std::io::{self, Write};

use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use super::exit;
use super::say::{complain, json_line, on_one_line};
use super::state_dir::StateDir;
use crate::audit::describe::{self, KINDS, Names};
use crate::disk::RealDisk;
use crate::wal::archive;
use crate::wal::survey::{self, Entries, Found, Piece, Put};

/// Show the log entry by entry, damage in its place
///
/// Reads only: works beside a running agent and on a copy.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Only this segment
    #[arg(long, value_name = "N")]
    segment: Option<u64>,
    /// Only entries of this kind (can be given several times)
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(KINDS.iter().map(|(name, _)| *name)))]
    kind: Vec<String>,
    /// Only entries from this frame number on
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    from: u64,
    /// At most so many lines
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// The archive instead of the log
    #[arg(long, conflicts_with_all = ["segment", "from"])]
    archive: bool,
    #[command(flatten)]
    state: StateDir,
}

/// Shows it; returns the exit code.
pub fn run(args: &Inspect) -> u8 {
    let mut out = Out { args, left: args.limit, to: io::stdout().lock() };
    let shown = args.state.open().and_then(|(disk, dir)| {
        let shown = if args.archive { archived(&disk, &mut out) } else { log(&disk, &mut out) };
        shown.or_else(|error| match error.kind() {
            // Whoever closes the pipe has seen enough.
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err((exit::UNSAFE_LOG, format!("reading the log in {}: {error}", dir.display()))),
        })
    });
    match shown {
        Ok(()) => exit::FINE,
        Err((code, message)) => failed(code, &message),
    }
}

fn failed(code: u8, message: &str) -> u8 {
    complain!("meterd: {message}");
    code
}

struct Out<'a> {
    args: &'a Inspect,
    left: u64,
    to: io::StdoutLock<'static>,
}

impl Out<'_> {
    fn is_full(&self) -> bool {
        self.left == 0
    }

    fn line(&mut self, text: &str, fields: &Value) -> io::Result<()> {
        if self.is_full() {
            return Ok(());
        }
        self.left -= 1;
        if self.args.json { json_line(&mut self.to, fields) } else { writeln!(self.to, "{}", on_one_line(text)) }
    }

    fn wants(&self, kind: &str) -> bool {
        self.args.kind.is_empty() || self.args.kind.iter().any(|wanted| wanted == kind)
    }

    /// Damage is shown whatever kind is asked for: nobody knows what it was.
    fn damage(&mut self, segment: u64, from: u64, to: u64, what: &str) -> io::Result<()> {
        let text = format!("{segment:>4} {from:>9}          -  DAMAGE      up to byte {to}: {what}");
        self.line(&text, &json!({ "segment": segment, "offset": from, "damage": what, "to": to }))
    }
}

fn log(disk: &RealDisk, out: &mut Out<'_>) -> io::Result<()> {
    let (mut names, mut entries) = (Names::default(), Entries::default());
    let found = survey::look(disk)?;
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "no segment in wal/; is it the state directory (state.dir)?",
        ));
    }
    for (at, file) in found.iter().enumerate() {
        if out.is_full() || out.args.segment.is_some_and(|wanted| file.id > wanted) {
            break;
        }
        match segment(disk, file, found.get(at + 1), &mut names, &mut entries, out) {
            // Retention took it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            shown => shown?,
        }
    }
    Ok(())
}

fn segment(
    disk: &RealDisk,
    file: &Found,
    next: Option<&Found>,
    names: &mut Names,
    entries: &mut Entries,
    out: &mut Out<'_>,
) -> io::Result<()> {
    let id = file.id;
    let shows = out.args.segment.is_none_or(|wanted| wanted == id);
    let header = match file.header() {
        Ok(header) => header,
        Err(error) if shows => return out.damage(id, 0, 0, &error.to_string()),
        Err(_) => return Ok(()),
    };
    let end = next.and_then(|next| next.header().ok()).map(|next| next.previous_end);
    let read = survey::read(disk, header, end)?;
    for piece in read.pieces() {
        match piece {
            Piece::Damage(damage) if shows => {
                let lost = format!("frames from {} on are lost", damage.first_lost);
                out.damage(id, damage.span.from, damage.span.to, &lost)?;
            }
            Piece::Unsynced { span, .. } if shows => {
                let text = format!("{id:>4} {:>9}          -  unsynced    up to byte {}", span.from, span.to);
                let fields = json!({ "segment": id, "offset": span.from, "unsynced": true, "to": span.to });
                out.line(&text, &fields)?;
            }
            Piece::Damage(_) | Piece::Unsynced { .. } => {}
            Piece::Frame { offset, frame } => {
                let put = entries.push(id, offset, &frame);
                let Put::Whole(whole) = put else { continue };
                let (kind, seq) = (describe::kind_name(whole.kind), whole.seq);
                // Also what is not shown teaches names.
                let described = describe::describe(whole.kind, whole.payload, names);
                if !shows || !out.wants(kind) || seq < out.args.from {
                    continue;
                }
                let (text, fields) = match described {
                    Ok(described) => (described.text, described.fields),
                    Err(why) => (format!("cannot be read: {why}"), json!({ "unreadable": why })),
                };
                let line = format!("{:>4} {:>9} {seq:>10}  {kind:<10}  {text}", whole.segment, whole.offset);
                let fields = json!({ "segment": whole.segment, "offset": whole.offset, "seq": seq, "kind": kind,
                                     "number": whole.kind, "bytes": whole.payload.len(), "entry": fields });
                out.line(&line, &fields)?;
            }
        }
        if out.is_full() {
            break;
        }
    }
    Ok(())
}

fn archived(disk: &RealDisk, out: &mut Out<'_>) -> io::Result<()> {
    let mut names = Names::default();
    for id in archive::list(disk)? {
        let file = match archive::read(disk, id) {
            Ok(file) => file,
            Err(error) => {
                out.damage(id, 0, 0, &error.to_string())?;
                continue;
            }
        };
        for (number, payload) in &file.entries {
            let kind = describe::kind_name(*number);
            let (text, fields) = match describe::describe(*number, payload, &mut names) {
                Ok(described) => (described.text, described.fields),
                Err(why) => (format!("cannot be read: {why}"), json!({ "unreadable": why })),
            };
            if out.wants(kind) {
                let line = format!("{id:>16}  {kind:<10}  {text}");
                out.line(&line, &json!({ "file": id, "kind": kind, "number": number, "entry": fields }))?;
            }
        }
        for damage in &file.damage {
            out.damage(id, damage.span.from, damage.span.to, "does not hold")?;
        }
    }
    Ok(())
}
