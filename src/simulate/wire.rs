//! awsJson 1.1 over HTTP: which operation a request names, who signed it, and how an answer looks in bytes.
//!
//! The signature itself is not verified: that would take the secret key, and a simulation that is handed secrets is
//! worse than one that trusts its callers. What is checked is that a SigV4 header is there, complete, and made for
//! this service. The access key id in it stands for the instance, as the role session does at AWS; credentials that
//! are renewed under another access key id are another instance here.

use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::http::HeaderMap;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::answer::{Granted, Refusal};
use crate::hour::Timestamp;

const TARGET: &str = "x-amz-target";
const TARGET_PREFIX: &str = "AWSMPMeteringService.";
const SIGNING_NAME: &str = "aws-marketplace";
const MEDIA_TYPE: &str = "application/x-amz-json-1.1";

/// The operations this service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// One record of the instance that calls.
    MeterUsage,
    /// Records of many customers.
    BatchMeterUsage,
    /// Who a registration token is.
    ResolveCustomer,
}

/// The operation that `headers` name.
///
/// # Errors
/// `UnknownOperationException` for another target, `SerializationException` for another media type.
pub fn operation(headers: &HeaderMap) -> Result<Operation, Refusal> {
    let target = text(headers, TARGET).unwrap_or_default();
    let operation = match target.strip_prefix(TARGET_PREFIX) {
        Some("MeterUsage") => Operation::MeterUsage,
        Some("BatchMeterUsage") => Operation::BatchMeterUsage,
        Some("ResolveCustomer") => Operation::ResolveCustomer,
        _ => {
            let message = format!(
                "X-Amz-Target {target:?} is none of: {TARGET_PREFIX}MeterUsage, BatchMeterUsage, ResolveCustomer"
            );
            return Err(Refusal::new("UnknownOperationException", message));
        }
    };
    let media_type = text(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    if media_type.split(';').next().map(str::trim) != Some(MEDIA_TYPE) {
        return Err(Refusal::serialization(format!("Content-Type {media_type:?} is not {MEDIA_TYPE}")));
    }
    Ok(operation)
}

/// The access key id that signed the request.
///
/// # Errors
/// `MissingAuthenticationTokenException` without an `Authorization` header, `IncompleteSignatureException` for one
/// that is not SigV4's, `InvalidSignatureException` for one made for another service.
pub fn caller(headers: &HeaderMap) -> Result<String, Refusal> {
    let Some(authorization) = text(headers, AUTHORIZATION.as_str()) else {
        return Err(Refusal::new("MissingAuthenticationTokenException", "Missing Authentication Token"));
    };
    let incomplete = |message: &str| Err(Refusal::new("IncompleteSignatureException", message));
    let Some(parameters) = authorization.strip_prefix("AWS4-HMAC-SHA256 ") else {
        return incomplete("the Authorization header does not begin with AWS4-HMAC-SHA256");
    };
    let parameter = |name: &str| {
        let found = parameters.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        found.filter(|value| !value.is_empty())
    };
    if parameter("SignedHeaders").is_none() || parameter("Signature").is_none() {
        return incomplete("Authorization header requires 'SignedHeaders' and 'Signature' parameters");
    }
    if text(headers, "x-amz-date").is_none() {
        return incomplete("Authorization header requires existence of an 'X-Amz-Date' header");
    }
    let scope: Vec<&str> = parameter("Credential").unwrap_or_default().split('/').collect();
    match scope.as_slice() {
        [key, date, region, service, "aws4_request"] if ![key, date, region].iter().any(|part| part.is_empty()) => {
            if *service == SIGNING_NAME {
                return Ok((*key).to_owned());
            }
            let message = format!("Credential should be scoped to correct service: '{SIGNING_NAME}', not '{service}'");
            Err(Refusal::new("InvalidSignatureException", message))
        }
        _ => incomplete("Credential must be <access key id>/<date>/<region>/<service>/aws4_request"),
    }
}

/// A header's text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An answer in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `x-amzn-ErrorType`.
    pub error_type: Option<String>,
    /// `retry-after`, in seconds.
    pub retry_after_s: Option<u32>,
    /// What the service takes the time to be.
    pub date: Timestamp,
    /// The body, not always JSON.
    pub body: String,
}

impl Reply {
    /// Status 200 with this body.
    pub fn ok(date: Timestamp, body: impl Into<String>) -> Self {
        Reply { status: 200, error_type: None, retry_after_s: None, date, body: body.into() }
    }

    /// The answer to a judged request.
    pub fn of(judgement: &Result<Granted, Refusal>, date: Timestamp) -> Self {
        match judgement {
            Ok(Granted::Recorded { metering_record_id }) => {
                Reply::ok(date, json!({ "MeteringRecordId": metering_record_id }).to_string())
            }
            Ok(Granted::Body(body)) => Reply::ok(date, body.to_string()),
            Ok(Granted::DryRun) => Reply::ok(date, "{}"),
            Err(refusal) => Reply::refused(refusal, date),
        }
    }

    /// An error answer.
    pub fn refused(refusal: &Refusal, date: Timestamp) -> Self {
        Reply {
            status: refusal.status,
            error_type: Some(refusal.code.clone().into_owned()),
            retry_after_s: None,
            date,
            body: json!({ "__type": refusal.code, "message": refusal.message }).to_string(),
        }
    }

    /// The headers of this answer. `request_id` is the call's own.
    pub fn headers(&self, request_id: &str) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("content-type", MEDIA_TYPE.to_owned()),
            ("x-amzn-requestid", request_id.to_owned()),
            ("date", http_date(self.date)),
        ];
        if let Some(error_type) = &self.error_type {
            headers.push(("x-amzn-errortype", error_type.clone()));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.push(("retry-after", seconds.to_string()));
        }
        headers
    }
}

/// `Sat, 21 Nov 2026 09:00:00 GMT`.
fn http_date(moment: Timestamp) -> String {
    let shown = OffsetDateTime::from_unix_timestamp(moment.seconds()).ok().and_then(|m| m.format(&Rfc2822).ok());
    // RFC 2822 writes the zone as +0000, HTTP as GMT; the rest is the same.
    shown.map(|date| date.replace("+0000", "GMT")).unwrap_or_default()
}
