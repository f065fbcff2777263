//! `[alert] command`: somebody is told when `attention` changes, and until somebody has been it is tried again.
//!
//! `attention` is looked at every [`LOOK_EVERY`]. What is new is told at the next look, what is over once it has stayed
//! away for [`GONE_AFTER`]: a cause that comes and goes is one alert, and so is a restart, after which the agent has to
//! find out again what it knew. There is one call at a time, and one a minute at most ([`PAUSE`]); what changed meanwhile
//! is told together, as it is then. A call that fails is made again after twice as long each time, until one succeeds.
//!
//! The command runs in a thread of its own (see [`call`]): one that hangs, or a file system that does, holds up nothing
//! but the next alert. A stop of the agent does not wait for it.

mod call;
mod change;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::commands::{Command, Gone, Handle};
use crate::clock::Clock;
use crate::config::Config;
use crate::status::Attention;
use call::{CALL_TIMEOUT, Call};
use change::{Change, Seen, Steady};

/// Between two looks, by the agent's clock.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The same by the machine's, however fast the agent's clock runs.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(100);
/// What was away for so long is over.
const GONE_AFTER: Duration = Duration::from_secs(60);
/// Between the beginnings of two calls at least; between the first failed one and the next.
const PAUSE: Duration = Duration::from_secs(60);
/// The longest pause after calls that failed.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// A call that has not ended so long after it was killed is said to hang.
const KILLED: Duration = Duration::from_secs(5);
/// How long a stop waits for a call that it has killed.
const FAREWELL: Duration = Duration::from_millis(500);

/// What was told last, in the state directory.
const TOLD: &str = "alerted.json";

/// That the command failed, for `status`. It is not told by the command.
pub(super) fn attention(why: String, since: String) -> Attention {
    Attention {
        code: change::ALERT_FAILED,
        message: format!("the alert command fails: {why}"),
        remedy: "mend alert.command; it is called again by itself, within the hour, until it succeeds".to_owned(),
        since: Some(since),
    }
}

/// Watches over `attention`.
pub struct Alerting {
    /// The core.
    pub core: Handle,
    /// What pauses are measured by.
    pub clock: Arc<dyn Clock>,
    /// The configuration in force.
    pub in_force: watch::Receiver<Arc<Config>>,
}

/// What is to come.
#[derive(Default)]
struct Plan {
    /// No call before this moment of the agent's clock.
    not_before: Duration,
    /// Calls in a row that failed.
    failures: u32,
}

impl Alerting {
    /// Works until the agent stops.
    pub async fn run(mut self) {
        // Only a core that is gone ends it, and then there is nothing to tell.
        let _ = self.watch().await;
    }

    async fn watch(&mut self) -> Result<(), Gone> {
        let path = self.in_force.borrow().state.dir.join(TOLD);
        let mut told = Seen::default();
        let mut steady: Option<Steady> = None;
        let mut plan = Plan::default();
        self.in_force.mark_changed();
        let mut command: Vec<String> = Vec::new();
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(look_at), if !command.is_empty() => look_at = self.next_look(),
                // The first time this is what it was started with.
                changed = self.in_force.changed() => {
                    changed.map_err(|_| Gone)?;
                    let before = std::mem::replace(&mut command, self.in_force.borrow_and_update().alert.command.clone());
                    if command != before {
                        // Another one may be a better one: it is tried at the next look.
                        (plan.not_before, look_at) = (Duration::ZERO, self.next_look());
                        if command.is_empty() && std::mem::take(&mut plan).failures > 0 {
                            self.core.tell(Command::Alerted(Ok(())))?;
                        }
                    }
                    continue;
                }
            }
            let status = self.core.ask(Command::Status).await?;
            let now = self.clock.monotonic();
            let steady = match &mut steady {
                Some(steady) => steady,
                None => {
                    told = read(&path).await;
                    steady.insert(Steady::after(&told, now))
                }
            };
            steady.look(&Seen::of(&status), now);
            let seen = steady.seen();
            told.lower_to(&seen);
            let change = Change::between(&told, &seen);
            if now < plan.not_before || (change.is_empty() && plan.failures == 0) {
                continue;
            }
            let done = self.call(Call::new(&command, &status, &change), &seen, &path).await?;
            match &done {
                Ok(()) => {
                    told = seen;
                    plan = Plan { not_before: now + PAUSE, failures: 0 };
                }
                Err(why) => {
                    tracing::warn!(why, "the alert command failed; it is called again");
                    let pause = PAUSE.saturating_mul(1 << plan.failures.min(10)).min(PAUSE_MAX);
                    plan =
                        Plan { not_before: self.clock.monotonic() + pause, failures: plan.failures.saturating_add(1) };
                }
            }
            self.core.tell(Command::Alerted(done))?;
        }
    }

    fn next_look(&self) -> Instant {
        Instant::now() + self.clock.real(LOOK_EVERY).max(LOOK_EVERY_MIN)
    }

    /// Calls the command, and notes what it has been told. Dropped before it is done, it kills it.
    async fn call(&self, call: Call, seen: &Seen, path: &Path) -> Result<Result<(), String>, Gone> {
        let (under_way, ended) = UnderWay::new();
        let (done, result) = oneshot::channel();
        let (stop, text, path) = (Arc::clone(&under_way.stop), seen.to_json(), path.to_owned());
        let started = thread::Builder::new().name("alert".into()).spawn(move || {
            let called = call.run(CALL_TIMEOUT, &stop);
            if called.is_ok()
                && let Err(error) = write(&path, &text)
            {
                tracing::warn!(%error, "what was alerted cannot be noted: a restart will tell it again");
            }
            // An agent that stops does not wait for it.
            let _ = done.send(called);
            drop(ended);
        });
        if let Err(error) = started {
            return Ok(Err(format!("starting a thread: {error}")));
        }
        let mut result = result;
        let fell = |_| Err("the thread that called it panicked".to_owned());
        match tokio::time::timeout(CALL_TIMEOUT + KILLED, &mut result).await {
            Ok(called) => Ok(called.unwrap_or_else(fell)),
            Err(_) => {
                let why = format!("it hangs, and did not end when it was killed after {} s", CALL_TIMEOUT.as_secs());
                self.core.tell(Command::Alerted(Err(why)))?;
                Ok(result.await.unwrap_or_else(fell))
            }
        }
    }
}

/// A call, as the agent sees it.
struct UnderWay {
    stop: Arc<AtomicBool>,
    /// Closed when it has ended.
    ended: mpsc::Receiver<()>,
}

impl UnderWay {
    fn new() -> (UnderWay, mpsc::Sender<()>) {
        let (alive, ended) = mpsc::channel();
        (UnderWay { stop: Arc::default(), ended }, alive)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Nothing is ever sent: it waits for the thread's end, or long enough.
        let _ = self.ended.recv_timeout(FAREWELL);
    }
}

/// What was told before the start; nothing where nobody can tell.
async fn read(path: &Path) -> Seen {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
    read.ok().and_then(Result::ok).and_then(|bytes| Seen::from_json(&bytes)).unwrap_or_default()
}

/// Written whole or not at all. A power cut may take it back, and then it is told again.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("json.new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}
