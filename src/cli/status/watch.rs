//! `--watch`: the page again and again, in its place on a terminal, one after the other elsewhere.
//!
//! On a terminal it goes to the alternate screen, so that whatever stood there is back at the end. Each page is written
//! over the one before, line by line, in one piece: nothing is cleared that is not written at once, so nothing flickers.
//! What does not fit is cut off at the bottom, for a page that scrolls would not stay in its place.

use std::io::{self, ErrorKind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

use super::look::{Look, Seen};
use super::page;
use crate::cli::exit;
use crate::cli::say::{complain, json_line};
use crate::cli::terminal::{Terminal, write_out};

/// The alternate screen, without a cursor; and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// To the first line.
const HOME: &str = "\u{1b}[H";
/// Nothing in the rest of the line; and of the screen.
const REST_OF_LINE: &str = "\u{1b}[K";
const REST_OF_SCREEN: &str = "\u{1b}[J";

/// The alternate screen; left when it is dropped.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Screen> {
        write_out(ENTER).map(|()| Screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = write_out(LEAVE);
    }
}

/// What the loop waits for.
enum Event {
    Seen(Box<Seen>),
    Signal(i32),
}

/// Looks every so often and shows what it sees, until a signal ends it; returns the exit code.
pub fn run(look: Look, every: Duration, json: bool) -> u8 {
    let shown = events(look, every).and_then(|events| match (json, Terminal::look().rows) {
        (true, _) => {
            follow(&events, |seen, again| if again { Ok(()) } else { json_line(&mut io::stdout(), &seen.json) })
        }
        (false, Some(_)) => {
            let _screen = Screen::enter()?;
            follow(&events, |seen, _| in_place(seen))
        }
        (false, None) => {
            let mut gap = "";
            follow(&events, |seen, again| match again {
                true => Ok(()),
                false => {
                    let page = page::lines(&seen.for_people(), &Terminal::look()).join("\n");
                    write_out(&format!("{}{page}\n", std::mem::replace(&mut gap, "\n")))
                }
            })
        }
    });
    match shown {
        Ok(()) => exit::INTERRUPTED,
        // Whoever closes the pipe has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit::FINE,
        Err(error) => {
            complain!("meterd: {error}");
            exit::REFUSED
        }
    }
}

/// Shows each look, and the last one again when the terminal's size has changed, until it is ended.
fn follow(events: &Receiver<Event>, mut show: impl FnMut(&Seen, bool) -> io::Result<()>) -> io::Result<()> {
    let mut last: Option<Box<Seen>> = None;
    while let Ok(event) = events.recv() {
        match event {
            Event::Seen(mut seen) => {
                if let Some(before) = &last {
                    seen.after(before);
                }
                show(&seen, false)?;
                last = Some(seen);
            }
            Event::Signal(SIGWINCH) => last.as_ref().map_or(Ok(()), |seen| show(seen, true))?,
            Event::Signal(_) => return Ok(()),
        }
    }
    Ok(())
}

/// Signals and looks come from threads of their own: an agent that hangs keeps nobody from leaving.
fn events(look: Look, every: Duration) -> io::Result<Receiver<Event>> {
    let (tell, events) = channel();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGWINCH])?;
    let heard: Sender<Event> = tell.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        signals.forever().all(|signal| heard.send(Event::Signal(signal)).is_ok());
    })?;
    thread::Builder::new().name("looks".into()).spawn(move || {
        while tell.send(Event::Seen(Box::new(look.once()))).is_ok() {
            thread::sleep(every);
        }
    })?;
    Ok(events)
}

/// The page over the one before.
fn in_place(seen: &Seen) -> io::Result<()> {
    let terminal = Terminal::look();
    let lines = cut(page::lines(&seen.for_people(), &terminal), &terminal);
    let all: Vec<String> = lines.iter().map(|line| format!("{line}{REST_OF_LINE}")).collect();
    write_out(&format!("{HOME}{}{REST_OF_SCREEN}", all.join("\n")))
}

/// As many lines as there is room for.
fn cut(mut lines: Vec<String>, terminal: &Terminal) -> Vec<String> {
    let Some(rows) = terminal.rows else { return lines };
    // Only a word of a command that must not be broken is wider than the page, and goes on in the terminal's next row.
    let taken = |line: &String| width(line).div_ceil(terminal.columns).max(1);
    if lines.iter().map(taken).sum::<usize>() <= rows {
        return lines;
    }
    let mut left = rows.saturating_sub(1);
    let fit = lines.iter().take_while(|line| {
        let fits = taken(line) <= left;
        left = left.saturating_sub(taken(line));
        fits
    });
    let fit = fit.count();
    let more = lines.len() - fit;
    lines.truncate(fit);
    lines.push(format!("({more} more lines)"));
    lines
}

/// How many characters are seen: colours are none.
fn width(line: &str) -> usize {
    let mut hidden = false;
    let seen = line.chars().filter(|c| {
        hidden |= *c == '\u{1b}';
        let is_seen = !hidden;
        hidden &= *c != 'm';
        is_seen
    });
    seen.count()
}
