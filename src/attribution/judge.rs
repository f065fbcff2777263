//! What was heard, made into findings. Pure.

use super::place::Place;
use super::{Facts, Method, Report, Resource, STATEMENT, State, TAG_KEY, token};
use crate::config::{Config, ProductKind};
use crate::submit::aws::Metadata;
use crate::submit::tagging::Refused;

impl Method {
    fn ok(found: impl Into<String>) -> Method {
        Method { state: State::Ok, found: found.into(), remedy: None }
    }

    fn not(state: State, found: impl Into<String>, remedy: impl Into<String>) -> Method {
        Method { state, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// The tag's value for a product.
pub(super) fn tag_value(code: &str) -> String {
    format!("pc:{code}")
}

/// All three methods.
pub(super) fn report(config: &Config, facts: &Facts) -> Report {
    let code = &config.product.code;
    let resources = resources(code, facts);
    Report {
        product_code: code.clone(),
        marketplace_metering: marketplace_metering(config, &facts.codes),
        user_agent: user_agent(code),
        token: token(code),
        resource_tag: resource_tag(code, facts, &resources),
        tag: [(TAG_KEY, tag_value(code))].into(),
        resources,
    }
}

fn marketplace_metering(config: &Config, codes: &Metadata) -> Method {
    let code = &config.product.code;
    if config.product.kind == ProductKind::Saas {
        return Method::not(
            State::Absent,
            "AWS credits AMI and machine learning products by their metering, SaaS products by tag or user agent",
            "use the resource tag, or the user agent",
        );
    }
    let carried: Vec<&str> = match codes {
        Metadata::Found(codes) => codes.split_whitespace().collect(),
        Metadata::Absent => Vec::new(),
        Metadata::Silent(why) => {
            return unknown_metadata(format!("instance metadata does not answer ({why})"));
        }
        Metadata::Off => {
            return unknown_metadata("AWS_EC2_METADATA_DISABLED forbids to ask instance metadata".into());
        }
    };
    match carried.first() {
        _ if carried.contains(&code.as_str()) => Method::ok(format!(
            "the instance carries {code}: AWS credits its EC2 usage by itself, as long as the listing is an AMI's"
        )),
        Some(other) => Method::not(
            State::Other,
            format!("the instance carries {}, product.code is {code}", carried.join(", ")),
            format!("set product.code = \"{other}\", or launch the instance from your own listing's AMI"),
        ),
        None => Method::not(
            State::Absent,
            "the instance carries no product code",
            "launch it from the AMI of the listing, through a subscription (a limited listing will do); until then use the \
             resource tag",
        ),
    }
}

fn unknown_metadata(found: String) -> Method {
    Method::not(
        State::Unknown,
        found,
        "run this on the instance; `meterd doctor` says what keeps metadata from answering",
    )
}

fn user_agent(code: &str) -> Method {
    Method {
        state: State::Ok,
        found: format!("every call of the agent begins with {}", token(code)),
        // The agent's own calls are about no resource that AWS could credit.
        remedy: Some("have your own software's calls to AWS carry it too: `meterd attribution --lines`".into()),
    }
}

fn resources(code: &str, facts: &Facts) -> Vec<Resource> {
    let Ok(Place { arns, .. }) = &facts.place else { return Vec::new() };
    let judged = |(n, arn): (usize, &String)| {
        let indexed = facts.tags.as_ref().and_then(|tags| tags.as_ref().ok());
        let value = match (indexed.and_then(|tags| tags.get(arn)), &facts.own_tag) {
            (Some(value), _) => Some(value.clone()),
            // Metadata tells the instance's own, if that is enabled, also where the index is behind. Its silence means nothing.
            (None, Metadata::Found(value)) if n == 0 => Some(value.clone()),
            _ => None,
        };
        let state = match &value {
            Some(value) => of_value(code, value),
            None if indexed.is_some() => State::Absent,
            None => State::Unknown,
        };
        Resource { arn: arn.clone(), state, value }
    };
    arns.iter().enumerate().map(judged).collect()
}

fn of_value(code: &str, value: &str) -> State {
    if value == tag_value(code) { State::Ok } else { State::Other }
}

fn resource_tag(code: &str, facts: &Facts, resources: &[Resource]) -> Method {
    let wanted = format!("{TAG_KEY} = {}", tag_value(code));
    let place = match &facts.place {
        Ok(place) => place,
        Err(why) => {
            let remedy = "run this on the instance; `meterd doctor` says what keeps metadata from answering";
            return Method::not(State::Unknown, format!("{why}, so nobody knows which resources to look at"), remedy);
        }
    };
    let count = |state| resources.iter().filter(|resource| resource.state == state).count();
    let volumes = match place.knows_volumes {
        true => String::new(),
        false => "; its volumes cannot be told from here".to_owned(),
    };
    let describe = format!(
        "aws ec2 describe-volumes --filters Name=attachment.instance-id,Values={} tells its volumes",
        place.instance
    );
    if let Some(Resource { arn, value: Some(value), .. }) = resources.iter().find(|r| r.state == State::Other) {
        return Method::not(
            State::Other,
            format!("{arn} carries {TAG_KEY} = {value}, another partner's{volumes}"),
            "leave it: a resource is one partner's. Ask whoever set it, if it is a mistake",
        );
    }
    if let Some(Err(refused)) = &facts.tags {
        // Metadata may have told the instance's own.
        let (state, known) = match resources.first() {
            Some(Resource { state: State::Ok, .. }) => {
                (State::Ok, format!("the instance carries {wanted}, the rest is not known"))
            }
            _ => (State::Unknown, "which tags there are is not known".to_owned()),
        };
        return Method::not(state, format!("{known}{volumes}: {refused}"), remedy(refused, "tag:GetResources"));
    }
    match (count(State::Ok), count(State::Absent)) {
        (all, 0) if place.knows_volumes => Method::ok(format!("all of them ({all}) carry {wanted}")),
        (_, 0) => Method { remedy: Some(describe), ..Method::ok(format!("the instance carries {wanted}{volumes}")) },
        (0, _) => Method::not(State::Absent, format!("none carries {wanted}{volumes}"), "meterd attribution tag"),
        (some, _) => Method::not(
            State::Absent,
            format!("{some} of {} carry {wanted}{volumes}", resources.len()),
            "meterd attribution tag",
        ),
    }
}

/// `how_many` resources did not get the tag, the first of them for this reason.
pub(super) fn not_set(report: &Report, why: &Refused, how_many: usize) -> Method {
    let all = report.resources.len();
    let right = match why {
        // AWS's words name the right; the call itself and the resource's service each have their own.
        Refused::ByAws { message, .. } if message.contains("tag:TagResources") => "tag:TagResources",
        _ => "ec2:CreateTags",
    };
    let found = format!("{how_many} of {all} did not get {TAG_KEY}: {why}");
    Method::not(State::Absent, found, remedy(why, right))
}

fn remedy(refused: &Refused, right: &str) -> String {
    match refused {
        _ if refused.is_denied() => {
            format!(
                "the role lacks {right}: give it the statements [{STATEMENT}]; or set the tag at launch, see the README"
            )
        }
        Refused::NoCredentials(_) => "attach a role to the instance; `meterd doctor` says how".into(),
        Refused::Unreachable(_) => {
            "let TCP 443 out to it, or give the VPC an endpoint for tagging; or set the tag at launch, see the README"
                .into()
        }
        Refused::ByAws { .. } if refused.is_passing() => "run this again in a minute".into(),
        Refused::ByAws { .. } => "see what AWS says; or set the tag at launch, see the README".into(),
    }
}

/// What can be told of all this from instance metadata alone, in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    /// Whether AWS credits the seller with this instance.
    pub state: State,
    /// By what.
    pub found: String,
}

/// The line of it for `doctor` and `status`.
pub fn brief(config: &Config, codes: &Metadata, own_tag: &Metadata) -> Brief {
    let code = &config.product.code;
    let metering = marketplace_metering(config, codes).state;
    let tag = match own_tag {
        Metadata::Found(value) => of_value(code, value),
        _ => State::Unknown,
    };
    let state = match (metering, tag) {
        (State::Other, _) | (_, State::Other) => State::Other,
        (State::Ok, _) | (_, State::Ok) => State::Ok,
        (State::Absent, _) => State::Absent,
        _ => State::Unknown,
    };
    let by_code = match metering {
        State::Ok => "product code carried",
        State::Absent if config.product.kind == ProductKind::Saas => "product code not for SaaS",
        State::Absent => "no product code on the instance",
        State::Other => "another product code on the instance",
        State::Unknown => "product code not known",
    };
    let by_tag = match tag {
        State::Ok => "tagged",
        State::Other => "another partner's tag",
        _ => "tag not seen from here",
    };
    Brief { state, found: format!("{by_code}; user agent on every call; {by_tag}") }
}
