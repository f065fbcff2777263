//! `meterd demo`: the main job before your eyes.
//!
//! A [`script`] is played: the real agent as a child process ([`agent`]), applications on its socket ([`writer`]), a
//! simulated AWS in this process. [`balance`] judges the end by three sources: acknowledged is the writers' own tally,
//! billed is the ledger of the simulated AWS, and only the remainder is what the agent says.

mod agent;
mod balance;
mod place;
mod screen;
mod script;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::exit;
use crate::clock::FastClock;
use balance::{all_balanced, grouped, table};
use place::Place;
use screen::{Paint, Screen};
use script::{Outcome, Stop, Times};

/// Watch the main job in about a minute: kill -9, an outage of AWS, and every unit billed
///
/// Needs no configuration, no root and no network. Runs the real agent as a child process against a simulated AWS on
/// this machine, with applications that report usage to it. The agent is killed with -9 twice and AWS is out for an
/// hour of the demo's fast clock. Exits with 0 only if acknowledged = billed + remainder for every dimension.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Keep the files here, in a new or empty directory [default: a temporary one, removed when all went well]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// The same moments for the kills and the same usage as another run [default: chance]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How many hours are metered
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(4..=24))]
    hours: u32,

    /// How many times as fast the clock runs; at 720 an hour takes 5 seconds
    #[arg(long, value_name = "N", default_value_t = 720, value_parser = clap::value_parser!(u32).range(60..=3600))]
    speed: u32,
}

/// Plays the demo; returns the exit code.
pub fn run(args: &Demo) -> u8 {
    let screen = Screen::new();
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&interrupted)) {
            return fail(&screen, &format!("cannot wait for signals: {error}"));
        }
    }
    let place = match Place::make(args.dir.as_deref()) {
        Ok(place) => place,
        Err(message) => return fail(&screen, &message),
    };
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let times = Times { hours: args.hours, speed: args.speed.min(FastClock::SPEED_MAX), seed };
    introduce(&screen, times);
    let played = script::play(times, &place, &screen, &|| interrupted.load(Ordering::Relaxed));
    screen.done();
    match played {
        Ok(outcome) => conclude(&screen, &place, &outcome),
        Err(Stop::Interrupted) => {
            place.remove();
            screen.line("interrupted");
            exit::INTERRUPTED
        }
        Err(Stop::Failed(message)) => {
            let code = fail(&screen, &message);
            screen.line(&format!("the agent's log and state are kept in {}; seed {seed}", place.dir.display()));
            code
        }
    }
}

fn introduce(screen: &Screen, times: Times) {
    let Times { hours, speed, seed } = times;
    screen.line(&format!("{}  (seed {seed})", screen.paint(Paint::Strong, "meterd demo")));
    screen.paragraph(&format!(
        "{hours} hours of an instance's life in {} seconds. Applications report usage to the real agent, which rolls it \
         into one record per hour and dimension and sends those to AWS. It will be killed with -9 twice, at moments that \
         it does not choose, and AWS will be out for an hour. In the end every unit that was answered with ok must be \
         billed, exactly once. AWS is a simulation on this machine: nothing leaves it.",
        hours * 3600 / speed
    ));
}

fn conclude(screen: &Screen, place: &Place, outcome: &Outcome) -> u8 {
    let balanced = all_balanced(&outcome.rows);
    screen.line("");
    for (i, line) in table(&outcome.rows).lines().enumerate() {
        let good = outcome.rows.get(i.wrapping_sub(1)).map(balance::Row::balanced);
        let paint = good.map_or(Paint::Strong, |good| if good { Paint::Good } else { Paint::Bad });
        screen.line(&format!("  {}", screen.paint(paint, line)));
    }
    screen.line("  users: the greatest number of each hour counts, so this is a sum of hourly peaks");
    screen.line("");
    for fact in facts(outcome) {
        screen.line(&format!("  {fact}"));
    }
    screen.line("");
    if balanced {
        let verdict = "Everything acknowledged is billed exactly once, or waits below one unit for the next hour.";
        screen.line(&screen.paint(Paint::Good, verdict));
        place.remove();
        if !place.temporary {
            let (dir, config) = (place.dir.display(), place.config().display().to_string());
            screen.line(&format!(
                "Kept in {dir}: meterd.toml, agent.log, state. Its books: meterd status --config {config}"
            ));
        }
        return exit::FINE;
    }
    for row in outcome.rows.iter().filter(|row| !row.balanced()) {
        let books = outcome.books.iter().find(|books| books["dimension"] == row.dimension.as_str());
        screen.line(&format!(
            "{} differs by {}; the agent's own books say {}",
            row.dimension,
            row.missing(),
            books.map_or("nothing".to_owned(), ToString::to_string)
        ));
    }
    screen.line(&screen.paint(Paint::Bad, "The books do not hold. Please report this with the directory below."));
    screen.line(&format!("the agent's log and state are kept in {}; seed {}", place.dir.display(), outcome.seed));
    exit::REFUSED
}

fn facts(outcome: &Outcome) -> Vec<String> {
    let number = |n: u64| grouped(&n.to_string());
    let (increments, duplicates, refused) = outcome.counts;
    let plural = |n: u64, one: &str, many: &str| format!("{} {}", number(n), if n == 1 { one } else { many });
    let mut facts = vec![
        format!(
            "{} acknowledged by the agent, each after it was on disk",
            plural(increments, "increment", "increments")
        ),
        format!(
            "{} sent again after a kill had been taken before: answered as known, counted once",
            plural(duplicates, "increment", "increments")
        ),
        format!(
            "{}, the agent away for {} ms at most",
            plural(outcome.kills, "kill -9", "kills with -9"),
            outcome.longest_away.as_millis()
        ),
        format!(
            "{} reached AWS, {} billed",
            plural(outcome.calls, "call", "calls"),
            plural(outcome.records, "record", "records")
        ),
    ];
    if refused > 0 {
        facts.push(format!(
            "{} refused, for their hour was sealed; not in the table",
            plural(refused, "report", "reports")
        ));
    }
    facts
}

fn fail(screen: &Screen, message: &str) -> u8 {
    screen.line(&format!("{}: {message}", screen.paint(Paint::Bad, "meterd demo")));
    exit::REFUSED
}
