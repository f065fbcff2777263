//! What each answer of AWS means. A table in code: the error's class decides, never its text.

use std::time::Duration;

use crate::entry::{Request, Verdict};
use crate::hour::Timestamp;

/// What came back from one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// How it ended.
    pub outcome: Outcome,
    /// For people: AWS's words, or ours.
    pub message: String,
    /// AWS's id of the request.
    pub request_id: Option<String>,
    /// How long AWS asks to wait.
    pub retry_after: Option<Duration>,
    /// AWS's clock, from the `Date` header.
    pub aws_time: Option<Timestamp>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// 200 with a record id.
    Accepted {
        /// AWS's id of the record.
        metering_record_id: String,
    },
    /// 200 or `DryRunOperation` to a dry run.
    DryRunPassed,
    /// 200 to a call with many records: what became of each, in the order they were sent.
    Batch(Vec<OfRecord>),
    /// AWS's own error body.
    Error {
        /// The exception's name without its suffix `Exception`.
        code: String,
        /// The HTTP status.
        status: u16,
    },
    /// The request never left: no address, no route, refused, TLS, connect time-out.
    NotSent,
    /// The request never left: nothing to sign it with.
    NoCredentials,
    /// It left, and no answer came that can be read.
    NoAnswer,
}

/// What AWS says of one record among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfRecord {
    /// `Success`.
    Success {
        /// AWS's id of the record.
        metering_record_id: String,
    },
    /// `CustomerNotSubscribed`.
    NotSubscribed,
    /// `DuplicateRecord`: another quantity stands for its hour.
    Duplicate,
    /// Among the `UnprocessedRecords`.
    Unprocessed,
    /// Nothing, or nothing that is known.
    Nothing {
        /// The status, if there is one.
        status: Option<String>,
    },
}

/// What the answer to a call means for the records in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfCall {
    /// To each its own, with AWS's word.
    Records(Vec<(Verdict, String)>),
    /// One or more of them are refused, and none was taken: they go again in halves.
    Split,
    /// The same to all.
    All(Verdict),
}

/// What the answer means for the records of a call. `product`: the code that is configured. `window`: for how long the
/// first one may be sent.
pub fn judge_batch(reply: &Reply, requests: &[Request], product: &str, window: Duration) -> OfCall {
    if let Outcome::Batch(records) = &reply.outcome {
        return OfCall::Records(records.iter().map(judge_record).collect());
    }
    let Some(first) = requests.first() else { return OfCall::All(Verdict::NotTaken) };
    if matches!(&reply.outcome, Outcome::Error { code, .. } if code == "InvalidProductCode" && !first.is_licensed()) {
        if first.product_code == product {
            // It stands on the call: all records would end with a person, one by one, for one wrong word.
            return OfCall::All(Verdict::Blocked);
        }
        // The word is mended since they were sealed: they are refused, and with that fixed anew under the right one.
        return OfCall::Records(vec![(Verdict::Refused, reply.message.clone()); requests.len()]);
    }
    let dimension = &first.dimension;
    if matches!(&reply.outcome, Outcome::Error { code, .. } if code == "InvalidUsageDimension")
        && requests.iter().all(|request| request.dimension == *dimension)
    {
        // Halves would say the same, two calls for each record.
        return OfCall::Records(vec![(Verdict::Refused, reply.message.clone()); requests.len()]);
    }
    match judge(reply, first, window) {
        // AWS is there, so others may go on: these are put off, each by itself, until it says something that is known.
        Verdict::Ambiguous if reached(reply) => {
            OfCall::Records(vec![(Verdict::Ambiguous, reply.message.clone()); requests.len()])
        }
        Verdict::Refused | Verdict::OutOfBounds { .. } if requests.len() > 1 => OfCall::Split,
        verdict @ (Verdict::Refused | Verdict::OutOfBounds { .. }) => {
            OfCall::Records(vec![(verdict, reply.message.clone())])
        }
        verdict => OfCall::All(verdict),
    }
}

fn judge_record(said: &OfRecord) -> (Verdict, String) {
    match said {
        OfRecord::Success { metering_record_id } => {
            (Verdict::Accepted { metering_record_id: metering_record_id.clone() }, "Success".into())
        }
        OfRecord::NotSubscribed => {
            (Verdict::Refused, "CustomerNotSubscribed: no active agreement of this customer with the product".into())
        }
        OfRecord::Duplicate => {
            (Verdict::Conflict, "DuplicateRecord: another quantity stands for this customer, dimension and hour".into())
        }
        OfRecord::Unprocessed => (Verdict::NotTaken, "UnprocessedRecords: AWS puts it off".into()),
        OfRecord::Nothing { status: None } => (Verdict::Ambiguous, "AWS's answer does not name it".into()),
        OfRecord::Nothing { status: Some(status) } => (Verdict::Ambiguous, format!("an unknown status: {status}")),
    }
}

/// What the answer means for the record it was about.
pub fn judge(reply: &Reply, request: &Request, window: Duration) -> Verdict {
    let (code, status) = match &reply.outcome {
        Outcome::Accepted { metering_record_id } => {
            return Verdict::Accepted { metering_record_id: metering_record_id.clone() };
        }
        Outcome::NotSent => return Verdict::NotTaken,
        Outcome::NoCredentials => return Verdict::Blocked,
        Outcome::NoAnswer | Outcome::DryRunPassed | Outcome::Batch(_) => return Verdict::Ambiguous,
        Outcome::Error { code, status } => (code.as_str(), *status),
    };
    match code {
        "Throttling" | "Throttled" | "TooManyRequests" | "RequestLimitExceeded" | "ServiceUnavailable" | "SlowDown" => {
            Verdict::NotTaken
        }
        "ExpiredToken"
        | "UnrecognizedClient"
        | "InvalidSignature"
        | "SignatureDoesNotMatch"
        | "RequestExpired"
        | "AccessDenied"
        | "Unauthorized"
        | "MissingAuthenticationToken"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "NotAuthorized"
        | "OptInRequired"
        | "DisabledApi" => Verdict::Blocked,
        "DuplicateRequest" | "IdempotencyConflict" => Verdict::Conflict,
        "TimestampOutOfBounds" => {
            let too_old = reply.aws_time.is_some_and(|aws| aws > request.timestamp.plus(window));
            Verdict::OutOfBounds { window_passed: too_old }
        }
        "InvalidProductCode"
        | "InvalidUsageDimension"
        | "InvalidTag"
        | "InvalidUsageAllocations"
        | "CustomerNotEntitled"
        | "InvalidEndpointRegion"
        | "InvalidCustomerIdentifier"
        | "InvalidLicense"
        | "Validation" => Verdict::Refused,
        // InternalServiceError, other 5xx, 408, anything unknown: it may have been taken.
        _ => {
            tracing::debug!(code, status, "an answer that settles nothing");
            Verdict::Ambiguous
        }
    }
}

/// Whether AWS answered something that the table does not know. It may have been taken, and a person should know.
pub fn is_unknown(reply: &Reply, verdict: &Verdict) -> bool {
    let Outcome::Error { code, status } = &reply.outcome else { return false };
    *verdict == Verdict::Ambiguous && *status < 500 && *status != 408 && code != "InternalServiceError"
}

/// Whether the answer shows that AWS is there and answers for itself, whatever it says.
pub fn reached(reply: &Reply) -> bool {
    match &reply.outcome {
        Outcome::Accepted { .. } | Outcome::DryRunPassed | Outcome::Batch(_) => true,
        // Without a code of AWS's own, a proxy may have spoken in its place.
        Outcome::Error { code, status } => !code.is_empty() && (400..500).contains(status) && *status != 408,
        Outcome::NotSent | Outcome::NoCredentials | Outcome::NoAnswer => false,
    }
}
