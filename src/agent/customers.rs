//! The register of customers on the operator's socket (SaaS products).
//!
//! `GET /v1/customers?after=NUMBER` answers a page of them, `{"ok":true,"customers":[…],"more":false}`; with `more` the next
//! page begins `after` the last number. The verbs, each with POST, answer `{"ok":true,"came":"changed","customers":[…]}`, where
//! `came` is `changed`, `known` (nothing is different), `older` (the register has heard something later) or `other_product`:
//!
//! - `/v1/customers/add` with `{"customer":"123456789012","license":"arn:…","products":["…"]}`,
//! - `/v1/customers/resolve` with `{"token":"…"}`, a registration token, which is written down nowhere,
//! - `/v1/customers/end` with `{"customer":"123456789012"}`: without a `license` all of them end,
//! - `/v1/customers/notify` with `{"change":"new"}` (`updated`, `ending`, `ended`), who it is (`customer`, `license`, or else
//!   `identifier`), and `products`, `agreement` and `at` as far as AWS told them.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;

use super::admin::{bad_request, buyer, not_written, read, stopping};
use super::commands::{Command, Handle};
use super::http::reply::{Answer, json_answer, refused};
use crate::engine::{Came, Change, NotRegistered, Told};
use crate::entry::Peer;
use crate::hour::Timestamp;
use crate::submit::aws::Aws;
use crate::view::customers::PAGE;

/// Longest text of those that are kept, in bytes.
const TEXT_BYTES_MAX: usize = 255;
/// Most products of one customer.
const PRODUCTS_MAX: usize = 24;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    customer: String,
    license: Option<String>,
    products: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolve {
    token: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    customer: String,
    license: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notify {
    change: Word,
    customer: Option<String>,
    license: Option<String>,
    identifier: Option<String>,
    products: Option<Vec<String>>,
    agreement: Option<String>,
    at: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    New,
    Updated,
    Ending,
    Ended,
}

impl From<Word> for Change {
    fn from(word: Word) -> Change {
        match word {
            Word::New => Change::New,
            Word::Updated => Change::Updated,
            Word::Ending => Change::Ending,
            Word::Ended => Change::Ended,
        }
    }
}

/// A page of customers.
pub(super) async fn list(query: Option<&str>, core: &Handle) -> Answer {
    let after = match query.unwrap_or_default() {
        "" => Some(0),
        query => query.strip_prefix("after=").and_then(|number| number.parse().ok()),
    };
    let Some(after) = after else { return bad_request("the query is after=NUMBER, or none") };
    match core.ask(|reply| Command::Customers(after, reply)).await {
        Ok(customers) => {
            let more = customers.len() == PAGE;
            json_answer(StatusCode::OK, &serde_json::json!({ "ok": true, "customers": customers, "more": more }))
        }
        Err(_) => stopping(),
    }
}

pub(super) async fn add(body: &[u8], by: Peer, core: &Handle) -> Answer {
    let told = read::<Add>(body).and_then(|Add { customer, license, products }| {
        told(Change::New, Some(customer), license, products.unwrap_or_default())
    });
    tell(told, by, core).await
}

pub(super) async fn end(body: &[u8], by: Peer, core: &Handle) -> Answer {
    let told = read::<End>(body)
        .and_then(|End { customer, license }| told(Change::Ended, Some(customer), license, Vec::new()));
    tell(told, by, core).await
}

pub(super) async fn notify(body: &[u8], by: Peer, core: &Handle) -> Answer {
    let read = read::<Notify>(body).and_then(|notice| {
        let Notify { change, customer, license, identifier, products, agreement, at } = notice;
        let at = at.map(|text| Timestamp::parse(&text).ok_or("at is neither RFC 3339 nor Unix seconds"));
        let told = told(change.into(), customer, license, products.unwrap_or_default())?;
        let texts = [&identifier, &agreement];
        check(texts.into_iter().flatten())?;
        Ok(Told { identifier, agreement, said: at.transpose()?, by_aws: true, ..told })
    });
    tell(read, by, core).await
}

/// `aws`: none for a product that has no customers.
pub(super) async fn resolve(body: &[u8], by: Peer, core: &Handle, aws: Option<&Arc<Aws>>) -> Answer {
    let Resolve { token } = match read(body) {
        Ok(resolve) => resolve,
        Err(why) => return bad_request(&why),
    };
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return bad_request("token is empty, or far too long for a registration token");
    }
    let Some(aws) = aws else {
        return not_registered("customers are for SaaS products; this product's kind is \"ami\"");
    };
    match aws.resolve_customer(&token).await {
        Ok(found) => {
            let told = Told {
                customer: Some(found.customer),
                identifier: found.identifier,
                agreement: None,
                products: found.product.into_iter().collect(),
                change: Change::New,
                said: None,
                by_aws: false,
            };
            tell(Ok(told), by, core).await
        }
        Err(why) if why.refused => refused(StatusCode::CONFLICT, "token_refused", &why.message),
        Err(why) => refused(StatusCode::SERVICE_UNAVAILABLE, "aws_unreachable", &why.message),
    }
}

/// Longest registration token in bytes.
const TOKEN_BYTES_MAX: usize = 3000;

fn told(
    change: Change,
    customer: Option<String>,
    license: Option<String>,
    products: Vec<String>,
) -> Result<Told, String> {
    if products.len() > PRODUCTS_MAX {
        return Err(format!("there are {} products; allowed: up to {PRODUCTS_MAX}", products.len()));
    }
    check(products.iter())?;
    let customer = buyer(customer, license)?;
    Ok(Told { customer, identifier: None, agreement: None, products, change, said: None, by_aws: false })
}

fn check<'a>(mut texts: impl Iterator<Item = &'a String>) -> Result<(), String> {
    match texts.find(|text| text.is_empty() || text.len() > TEXT_BYTES_MAX) {
        Some(text) => Err(format!("a text has 1-{TEXT_BYTES_MAX} bytes, one here has {}", text.len())),
        None => Ok(()),
    }
}

async fn tell(told: Result<Told, String>, by: Peer, core: &Handle) -> Answer {
    let told = match told {
        Ok(told) => told,
        Err(why) => return bad_request(&why),
    };
    match core.ask(|reply| Command::Tell(Box::new(told), by, reply)).await {
        Ok(Ok((came, customers))) => {
            let came = match came {
                Came::Changed(_) => "changed",
                Came::Known(_) => "known",
                Came::Older => "older",
                Came::OtherProduct => "other_product",
            };
            json_answer(StatusCode::OK, &serde_json::json!({ "ok": true, "came": came, "customers": customers }))
        }
        Ok(Err(NotRegistered::Log(why))) => not_written(&why),
        Ok(Err(NotRegistered::DoesNotFit(why))) => not_registered(&why),
        Err(_) => stopping(),
    }
}

fn not_registered(why: &str) -> Answer {
    refused(StatusCode::CONFLICT, "not_registered", why)
}
