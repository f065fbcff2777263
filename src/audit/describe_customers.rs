//! What the log says of customers, in the product's words.

use serde_json::{Value, json};

use super::describe::{Described, Names, describe_as, verdict};
use crate::entry::{Accounts, BatchAnswered, BatchAttempt, SealedPart};

pub(super) fn accounts(accounts: &Accounts) -> Described {
    let who: Vec<String> = accounts.buyers.iter().map(|buyer| buyer.word()).collect();
    let text = match who.as_slice() {
        [] => "a SaaS product: usage is its customers'".to_owned(),
        _ => format!("customers from number {}: {}", accounts.first.0, who.join(", ")),
    };
    let buyers: Vec<Value> =
        accounts.buyers.iter().map(|b| json!({ "customer": b.customer_id(), "license": b.license })).collect();
    describe_as(text, json!({ "at": accounts.at.to_string(), "first": accounts.first.0, "customers": buyers }))
}

pub(super) fn sealed_part(part: &SealedPart, names: &Names) -> Described {
    let records = part.rows.iter().filter(|row| row.record.is_some()).count();
    let text = format!("{} is closed for customers up to number {}: {records} records", part.hour, part.through.0);
    let rows: Vec<Value> = part
        .rows
        .iter()
        .map(|row| {
            json!({ "customer_number": row.account.0, "dimension": names.of(row.dimension), "usage": row.usage().to_string(),
                    "remainder": row.remainder().to_string(), "rounded": row.rounded().to_string(),
                    "included": row.included().to_string(), "quantity": row.record.as_ref().map(|r| r.quantity) })
        })
        .collect();
    let fields = json!({ "hour": part.hour.to_string(), "at": part.at.to_string(), "through": part.through.0,
                         "timestamp": part.common.timestamp.to_string(), "product_code": part.common.product_code,
                         "rows": rows });
    describe_as(text, fields)
}

pub(super) fn batch_attempt(attempt: &BatchAttempt, names: &Names) -> Described {
    let records: Vec<String> = attempt.keys.iter().map(|key| names.key(key)).collect();
    let text = format!("a call with {} records is about to leave", records.len());
    describe_as(text, json!({ "at": attempt.at.to_string(), "records": records }))
}

pub(super) fn batch_answered(answered: &BatchAnswered, names: &Names) -> Described {
    let said: Vec<String> =
        answered.records.iter().map(|(key, v, _)| format!("{}: {}", names.key(key), verdict(v))).collect();
    let records: Vec<Value> = answered
        .records
        .iter()
        .map(|(key, v, message)| json!({ "record": names.key(key), "verdict": verdict(v), "message": message }))
        .collect();
    let fields = json!({ "at": answered.at.to_string(), "request_id": answered.request_id, "records": records });
    describe_as(said.join("; "), fields)
}
