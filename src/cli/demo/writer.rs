//! The demo's applications: threads that report usage on the agent's socket and keep a tally of their own.
//!
//! Every increment has a key. A writer whose connection breaks cannot know which of the unanswered increments were
//! taken; with keys it sends them all again and each counts once. Without keys an exact tally could not be kept.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::decimal::Amount;
use crate::hour::Hour;

/// Pause before a broken connection is tried again.
const RECONNECT_AFTER: Duration = Duration::from_millis(5);
/// An answer that takes longer is as good as a broken connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Between these minutes of the hour the users are counted: far enough from the hour's ends that it is beyond doubt
/// which hour a report belongs to, though the agent's clock is behind the demo's by the time that a process takes to
/// start.
const COUNT_MINUTES: std::ops::Range<i64> = 10..50;

/// What one application does.
#[derive(Debug, Clone, Copy)]
pub struct Application {
    /// Begins its keys.
    pub name: &'static str,
    /// What it reports.
    pub reports: Reports,
    /// Increments that it sends before it reads the answers.
    pub burst: usize,
    /// Time from one burst to the next.
    pub every: Duration,
    /// One burst in this many it breaks off before it has read the answers, and sends all of it again; 0: never.
    pub breaks_off: u32,
}

/// What an application reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reports {
    /// A handful of requests.
    Requests,
    /// Traffic, with six decimals and a team's tag.
    Gigabytes,
    /// How many users there are, stamped with the time: the greatest of each hour is billed.
    Users,
}

impl Reports {
    /// The dimension's name.
    pub fn dimension(self) -> &'static str {
        match self {
            Reports::Requests => "requests",
            Reports::Gigabytes => "gigabytes",
            Reports::Users => "users",
        }
    }
}

/// What a writer was told.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Increments acknowledged.
    pub increments: u64,
    /// Of those, answered as known: they had been taken before, and the first answer was lost.
    pub duplicates: u64,
    /// Refused because their hour was sealed; not acknowledged.
    pub refused: u64,
    /// The sum of what adds up.
    sum: Amount,
    /// The greatest of each hour, for what does not.
    peaks: BTreeMap<Hour, Amount>,
}

impl Tally {
    /// The quantity that AWS must bill, or the agent must keep as a remainder.
    pub fn acknowledged(&self) -> Amount {
        self.sum + self.peaks.values().copied().sum()
    }

    fn take(&mut self, line: &Line, duplicate: bool) {
        self.increments += 1;
        self.duplicates += u64::from(duplicate);
        match line.peak_of {
            None => self.sum += line.quantity,
            Some(hour) => {
                let peak = self.peaks.entry(hour).or_default();
                *peak = line.quantity.max(*peak);
            }
        }
    }
}

/// An increment on its way.
struct Line {
    text: String,
    quantity: Amount,
    peak_of: Option<Hour>,
}

/// What the writers and the demo tell each other.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    abort: AtomicBool,
    failure: OnceLock<String>,
}

/// The running writers; dropping them ends them at once.
pub struct Writers {
    shared: Arc<Shared>,
    tallies: Vec<(Reports, Arc<Mutex<Tally>>)>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts a thread for each application.
    pub fn start(applications: &[Application], socket: &Path, clock: &Arc<dyn Clock>, seed: u64) -> io::Result<Self> {
        let mut writers = Writers { shared: Arc::default(), tallies: Vec::new(), threads: Vec::new() };
        for (application, number) in applications.iter().zip(1..) {
            let tally = Arc::new(Mutex::new(Tally::default()));
            let writer = Writer {
                application: *application,
                socket: socket.to_owned(),
                clock: Arc::clone(clock),
                random: fastrand::Rng::with_seed(seed.wrapping_add(number)),
                shared: Arc::clone(&writers.shared),
                tally: Arc::clone(&tally),
                made: 0,
                users: 40,
                unanswered: VecDeque::new(),
                connection: None,
            };
            writers.tallies.push((application.reports, tally));
            let thread = thread::Builder::new().name(application.name.to_owned()).spawn(move || writer.run())?;
            writers.threads.push(thread);
        }
        Ok(writers)
    }

    /// Lets every writer get its last answers, then end.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Whether all have ended.
    pub fn ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Why a writer gave up, if one did.
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }

    /// All tallies of one kind, or of all, as one.
    pub fn acknowledged(&self, reports: Reports) -> Amount {
        self.tallies.iter().filter(|(r, _)| *r == reports).map(|(_, tally)| lock(tally).acknowledged()).sum()
    }

    /// Increments acknowledged, duplicates among them, and refused ones, of all writers.
    pub fn counts(&self) -> (u64, u64, u64) {
        self.tallies.iter().fold((0, 0, 0), |(increments, duplicates, refused), (_, tally)| {
            let tally = lock(tally);
            (increments + tally.increments, duplicates + tally.duplicates, refused + tally.refused)
        })
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.shared.abort.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in there has been printed by its own thread.
            let _ended = thread.join();
        }
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a burst was not answered in full.
enum Broken {
    /// Try again with the same keys.
    Again,
    /// No retry helps.
    Refused(String),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Broken::Again
    }
}

struct Writer {
    application: Application,
    socket: PathBuf,
    clock: Arc<dyn Clock>,
    random: fastrand::Rng,
    shared: Arc<Shared>,
    tally: Arc<Mutex<Tally>>,
    made: u64,
    users: i64,
    /// Made and not acknowledged, oldest first.
    unanswered: VecDeque<Line>,
    connection: Option<BufReader<UnixStream>>,
}

impl Writer {
    fn run(mut self) {
        let mut due = Instant::now();
        while !self.shared.abort.load(Ordering::Relaxed) {
            if self.unanswered.is_empty() {
                if self.shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(due.saturating_duration_since(Instant::now()));
                // What an absence of the agent held up is not caught up with.
                due = due.max(Instant::now()) + self.application.every;
                let burst: Vec<Line> = (0..self.application.burst).filter_map(|_| self.make()).collect();
                self.unanswered.extend(burst);
            }
            match self.exchange() {
                Ok(()) => {}
                Err(Broken::Again) => {
                    self.connection = None;
                    thread::sleep(RECONNECT_AFTER);
                }
                Err(Broken::Refused(why)) => {
                    // The first reason is told; the others are most likely the same.
                    let _ = self.shared.failure.set(why);
                    return;
                }
            }
        }
    }

    /// The next increment, if there is one now.
    fn make(&mut self) -> Option<Line> {
        let Application { name, reports, .. } = self.application;
        let now = self.clock.now();
        let key = format!("{name}-{}", self.made);
        let dimension = reports.dimension();
        let (quantity, peak_of, fields) = match reports {
            Reports::Requests => {
                let quantity = self.random.i64(1..=9);
                (Amount::from_units(quantity), None, json!({ "quantity": quantity }))
            }
            Reports::Gigabytes => {
                let quantity = Amount::from_millionths(self.random.i128(1..=250_000));
                let mut fields = json!({ "quantity": quantity.to_string() });
                if let Some(team) = self.random.choice([None, Some("blue"), Some("green")]).flatten() {
                    fields["tags"] = json!({ "team": team });
                }
                (quantity, None, fields)
            }
            Reports::Users => {
                if !COUNT_MINUTES.contains(&(now.seconds() / 60 % 60)) {
                    return None;
                }
                self.users = (self.users + self.random.i64(-3..=3)).clamp(1, 99);
                (
                    Amount::from_units(self.users),
                    Some(now.hour()),
                    json!({ "quantity": self.users, "at": now.seconds() }),
                )
            }
        };
        self.made += 1;
        let mut line = json!({ "dimension": dimension, "key": key });
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        Some(Line { text: format!("{line}\n"), quantity, peak_of })
    }

    /// Sends everything unanswered and reads the answers.
    fn exchange(&mut self) -> Result<(), Broken> {
        if self.unanswered.is_empty() {
            return Ok(());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = UnixStream::connect(&self.socket)?;
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                BufReader::new(stream)
            }
        };
        let lines: String = self.unanswered.iter().map(|line| line.text.as_str()).collect();
        connection.get_mut().write_all(lines.as_bytes())?;
        let one_in = self.application.breaks_off;
        if one_in > 0 && self.random.u32(0..one_in) == 0 {
            // What a time-out, a crash or a lost answer looks like to the agent.
            return Err(Broken::Again);
        }
        let mut text = String::new();
        while let Some(line) = self.unanswered.front() {
            text.clear();
            connection.read_line(&mut text)?;
            // An answer that was cut off says nothing.
            let answer: Value = serde_json::from_str(&text).map_err(|_| Broken::Again)?;
            let mut tally = lock(&self.tally);
            if answer["ok"] == true {
                tally.take(line, answer["duplicate"] == true);
            } else if answer["retryable"] == true {
                return Err(Broken::Again);
            } else if answer["error"] == "hour_closed" {
                tally.refused += 1;
            } else {
                return Err(Broken::Refused(format!("the agent refuses {}: {}", line.text.trim(), text.trim())));
            }
            self.unanswered.pop_front();
        }
        self.connection = Some(connection);
        Ok(())
    }
}
