//! `meterd add -`: every line of standard input, many in flight, each with its answer.

use std::io::{self, BufRead, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use indicatif::ProgressBar;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::progress::progress;
use super::sender::{Delivered, Gap, Sender};
use super::{code_of, word};
use crate::cli::exit;
use crate::cli::say::{complain, say};
use crate::ingest::protocol::LINE_BYTES_MAX;

/// What the answers came to so far.
struct Tally {
    json: bool,
    /// The agent's answers.
    answered: u64,
    /// Those of them that were `ok`.
    durable: u64,
    /// Lines that the agent refused, or was not sent because they are too long.
    refused: Arc<AtomicU64>,
    /// The line of the input that was dealt with last.
    line: u64,
    code: u8,
    display: ProgressBar,
}

/// What the sender left out, in order.
struct Gaps {
    heard: mpsc::Receiver<Gap>,
    next: Option<Gap>,
}

impl Gaps {
    /// The next one, if it stands before the answer that follows `answered` others.
    fn before(&mut self, answered: u64) -> Option<Gap> {
        self.next = self.next.take().or_else(|| self.heard.try_recv().ok());
        self.next.take_if(|gap| gap.behind <= answered)
    }
}

/// Sends every line while the answers are read; returns the exit code.
pub fn add(json: bool, stream: UnixStream) -> io::Result<u8> {
    let (leave, heard) = mpsc::channel();
    let delivered = Delivered::default();
    let interrupted = interruption(stream.try_clone()?)?;
    let sender = Sender::new(stream.try_clone()?, leave, delivered.clone(), Arc::clone(&interrupted));
    let ended = Arc::new(AtomicBool::new(false));
    let sending = thread::spawn({
        let (ended, stream) = (Arc::clone(&ended), stream.try_clone()?);
        move || {
            let sent = sender.send_all();
            // Before the agent hears that it was all, and ends the connection.
            ended.store(true, Ordering::Release);
            stream.shutdown(Shutdown::Write)?;
            sent
        }
    });
    let refused = Arc::new(AtomicU64::new(0));
    let display = if json { ProgressBar::hidden() } else { progress(&delivered.read, &refused) };
    let mut tally = Tally { json, answered: 0, durable: 0, refused, line: 0, code: exit::FINE, display };
    let mut gaps = Gaps { heard, next: None };
    let mut answers = BufReader::new(stream).lines();
    while let Some(Ok(answer)) = answers.next() {
        tally.pass(&mut gaps);
        tally.answer(&answer)?;
    }
    if interrupted.load(Ordering::Acquire) {
        tally.display.finish_and_clear();
        return Ok(tally.after_interruption(delivered.lines()));
    }
    // While standard input goes on nobody waits for its next line: the agent is gone.
    let sent = if ended.load(Ordering::Acquire) {
        sending.join().unwrap_or_else(|_| Err(io::Error::other("reading standard input failed")))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    };
    tally.pass(&mut gaps);
    tally.display.finish_and_clear();
    Ok(match sent {
        Ok(()) if delivered.lines() == tally.answered => tally.after_all(),
        Ok(()) => tally.after_break(&io::ErrorKind::UnexpectedEof.into(), delivered.lines()),
        Err(error) => tally.after_break(&error, delivered.lines()),
    })
}

/// Set by the first SIGINT or SIGTERM, which also ends what the agent hears: it answers the lines that it has got whole. A
/// second one ends the program.
fn interruption(stream: UnixStream) -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        signals.forever().next();
        // It fails only where the agent has ended the connection already.
        let _ = stream.shutdown(Shutdown::Write);
    });
    Ok(interrupted)
}

impl Tally {
    /// Counts the lines that stand before the next answer and have none.
    fn pass(&mut self, gaps: &mut Gaps) {
        while let Some(gap) = gaps.before(self.answered) {
            self.line += gap.blank;
            if gap.too_long {
                self.line += 1;
                let message =
                    format!("a line has at most {LINE_BYTES_MAX} bytes: send its increments in several lines");
                let answer = json!({ "ok": false, "error": "too_large", "message": message, "retryable": false });
                if self.json {
                    say!("{answer}");
                }
                self.refuse(&answer);
            }
        }
    }

    fn answer(&mut self, text: &str) -> io::Result<()> {
        self.answered += 1;
        self.line += 1;
        self.display.set_position(self.answered);
        if self.json {
            say!("{text}");
        }
        if text.starts_with("{\"ok\":true") {
            self.durable += 1;
        } else {
            let answer: Value = serde_json::from_str(text).map_err(io::Error::other)?;
            self.refuse(&answer);
        }
        Ok(())
    }

    fn refuse(&mut self, answer: &Value) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        // What a person must mend weighs more than what a retry mends.
        self.code = if self.code == exit::REFUSED { self.code } else { code_of(answer) };
        if !self.json {
            let (line, error, message) = (self.line, word(&answer["error"]), word(&answer["message"]));
            self.display.suspend(|| complain!("line {line}: {error}: {message}"));
        }
    }

    fn sum(&self) -> String {
        let refused = self.refused.load(Ordering::Relaxed);
        format!("{} of {} lines are durable, {refused} refused", self.durable, self.durable + refused)
    }

    fn after_all(&self) -> u8 {
        if !self.json {
            say!("{}", self.sum());
        }
        self.code
    }

    fn after_interruption(&self, delivered: u64) -> u8 {
        complain!("meterd: interrupted: {}, up to line {}", self.sum(), self.line);
        self.go_on(delivered);
        exit::INTERRUPTED
    }

    fn after_break(&self, error: &io::Error, delivered: u64) -> u8 {
        complain!("meterd: the agent broke off ({error}): {}, up to line {}", self.sum(), self.line);
        self.go_on(delivered);
        // What was refused will be so again.
        if self.code == exit::REFUSED { self.code } else { exit::RETRY }
    }

    /// How to go on without doubling anything, where the agent was handed so many lines.
    fn go_on(&self, delivered: u64) {
        let next = self.line + 1;
        match delivered.saturating_sub(self.answered) {
            0 => complain!("no line after it was taken; to go on: tail -n +{next} FILE | meterd add -"),
            unknown => complain!(
                "whether the {unknown} after it were recorded is unknown; if they have keys it is safe to go on with: \
                 tail -n +{next} FILE | meterd add -"
            ),
        }
    }
}
