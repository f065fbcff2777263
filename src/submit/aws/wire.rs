//! What a call looks like on the wire, and how a failed one is sorted out.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_marketplacemetering::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;

use super::super::answer::{Outcome, Reply};
use crate::hour::Timestamp;

/// Sorts out a failed call. `left`: the request was handed to the network.
fn failed<E: ProvideErrorMetadata + Error + 'static>(
    error: &SdkError<E, HttpResponse>,
    left: bool,
) -> (Outcome, String) {
    match error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or_default();
            let words = service.err().message().unwrap_or_default();
            let status = service.raw().status().as_u16();
            if code == "DryRunOperation" {
                return (Outcome::DryRunPassed, words.to_owned());
            }
            let message = if code.is_empty() { format!("HTTP {status}") } else { format!("{code}: {words}") };
            let code = code.strip_suffix("Exception").unwrap_or(code).to_owned();
            (Outcome::Error { code, status }, message)
        }
        // The signer had nothing to sign with, or the SDK refused before anything left.
        other if !left => (Outcome::NoCredentials, chain(other)),
        other if never_connected(other) => (Outcome::NotSent, chain(other)),
        other => (Outcome::NoAnswer, chain(other)),
    }
}

/// Whether the error is one of making the connection, so that no byte of the request can have arrived.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|e| e.is_connect()) {
            return true;
        }
        next = error.source();
    }
    false
}

/// AWS's clock, as an answer tells it.
pub(super) fn date(answer: &HttpResponse) -> Option<Timestamp> {
    let date = DateTime::from_str(answer.headers().get("date")?, Format::HttpDate).ok()?;
    Some(Timestamp::from_seconds(date.secs()))
}

/// An error with its causes, in one line.
pub(in super::super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// The Partner Revenue Measurement token. The SDK's own app name refuses `/`, hence the interceptor.
pub fn user_agent_token(product_code: &str) -> String {
    format!("APN_1.1/pc_{product_code}$")
}

/// What one call looked like on the wire.
#[derive(Debug, Default)]
pub(super) struct Wire {
    token: String,
    left: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default, Clone)]
struct Seen {
    date: Option<Timestamp>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
}

impl Wire {
    /// One for a call that carries this product's token.
    pub(super) fn of(product_code: &str) -> Arc<Wire> {
        Arc::new(Wire { token: user_agent_token(product_code), ..Wire::default() })
    }

    /// What came of a call that failed.
    pub(super) fn failed<E: ProvideErrorMetadata + Error + 'static>(
        &self,
        error: &SdkError<E, HttpResponse>,
    ) -> (Outcome, String) {
        failed(error, self.left.load(Ordering::Relaxed))
    }

    /// The whole of what came back.
    pub(super) fn reply(&self, (outcome, message): (Outcome, String)) -> Reply {
        let Seen { date, request_id, retry_after } = self.seen();
        Reply { outcome, message, request_id, retry_after, aws_time: date }
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Puts the token in front of the user agent, and notes what comes back.
#[derive(Debug)]
pub(super) struct Watch(pub(super) Arc<Wire>);

#[dyn_dispatch_hint]
impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "meterd"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // The header is not part of the signature.
        let headers = context.request_mut().headers_mut();
        let before = headers.get("user-agent").unwrap_or_default().to_owned();
        headers.insert("user-agent", format!("{} {before}", self.0.token));
        self.0.left.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        let retry_after = headers.get("retry-after").and_then(|text| text.trim().parse().ok());
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen {
            date: date(context.response()),
            request_id: headers.get("x-amzn-requestid").map(str::to_owned),
            retry_after: retry_after.map(Duration::from_secs),
        };
        Ok(())
    }
}
