//! The door to AWS: one call of MeterUsage or BatchMeterUsage, exactly as fixed in the log. But for `tagging`, which has its
//! credentials and connections from here, the only files that know the SDK.
//!
//! The SDK's own retries are off: each attempt has its intent in the log, and the pauses are the outbox's.

mod batch;
mod metadata;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use aws_config::imds::region::ImdsRegionProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_marketplacemetering::Client;
use aws_sdk_marketplacemetering::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_marketplacemetering::config::retry::RetryConfig;
use aws_sdk_marketplacemetering::config::timeout::TimeoutConfig;
use aws_sdk_marketplacemetering::config::{Builder, SharedCredentialsProvider};
use aws_sdk_marketplacemetering::operation::meter_usage::builders::MeterUsageFluentBuilder;
use aws_sdk_marketplacemetering::types::{Tag, UsageAllocation};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings, SharedHttpClient};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;

use super::answer::{Outcome, Reply};
use crate::config::{Credentials, Submit};
use crate::entry::Request;
use crate::hour::Timestamp;
use metadata::instance_credentials;
pub use metadata::{Metadata, MetadataClient, ask_identity, ask_metadata, metadata};
pub(super) use wire::chain;
pub use wire::user_agent_token;
use wire::{Watch, Wire, date};

/// How long a connection may take to stand.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole call may take.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Sends records. The agent's loop is written against this, so that a simulation can stand in for AWS.
pub trait Metering: Send + Sync {
    /// Sends one record, or asks with a dry run what would become of it.
    fn meter_usage(&self, request: &Request, dry_run: bool) -> impl Future<Output = Reply> + Send;

    /// Sends customers' records of one product in one call; none of them: asks whether AWS is there, for this operation has
    /// no dry run.
    fn batch_meter_usage(&self, requests: &[Request]) -> impl Future<Output = Reply> + Send;
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
            .region(region.clone());
        let shared = match (self.dummy_key, self.submit.credentials) {
            (Some(key), _) => shared.credentials_provider(dummy_credentials(key)),
            // By name, not by the chain: only the instance's role counts, and the buyer's environment must not
            // override it.
            (None, Credentials::Instance) => shared.credentials_provider(instance_credentials()),
            (None, Credentials::Environment) => match &self.submit.profile {
                Some(profile) => shared.credentials_provider(of_profile(profile, region)),
                None => shared,
            },
        };
        let own = shared.load().await;
        match &self.submit.role_arn {
            Some(role) if self.dummy_key.is_none() => as_role(role, own).await,
            _ => own,
        }
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

/// By name, not by the chain: keys in the environment go before any profile there, and may be another seller's.
fn of_profile(profile: &str, region: Region) -> SharedCredentialsProvider {
    let client = http_client(ProxyConfig::from_env());
    let config = ProviderConfig::without_region().with_region(Some(region)).with_http_client(client);
    let provider = ProfileFileCredentialsProvider::builder().profile_name(profile).configure(&config).build();
    SharedCredentialsProvider::new(provider)
}

/// `own` for calls that are made as another role. It is taken on when it is first needed, and anew before it expires.
async fn as_role(role: &str, own: SdkConfig) -> SdkConfig {
    let provider = AssumeRoleProvider::builder(role).session_name("meterd").configure(&own).build().await;
    own.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build()
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
        let wire = Wire::of(&self.product_code);
        let result = call.customize().interceptor(Watch(Arc::clone(&wire))).send().await;
        wire.reply(match result {
            Ok(output) => match output.metering_record_id {
                Some(metering_record_id) => (Outcome::Accepted { metering_record_id }, "accepted".to_owned()),
                None if dry_run => (Outcome::DryRunPassed, "the dry run passed".to_owned()),
                None => (Outcome::NoAnswer, "AWS answered 200 without a record id".to_owned()),
            },
            Err(error) => wire.failed(&error),
        })
    }

    async fn batch_meter_usage(&self, requests: &[Request]) -> Reply {
        let client = match self.client.get_or_try_init(|| self.connect()).await {
            Ok(client) => client,
            Err(why) => return Reply::not_sent(Outcome::NoCredentials, why),
        };
        batch::send(client, &self.product_code, requests).await
    }
}

impl Reply {
    fn not_sent(outcome: Outcome, message: String) -> Reply {
        Reply { outcome, message, request_id: None, retry_after: None, aws_time: None }
    }
}

/// The shares of a request; none where nothing is tagged.
fn allocations(request: &Request) -> Result<Option<Vec<UsageAllocation>>, String> {
    let mut allocations = Vec::with_capacity(request.allocations.len());
    for allocation in &request.allocations {
        let mut one = UsageAllocation::builder().allocated_usage_quantity(as_i32(allocation.quantity));
        for (key, value) in allocation.tags.iter() {
            one = one.tags(Tag::builder().key(key).value(value).build().map_err(|e| e.to_string())?);
        }
        allocations.push(one.build().map_err(|e| e.to_string())?);
    }
    Ok((!allocations.is_empty()).then_some(allocations))
}

fn build(client: &Client, request: &Request, dry_run: bool) -> Result<MeterUsageFluentBuilder, String> {
    let call = client
        .meter_usage()
        .product_code(&request.product_code)
        .timestamp(DateTime::from_secs(request.timestamp.seconds()))
        .usage_dimension(&request.dimension)
        .usage_quantity(as_i32(request.quantity))
        .client_token(&request.client_token)
        .set_usage_allocations(allocations(request)?);
    Ok(if dry_run { call.dry_run(true) } else { call })
}

/// Quantities are sealed to fit.
fn as_i32(quantity: u32) -> i32 {
    i32::try_from(quantity).unwrap_or(i32::MAX)
}
