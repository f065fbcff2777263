//! What AWS Marketplace tells of a subscription, as far as the register of customers asks: EventBridge events and SNS message
//! bodies, in whatever envelopes they come.
//!
//! | message | change | names |
//! | --- | --- | --- |
//! | `Purchase Agreement Created` | new | account, agreement |
//! | `Purchase Agreement Amended`, `… Ended` as renewed or replaced | updated | account, agreement |
//! | `Purchase Agreement Ended` | ending: the licence event that follows ends it | account, agreement |
//! | `License Updated` | updated | account, licence, product, agreement |
//! | `License Deprovisioned` | ended | account, licence, product, agreement |
//! | SNS `subscribe-success` | new | identifier, product |
//! | SNS `entitlement-updated` | updated | identifier, product |
//! | SNS `unsubscribe-pending` | ending | identifier, product |
//! | SNS `unsubscribe-success`, `subscribe-fail` | ended | identifier, product |
//!
//! EventBridge names each of them twice, for the manufacturer and for the proposer: either will do. Envelopes: what
//! `aws sqs receive-message` prints, what Lambda hands over, an SQS message, SNS's own. An SNS message without its envelope
//! says no time, so nothing tells one that comes late from a new one: it counts as said now.

use serde_json::{Map, Value, json};

/// Deepest that envelopes may be put into one another.
const DEPTH_MAX: usize = 8;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    /// How it calls itself.
    pub name: String,
    /// What the register is told; none: this is no message that it knows.
    pub told: Option<Value>,
}

/// Every message in a value that was read.
pub(super) fn notices(value: &Value) -> Vec<Notice> {
    let mut found = Vec::new();
    open(value, None, 0, &mut found);
    found
}

/// Takes a message out of its envelopes. `sent`: when, as far as those tell.
fn open(value: &Value, sent: Option<&Value>, depth: usize, found: &mut Vec<Notice>) {
    let unknown = |name: &str| Notice { name: name.to_owned(), told: None };
    if depth > DEPTH_MAX {
        return found.push(unknown("an envelope in an envelope, and so on"));
    }
    let mut each = |list: &[Value]| list.iter().for_each(|one| open(one, sent, depth + 1, found));
    let message = match value {
        Value::Array(list) => return each(list),
        Value::Object(message) => message,
        Value::String(text) => {
            return match serde_json::from_str::<Value>(text) {
                Ok(inner) if !inner.is_string() => open(&inner, sent, depth + 1, found),
                _ => found.push(unknown("a text that is no JSON")),
            };
        }
        _ => return found.push(unknown("a value that is no object")),
    };
    for list in ["Messages", "Records"] {
        if let Some(Value::Array(list)) = message.get(list) {
            return each(list);
        }
    }
    if let (Some(kind), Some(detail)) = (text(message, "detail-type"), message.get("detail")) {
        return found.push(event(kind, message, detail));
    }
    if let Some(action) = text(message, "action") {
        return found.push(action_of(action, message, sent));
    }
    let timestamp = message.get("Timestamp").filter(|at| at.is_string()).or(sent);
    for inner in ["Message", "Sns", "Body", "body"] {
        if let Some(inner) = message.get(inner) {
            return open(inner, timestamp, depth + 1, found);
        }
    }
    found.push(unknown(&format!("an object with {}", message.keys().cloned().collect::<Vec<_>>().join(", "))));
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// An EventBridge event.
fn event(kind: &str, message: &Map<String, Value>, detail: &Value) -> Notice {
    let plain = ["Manufacturer", "Proposer"].iter().find_map(|role| kind.strip_suffix(&format!(" - {role}")));
    let status = detail["agreement"]["status"].as_str().unwrap_or_default();
    let change = match plain.unwrap_or(kind) {
        "Purchase Agreement Created" => Some("new"),
        "Purchase Agreement Amended" | "License Updated" => Some("updated"),
        "Purchase Agreement Ended" if matches!(status, "RENEWED" | "REPLACED") => Some("updated"),
        "Purchase Agreement Ended" => Some("ending"),
        "License Deprovisioned" => Some("ended"),
        _ => None,
    };
    let told = change.filter(|_| text(message, "source") == Some("aws.agreement-marketplace")).map(|change| {
        json!({ "change": change, "customer": detail["acceptor"]["accountId"], "license": arn(&detail["license"]["arn"]),
                "agreement": detail["agreement"]["id"], "products": list(&detail["product"]["code"]),
                "at": message.get("time") })
    });
    Notice { name: kind.to_owned(), told }
}

/// An SNS message.
fn action_of(action: &str, message: &Map<String, Value>, sent: Option<&Value>) -> Notice {
    let change = match action {
        "subscribe-success" => Some("new"),
        "entitlement-updated" => Some("updated"),
        "unsubscribe-pending" => Some("ending"),
        "unsubscribe-success" | "subscribe-fail" => Some("ended"),
        _ => None,
    };
    let told = change.map(|change| {
        let customer = text(message, "customer-aws-account-id");
        json!({ "change": change, "customer": customer, "identifier": text(message, "customer-identifier"),
                "license": customer.and_then(|_| message.get("license-arn").map(arn)),
                "products": list(&json!(text(message, "product-code"))), "at": sent })
    });
    Notice { name: action.to_owned(), told }
}

/// AWS's own example of an event leaves the beginning out.
fn arn(license: &Value) -> Value {
    match license.as_str() {
        Some(text) if text.starts_with("aws:") => format!("arn:{text}").into(),
        _ => license.clone(),
    }
}

fn list(one: &Value) -> Value {
    if one.is_null() { Value::Null } else { json!([one]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LICENSE: &str = "arn:aws:license-manager::294406891311:license:l-0123";

    fn licence_event(kind: &str) -> Value {
        json!({ "version": "0", "id": "6c53", "detail-type": kind, "source": "aws.agreement-marketplace",
                "account": "999999999999", "time": "2026-11-21T09:10:00Z", "region": "us-east-1", "resources": [],
                "detail": { "requestId": "r", "catalog": "AWSMarketplace", "agreement": { "id": "agmt-1" },
                            "product": { "code": "abc", "id": "prod-1" }, "license": { "arn": LICENSE },
                            "acceptor": { "accountId": "123456789012" }, "proposer": { "accountId": "999999999999" } } })
    }

    fn told(value: &Value) -> Value {
        let found = notices(value);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].told.clone().unwrap_or_default()
    }

    #[test]
    fn every_envelope_is_opened() {
        let event = licence_event("License Deprovisioned - Manufacturer");
        let expected = json!({ "change": "ended", "customer": "123456789012", "license": LICENSE, "agreement": "agmt-1",
                               "products": ["abc"], "at": "2026-11-21T09:10:00Z" });
        let sns = json!({ "Type": "Notification", "MessageId": "m", "Message": event.to_string(),
                          "Timestamp": "2026-11-21T09:11:00.000Z" });
        let sqs = json!({ "MessageId": "m", "ReceiptHandle": "r", "Body": sns.to_string() });
        for whole in [
            event.clone(),
            json!([event]),
            sns.clone(),
            sqs.clone(),
            json!({ "Messages": [sqs] }),
            json!({ "Records": [{ "body": event.to_string() }] }),
            json!({ "Records": [{ "Sns": sns }] }),
            json!(event.to_string()),
        ] {
            assert_eq!(told(&whole), expected, "{whole}");
        }
        assert_eq!(notices(&json!({ "Messages": [sqs, sqs] })).len(), 2);
    }

    #[test]
    fn every_message_says_what_becomes_of_a_customer() {
        let agreement = |kind: &str, status: &str| {
            let mut event = licence_event(kind);
            event["detail"]["agreement"]["status"] = status.into();
            told(&event)["change"].clone()
        };
        for role in ["Manufacturer", "Proposer"] {
            assert_eq!(agreement(&format!("Purchase Agreement Created - {role}"), "ACTIVE"), "new");
            assert_eq!(agreement(&format!("Purchase Agreement Amended - {role}"), "ACTIVE"), "updated");
            assert_eq!(agreement(&format!("Purchase Agreement Ended - {role}"), "RENEWED"), "updated");
            assert_eq!(agreement(&format!("Purchase Agreement Ended - {role}"), "CANCELLED"), "ending");
        }
        assert_eq!(agreement("License Updated - Manufacturer", ""), "updated");
        let sns = |action: &str| {
            let body = json!({ "action": action, "customer-identifier": " X01EXAMPLEX", "product-code": "abc",
                               "isFreeTrialTermPresent": "true" });
            told(&json!({ "Message": body.to_string(), "Timestamp": "2026-11-21T09:11:00.000Z" }))
        };
        for (action, change) in [
            ("subscribe-success", "new"),
            ("subscribe-fail", "ended"),
            ("unsubscribe-pending", "ending"),
            ("unsubscribe-success", "ended"),
        ] {
            let expected = json!({ "change": change, "customer": null, "identifier": "X01EXAMPLEX", "license": null,
                                   "products": ["abc"], "at": "2026-11-21T09:11:00.000Z" });
            assert_eq!(sns(action), expected);
        }
        for unknown in [
            json!({ "action": "refund-pending" }),
            json!({ "detail-type": "Offer Released", "source": "aws.marketplacecatalog", "detail": {} }),
            json!({ "hello": 1 }),
            json!("no JSON"),
            json!(7),
        ] {
            assert_eq!(told(&unknown), Value::Null, "{unknown}");
        }
    }
}
