//! What happens when: the agent's start, two kills, an outage, the end.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::agent::{Agent, Launch};
use super::balance::{Row, grouped};
use super::place::Place;
use super::screen::{Screen, clock_face};
use super::writer::{Application, Reports, Writers};
use crate::clock::{Clock, FastClock, SystemClock};
use crate::decimal::Amount;
use crate::hour::{Hour, Timestamp};
use crate::simulate::{LedgerRecord, Options, Outage, Simulation};

/// The dimensions, as a seller configures them.
const DIMENSIONS: &str = r#"
[[dimension]]
name = "requests"
unit = "1000"

[[dimension]]
name = "gigabytes"
unit = "0.5"

[[dimension]]
name = "users"
measure = "max"
"#;
/// What the table shows, with the units that [`DIMENSIONS`] gives them.
const BILLED: [(Reports, Amount); 3] = [
    (Reports::Requests, Amount::from_units(1000)),
    (Reports::Gigabytes, Amount::from_millionths(500_000)),
    (Reports::Users, Amount::from_units(1)),
];

const APPLICATIONS: [Application; 5] = [
    app("api", Reports::Requests, 1, 2, 0),
    app("batch", Reports::Requests, 150, 50, 0),
    app("upload", Reports::Gigabytes, 4, 16, 50),
    app("download", Reports::Gigabytes, 4, 16, 0),
    app("users", Reports::Users, 1, 20, 20),
];

const fn app(name: &'static str, reports: Reports, burst: usize, every_ms: u64, breaks_off: u32) -> Application {
    Application { name, reports, burst, every: Duration::from_millis(every_ms), breaks_off }
}

/// How long between two looks at everything.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long between two questions whether the last hour has gone out.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// What a machine that is slow or busy may need beyond the time that the clock takes.
const SLACK: Duration = Duration::from_secs(90);
/// The writers end this long before the last hour does.
const WRITERS_END: Duration = Duration::from_secs(10 * 60);
/// The ledger's news is shown once it is this old, so that an hour's records stand together.
const NEWS_AGE: Duration = Duration::from_secs(90);
const MINUTE: Duration = Duration::from_secs(60);

/// What can be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Hours that are metered.
    pub hours: u32,
    /// How fast the clock runs.
    pub speed: u32,
    /// What decides the moments of the kills, and the usage.
    pub seed: u64,
}

/// What came of it.
pub struct Outcome {
    /// The judgement's rows.
    pub rows: Vec<Row>,
    /// Increments acknowledged, duplicates among them, refused ones.
    pub counts: (u64, u64, u64),
    /// How often the agent was killed.
    pub kills: u64,
    /// The longest time from a kill to an answer.
    pub longest_away: Duration,
    /// Calls that reached AWS.
    pub calls: u64,
    /// Records that AWS bills.
    pub records: u64,
    /// The agent's books, in case they are needed for the search.
    pub books: Vec<Value>,
    /// See [`Times`].
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Kill,
    OutageBegins,
    OutageEnds,
    WritersEnd,
}

/// The events in their order, as time since the start. The outage covers the end of an hour in the middle, so that
/// its records have to wait; the kills come at any moment before and after (or during) it.
fn events(times: Times) -> Vec<(Duration, Event)> {
    let mut random = fastrand::Rng::with_seed(times.seed);
    let all = MINUTE * 60 * times.hours;
    let mut between = |from: u32, to: u32| all / 100 * random.u32(from..=to) + MINUTE * random.u32(0..=10);
    let middle = MINUTE * 60 * (times.hours / 2);
    let mut events = vec![
        (between(8, 30), Event::Kill),
        (middle - MINUTE * 20, Event::OutageBegins),
        (middle + MINUTE * 40, Event::OutageEnds),
        (between(50, 90), Event::Kill),
        (all - WRITERS_END, Event::WritersEnd),
    ];
    events.sort_unstable();
    events
}

/// Everything that runs while the demo does. Fields are dropped in this order: writers, agent, AWS.
struct Play<'a> {
    writers: Writers,
    agent: Agent,
    aws: Simulation,
    clock: Arc<dyn Clock>,
    screen: &'a Screen,
    interrupted: &'a dyn Fn() -> bool,
    began: Timestamp,
    all: Duration,
    deadline: Instant,
    aws_out: bool,
    kills: u64,
    longest_away: Duration,
    /// How many of the ledger's records have been shown.
    shown: usize,
}

/// Plays it all.
pub fn play(times: Times, place: &Place, screen: &Screen, interrupted: &dyn Fn() -> bool) -> Result<Outcome, String> {
    let began = SystemClock::default().now().hour().start();
    let clock: Arc<dyn Clock> = Arc::new(FastClock::new(began, times.speed));
    let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let aws = Simulation::start(free_port, Arc::clone(&clock), Options::default())
        .map_err(|error| format!("the simulated AWS: {error}"))?;
    place.write_config(DIMENSIONS, aws.addr())?;
    let all = MINUTE * 60 * times.hours;
    let deadline = Instant::now() + clock.real(all) * 2 + SLACK;
    let (config, socket, log) = (place.config(), place.socket(), place.log());
    let mut agent = Agent::start(Launch { config, socket, log, clock: Arc::clone(&clock), speed: times.speed })?;
    agent.ready(interrupted)?;
    screen.event(
        clock.now(),
        &format!("the agent is up (pid {}); {} applications begin", agent.pid(), APPLICATIONS.len()),
    );
    let writers = Writers::start(&APPLICATIONS, &place.socket(), &clock, times.seed)
        .map_err(|error| format!("starting the applications: {error}"))?;
    let mut play = Play {
        writers,
        agent,
        aws,
        clock,
        screen,
        interrupted,
        began,
        all,
        deadline,
        aws_out: false,
        kills: 0,
        longest_away: Duration::ZERO,
        shown: 0,
    };
    for (after, event) in events(times) {
        play.wait_until(|play| play.clock.now() >= began.plus(after))?;
        play.happen(event)?;
    }
    play.wait_until(|play| play.writers.ended())?;
    let books = play.settle()?;
    play.judge(books, times.seed)
}

impl Play<'_> {
    /// Looks after everything until `done`.
    fn wait_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        while !done(self) {
            self.check()?;
            self.agent.alive()?;
            self.news(NEWS_AGE);
            let now = self.clock.now();
            let (increments, ..) = self.writers.counts();
            self.screen.progress(now, now.since(self.began), self.all, increments, self.aws_out);
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if (self.interrupted)() {
            return Err("interrupted".into());
        }
        if let Some(why) = self.writers.failure() {
            return Err(why.to_owned());
        }
        if Instant::now() > self.deadline {
            let waiting = self.agent.status().map_or_else(|why| why, |status| status["books"].to_string());
            return Err(format!("it takes far too long; where the usage is: {waiting}"));
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        let now = self.clock.now();
        match event {
            Event::Kill => self.kill()?,
            Event::OutageBegins => {
                self.aws.set_outage(Some(Outage::ConnectionRefused));
                self.aws_out = true;
                self.screen.event(now, "AWS is out: connections are refused");
            }
            Event::OutageEnds => {
                let waiting = self.agent.status()?["records"]["pending"].as_u64().unwrap_or(0);
                self.aws.set_outage(None);
                self.aws_out = false;
                self.screen.event(now, &format!("AWS is back; {waiting} records have waited for it"));
            }
            Event::WritersEnd => {
                self.writers.stop();
                self.screen.event(now, "the applications end; the last hour is sealed and sent when it is over");
            }
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<(), String> {
        let (pid, at) = (self.agent.pid(), self.clock.now());
        let (acknowledged, ..) = self.writers.counts();
        let killed = Instant::now();
        self.agent.kill_and_restart()?;
        let status = self.agent.ready(self.interrupted)?;
        let away = killed.elapsed();
        self.kills += 1;
        self.longest_away = self.longest_away.max(away);
        let logged = status["log"]["accepted_seq"].as_u64().unwrap_or(0);
        let [was, is] = [acknowledged, logged].map(|n| grouped(&n.to_string()));
        if logged < acknowledged {
            return Err(format!("{was} increments were acknowledged before kill -9, after it the log has {is}"));
        }
        let text = format!(
            "kill -9 {pid}: {was} increments acknowledged so far; back after {} ms with {is}",
            away.as_millis()
        );
        self.screen.event(at, &text);
        Ok(())
    }

    /// Tells which hours AWS has accepted since the last time.
    fn news(&mut self, age: Duration) {
        let ledger = self.aws.ledger();
        let fresh = ledger.records.get(self.shown..).unwrap_or(&[]);
        let Some(newest) = fresh.last().filter(|newest| ledger.now.since(newest.accepted_at) >= age) else { return };
        let mut hours: BTreeMap<Hour, Vec<&LedgerRecord>> = BTreeMap::new();
        fresh.iter().for_each(|record| hours.entry(record.hour).or_default().push(record));
        for (hour, records) in hours {
            let records: Vec<String> =
                records.iter().map(|r| format!("{} {}", r.dimension, grouped(&r.quantity.to_string()))).collect();
            let hour = clock_face(hour.start());
            self.screen.event(newest.accepted_at, &format!("AWS accepts the hour {hour}:  {}", records.join("  ")));
        }
        self.shown = ledger.records.len();
    }

    /// Waits until the agent has nothing left but the remainders; its books.
    fn settle(&mut self) -> Result<Vec<Value>, String> {
        loop {
            let status = self.agent.status()?;
            let books = status["books"].as_array().cloned().unwrap_or_default();
            let is_done = |row: &Value| row["open"] == "0" && row["pending"] == "0";
            if !books.is_empty() && books.iter().all(is_done) {
                return Ok(books);
            }
            let next = Instant::now() + ASK_EVERY;
            self.wait_until(|_| Instant::now() >= next)?;
        }
    }

    fn judge(mut self, books: Vec<Value>, seed: u64) -> Result<Outcome, String> {
        self.news(Duration::ZERO);
        self.agent.terminate()?;
        self.screen.event(self.clock.now(), "the agent stops on SIGTERM");
        // After its end, so that nothing can be on its way to the ledger any more.
        let ledger = self.aws.ledger();
        let row = |(reports, unit): (Reports, Amount)| {
            let dimension = reports.dimension();
            let remainder = books.iter().find(|row| row["dimension"] == dimension).map(|row| &row["remainder"]);
            let remainder = remainder.and_then(Value::as_str).and_then(|text| text.parse().ok());
            Ok(Row {
                dimension: dimension.to_owned(),
                unit,
                acknowledged: self.writers.acknowledged(reports),
                billed_units: ledger.totals.get(dimension).copied().unwrap_or(0),
                remainder: remainder.ok_or_else(|| format!("the agent's books have no remainder of {dimension}"))?,
            })
        };
        Ok(Outcome {
            rows: BILLED.into_iter().map(row).collect::<Result<_, String>>()?,
            counts: self.writers.counts(),
            kills: self.kills,
            longest_away: self.longest_away,
            calls: ledger.calls,
            records: u64::try_from(ledger.records.len()).unwrap_or(u64::MAX),
            books,
            seed,
        })
    }
}
