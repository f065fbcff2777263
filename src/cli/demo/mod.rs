//! `meterd demo`: the main job before your eyes.
//!
//! A `script` is played: the real agent as a child process (`agent`), applications on its socket (`writer`), a
//! simulated AWS in this process. `balance` judges the end by three sources: acknowledged is the writers' own tally,
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
use super::terminal::Paint;
use crate::clock::FastClock;
use balance::{all_balanced, grouped, table};
use place::Place;
use screen::Screen;
use script::{Outcome, Times};

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
    let is_interrupted = || interrupted.load(Ordering::Relaxed);
    let played = script::play(times, &place, &screen, &is_interrupted);
    screen.done();
    match played {
        Ok(outcome) => conclude(&screen, &place, &outcome),
        // Ctrl-C goes to the agent as well: what fails because of that is no failure.
        Err(_) if is_interrupted() => {
            place.remove();
            screen.line("interrupted");
            exit::INTERRUPTED
        }
        Err(message) => {
            let kept = place.dir.display();
            fail(&screen, &format!("{message}\nthe agent's log and state are kept in {kept}; seed {seed}"))
        }
    }
}

fn introduce(screen: &Screen, times: Times) {
    let Times { hours, speed, seed } = times;
    screen.line(&format!("{}  (seed {seed})", screen.paint(Paint::Strong, "meterd demo")));
    screen.paragraph(&format!(
        "{hours} hours of an instance's life in {} seconds. Applications report usage to the real agent, which rolls it \
         into one record per hour and dimension and sends those to AWS. It will be killed with -9 twice, at moments that \
         it does not choose, AWS will be out for an hour, and two applications lose answers and send again. In the end every unit that was answered with ok must be \
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
    screen.line("  (users: the sum of each hour's greatest number)");
    screen.line("");
    for fact in facts(outcome) {
        screen.line(&format!("  {fact}"));
    }
    screen.line("");
    if balanced {
        let verdict = "Every acknowledged unit is billed, exactly once, or stays in the remainder.";
        screen.line(&screen.paint(Paint::Good, verdict));
        place.remove();
        if !place.temporary {
            screen.line(&format!("Kept in {}: meterd.toml, agent.log, state. Its books:", place.dir.display()));
            screen.line(&format!("meterd status --config '{}'", place.config().display()));
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
    let number = |n: u64, what: &str| format!("{} {what}{}", grouped(&n.to_string()), if n == 1 { "" } else { "s" });
    let (increments, duplicates, refused) = outcome.counts;
    let away = outcome.longest_away.as_millis();
    let mut facts = vec![
        format!("{} acknowledged, each of them on disk before its ok", number(increments, "increment")),
        format!("{} sent again after a lost answer: known by the key, counted once", number(duplicates, "increment")),
        format!("{} by kill -9, the agent away for {away} ms at most", number(outcome.kills, "restart")),
        format!("{} reached AWS, {} billed", number(outcome.calls, "call"), number(outcome.records, "record")),
    ];
    if refused > 0 {
        facts
            .push(format!("{} of users refused, for the hour was sealed; not in the table", number(refused, "report")));
    }
    facts
}

fn fail(screen: &Screen, message: &str) -> u8 {
    screen.complain(&format!("meterd demo: {message}"));
    exit::REFUSED
}
