//! Ready-made lines that have a seller's own software carry the token, each tried or marked as not tried.

use serde::Serialize;

/// The longest application id that AWS's SDKs are to take, in characters.
pub const APP_ID_CHARS_MAX: usize = 50;

/// One way to have calls carry the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Of what.
    pub of: &'static str,
    /// What to write.
    pub line: String,
    /// The versions it was tried with, the header looked at; nothing where it was not.
    pub tried: Option<&'static str>,
    /// What to know about it.
    pub trap: &'static str,
}

/// What botocore and the SDK for JavaScript make of an application id.
const MANGLED: &str = "arrives as app/APN_1.1-pc_…$, with - for /; AWS documents this way, whether it counts so written only \
                       Partner Central can tell: take the line of your SDK where there is one";
const TRIED_ID: Option<&str> = Some("boto3 1.44.5, awscli 1.46.3, @aws-sdk/client-sts 3.1169.0");

/// Lines that carry `token`. It ends in `$`, which shells and build tools expand unless it is quoted.
pub fn lines(token: &str) -> Vec<Line> {
    let line = |of, line: String, tried, trap| Line { of, line, tried, trap };
    let (name, value) = token.split_once('/').unwrap_or((token, ""));
    vec![
        line("environment", format!("export AWS_SDK_UA_APP_ID='{token}'"), TRIED_ID, MANGLED),
        line(
            "~/.aws/config",
            format!("[default]\nsdk_ua_app_id = {token}"),
            Some("boto3 1.44.5, @aws-sdk/client-sts 3.1169.0"),
            MANGLED,
        ),
        line(
            "Python, boto3",
            format!("boto3.client(\"s3\", config=botocore.config.Config(user_agent_extra=\"{token}\"))"),
            Some("boto3 1.44.5"),
            "arrives as it is, at the end; each client needs the config",
        ),
        line(
            "JavaScript v3",
            format!("new S3Client({{ customUserAgent: \"{token}\" }})"),
            Some("@aws-sdk/client-sts 3.1169.0"),
            "arrives as it is, at the end; userAgentAppId instead is written with - for /",
        ),
        line(
            "Java v2",
            format!(
                "ClientOverrideConfiguration.builder().putAdvancedOption(SdkAdvancedClientOption.USER_AGENT_PREFIX, \"{token}\").build()"
            ),
            None,
            "from AWS's guide",
        ),
        line(
            "Go v2",
            format!(
                "config.WithAPIOptions([]func(*middleware.Stack) error{{awsmiddleware.AddUserAgentKeyValue(\"{name}\", \"{value}\")}})"
            ),
            None,
            "in two parts, for a / within one of them, or in config.WithAppID, may be written -",
        ),
        line(
            "Rust",
            format!("client.s3().list_buckets().customize().interceptor(Prefix(\"{token}\")).send()"),
            Some("aws-sdk-marketplacemetering 1.124, by meterd itself"),
            "write an interceptor whose modify_before_transmit puts the token in front of user-agent, which is not signed: an \
             AppName with / is refused, and AWS_SDK_UA_APP_ID with / left out without a word",
        ),
        line(
            "AWS CLI",
            format!("AWS_SDK_UA_APP_ID='{token}' aws s3 ls"),
            Some("awscli 1.46.3"),
            "the environment's - for /; version 2 was not tried",
        ),
        line(
            "Terraform",
            format!("TF_APPEND_USER_AGENT='{token}' terraform apply"),
            None,
            "in force for every call of that run, so also for what is not yours",
        ),
    ]
}
