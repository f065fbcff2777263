//! The service behind the door: a call meets a fault or the rules, and everything is written down.
//!
//! One lock holds the books, the faults and the log of calls, so that what `GET /ledger` shows is of one moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::http::HeaderMap;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::answer::{DRY_RUN_OPERATION, Granted, Refusal};
use super::batch::{self, Batch};
use super::faults::{Fault, Faults, Kind, Port, Seen};
use super::ledger::{Call, CallLog, Ledger, LedgerRecord, totals};
use super::request::MeterUsage;
use super::rules::{Books, Rules, uuid_of};
use super::trail::{Seen as Shown, Trail};
use super::wire::{self, Operation, Reply};
use crate::clock::Clock;
use crate::hour::Timestamp;

/// How a call ends on the wire.
#[derive(Debug)]
pub enum Ending {
    /// With an answer.
    Answer {
        /// What is answered.
        reply: Reply,
        /// The call's own id.
        request_id: String,
        /// How long it takes, on the machine's clock.
        after: Duration,
    },
    /// With a closed connection.
    Close,
    /// Never.
    Hang,
}

/// The service's state and its clock.
pub struct Service {
    clock: Arc<dyn Clock>,
    rules: Rules,
    started: Timestamp,
    state: Mutex<State>,
    port_changed: Notify,
    port_settled: Condvar,
}

#[derive(Default)]
struct State {
    books: Books,
    faults: Faults,
    log: CallLog,
    calls: u64,
    dry_runs: u64,
    unanswered: u64,
    rejected: BTreeMap<String, u64>,
    hit: BTreeMap<&'static str, u64>,
    /// Outages that were asked for, and how many of them the listening port has followed.
    outages: u64,
    outages_settled: u64,
    trail: Option<Trail>,
    /// What came of the call that is under way, though nobody may hear of it.
    judged: Option<Result<Granted, Refusal>>,
}

/// The parts of a call that rules and faults look at.
struct Heard {
    operation: Result<Operation, Refusal>,
    caller: Result<String, Refusal>,
    request: Asked,
}

/// What is asked for, right by itself or not.
enum Asked {
    One(Result<MeterUsage, Refusal>),
    Many(Result<Batch, Refusal>),
    Who(Vec<u8>),
}

impl Asked {
    fn read(operation: Option<Operation>, body: &[u8]) -> Asked {
        match operation {
            Some(Operation::BatchMeterUsage) => Asked::Many(Batch::read(body)),
            Some(Operation::ResolveCustomer) => Asked::Who(body.to_vec()),
            Some(Operation::MeterUsage) | None => Asked::One(MeterUsage::read(body)),
        }
    }

    /// The records that it has, as far as it could be read.
    fn records(&self) -> Vec<&MeterUsage> {
        match self {
            Asked::One(request) => request.iter().collect(),
            Asked::Many(batch) => {
                batch.iter().flat_map(|batch| batch.records.iter().map(|(record, _)| record)).collect()
            }
            Asked::Who(_) => Vec::new(),
        }
    }
}

impl Service {
    /// A service without records, whose faults count from now.
    ///
    /// # Errors
    /// A sentence if there are too many faults.
    pub fn new(clock: Arc<dyn Clock>, rules: Rules, faults: Vec<Fault>, trail: Option<Trail>) -> Result<Self, String> {
        let started = clock.now();
        let mut state = State { trail, ..State::default() };
        state.faults.add(faults, started)?;
        Ok(Service {
            clock,
            rules,
            started,
            state: Mutex::new(state),
            port_changed: Notify::new(),
            port_settled: Condvar::new(),
        })
    }

    /// One call of the service.
    pub fn call(&self, headers: &HeaderMap, body: &[u8]) -> Ending {
        let now = self.clock.now();
        let operation = wire::operation(headers);
        let request = Asked::read(operation.as_ref().ok().copied(), body);
        let heard = Heard { operation, caller: wire::caller(headers), request };
        let mut state = self.lock();
        state.calls += 1;
        let number = state.calls;
        let request_id = request_id(self.started, number);
        // A fault is scripted for the operation; a request for something else never reaches it.
        let fault = match &heard.operation {
            Ok(_) => {
                let records = heard.request.records();
                let dimensions: Vec<&str> = records.iter().map(|record| record.dimension.as_str()).collect();
                let customers: Vec<&str> = records.iter().filter_map(|record| record.customer.as_deref()).collect();
                state.faults.meet(Seen {
                    now,
                    dimensions: &dimensions,
                    customers: &customers,
                    dry_run: records.first().map(|record| record.dry_run),
                })
            }
            Err(_) => None,
        };
        if let Some(kind) = &fault {
            *state.hit.entry(kind.name()).or_default() += 1;
        }
        let stood = state.books.records().len();
        let ending = self.end(&mut state, &heard, fault.as_ref(), now, request_id.clone());
        let reply = match &ending {
            Ending::Answer { reply, .. } => Some(reply),
            Ending::Close | Ending::Hang => None,
        };
        match reply {
            None => state.unanswered += 1,
            Some(Reply { error_type: Some(code), .. }) if code != DRY_RUN_OPERATION => {
                *state.rejected.entry(code.clone()).or_default() += 1;
            }
            Some(_) => {}
        }
        let State { trail, judged, books, .. } = &mut *state;
        if let (Some(trail), Ok(operation)) = (trail, &heard.operation) {
            let caller = heard.caller.as_deref().unwrap_or_default();
            for planted in books.records().iter().skip(stood).filter(|record| record.planted) {
                trail.planted(planted, now);
            }
            let refused = reply.and_then(|reply| reply.error_type.as_deref());
            let answer = judged.take();
            trail.call(&Shown { now, operation: *operation, caller, body, request_id: &request_id, answer, refused });
        }
        state.log.push(Call {
            number,
            at: now,
            target: wire::text(headers, "x-amz-target").map(str::to_owned),
            user_agent: wire::text(headers, "user-agent").map(str::to_owned),
            instance: heard.caller.ok(),
            body: String::from_utf8_lossy(body).into_owned(),
            fault: fault.as_ref().map(Kind::name),
            request_id,
            status: reply.map(|reply| reply.status),
            answer: reply.map(|reply| reply.body.clone()),
        });
        ending
    }

    fn end(
        &self,
        state: &mut State,
        heard: &Heard,
        fault: Option<&Kind>,
        now: Timestamp,
        request_id: String,
    ) -> Ending {
        let answer = |reply: Reply| Ending::Answer { reply, request_id: request_id.clone(), after: Duration::ZERO };
        let refuse = |status: u16, code: &str, message: &str| {
            Reply::refused(&Refusal::with_status(status, code.to_owned(), message), now)
        };
        match fault {
            None => answer(Reply::of(&self.judge(state, heard, now), now)),
            Some(kind @ (Kind::Unprocessed { .. } | Kind::NotSubscribed { .. })) => {
                answer(Reply::of(&self.judge_with(state, heard, Some(kind), now), now))
            }
            Some(Kind::AcceptAndLoseReply) => {
                let _lost = self.judge(state, heard, now);
                Ending::Close
            }
            Some(Kind::Close | Kind::RefuseConnection) => Ending::Close,
            Some(Kind::Hang { recorded }) => {
                self.judge_if(*recorded, state, heard, now);
                Ending::Hang
            }
            Some(Kind::Throttle { retry_after_s }) => {
                let reply = refuse(400, "ThrottlingException", "Rate exceeded");
                answer(Reply { retry_after_s: *retry_after_s, ..reply })
            }
            Some(Kind::ServiceUnavailable { retry_after_s }) => {
                let reply = refuse(503, "ServiceUnavailableException", "Service is unavailable");
                answer(Reply { retry_after_s: *retry_after_s, ..reply })
            }
            Some(Kind::InternalError { recorded }) => {
                self.judge_if(*recorded, state, heard, now);
                answer(refuse(
                    500,
                    "InternalServiceErrorException",
                    "An internal error has occurred. Retry your request.",
                ))
            }
            Some(Kind::Garbage { recorded }) => {
                self.judge_if(*recorded, state, heard, now);
                answer(Reply::ok(now, "<html><body>It works!</body></html>"))
            }
            Some(Kind::Empty { recorded }) => {
                self.judge_if(*recorded, state, heard, now);
                answer(Reply::ok(now, ""))
            }
            Some(Kind::Slow { delay }) => {
                let reply = Reply::of(&self.judge(state, heard, now), now);
                Ending::Answer { reply, request_id, after: *delay }
            }
            Some(Kind::Denied) => answer(refuse(
                400,
                "AccessDeniedException",
                "the caller is not authorized to perform: aws-marketplace:MeterUsage",
            )),
            Some(Kind::ExpiredToken) => {
                answer(refuse(400, "ExpiredTokenException", "The security token included in the request is expired"))
            }
            Some(Kind::WrongClock { shift_s }) => {
                let shift = Duration::from_secs(shift_s.unsigned_abs());
                let wrong = if *shift_s < 0 { now.minus(shift) } else { now.plus(shift) };
                answer(Reply::of(&self.judge(state, heard, wrong), wrong))
            }
            Some(Kind::OtherQuantity) => {
                if let (Ok(caller), Some(request)) = (&heard.caller, heard.request.records().first()) {
                    let whose = if request.customer.is_some() { "" } else { caller };
                    state.books.plant_other_quantity(&self.rules, whose, request, now);
                }
                answer(Reply::of(&self.judge(state, heard, now), now))
            }
            Some(Kind::Error { status, code }) => answer(refuse(*status, code, "scripted by the simulation")),
        }
    }

    fn judge(&self, state: &mut State, heard: &Heard, now: Timestamp) -> Result<Granted, Refusal> {
        self.judge_with(state, heard, None, now)
    }

    /// `fault`: one that touches single records of the call.
    fn judge_with(
        &self,
        state: &mut State,
        heard: &Heard,
        fault: Option<&Kind>,
        now: Timestamp,
    ) -> Result<Granted, Refusal> {
        heard.operation.as_ref().map_err(Clone::clone)?;
        let caller = heard.caller.as_ref().map_err(Clone::clone)?;
        let judgement = match &heard.request {
            Asked::One(request) => {
                let request = request.as_ref().map_err(Clone::clone)?;
                state.books.meter_usage(&self.rules, caller, request, now)
            }
            Asked::Many(batch) => {
                let put_off = if let Some(Kind::Unprocessed { records }) = fault { *records } else { 0 };
                let unsubscribed =
                    if let Some(Kind::NotSubscribed { customer }) = fault { Some(customer) } else { None };
                let batch = batch.as_ref().map_err(Clone::clone)?;
                state.books.batch_meter_usage(&self.rules, batch, now, put_off, unsubscribed)
            }
            Asked::Who(body) => batch::resolve_customer(&self.rules, body),
        };
        state.judged = Some(judgement.clone());
        match &judgement {
            Ok(Granted::DryRun) => state.dry_runs += 1,
            Err(refusal) if refusal.code == DRY_RUN_OPERATION => state.dry_runs += 1,
            _ => {}
        }
        judgement
    }

    /// Judges a call whose answer nobody will see.
    fn judge_if(&self, recorded: bool, state: &mut State, heard: &Heard, now: Timestamp) {
        if recorded {
            let _unseen = self.judge(state, heard, now);
        }
    }

    /// What stands, and how the calls were answered.
    pub fn ledger(&self) -> Ledger {
        let state = self.lock();
        Ledger {
            now: self.clock.now(),
            started: self.started,
            records: state.books.records().iter().map(LedgerRecord::from).collect(),
            totals: totals(state.books.records()),
            calls: state.calls,
            dry_runs: state.dry_runs,
            unanswered: state.unanswered,
            rejected: state.rejected.clone(),
            faults: state.hit.clone(),
        }
    }

    /// The last calls, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().log.calls().cloned().collect()
    }

    /// Adds faults that count from now.
    ///
    /// # Errors
    /// A sentence if there are too many.
    pub fn add_faults(&self, faults: Vec<Fault>) -> Result<(), String> {
        self.lock().faults.add(faults, self.clock.now())?;
        self.port_changed.notify_one();
        Ok(())
    }

    /// Forgets every fault.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
        self.port_changed.notify_one();
    }

    /// Begins or ends an outage, and waits until the listening port has followed (at most ten seconds).
    pub fn set_outage(&self, kind: Option<Kind>) {
        const SETTLED_WITHIN: Duration = Duration::from_secs(10);
        let mut state = self.lock();
        state.faults.set_outage(kind);
        state.outages += 1;
        let wanted = state.outages;
        self.port_changed.notify_one();
        let settled = self.port_settled.wait_timeout_while(state, SETTLED_WITHIN, |s| s.outages_settled < wanted);
        drop(settled);
    }

    /// What the listening port should be, how long until that changes by itself, and the mark to hand to
    /// [`Service::port_follows`] once it is so.
    pub fn port(&self) -> (Port, Option<Duration>, u64) {
        let now = self.clock.now();
        let state = self.lock();
        let port = state.faults.port(now);
        // A millisecond more, so that the moment has passed for certain when the wait is over.
        let wait = port.next_change.map(|at| self.clock.real(at.since(now)) + Duration::from_millis(1));
        (port, wait, state.outages)
    }

    /// Tells that the listening port is as `port` said with `mark`.
    pub fn port_follows(&self, mark: u64) {
        self.lock().outages_settled = mark;
        self.port_settled.notify_all();
    }

    /// Returns when the listening port may have to change.
    pub async fn port_changed(&self) {
        self.port_changed.notified().await;
    }

    /// The service's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in another thread leaves counters at worst; what stands in the books was put there whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shaped like AWS's, different for every call of every run.
fn request_id(started: Timestamp, number: u64) -> String {
    let mut digest = Sha256::new();
    digest.update(started.millis().to_le_bytes());
    digest.update(number.to_le_bytes());
    uuid_of(digest.finalize().as_slice())
}
