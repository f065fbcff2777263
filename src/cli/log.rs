//! The agent's log: one line a fact on standard error.
//!
//! In systemd's journal a line begins with its priority (`<3>` to `<7>`, see sd-daemon(3)), so that `journalctl -p err`
//! finds it, and has no time and no colour of its own. Everywhere else it begins with both. A line is one line, whatever
//! a message held.
//!
//! The bound: each place in the program writes at most [`BURST`] lines at once, and in the long run one every [`EVERY`] of
//! the agent's clock. What is left out is counted, and the count is a line of these, in time or at the stop. So an outage
//! of six hours writes at most 420 lines for each thing that can be said of it, and a storm of whatever kind no more. What
//! only `debug` shows is not bounded.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock::{Clock, SystemClock};

/// Lines that one place in the program may write at once.
const BURST: u32 = 60;
/// How long until it may write one more.
const EVERY: Duration = Duration::from_secs(60);

/// Where libraries speak of what does not work; the rest of what they say is theirs.
const OURS: &str = "meterd";

/// The log, for as long as the agent runs.
pub(super) struct Log(Arc<Lines>);

impl Log {
    /// Begins to write it, and keeps to the bound by `clock`.
    pub(super) fn begin(clock: Arc<dyn Clock>) -> Log {
        let asked = std::env::var("METERD_LOG").unwrap_or_default();
        let level = level(&asked);
        let form = Form::of_stderr();
        let lines =
            Arc::new(Lines { form, level: level.unwrap_or(Level::INFO), clock, limit: Mutex::new(Limit::default()) });
        // Nobody else has begun one before.
        let _ = tracing_subscriber::registry().with(Shared(Arc::clone(&lines))).try_init();
        if level.is_none() {
            tracing::warn!(METERD_LOG = asked, "no such level: one of error, warn, info, debug; it is info");
        }
        Log(lines)
    }

    /// Tells what was left out and not told yet.
    pub(super) fn end(&self) {
        let rest = self.0.limit().rest();
        rest.iter().for_each(|left| self.0.write(&left.level, &left.text()));
    }
}

fn level(asked: &str) -> Option<Level> {
    match asked {
        "error" => Some(Level::ERROR),
        "warn" => Some(Level::WARN),
        "info" | "" => Some(Level::INFO),
        "debug" => Some(Level::DEBUG),
        _ => None,
    }
}

/// Whether standard error is the journal, and not something that stands in its place.
pub(super) fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    stderr.is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

/// How a line begins.
enum Form {
    Journal,
    Plain { colour: bool },
}

impl Form {
    fn of_stderr() -> Form {
        if is_journal() {
            return Form::Journal;
        }
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Form::Plain { colour: io::stderr().is_terminal() && !no_colour }
    }

    fn line(&self, level: &Level, text: &str) -> String {
        let one_line = text.replace(['\n', '\r'], " ");
        let (priority, colour) = match *level {
            Level::ERROR => (3, 31),
            Level::WARN => (4, 33),
            Level::INFO => (6, 32),
            _ => (7, 34),
        };
        match self {
            Form::Journal => format!("<{priority}>{one_line}\n"),
            Form::Plain { colour: true } => {
                format!("{} \u{1b}[{colour}m{level:>5}\u{1b}[0m {one_line}\n", SystemClock::default().now())
            }
            Form::Plain { colour: false } => format!("{} {level:>5} {one_line}\n", SystemClock::default().now()),
        }
    }
}

struct Lines {
    form: Form,
    level: Level,
    clock: Arc<dyn Clock>,
    limit: Mutex<Limit>,
}

impl Lines {
    fn limit(&self) -> std::sync::MutexGuard<'_, Limit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, level: &Level, text: &str) {
        // A journal that is gone must not take the agent with it.
        let _ = io::stderr().lock().write_all(self.form.line(level, text).as_bytes());
    }
}

struct Shared(Arc<Lines>);

impl<S: Subscriber> Layer<S> for Shared {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let most = if metadata.target().starts_with(OURS) { self.0.level } else { self.0.level.min(Level::WARN) };
        *metadata.level() <= most
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = metadata.level();
        let text = || {
            let mut text = String::new();
            // Writing into a string does not fail.
            let _ = DefaultFields::new().format_fields(Writer::new(&mut text), event);
            text
        };
        if *level > Level::INFO {
            return self.0.write(level, &text());
        }
        let now = self.0.clock.monotonic();
        let (told, passes) = {
            let mut limit = self.0.limit();
            let told = limit.due(now);
            (told, limit.passes(metadata.callsite(), level, now, text))
        };
        told.iter().for_each(|left| self.0.write(&left.level, &left.text()));
        if passes {
            self.0.write(level, &text());
        }
    }
}

/// What has been written by each place in the program.
#[derive(Default)]
struct Limit(HashMap<Identifier, Place>);

struct Place {
    /// Lines it may write now.
    may: u32,
    /// When that was last one more.
    since: Duration,
    left: Option<LeftOut>,
}

/// What was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LeftOut {
    count: u64,
    level: Level,
    /// The first of it.
    first: String,
}

impl LeftOut {
    fn text(&self) -> String {
        let LeftOut { count, first, .. } = self;
        let mut text = format!("left out {count} lines like this one");
        let _ = write!(text, ": {first}");
        text
    }
}

impl Place {
    fn refill(&mut self, now: Duration) {
        let more = now.saturating_sub(self.since).as_nanos() / EVERY.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.may = self.may.saturating_add(more).min(BURST);
        self.since += EVERY.saturating_mul(more);
    }
}

impl Limit {
    /// Whether the next line of this place is written; if not it is counted.
    fn passes(&mut self, place: Identifier, level: &Level, now: Duration, text: impl FnOnce() -> String) -> bool {
        let place = self.0.entry(place).or_insert(Place { may: BURST, since: now, left: None });
        place.refill(now);
        if place.may > 0 {
            place.may -= 1;
            return true;
        }
        match &mut place.left {
            Some(left) => left.count += 1,
            None => place.left = Some(LeftOut { count: 1, level: *level, first: text() }),
        }
        false
    }

    /// What was left out by places that may write again. It counts as one of their lines.
    fn due(&mut self, now: Duration) -> Vec<LeftOut> {
        let left = self.0.values_mut().filter(|place| place.left.is_some()).filter_map(|place| {
            place.refill(now);
            let may = place.may.checked_sub(1)?;
            place.may = may;
            place.left.take()
        });
        left.collect()
    }

    /// All that was left out and not told.
    fn rest(&mut self) -> Vec<LeftOut> {
        self.0.values_mut().filter_map(|place| place.left.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use tracing::Callsite;
    use tracing::callsite::DefaultCallsite;

    use super::*;

    fn identifier() -> Identifier {
        tracing::callsite!(name: "test", kind: tracing::metadata::Kind::EVENT, fields: message).metadata().callsite()
    }

    /// Ten thousand lines a second through six hours, from one place, with another one that speaks twice an hour.
    #[test]
    fn a_storm_is_bounded_and_nothing_goes_uncounted() {
        let (storm, other) = (identifier(), {
            static META: Metadata<'static> = tracing::metadata! {
                name: "other", target: "meterd", level: Level::INFO, fields: tracing::fieldset!(),
                callsite: &CALL, kind: tracing::metadata::Kind::EVENT
            };
            static CALL: DefaultCallsite = DefaultCallsite::new(&META);
            CALL.metadata().callsite()
        });
        let mut limit = Limit::default();
        let (mut written, mut counted, mut said) = (0u64, 0u64, 0u64);
        let hours = 6;
        for second in 0..hours * 3600 {
            let now = Duration::from_secs(second);
            for _ in 0..100 {
                said += 1;
                let told = limit.due(now);
                written += told.len() as u64;
                counted += told.iter().map(|left| left.count).sum::<u64>();
                let passes = limit.passes(storm.clone(), &Level::WARN, now, || "storm".to_owned());
                (written, counted) = (written + u64::from(passes), counted + u64::from(passes));
            }
            if second % 1800 == 0 {
                assert!(limit.passes(other.clone(), &Level::INFO, now, || panic!("left out")));
            }
        }
        counted += limit.rest().iter().map(|left| left.count).sum::<u64>();
        assert_eq!(counted, said);
        assert!(written <= u64::from(BURST) + hours * 60, "{written} lines");
        assert!(written >= hours * 60, "{written} lines");
    }

    #[test]
    fn a_line_is_one_line_with_its_priority() {
        assert_eq!(Form::Journal.line(&Level::ERROR, "a\nb"), "<3>a b\n");
        assert_eq!(Form::Journal.line(&Level::WARN, "a"), "<4>a\n");
        let plain = Form::Plain { colour: false }.line(&Level::INFO, "a");
        assert!(plain.ends_with("Z  INFO a\n"), "{plain}");
    }
}
