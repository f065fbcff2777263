//! The Resource Groups Tagging API: what tags a resource carries, and one more of them. Two calls, asked by a person, that
//! have nothing to do with metering.
//!
//! Signed by hand (`aws-sigv4`, which the SDK brings) and sent over the SDK's connections: the crate of that API would add
//! its whole service model for these two.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::Region;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};

use super::aws::{Aws, CALL_TIMEOUT, CONNECT_TIMEOUT, chain, connector, user_agent_token};
use crate::hour::Timestamp;

/// What the API's signatures and its host are named by.
const SERVICE: &str = "tagging";
/// What its operations are named by.
const TARGET: &str = "ResourceGroupsTaggingAPI_20170126";
const MEDIA_TYPE: &str = "application/x-amz-json-1.1";
/// Resources in one question (AWS: `ResourceARNListForGet`).
const GET_MAX: usize = 100;
/// Resources in one change (AWS: `ResourceARNListForTagUntag`).
const TAG_MAX: usize = 20;
/// Far above any answer: a hundred resources with fifty tags each.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The tags of resources, by ARN. One that never had a tag is not among them.
pub type Tags = BTreeMap<String, BTreeMap<String, String>>;

/// Why a call, or one resource in it, came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is nothing to sign with.
    NoCredentials(String),
    /// Nobody answers, or not in AWS's words.
    Unreachable(String),
    /// AWS says no.
    ByAws {
        /// Its code.
        code: String,
        /// Its words.
        message: String,
    },
}

impl Refused {
    /// Whether a right is missing.
    pub fn is_denied(&self) -> bool {
        matches!(self, Refused::ByAws { code, .. } if ["AccessDenied", "UnauthorizedOperation", "NotAuthorized"].iter().any(|word| code.starts_with(word)))
    }

    /// Whether the same may work later.
    pub fn is_passing(&self) -> bool {
        match self {
            Refused::NoCredentials(_) => false,
            Refused::Unreachable(_) => true,
            Refused::ByAws { code, .. } => ["Throttl", "InternalService", "ServiceUnavailable", "RequestLimit"]
                .iter()
                .any(|word| code.starts_with(word)),
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::NoCredentials(why) => write!(f, "no credentials: {why}"),
            Refused::Unreachable(why) => f.write_str(why),
            Refused::ByAws { code, message } => write!(f, "AWS says {code}: {message}"),
        }
    }
}

/// A door to the tagging API of one Region.
pub struct Tagging {
    region: String,
    url: String,
    token: String,
    credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    resource_tag_mapping_list: Vec<Mapping>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mapping {
    #[serde(rename = "ResourceARN")]
    arn: String,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tagged {
    #[serde(default)]
    failed_resources_map: BTreeMap<String, Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    error_code: String,
    #[serde(default)]
    error_message: String,
}

impl Tagging {
    /// The door in `region`, where AWS's names end in `domain` (`amazonaws.com`), with the credentials that calls of `aws`
    /// are signed with, and the token of `product_code` on every call.
    pub async fn open(aws: &Aws, region: &str, domain: &str, product_code: &str) -> Result<Tagging, Refused> {
        let config = aws.load(Region::new(region.to_owned())).await;
        let provider = config.credentials_provider();
        let provider = provider.ok_or_else(|| Refused::NoCredentials("none are configured".into()))?;
        let found = tokio::time::timeout(CALL_TIMEOUT, provider.provide_credentials()).await;
        let found = found.map_err(|_| Refused::NoCredentials(format!("none within {} s", CALL_TIMEOUT.as_secs())))?;
        let credentials = found.map_err(|error| Refused::NoCredentials(chain(&error)))?;
        let url = format!("https://{SERVICE}.{region}.{domain}/");
        Ok(Tagging { region: region.to_owned(), url, token: user_agent_token(product_code), credentials })
    }

    /// The tags of these resources, as AWS's index has them, which may be behind by a little.
    pub async fn get(&self, arns: &[String], now: Timestamp) -> Result<Tags, Refused> {
        let mut all = Tags::new();
        for some in arns.chunks(GET_MAX) {
            let found: Found = self.call("GetResources", &json!({ "ResourceARNList": some }), now).await?;
            for Mapping { arn, tags } in found.resource_tag_mapping_list {
                all.insert(arn, tags.into_iter().map(|Tag { key, value }| (key, value)).collect());
            }
        }
        Ok(all)
    }

    /// Sets the tag `key` on these resources; the ones that it was refused on, by ARN. A value that is there already is
    /// overwritten: see with [`Tagging::get`] that there is none.
    pub async fn set(&self, arns: &[String], key: &str, value: &str, now: Timestamp) -> BTreeMap<String, Refused> {
        let mut refused = BTreeMap::new();
        for some in arns.chunks(TAG_MAX) {
            let body = json!({ "ResourceARNList": some, "Tags": { key: value } });
            match self.call::<Tagged>("TagResources", &body, now).await {
                Ok(answer) => refused.extend(answer.failed_resources_map.into_iter().map(|(arn, failure)| {
                    (arn, Refused::ByAws { code: failure.error_code, message: failure.error_message })
                })),
                Err(error) => refused.extend(some.iter().map(|arn| (arn.clone(), error.clone()))),
            }
        }
        refused
    }

    async fn call<T: for<'de> Deserialize<'de>>(
        &self,
        operation: &str,
        body: &Value,
        now: Timestamp,
    ) -> Result<T, Refused> {
        let request = self.signed(operation, body.to_string(), now).map_err(Refused::NoCredentials)?;
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let connector = connector(ProxyConfig::from_env(), Some(&settings), None);
        let unreachable = |why: String| Refused::Unreachable(format!("{} does not answer: {why}", self.url));
        let exchange = async {
            let answer = connector.call(request).await.map_err(|error| unreachable(chain(&error)))?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|error| unreachable(chain(&*error)))?.to_bytes()))
        };
        let timed = tokio::time::timeout(CALL_TIMEOUT, exchange).await;
        let (status, body) =
            timed.map_err(|_| unreachable(format!("nothing within {} s", CALL_TIMEOUT.as_secs())))??;
        if status == 200 {
            return serde_json::from_slice(&body)
                .map_err(|error| unreachable(format!("its answer cannot be read ({error})")));
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let word = |names: [&str; 2]| names.iter().find_map(|name| answer[name].as_str()).unwrap_or_default();
        // `com.amazonaws…#AccessDeniedException`, in some services.
        match word(["__type", "code"]).rsplit('#').next() {
            Some(code) if !code.is_empty() => {
                Err(Refused::ByAws { code: code.to_owned(), message: word(["message", "Message"]).to_owned() })
            }
            _ => Err(unreachable(format!("it answers HTTP {status} without an error code"))),
        }
    }

    fn signed(&self, operation: &str, body: String, now: Timestamp) -> Result<HttpRequest, String> {
        let target = format!("{TARGET}.{operation}");
        let headers = [("content-type", MEDIA_TYPE), ("x-amz-target", target.as_str())];
        let identity = self.credentials.clone().into();
        let time: SystemTime = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.millis()).unwrap_or(0));
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(time)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let bytes = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new("POST", &self.url, headers.into_iter(), bytes);
        let signed = sign(signable.map_err(|error| chain(&error))?, &parameters).map_err(|error| chain(&error))?;
        let (instructions, _) = signed.into_parts();
        let added: Vec<(String, String)> =
            instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST").map_err(|error| chain(&error))?;
        request.set_uri(self.url.as_str()).map_err(|error| chain(&error))?;
        let agent = format!("{} meterd/{}", self.token, env!("CARGO_PKG_VERSION"));
        let plain = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (name, value) in plain.into_iter().chain(added).chain([("user-agent".to_owned(), agent)]) {
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }
}
