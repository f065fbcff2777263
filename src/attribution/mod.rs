//! Partner Revenue Measurement: how AWS credits the seller with what this instance uses, by each of its three methods, and
//! what is missing. For people who ask; nothing here is on the way of a record.
//!
//! | method | what makes it work | what can be told from here |
//! | --- | --- | --- |
//! | marketplace metering | the product code of an AMI listing, which EC2 attaches to the instance | instance metadata |
//! | user agent | a token in the calls of the seller's software | the agent's own calls carry it; [`lines`] for others |
//! | resource tag | `aws-apn-id` on the instance and its volumes | the tagging API, or instance metadata for the instance |
//!
//! `judge` makes findings of what was heard (pure), `place` tells which resources are this instance's.
//!
//! Between looking at a tag and setting it somebody else may set it, and AWS's index may be behind by a little: AWS has no
//! call that sets a tag only where there is none. [`STATEMENT`] closes that gap where it counts, for with its condition AWS
//! itself refuses to change a value that is there.

mod judge;
pub mod lines;
mod place;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::config::Config;
use crate::hour::Timestamp;
use crate::submit::aws::{self, Aws, Metadata, ask_identity, ask_metadata, user_agent_token};
use crate::submit::tagging::{Refused, Tagging};
pub use judge::{Brief, brief};
use place::Place;

/// What `doctor` and `status` call it.
pub const CHECK: &str = "attribution";

/// The tag's key.
pub const TAG_KEY: &str = "aws-apn-id";

/// What the role has to be allowed to do. The condition lets it set the tag where there is none, and change no value.
pub const STATEMENT: &str = r#"{"Effect":"Allow","Action":["tag:GetResources","tag:TagResources"],"Resource":"*"},{"Effect":"Allow","Action":"ec2:CreateTags","Resource":"*","Condition":{"Null":{"aws:ResourceTag/aws-apn-id":"true"},"ForAllValues:StringEquals":{"aws:TagKeys":"aws-apn-id"}}}"#;

/// How things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// AWS credits the seller.
    Ok,
    /// It does not, by this method.
    Absent,
    /// It credits somebody else.
    Other,
    /// It cannot be told from here.
    Unknown,
}

/// One method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Method {
    /// How things are.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do next; nothing where all is well.
    #[serde(rename = "do")]
    pub remedy: Option<String>,
}

/// A resource that can carry the tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resource {
    /// Its name.
    pub arn: String,
    /// How things are.
    pub state: State,
    /// The tag's value, if it has one.
    pub value: Option<String>,
}

/// All three methods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The configured product code.
    pub product_code: String,
    /// By the product code on the instance.
    pub marketplace_metering: Method,
    /// By the token in calls.
    pub user_agent: Method,
    /// The token.
    pub token: String,
    /// By a tag.
    pub resource_tag: Method,
    /// The tag that is wanted.
    pub tag: BTreeMap<&'static str, String>,
    /// What can carry it.
    pub resources: Vec<Resource>,
}

impl Report {
    /// Whether AWS credits the seller with this instance, and nobody else with a part of it.
    pub fn is_credited(&self) -> bool {
        let methods = [self.marketplace_metering.state, self.resource_tag.state];
        methods.contains(&State::Ok) && !methods.contains(&State::Other)
    }

    /// Whether each resource that is known carries the tag.
    pub fn is_tagged(&self) -> bool {
        !self.resources.is_empty() && self.resources.iter().all(|resource| resource.state == State::Ok)
    }
}

/// What came of setting the tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tagged {
    /// How things are now.
    pub report: Report,
    /// The resources that got it.
    pub set: Vec<String>,
    /// Whether what was refused may work later.
    pub retry: bool,
}

/// What was heard.
struct Facts {
    codes: Metadata,
    /// The tag on the instance, as instance metadata tells it, if that is enabled.
    own_tag: Metadata,
    place: Result<Place, String>,
    /// The tag's value on each resource that has one; none where the API was not asked, for want of a place.
    tags: Option<Result<BTreeMap<String, String>, Refused>>,
}

/// Whoever asks.
pub struct Attribution<'a> {
    config: &'a Config,
    aws: Aws,
}

impl<'a> Attribution<'a> {
    /// For what `config` describes.
    pub fn new(config: &'a Config) -> Self {
        let aws = Aws::new(config.submit.clone(), config.product.code.clone(), None);
        Attribution { config, aws }
    }

    /// Looks at all three methods; changes nothing. `now` is for signatures.
    pub async fn look(&self, now: Timestamp) -> Report {
        let (facts, _) = self.ask(now).await;
        judge::report(self.config, &facts)
    }

    /// Sets the tag on the instance and its volumes where it is absent.
    pub async fn tag(&self, now: Timestamp) -> Tagged {
        let (mut facts, door) = self.ask(now).await;
        let before = judge::report(self.config, &facts);
        let absent = before.resources.iter().filter(|resource| resource.state == State::Absent);
        let absent: Vec<String> = absent.map(|resource| resource.arn.clone()).collect();
        // Where the values that are there are not known none may be overwritten.
        let (Some(door), Some(Ok(tags)), false) = (door, &mut facts.tags, absent.is_empty()) else {
            let retry = matches!(&facts.tags, Some(Err(refused)) if refused.is_passing());
            return Tagged { report: before, set: Vec::new(), retry };
        };
        let value = judge::tag_value(&self.config.product.code);
        let refused = door.set(&absent, TAG_KEY, &value, now).await;
        let set: Vec<String> = absent.into_iter().filter(|arn| !refused.contains_key(arn)).collect();
        tags.extend(set.iter().map(|arn| (arn.clone(), value.clone())));
        let mut report = judge::report(self.config, &facts);
        if let Some(why) = refused.values().next() {
            report.resource_tag = judge::not_set(&report, why, refused.len());
        }
        Tagged { report, set, retry: refused.values().any(Refused::is_passing) }
    }

    async fn ask(&self, now: Timestamp) -> (Facts, Option<Tagging>) {
        let metadata = aws::metadata();
        let tag = format!("tags/instance/{TAG_KEY}");
        let (codes, own_tag, identity, partition, domain) = tokio::join!(
            ask_metadata(&metadata, "product-codes"),
            ask_metadata(&metadata, &tag),
            ask_identity(&metadata),
            ask_metadata(&metadata, "services/partition"),
            ask_metadata(&metadata, "services/domain"),
        );
        let place = Place::of(&identity, &partition, &domain, Path::new("/"));
        let mut facts = Facts { codes, own_tag, place, tags: None };
        let Ok(place) = &facts.place else { return (facts, None) };
        match Tagging::open(&self.aws, &place.region, &place.domain, &self.config.product.code).await {
            Err(refused) => facts.tags = Some(Err(refused)),
            Ok(door) => {
                let tags = door.get(&place.arns, now).await;
                let value = |(arn, mut tags): (String, BTreeMap<String, String>)| Some((arn, tags.remove(TAG_KEY)?));
                facts.tags = Some(tags.map(|tags| tags.into_iter().filter_map(value).collect()));
                return (facts, Some(door));
            }
        }
        (facts, None)
    }
}

/// The token that stands in front of the user agent of every call of the agent.
pub fn token(product_code: &str) -> String {
    user_agent_token(product_code)
}
