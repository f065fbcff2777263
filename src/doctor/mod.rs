//! What has to be right before the first record can go out, checked one by one: `meterd doctor`, and an agent's own look
//! at its start. Nothing is metered by it and nothing is left behind.
//!
//! [`Doctor::examine`] asks (instance metadata, AWS, the disk, the socket), through the very doors that the agent uses, for
//! a check that goes another way proves nothing. `judge` makes findings of what was heard and `dry_run` reads AWS's answers
//! (both pure), `network` finds out why AWS cannot be reached, `machine` looks at the disk and the socket.
//!
//! One cause is one line that fails: what could not be asked because of it is `unknown` and names that line. Every
//! question has a time-out, and independent ones are asked at once.

mod dry_run;
mod judge;
mod machine;
mod network;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::attribution;
use crate::clock::Clock;
use crate::config::{Config, ProductKind};
use crate::entry::Request;
use crate::hour::Timestamp;
use crate::submit::answer::Reply;
use crate::submit::aws::{self, Aws, Key, Metadata, Metering, ask_metadata};
use crate::submit::outbox::SPACING;
use network::Reached;

/// How long credentials may take to come: the environment's default chain asks several places in turn.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the disk may take: a file system that hangs is not waited for.
const MACHINE_TIMEOUT: Duration = Duration::from_secs(10);

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Metering would not work, or not for long.
    Fails,
    /// It cannot be told from here, or not yet.
    Unknown,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which: `instance`, `region`, `role`, `network`, `clock`, `product_code`, `attribution`, `dimension:NAME`,
    /// `disk`, `socket`.
    pub check: String,
    /// What came of it.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do next; nothing where all is well.
    #[serde(rename = "do")]
    pub remedy: Option<String>,
}

impl Finding {
    fn new(check: impl Into<String>, state: State, found: impl Into<String>, remedy: Option<String>) -> Self {
        // Some errors come in several lines.
        let found: Vec<String> = found.into().lines().map(|line| line.trim().to_owned()).collect();
        Finding { check: check.into(), state, found: found.join(" "), remedy }
    }

    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Finding::new(check, State::Ok, found, None)
    }

    fn fails(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding::new(check, State::Fails, found, Some(remedy.into()))
    }

    fn unknown(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding::new(check, State::Unknown, found, Some(remedy.into()))
    }

    /// The dimension that a dry run was about.
    pub fn dimension(&self) -> Option<&str> {
        self.check.strip_prefix("dimension:")
    }
}

/// What can be told of this machine without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The name that its usage goes by: the instance id, or elsewhere the machine id.
    pub name: Option<String>,
    /// Whether it is an EC2 instance.
    pub is_ec2: bool,
}

/// The names that AWS must know: every configured dimension but the parts of others.
pub fn billed(config: &Config) -> Vec<String> {
    if config.product.kind == ProductKind::Saas {
        // BatchMeterUsage has no dry run to ask with.
        return Vec::new();
    }
    let parts = |name: &str| config.dimensions.iter().any(|d| d.from.iter().any(|source| source.name == name));
    config.dimensions.iter().map(|d| d.name.clone()).filter(|name| !parts(name)).collect()
}

/// Whoever examines.
pub struct Doctor {
    config: Config,
    machine: Machine,
    clock: Arc<dyn Clock>,
    guesses: bool,
}

/// What was heard of instance metadata and AWS.
struct Facts {
    /// Metadata's `instance-id`, `placement/region`, `iam/security-credentials/`, `product-codes` and the partner's tag.
    id: Metadata,
    own_region: Metadata,
    role: Metadata,
    codes: Metadata,
    tag: Metadata,
    /// None where nothing was asked, for want of a Region or in the wrong one.
    key: Option<Result<Key, String>>,
    /// The same.
    reached: Option<Reached>,
    /// Every dry run that was made, by dimension.
    replies: Vec<(String, Reply)>,
    /// Dimensions that AWS does not know, each with a spelling that it does.
    meant: Vec<(String, String)>,
    /// AWS's clock less ours, in milliseconds.
    skew_ms: Option<i64>,
    /// Our clock, when all was heard.
    now: Timestamp,
}

impl Doctor {
    /// One that looks at what `config` describes, on this `machine`, by the machine's own clock.
    pub fn new(config: Config, machine: Machine, clock: Arc<dyn Clock>) -> Self {
        Doctor { config, machine, clock, guesses: false }
    }

    /// The same, that also asks AWS for other spellings of a dimension it does not know: a person is waiting for them.
    pub fn guessing(self) -> Self {
        Doctor { guesses: true, ..self }
    }

    /// Checks all there is, with a dry run for each of `dimensions` as long as their answers differ. `say` hears what is
    /// being asked.
    pub async fn examine(&self, dimensions: &[String], say: &dyn Fn(&str)) -> Vec<Finding> {
        say("the disk and the socket, instance metadata");
        let (mut findings, machine) = tokio::join!(self.examine_aws(dimensions, say), self.examine_machine());
        findings.extend(machine);
        findings
    }

    async fn examine_machine(&self) -> Vec<Finding> {
        let config = self.config.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let alert = machine::alert(&config.alert);
            [machine::disk(&config.state), machine::socket(&config)].into_iter().chain(alert).collect::<Vec<_>>()
        });
        match tokio::time::timeout(MACHINE_TIMEOUT, looked).await {
            Ok(Ok(findings)) => findings,
            _ => {
                let found = format!("it did not answer within {} s", MACHINE_TIMEOUT.as_secs());
                vec![
                    Finding::fails("disk", found, "check the disk and its file system (dmesg)"),
                    Finding::unknown("socket", "not looked at", "mend the line `disk` first"),
                ]
            }
        }
    }

    async fn examine_aws(&self, dimensions: &[String], say: &dyn Fn(&str)) -> Vec<Finding> {
        let metadata = aws::metadata();
        let tag = format!("tags/instance/{}", attribution::TAG_KEY);
        let (id, own_region, role, codes, tag) = tokio::join!(
            ask_metadata(&metadata, "instance-id"),
            ask_metadata(&metadata, "placement/region"),
            ask_metadata(&metadata, "iam/security-credentials/"),
            ask_metadata(&metadata, "product-codes"),
            ask_metadata(&metadata, &tag),
        );
        let (replies, meant, skew_ms, now) = (Vec::new(), Vec::new(), None, self.clock.now());
        let mut facts =
            Facts { id, own_region, role, codes, tag, key: None, reached: None, replies, meant, skew_ms, now };
        if let Some(region) = judge::callable_region(&self.config, &facts) {
            self.ask_aws(&region, dimensions, &mut facts, say).await;
        }
        facts.now = self.clock.now();
        judge::findings(&self.config, &self.machine, dimensions, &facts)
    }

    async fn ask_aws(&self, region: &str, dimensions: &[String], facts: &mut Facts, say: &dyn Fn(&str)) {
        let aws = Aws::new(self.config.submit.clone(), self.config.product.code.clone(), None);
        say(&format!("the way to AWS in {region}, and credentials"));
        let credentials = tokio::time::timeout(CREDENTIALS_TIMEOUT, aws.credentials(region));
        let (key, reached) = tokio::join!(credentials, network::reach(&aws, region, self.clock.as_ref()));
        let key = key.unwrap_or_else(|_| Err(format!("none within {} s", CREDENTIALS_TIMEOUT.as_secs())));
        let ready = key.is_ok() && reached.trouble.is_none();
        let aws_time = reached.aws_time;
        facts.skew_ms = reached.skew_ms;
        (facts.key, facts.reached) = (Some(key), Some(reached));
        for (n, dimension) in dimensions.iter().enumerate().filter(|_| ready) {
            say(&format!("a dry run of {dimension} ({} of {})", n + 1, dimensions.len()));
            if n > 0 {
                tokio::time::sleep(SPACING).await;
            }
            let reply = aws.meter_usage(&self.question(dimension, aws_time), true).await;
            if let Some(aws) = reply.aws_time {
                facts.skew_ms = Some(aws.millis() - self.clock.now().millis());
            }
            if self.guesses && dry_run::is_misspelt(&reply) {
                let known = self.guess(&aws, dimension, aws_time).await;
                facts.meant.extend(known.map(|known| (dimension.clone(), known)));
            }
            let speaks_for_all = dry_run::speaks_for_all(&reply);
            facts.replies.push((dimension.clone(), reply));
            if speaks_for_all {
                break;
            }
        }
    }

    /// Another spelling of `dimension`, under which AWS knows it.
    async fn guess(&self, aws: &Aws, dimension: &str, aws_time: Option<Timestamp>) -> Option<String> {
        for spelling in dry_run::spellings(dimension) {
            tokio::time::sleep(SPACING).await;
            if dry_run::is_taken(&aws.meter_usage(&self.question(&spelling, aws_time), true).await) {
                return Some(spelling);
            }
        }
        None
    }

    /// A dry run about nothing, at a moment that AWS believes in: an earlier one might be before this instance was
    /// started, and our own clock may be what is wrong.
    fn question(&self, dimension: &str, aws_time: Option<Timestamp>) -> Request {
        let timestamp = aws_time.unwrap_or_else(|| self.clock.now());
        let token = format!("doctor-{}-{dimension}", timestamp.seconds());
        Request {
            product_code: self.config.product.code.clone(),
            dimension: dimension.to_owned(),
            timestamp,
            quantity: 0,
            allocations: Vec::new(),
            client_token: token.chars().take(CLIENT_TOKEN_CHARS_MAX).collect(),
        }
    }
}

/// AWS's own bound.
const CLIENT_TOKEN_CHARS_MAX: usize = 64;
