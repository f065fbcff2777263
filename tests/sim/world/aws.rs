//! A simulated AWS that keeps AWS's rules itself and has every fault of a day: one record per dimension and hour, its
//! own clock, replies that get lost, requests that arrive late. Sees every request that leaves, and knows what each
//! answer proves. Cannot see bytes on a wire (`tests/simulate` and the agent's tests do).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use meterd::entry::Request;
use meterd::hour::{Hour, Timestamp};
use meterd::submit::answer::{Outcome, Reply};

const WINDOW: Duration = Duration::from_secs(6 * 3600);

/// How AWS, or the way to it, behaves until told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Fine,
    /// Any of the others, call by call.
    Flaky,
    /// No connection.
    Unreachable,
    /// Requests get there or not; no answer comes back.
    Silent,
    Denied,
    Throttling,
    /// 5xx, from AWS or from something in between.
    Broken,
    /// Answers that nobody knows.
    Garbage,
}

/// What an answer proves, judged by whoever gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    Accepted,
    NotTaken,
    Blocked,
    MayBeTaken,
    Conflict,
    OutOfBounds,
    Refused,
    /// A dry run that passed.
    Nothing,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub reply: Reply,
    pub proof: Proof,
    /// AWS itself spoke.
    pub spoke: bool,
}

#[derive(Debug, Clone)]
enum Held {
    Ours(Request),
    Foreign,
}

#[derive(Debug, Clone)]
pub struct Aws {
    pub mode: Mode,
    /// Whose role session the requests carry: AWS counts by instance.
    pub who: usize,
    held: BTreeMap<(usize, String, Hour), Held>,
    asked: BTreeMap<String, (Request, u64)>,
    pub refused: BTreeSet<String>,
    /// Requests that are still under way after their sender gave up.
    in_transit: Vec<(Timestamp, usize, Request)>,
    /// The window counts from the hour's first second, not from the timestamp: AWS does not say which.
    strict: bool,
    /// How far the `Date` of a proxy in between is off, in milliseconds.
    pub date_off: i64,
    pub calls: u64,
    pub dry_runs: u64,
}

fn error(code: &str, status: u16) -> Outcome {
    Outcome::Error { code: code.into(), status }
}

impl Aws {
    pub fn new(strict: bool) -> Self {
        Aws {
            mode: Mode::Fine,
            who: 0,
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
            refused: BTreeSet::new(),
            in_transit: Vec::new(),
            strict,
            date_off: 0,
            calls: 0,
            dry_runs: 0,
        }
    }

    /// How often the request with this token was sent.
    pub fn sent(&self, token: &str) -> u64 {
        self.asked.get(token).map_or(0, |(_, n)| *n)
    }

    /// Whether this very request is held.
    pub fn holds(&self, request: &Request) -> bool {
        self.ours().any(|(_, held)| held == request)
    }

    /// Everything of ours.
    pub fn ours(&self) -> impl Iterator<Item = (usize, &Request)> {
        self.held.iter().filter_map(|((who, _, _), held)| match held {
            Held::Ours(request) => Some((*who, request)),
            Held::Foreign => None,
        })
    }

    /// Puts another quantity there, as another agent under the same name would.
    pub fn meter_otherwise(&mut self, dimension: &str, hour: Hour) {
        self.held.entry((self.who, dimension.to_owned(), hour)).or_insert(Held::Foreign);
    }

    /// Lets requests arrive that were under way until `now`; `all`: the others too.
    pub fn arrive(&mut self, now: Timestamp, all: bool) -> Result<(), String> {
        let (here, later) = std::mem::take(&mut self.in_transit).into_iter().partition(|(at, ..)| all || *at <= now);
        self.in_transit = later;
        let here: Vec<(Timestamp, usize, Request)> = here;
        let now_at = self.who;
        let arrived = here.iter().try_for_each(|(at, who, request)| {
            self.who = *who;
            self.process(request, false, (*at).min(now)).map(drop)
        });
        self.who = now_at;
        arrived
    }

    /// One call, by AWS's clock.
    pub fn call(&mut self, request: &Request, dry: bool, now: Timestamp, rng: &mut Rng) -> Result<Answer, String> {
        if dry {
            self.dry_runs += 1;
        } else {
            self.calls += 1;
            let (first, times) = self.asked.entry(request.client_token.clone()).or_insert_with(|| (request.clone(), 0));
            *times += 1;
            if first != request {
                return Err(format!("sent first as {first:?} and then as {request:?}"));
            }
        }
        let modes = [Mode::Unreachable, Mode::Silent, Mode::Denied, Mode::Throttling, Mode::Broken, Mode::Garbage];
        let mode = match self.mode {
            Mode::Flaky if rng.bool() => Mode::Fine,
            Mode::Flaky => rng.choice(modes).unwrap_or(Mode::Fine),
            mode => mode,
        };
        let may_be = Proof::MayBeTaken;
        let (outcome, proof, spoke) = match mode {
            Mode::Fine | Mode::Flaky => self.process(request, dry, now).map(|(o, p)| (o, p, true))?,
            Mode::Unreachable if rng.u8(0..4) == 0 => (Outcome::NoCredentials, Proof::Blocked, false),
            Mode::Unreachable => (Outcome::NotSent, Proof::NotTaken, false),
            Mode::Silent => {
                match rng.u8(0..3) {
                    0 => self.process(request, dry, now).map(drop)?,
                    1 if !dry => {
                        let at = now.plus(Duration::from_secs(rng.u64(1..300)));
                        self.in_transit.push((at, self.who, request.clone()));
                    }
                    _ => {}
                }
                (Outcome::NoAnswer, may_be, false)
            }
            Mode::Denied => {
                let codes = ["AccessDenied", "ExpiredToken", "UnrecognizedClient", "InvalidSignature", "Unauthorized"];
                (error(rng.choice(codes).unwrap_or_default(), 400), Proof::Blocked, true)
            }
            Mode::Throttling if rng.bool() => (error("Throttling", 400), Proof::NotTaken, true),
            Mode::Throttling => (error("ServiceUnavailable", 503), Proof::NotTaken, false),
            Mode::Broken => {
                if rng.bool() {
                    self.process(request, dry, now)?;
                }
                let all = [("InternalServiceError", 500), ("", 502), ("", 504), ("", 408), ("InternalFailure", 500)];
                let (code, status) = rng.choice(all).unwrap_or_default();
                (error(code, status), may_be, false)
            }
            Mode::Garbage => {
                if rng.bool() {
                    self.process(request, dry, now)?;
                }
                let (code, status) = rng.choice([("", 418), ("NeverHeardOf", 400), ("", 200)]).unwrap_or_default();
                (error(code, status), may_be, !code.is_empty())
            }
        };
        let date = Timestamp::from_millis(now.millis() + self.date_off);
        let retry_after = (mode == Mode::Throttling && rng.bool()).then(|| Duration::from_secs(rng.u64(0..100)));
        let answered = !matches!(outcome, Outcome::NotSent | Outcome::NoCredentials | Outcome::NoAnswer);
        let aws_time = answered.then_some(date);
        let reply = Reply { outcome, message: format!("{mode:?}"), request_id: None, retry_after, aws_time };
        Ok(Answer { reply, proof, spoke })
    }

    /// What AWS itself does with a request that has reached it.
    fn process(&mut self, request: &Request, dry: bool, now: Timestamp) -> Result<(Outcome, Proof), String> {
        well_formed(request)?;
        let hour = request.timestamp.hour();
        if self.refused.contains(&request.dimension) {
            return Ok((error("InvalidUsageDimension", 400), Proof::Refused));
        }
        let from = if self.strict { hour.start() } else { request.timestamp };
        if request.timestamp > now || now > from.plus(WINDOW) {
            return Ok((error("TimestampOutOfBounds", 400), Proof::OutOfBounds));
        }
        if dry {
            return Ok((Outcome::DryRunPassed, Proof::Nothing));
        }
        match self.held.get(&(self.who, request.dimension.clone(), hour)) {
            Some(Held::Foreign) => return Ok((error("DuplicateRequest", 400), Proof::Conflict)),
            Some(Held::Ours(held)) if held != request => {
                return Err(format!("two requests for one hour: {held:?} and {request:?}"));
            }
            _ => {}
        }
        self.held.insert((self.who, request.dimension.clone(), hour), Held::Ours(request.clone()));
        let metering_record_id = format!("id-{}-{hour}", request.dimension);
        Ok((Outcome::Accepted { metering_record_id }, Proof::Accepted))
    }
}

/// AWS's rules on the request itself.
fn well_formed(request: &Request) -> Result<(), String> {
    let shares: i128 = request.allocations.iter().map(|a| i128::from(a.quantity)).sum();
    let sets: BTreeSet<_> = request.allocations.iter().map(|a| &a.tags).collect();
    let keys: BTreeSet<&str> = request.allocations.iter().flat_map(|a| a.tags.iter().map(|(key, _)| key)).collect();
    let fine = request.quantity <= 2_147_483_647
        && (request.allocations.is_empty() || shares == i128::from(request.quantity))
        && sets.len() == request.allocations.len()
        && keys.len() <= 5
        && (1..=64).contains(&request.client_token.len());
    if fine { Ok(()) } else { Err(format!("AWS would refuse {request:?}")) }
}
