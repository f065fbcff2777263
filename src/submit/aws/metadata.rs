//! Instance metadata: who and where this machine is, and its role's credentials.

use aws_config::imds::client::error::ImdsError;
use aws_config::imds::{self, credentials::ImdsCredentialsProvider};
use aws_config::provider_config::ProviderConfig;
use aws_sdk_marketplacemetering::config::SharedCredentialsProvider;
use aws_smithy_http_client::proxy::ProxyConfig;

use super::wire::chain;
use super::{CONNECT_TIMEOUT, http_client};

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

pub(super) fn instance_credentials() -> SharedCredentialsProvider {
    let provider = ImdsCredentialsProvider::builder().configure(&without_proxy()).imds_client(metadata());
    SharedCredentialsProvider::new(provider.build())
}
