//! A small stand-in for AWS: one record per dimension and hour, replies that get lost. Sees every request that leaves.
//! Cannot see: AWS's other rules (`tests/simulate` has them).

use std::collections::BTreeMap;

use fastrand::Rng;
use meterd::entry::{RecordKey, Request};
use meterd::hour::Timestamp;
use meterd::submit::answer::{Outcome, Reply};

#[derive(Debug, Clone, Default)]
pub struct Aws {
    /// What it holds.
    taken: BTreeMap<(String, Timestamp), Request>,
    /// What it was asked, by record.
    asked: BTreeMap<RecordKey, (Request, u64)>,
    /// Calls so far.
    pub calls: u64,
}

fn reply(outcome: Outcome) -> Reply {
    Reply { outcome, message: "simulated".into(), request_id: None, retry_after: None, aws_time: None }
}

impl Aws {
    /// How often a record was sent.
    pub fn sent(&self, key: &RecordKey) -> u64 {
        self.asked.get(key).map_or(0, |(_, n)| *n)
    }

    /// Billed units of a dimension.
    pub fn units(&self, dimension: &str) -> i128 {
        self.taken.iter().filter(|((d, _), _)| d == dimension).map(|(_, r)| i128::from(r.quantity)).sum()
    }

    pub fn dry_run(&self, rng: &mut Rng) -> Reply {
        reply(if rng.u8(0..3) == 0 { Outcome::NoAnswer } else { Outcome::DryRunPassed })
    }

    pub fn send(&mut self, key: RecordKey, request: &Request, now: Timestamp, rng: &mut Rng) -> Result<Reply, String> {
        self.calls += 1;
        let (first, times) = self.asked.entry(key).or_insert_with(|| (request.clone(), 0));
        *times += 1;
        if first != request {
            return Err(format!("record {key} was sent as {first:?} and then as {request:?}"));
        }
        if request.timestamp > now {
            return Err(format!("record {key} lies in AWS's future"));
        }
        let error = |code: &str, status| reply(Outcome::Error { code: code.into(), status });
        Ok(match rng.u8(0..10) {
            0 => reply(Outcome::NotSent),
            1 => error("Throttling", 400),
            2 => reply(Outcome::NoAnswer),
            3 => error("InternalServiceError", 500),
            4 => {
                self.take(request)?;
                reply(Outcome::NoAnswer)
            }
            5 => {
                self.take(request)?;
                error("InternalServiceError", 500)
            }
            _ => {
                self.take(request)?;
                reply(Outcome::Accepted { metering_record_id: request.client_token.clone() })
            }
        })
    }

    fn take(&mut self, request: &Request) -> Result<(), String> {
        let place = (request.dimension.clone(), request.timestamp);
        match self.taken.get(&place) {
            Some(known) if known != request => Err(format!("two requests for {place:?}: {known:?} and {request:?}")),
            _ => {
                self.taken.insert(place, request.clone());
                Ok(())
            }
        }
    }
}
