//! The door to AWS: one call of MeterUsage, exactly as fixed in the log. But for `tagging`, which has its
//! credentials and connections from here, the only file that knows the SDK.
//!
//! The SDK's own retries are off: each attempt has its intent in the log, and the pauses are the outbox's.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::imds::client::error::ImdsError;
use aws_config::imds::{self, credentials::ImdsCredentialsProvider, region::ImdsRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_marketplacemetering::Client;
use aws_sdk_marketplacemetering::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_marketplacemetering::config::retry::RetryConfig;
use aws_sdk_marketplacemetering::config::timeout::TimeoutConfig;
use aws_sdk_marketplacemetering::config::{Builder, SharedCredentialsProvider};
use aws_sdk_marketplacemetering::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_marketplacemetering::operation::meter_usage::MeterUsageError;
use aws_sdk_marketplacemetering::operation::meter_usage::builders::MeterUsageFluentBuilder;
use aws_sdk_marketplacemetering::types::{Tag, UsageAllocation};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings, SharedHttpClient};
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;

use super::answer::{Outcome, Reply};
use crate::config::{Credentials, Submit};
use crate::entry::Request;
use crate::hour::Timestamp;

/// How long a connection may take to stand.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole call may take.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Sends records. The agent's loop is written against this, so that a simulation can stand in for AWS.
pub trait Metering: Send + Sync {
    /// Sends one record, or asks with a dry run what would become of it.
    fn meter_usage(&self, request: &Request, dry_run: bool) -> impl Future<Output = Reply> + Send;
}

/// AWS, reached when it is first needed: the configuration is loaded at the first call and again until it succeeds, so
/// that metadata, credentials and Region may all come late.
pub struct Aws {
    submit: Submit,
    product_code: String,
    dummy_key: Option<&'static str>,
    client: tokio::sync::OnceCell<Client>,
}

impl Aws {
    /// A door that is not opened yet. With `dummy_key` calls are signed with that made-up key, for a simulated AWS.
    pub fn new(submit: Submit, product_code: String, dummy_key: Option<&'static str>) -> Self {
        Aws { submit, product_code, dummy_key, client: tokio::sync::OnceCell::new() }
    }

    async fn connect(&self) -> Result<Client, String> {
        let mut config = Builder::from(&self.load(self.region().await?).await);
        if let Some(url) = &self.submit.endpoint_url {
            config = config.endpoint_url(url);
        }
        Ok(Client::from_conf(config.build()))
    }

    pub(super) async fn load(&self, region: Region) -> SdkConfig {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(CALL_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let shared = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http_client(ProxyConfig::from_env()))
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled())
            .region(region);
        let shared = match (self.dummy_key, self.submit.credentials) {
            (Some(key), _) => shared.credentials_provider(dummy_credentials(key)),
            // By name, not by the chain: only the instance's role counts, and the buyer's environment must not
            // override it.
            (None, Credentials::Instance) => shared.credentials_provider(instance_credentials()),
            (None, Credentials::Environment) => shared,
        };
        shared.load().await
    }

    /// What calls in `region` are signed with, as far as it may be shown. The error is the provider's.
    pub async fn credentials(&self, region: &str) -> Result<Key, String> {
        let config = self.load(Region::new(region.to_owned())).await;
        let provider = config.credentials_provider().ok_or("no credentials are configured")?;
        let found = provider.provide_credentials().await.map_err(|error| chain(&error))?;
        let until = found.expiry().and_then(|end| end.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Key { id: found.access_key_id().to_owned(), until: until.map(|span| Timestamp::default().plus(span)) })
    }

    /// Where calls in `region` go.
    pub async fn endpoint(&self, region: &str) -> Result<String, String> {
        if let Some(url) = &self.submit.endpoint_url {
            return Ok(url.clone());
        }
        let place = Params::builder().region(region).build().map_err(|error| chain(&error))?;
        let found = DefaultResolver::new().resolve_endpoint(&place).await;
        found.map(|endpoint| endpoint.url().to_owned()).map_err(|error| chain(&*error))
    }

    async fn region(&self) -> Result<Region, String> {
        if let Some(region) = &self.submit.region {
            return Ok(Region::new(region.clone()));
        }
        let found = ImdsRegionProvider::builder().imds_client(metadata()).build().region().await;
        found.ok_or_else(|| {
            "the instance's Region is not known: no answer from instance metadata; set submit.region".into()
        })
    }
}

/// An access key in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id, which is no secret.
    pub id: String,
    /// Until when it is valid; none: for good.
    pub until: Option<Timestamp>,
}

/// Asks `url` for anything, unsigned, over the way that calls take. Whatever is answered shows that somebody is there; the
/// `Date` in it, if any, is AWS's clock.
pub async fn greet(url: &str) -> Result<Option<Timestamp>, String> {
    let mut request = HttpRequest::new(SdkBody::empty());
    request.set_uri(url).map_err(|error| chain(&error))?;
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let connector = connector(ProxyConfig::from_env(), Some(&settings), None);
    let answer = tokio::time::timeout(CALL_TIMEOUT, connector.call(request)).await;
    match answer {
        Ok(Ok(answer)) => Ok(date(&answer)),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
    }
}

/// Connections over TLS, or plain ones where the address asks for that.
pub(super) fn connector(
    proxy: ProxyConfig,
    settings: Option<&HttpConnectorSettings>,
    components: Option<&RuntimeComponents>,
) -> Connector {
    let mut connector = Connector::builder().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).proxy_config(proxy);
    connector.set_connector_settings(settings.cloned());
    // Without it the connect time-out would have nothing to time it by.
    connector.set_sleep_impl(components.and_then(|c| c.sleep_impl()));
    connector.build()
}

fn http_client(proxy: ProxyConfig) -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .build_with_connector_fn(move |settings, components| connector(proxy.clone(), settings, components))
}

/// Asks instance metadata, and keeps the token for it.
pub use aws_config::imds::Client as MetadataClient;

/// A client of instance metadata. It is never asked through a proxy: another machine's metadata would answer.
pub fn metadata() -> MetadataClient {
    imds::Client::builder().configure(&without_proxy()).build()
}

/// What instance metadata knows under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metadata {
    /// This.
    Found(String),
    /// It answers, and there is no such thing.
    Absent,
    /// It does not answer, or not as it should; why.
    Silent(String),
    /// The environment forbids to ask it.
    Off,
}

/// Asks instance metadata for what it has below `/latest/meta-data/`.
pub async fn ask_metadata(client: &MetadataClient, path: &str) -> Metadata {
    ask(client, &format!("/latest/meta-data/{path}")).await
}

/// Asks for the document that says which instance this is: account, Region, id, as JSON.
pub async fn ask_identity(client: &MetadataClient) -> Metadata {
    ask(client, "/latest/dynamic/instance-identity/document").await
}

async fn ask(client: &MetadataClient, path: &str) -> Metadata {
    // What the SDK's own providers heed.
    if std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true")) {
        return Metadata::Off;
    }
    match tokio::time::timeout(CONNECT_TIMEOUT, client.get(path)).await {
        Ok(Ok(text)) => Metadata::Found(text.as_ref().trim().to_owned()),
        Ok(Err(ImdsError::ErrorResponse(answer))) => match answer.response().status().as_u16() {
            404 => Metadata::Absent,
            status => Metadata::Silent(format!("it answers HTTP {status}")),
        },
        Ok(Err(error)) => Metadata::Silent(chain(&error)),
        Err(_) => Metadata::Silent(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())),
    }
}

fn without_proxy() -> ProviderConfig {
    // The SDK has no client of its own in this build, and panics without one.
    ProviderConfig::without_region().with_http_client(http_client(ProxyConfig::disabled()))
}

fn instance_credentials() -> SharedCredentialsProvider {
    let provider = ImdsCredentialsProvider::builder().configure(&without_proxy()).imds_client(metadata());
    SharedCredentialsProvider::new(provider.build())
}

fn dummy_credentials(key: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(aws_credential_types::Credentials::new(key, "dummy", None, None, "dummy"))
}

impl Metering for Aws {
    async fn meter_usage(&self, request: &Request, dry_run: bool) -> Reply {
        let client = match self.client.get_or_try_init(|| self.connect()).await {
            Ok(client) => client,
            Err(why) => return Reply::not_sent(Outcome::NoCredentials, why),
        };
        let call = match build(client, request, dry_run) {
            Ok(call) => call,
            Err(why) => return Reply::not_sent(Outcome::NotSent, format!("the request cannot be built: {why}")),
        };
        let wire = Arc::new(Wire { token: user_agent_token(&self.product_code), ..Wire::default() });
        let result = call.customize().interceptor(Watch(Arc::clone(&wire))).send().await;
        let seen = wire.seen();
        let (outcome, message) = match result {
            Ok(output) => match output.metering_record_id {
                Some(metering_record_id) => (Outcome::Accepted { metering_record_id }, "accepted".to_owned()),
                None if dry_run => (Outcome::DryRunPassed, "the dry run passed".to_owned()),
                None => (Outcome::NoAnswer, "AWS answered 200 without a record id".to_owned()),
            },
            Err(error) => failed(&error, wire.left.load(Ordering::Relaxed)),
        };
        Reply { outcome, message, request_id: seen.request_id, retry_after: seen.retry_after, aws_time: seen.date }
    }
}

impl Reply {
    fn not_sent(outcome: Outcome, message: String) -> Reply {
        Reply { outcome, message, request_id: None, retry_after: None, aws_time: None }
    }
}

fn build(client: &Client, request: &Request, dry_run: bool) -> Result<MeterUsageFluentBuilder, String> {
    let mut allocations = Vec::with_capacity(request.allocations.len());
    for allocation in &request.allocations {
        let mut one = UsageAllocation::builder().allocated_usage_quantity(as_i32(allocation.quantity));
        for (key, value) in allocation.tags.iter() {
            one = one.tags(Tag::builder().key(key).value(value).build().map_err(|e| e.to_string())?);
        }
        allocations.push(one.build().map_err(|e| e.to_string())?);
    }
    let call = client
        .meter_usage()
        .product_code(&request.product_code)
        .timestamp(DateTime::from_secs(request.timestamp.seconds()))
        .usage_dimension(&request.dimension)
        .usage_quantity(as_i32(request.quantity))
        .client_token(&request.client_token)
        .set_usage_allocations((!allocations.is_empty()).then_some(allocations));
    Ok(if dry_run { call.dry_run(true) } else { call })
}

/// Quantities are sealed to fit.
fn as_i32(quantity: u32) -> i32 {
    i32::try_from(quantity).unwrap_or(i32::MAX)
}

/// Sorts out a failed call. `left`: the request was handed to the network.
fn failed(error: &SdkError<MeterUsageError, HttpResponse>, left: bool) -> (Outcome, String) {
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
fn date(answer: &HttpResponse) -> Option<Timestamp> {
    let date = DateTime::from_str(answer.headers().get("date")?, Format::HttpDate).ok()?;
    Some(Timestamp::from_seconds(date.secs()))
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
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
struct Wire {
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
    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Puts the token in front of the user agent, and notes what comes back.
#[derive(Debug)]
struct Watch(Arc<Wire>);

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
