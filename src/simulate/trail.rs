//! What CloudTrail would show of the calls: an event a line, as `meterd reconcile --cloudtrail` reads it, and AWS's tools do
//! once the lines stand in `{"Records":[…]}`.
//!
//! At AWS the caller is the session of a role, under the instance's id; here it is the access key id, as everywhere in the
//! simulation. A call that was recorded though its answer was lost is shown as recorded.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::answer::{Granted, Refusal};
use super::rules::Record;
use super::wire::Operation;
use crate::hour::Timestamp;

/// The buyer's or seller's account that calls are made in.
const ACCOUNT: &str = "123456789012";

/// The file.
pub struct Trail {
    file: File,
    events: u64,
}

/// A call, and what came of it.
pub struct Seen<'a> {
    /// On the service's clock.
    pub now: Timestamp,
    /// What was asked for.
    pub operation: Operation,
    /// Who asked.
    pub caller: &'a str,
    /// The request.
    pub body: &'a [u8],
    /// The call's own id.
    pub request_id: &'a str,
    /// What the rules made of it; nothing if a fault kept it from them.
    pub answer: Option<Result<Granted, Refusal>>,
    /// The error that was answered.
    pub refused: Option<&'a str>,
}

impl Trail {
    /// Makes the file anew.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(path: &Path) -> io::Result<Trail> {
        Ok(Trail { file: File::create(path)?, events: 0 })
    }

    /// A call. One that a fault kept from the service altogether is no event.
    pub fn call(&mut self, seen: &Seen<'_>) {
        let Ok(mut request) = serde_json::from_slice::<Value>(seen.body).map(lowered) else { return };
        in_words(&mut request);
        let answer = match (&seen.answer, seen.refused) {
            (Some(Ok(Granted::Recorded { metering_record_id })), _) => {
                Ok(json!({ "meteringRecordId": metering_record_id }))
            }
            (Some(Ok(Granted::Body(body))), _) => {
                let mut body = lowered(body.clone());
                in_words(&mut body);
                Ok(body)
            }
            (Some(Ok(Granted::DryRun)), _) => Ok(Value::Null),
            (Some(Err(refusal)), _) => Err((refusal.code.to_string(), refusal.message.clone())),
            (None, Some(code)) => Err((code.to_owned(), String::new())),
            (None, None) => return,
        };
        let name = match seen.operation {
            Operation::MeterUsage => "MeterUsage",
            Operation::BatchMeterUsage => "BatchMeterUsage",
            Operation::ResolveCustomer => "ResolveCustomer",
        };
        self.event(name, seen.now, seen.caller, request, answer, seen.request_id);
    }

    /// A record that a fault made to stand.
    pub fn planted(&mut self, record: &Record, now: Timestamp) {
        let request = json!({
            "productCode": record.product_code, "timestamp": shown(record.timestamp), "usageDimension": record.dimension,
            "usageQuantity": record.quantity, "customerAWSAccountId": record.customer, "licenseArn": record.license,
        });
        let answer = Ok(json!({ "meteringRecordId": record.metering_record_id }));
        self.event("MeterUsage", now, &record.instance, request, answer, "planted");
    }

    fn event(
        &mut self,
        name: &str,
        now: Timestamp,
        caller: &str,
        request: Value,
        answer: Result<Value, (String, String)>,
        request_id: &str,
    ) {
        self.events += 1;
        let mut event = json!({
            "eventVersion": "1.08",
            "userIdentity": {
                "type": "AssumedRole",
                "principalId": format!("AROASIMULATED:{caller}"),
                "arn": format!("arn:aws:sts::{ACCOUNT}:assumed-role/simulated/{caller}"),
                "accountId": ACCOUNT,
                "accessKeyId": caller,
            },
            "eventTime": now.to_string(),
            "eventSource": "metering-marketplace.amazonaws.com",
            "eventName": name,
            "awsRegion": "us-east-1",
            "sourceIPAddress": "127.0.0.1",
            "requestParameters": request,
            "responseElements": null,
            "requestID": request_id,
            "eventID": format!("{request_id}-{}", self.events),
            "readOnly": false,
            "eventType": "AwsApiCall",
            "recipientAccountId": ACCOUNT,
        });
        match answer {
            Ok(answer) => event["responseElements"] = answer,
            Err((code, message)) => {
                event["errorCode"] = json!(code);
                event["errorMessage"] = json!(message);
            }
        }
        // A simulation whose disk is full still answers; what is missing in the file shows when it is reconciled.
        let _ = self.file.write_all(format!("{event}\n").as_bytes());
    }
}

/// CloudTrail writes the names of fields with a small first letter.
fn lowered(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let lower = |name: String| {
                let mut chars = name.chars();
                chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
            };
            Value::Object(members.into_iter().map(|(name, value)| (lower(name), lowered(value))).collect::<Map<_, _>>())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(lowered).collect()),
        other => other,
    }
}

/// And moments in words.
fn in_words(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                match (name.as_str(), value.to_string().parse::<i64>()) {
                    ("timestamp", Ok(seconds)) => *value = json!(shown(Timestamp::from_seconds(seconds))),
                    _ => in_words(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(in_words),
        _ => {}
    }
}

/// `Nov 21, 2026 11:59:59 AM`.
fn shown(moment: Timestamp) -> String {
    const FORM: &str =
        "[month repr:short] [day padding:none], [year] [hour repr:12 padding:none]:[minute]:[second] [period]";
    let at = time::OffsetDateTime::from_unix_timestamp(moment.seconds()).ok();
    let form = time::format_description::parse_borrowed::<2>(FORM).ok();
    at.zip(form).and_then(|(at, form)| at.format(&form).ok()).unwrap_or_default()
}
