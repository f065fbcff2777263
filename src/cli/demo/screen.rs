//! What the demo shows: lines with the time of its clock, and below them, on a terminal, how far it is.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::balance::grouped;
use crate::cli::terminal::{Paint, Terminal};
use crate::hour::Timestamp;

/// Columns at which paragraphs break.
const WIDTH: usize = 80;

/// The terminal, or whatever stands in for it.
pub struct Screen {
    bar: ProgressBar,
    terminal: Terminal,
}

impl Screen {
    /// Looks at what standard output is.
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let target = if terminal { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        if let Ok(style) = ProgressStyle::with_template("  {bar:30} {msg}") {
            bar.set_style(style.progress_chars("━━╌"));
        }
        Screen { bar, terminal: Terminal::look() }
    }

    /// A line as it is.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| {
            let mut out = std::io::stdout().lock();
            // Somebody who closes the pipe has seen enough; the exit code still tells.
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        });
    }

    /// What went wrong, on standard error.
    pub fn complain(&self, text: &str) {
        self.bar.suspend(|| {
            // There is no third place to tell that nobody reads the second.
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }

    /// A paragraph.
    pub fn paragraph(&self, text: &str) {
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(&line);
                line.clear();
            }
            let gap = if line.is_empty() { "" } else { " " };
            line = format!("{line}{gap}{word}");
        }
        self.line(&line);
        self.line("");
    }

    /// Something that happens, with the time of the demo's clock.
    pub fn event(&self, now: Timestamp, text: &str) {
        self.line(&format!("  {}  {text}", clock_face(now)));
    }

    /// How far the demo is.
    pub fn progress(&self, now: Timestamp, done: Duration, all: Duration, increments: u64, aws_out: bool) {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.bar.set_length(millis(all).max(1));
        self.bar.set_position(millis(done).min(millis(all)));
        let aws = if aws_out { self.paint(Paint::Bad, "  AWS is out") } else { String::new() };
        let increments = grouped(&increments.to_string());
        self.bar.set_message(format!("{}  {increments} acknowledged{aws}", clock_face(now)));
    }

    /// Takes the progress away.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }

    /// Text in colour where there is any.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        self.terminal.paint(paint, text)
    }
}

/// `15:04`.
pub fn clock_face(moment: Timestamp) -> String {
    let minutes = moment.seconds().rem_euclid(24 * 3600) / 60;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}
