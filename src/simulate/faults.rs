//! Which fault, if any, a call meets: selectors, counters and the seeded draw. Knows nothing of HTTP.

use std::time::Duration;

use crate::hour::Timestamp;

/// Faults that may wait at a time.
pub const FAULTS_MAX: usize = 1000;

/// What goes wrong. "Recorded" means: the call is judged by the rules, and recorded if they grant it, before it goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Recorded; then the connection is closed without an answer.
    AcceptAndLoseReply,
    /// The connection is closed without an answer; nothing is recorded.
    Close,
    /// Never answered.
    Hang {
        /// Whether it is recorded first.
        recorded: bool,
    },
    /// `ThrottlingException`, HTTP 400; nothing is recorded.
    Throttle {
        /// Seconds in a `retry-after` header.
        retry_after_s: Option<u32>,
    },
    /// `ServiceUnavailableException`, HTTP 503, as AWS's own error body; nothing is recorded.
    ServiceUnavailable {
        /// Seconds in a `retry-after` header.
        retry_after_s: Option<u32>,
    },
    /// `InternalServiceErrorException`, HTTP 500.
    InternalError {
        /// Whether it is recorded first.
        recorded: bool,
    },
    /// HTTP 200 with a body that is no JSON.
    Garbage {
        /// Whether it is recorded first.
        recorded: bool,
    },
    /// HTTP 200 with no body.
    Empty {
        /// Whether it is recorded first.
        recorded: bool,
    },
    /// Judged at once, answered after a delay on the machine's clock.
    Slow {
        /// How long the answer takes.
        delay: Duration,
    },
    /// `AccessDeniedException`: the role lacks the permission.
    Denied,
    /// `ExpiredTokenException`: the credentials are too old.
    ExpiredToken,
    /// The service's clock, which judges timestamps and fills the `Date` header, is off.
    WrongClock {
        /// Seconds ahead; negative: behind.
        shift_s: i64,
    },
    /// Another quantity already stands, so the call is a duplicate; of a call with many records the first one.
    OtherQuantity,
    /// BatchMeterUsage: the last records of the call are left unprocessed.
    Unprocessed {
        /// So many.
        records: usize,
    },
    /// BatchMeterUsage: `CustomerNotSubscribed` for the customer that the fault names, or for all.
    NotSubscribed {
        /// Whose records.
        customer: Option<String>,
    },
    /// Any other error answer.
    Error {
        /// HTTP status.
        status: u16,
        /// The exception's name.
        code: String,
    },
    /// The listening port is closed: connections are refused by the machine. Selected by time alone.
    RefuseConnection,
}

impl Kind {
    /// The name in a script and in the ledger.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::AcceptAndLoseReply => "accept_and_lose_reply",
            Kind::Close => "close",
            Kind::Hang { .. } => "hang",
            Kind::Throttle { .. } => "throttle",
            Kind::ServiceUnavailable { .. } => "service_unavailable",
            Kind::InternalError { .. } => "internal_error",
            Kind::Garbage { .. } => "garbage",
            Kind::Empty { .. } => "empty",
            Kind::Slow { .. } => "slow",
            Kind::Denied => "denied",
            Kind::ExpiredToken => "expired_token",
            Kind::WrongClock { .. } => "wrong_clock",
            Kind::OtherQuantity => "other_quantity",
            Kind::Unprocessed { .. } => "unprocessed",
            Kind::NotSubscribed { .. } => "not_subscribed",
            Kind::Error { .. } => "error",
            Kind::RefuseConnection => "refuse_connection",
        }
    }
}

/// A moment of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// On the simulation's clock.
    At(Timestamp),
    /// So long after the fault was added (a script's faults: after the start).
    After(Duration),
}

impl Moment {
    fn resolve(self, added: Timestamp) -> Timestamp {
        match self {
            Moment::At(moment) => moment,
            Moment::After(span) => added.plus(span),
        }
    }
}

/// Which calls a fault hits. Empty: every call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selector {
    /// Not before this moment.
    pub from: Option<Moment>,
    /// Before this moment.
    pub until: Option<Moment>,
    /// Only calls for this dimension.
    pub dimension: Option<String>,
    /// Only calls with a record of this customer.
    pub customer: Option<String>,
    /// Only dry runs, or only calls that are none.
    pub dry_run: Option<bool>,
    /// From the nth call on that the four above let through, counted from 1.
    pub nth: Option<u64>,
    /// How often at most. Default: once with `nth`, otherwise without end.
    pub times: Option<u64>,
    /// The chance that a call is hit, by a generator with its own seed, drawn for every call the four above let through.
    pub draw: Option<Draw>,
}

/// A repeatable chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// 0 to 1.
    pub probability: f64,
    /// Of the generator.
    pub seed: u64,
}

/// A fault as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Which calls it hits.
    pub selector: Selector,
    /// What happens to them.
    pub kind: Kind,
}

/// What selectors look at in a call.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The moment of the call.
    pub now: Timestamp,
    /// The dimensions of its records; none where the request could not be read.
    pub dimensions: &'a [&'a str],
    /// The customers of its records.
    pub customers: &'a [&'a str],
    /// `None` where the request could not be read.
    pub dry_run: Option<bool>,
}

/// The faults that wait for calls, in the order they were added.
#[derive(Debug, Default)]
pub struct Faults {
    waiting: Vec<Waiting>,
    outage: Option<Kind>,
}

#[derive(Debug)]
struct Waiting {
    fault: Fault,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    matched: u64,
    fired: u64,
    generator: fastrand::Rng,
}

/// Whether the listening port is closed, and when that changes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Connections are refused now.
    pub closed: bool,
    /// The next moment at which a fault begins or ends to close it.
    pub next_change: Option<Timestamp>,
}

impl Faults {
    /// Adds faults at `now`; those that can never fire again make room first.
    ///
    /// # Errors
    /// A sentence if more than [`FAULTS_MAX`] would wait; none is added then.
    pub fn add(&mut self, faults: Vec<Fault>, now: Timestamp) -> Result<(), String> {
        self.waiting.retain(|waiting| !waiting.spent(now));
        if self.waiting.len() + faults.len() > FAULTS_MAX {
            return Err(format!("more than {FAULTS_MAX} faults would wait; DELETE /faults clears them"));
        }
        self.waiting.extend(faults.into_iter().map(|fault| Waiting::new(fault, now)));
        Ok(())
    }

    /// Forgets every fault. An outage stays.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Until further notice every call meets `kind`, before any other fault.
    pub fn set_outage(&mut self, kind: Option<Kind>) {
        self.outage = kind;
    }

    /// What this call meets: the first fault that fires. Every fault counts the call, whichever fires.
    pub fn meet(&mut self, call: Seen<'_>) -> Option<Kind> {
        let mut met = self.outage.clone();
        for waiting in &mut self.waiting {
            if waiting.ready(call) && met.is_none() {
                waiting.fired += 1;
                met = Some(waiting.fault.kind.clone());
            }
        }
        met
    }

    /// Whether connections are refused at `now`.
    pub fn port(&self, now: Timestamp) -> Port {
        let closing = || self.waiting.iter().filter(|waiting| waiting.fault.kind == Kind::RefuseConnection);
        Port {
            closed: self.outage == Some(Kind::RefuseConnection) || closing().any(|waiting| waiting.is_time(now)),
            next_change: closing()
                .flat_map(|waiting| [waiting.from, waiting.until])
                .flatten()
                .filter(|moment| *moment > now)
                .min(),
        }
    }
}

impl Waiting {
    fn new(fault: Fault, now: Timestamp) -> Self {
        Waiting {
            from: fault.selector.from.map(|moment| moment.resolve(now)),
            until: fault.selector.until.map(|moment| moment.resolve(now)),
            matched: 0,
            fired: 0,
            generator: fastrand::Rng::with_seed(fault.selector.draw.map_or(0, |draw| draw.seed)),
            fault,
        }
    }

    /// Counts the call if it matches; true if the fault would fire on it.
    fn ready(&mut self, call: Seen<'_>) -> bool {
        let selector = &self.fault.selector;
        let matches = self.fault.kind != Kind::RefuseConnection
            && self.is_time(call.now)
            && selector.dimension.as_deref().is_none_or(|wanted| call.dimensions.contains(&wanted))
            && selector.customer.as_deref().is_none_or(|wanted| call.customers.contains(&wanted))
            && selector.dry_run.is_none_or(|wanted| call.dry_run == Some(wanted));
        if !matches {
            return false;
        }
        self.matched += 1;
        let drawn = selector.draw.is_none_or(|draw| self.generator.f64() < draw.probability);
        drawn && self.matched >= selector.nth.unwrap_or(1) && self.fired < self.times()
    }

    fn is_time(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }

    fn times(&self) -> u64 {
        let selector = &self.fault.selector;
        selector.times.unwrap_or(if selector.nth.is_some() { 1 } else { u64::MAX })
    }

    fn spent(&self, now: Timestamp) -> bool {
        self.fired >= self.times() || self.until.is_some_and(|until| until <= now)
    }
}
