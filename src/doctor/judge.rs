//! What was heard, made into findings. Pure.

use std::time::Duration;

use super::dry_run::{code, is_misspelt, is_taken, is_unanswered, named_like, speaks_for_all, verdict};
use super::network::{Reached, Trouble};
use super::{Facts, Finding, Machine};
use crate::attribution;
use crate::config::{Config, Credentials, ProductKind};
use crate::entry::Verdict;
use crate::hour::span;
use crate::status::SKEW_WARN_MS;
use crate::submit::answer::Reply;
use crate::submit::aws::Metadata;
use crate::submit::outbox::SKEW_MAX;

/// What the role has to be allowed to do.
const STATEMENT: &str = r#"{"Effect":"Allow","Action":"aws-marketplace:MeterUsage","Resource":"*"}"#;

/// The Region that AWS may be asked in: none where it is not known, or is not the instance's own, where the answer would
/// be about another endpoint than the one that has to work.
pub(super) fn callable_region(config: &Config, facts: &Facts) -> Option<String> {
    match (&config.submit.region, &facts.own_region) {
        (Some(set), Metadata::Found(own)) if set != own => None,
        (Some(set), _) => Some(set.clone()),
        (None, Metadata::Found(own)) => Some(own.clone()),
        (None, _) => None,
    }
}

/// All findings but those of the machine.
pub(super) fn findings(config: &Config, machine: &Machine, dimensions: &[String], facts: &Facts) -> Vec<Finding> {
    let case = Case { config, machine, facts };
    let mut all = vec![case.region(), case.role(), case.network(), case.clock()];
    if config.product.kind == ProductKind::Saas {
        let found = "AWS has no dry run for customers' records: nobody can tell before the first one is sent";
        let remedy = "compare product.code and the names of the dimensions with the listing";
        all.push(Finding::unknown("listing", found, remedy));
        return all;
    }
    all.insert(0, case.instance());
    all.push(case.product_code());
    all.push(case.attribution());
    all.extend(dimensions.iter().map(|name| case.dimension(name)));
    all
}

struct Case<'a> {
    config: &'a Config,
    machine: &'a Machine,
    facts: &'a Facts,
}

impl Case<'_> {
    fn instance(&self) -> Finding {
        let check = "instance";
        let fixed = self.config.instance.id.as_ref();
        let silent = match (&self.facts.id, fixed) {
            (Metadata::Found(id), None) => return Finding::ok(check, format!("{id}, by instance metadata")),
            (Metadata::Found(id), Some(name)) => {
                return Finding::ok(check, format!("{id}, by instance metadata; instance.id names it {name}"));
            }
            (Metadata::Absent, _) => "instance metadata names no instance".to_owned(),
            (Metadata::Silent(why), _) => format!("instance metadata does not answer ({why})"),
            (Metadata::Off, _) => "AWS_EC2_METADATA_DISABLED forbids to ask instance metadata".to_owned(),
        };
        let name = fixed.or(self.machine.name.as_ref()).map_or("no name", String::as_str);
        let by_role = self.config.submit.credentials == Credentials::Instance;
        if self.machine.is_ec2 && by_role {
            let remedy = format!(
                "`aws ec2 modify-instance-metadata-options --instance-id {} --http-endpoint enabled --http-tokens required \
                 --http-put-response-hop-limit 2` (in a container metadata is one hop further away, hence the 2)",
                self.instance_id()
            );
            return Finding::fails(check, format!("this is EC2, and {silent}"), remedy);
        }
        let found = format!("{silent}; this machine goes by {name}");
        match by_role {
            true => Finding::fails(
                check,
                format!("not an EC2 instance: {found}"),
                "run the agent on an instance launched from your AMI; for a container with a role of its own set \
                 submit.credentials = \"environment\"",
            ),
            false => Finding::unknown(check, found, "run this again where the product will run"),
        }
    }

    fn region(&self) -> Finding {
        let check = "region";
        if let Some(refused) = self.replied("InvalidEndpointRegion") {
            return Finding::fails(
                check,
                format!("AWS says {}", refused.message),
                "remove submit.region, so that the instance's own Region is used",
            );
        }
        match (&self.config.submit.region, &self.facts.own_region) {
            (Some(set), Metadata::Found(own)) if set == own => {
                Finding::ok(check, format!("{set}, as configured, and the instance's own"))
            }
            (Some(set), Metadata::Found(own)) => Finding::fails(
                check,
                format!("submit.region is {set}, the instance runs in {own}: AWS takes its records only there"),
                format!("remove submit.region, or set submit.region = \"{own}\""),
            ),
            (Some(set), _) => Finding::unknown(
                check,
                format!("{set}, as configured; the instance's own is not known"),
                "mend the line `instance`, or make sure that this is the Region it runs in",
            ),
            (None, Metadata::Found(own)) => Finding::ok(check, format!("{own}, the instance's own")),
            (None, _) if self.config.submit.credentials == Credentials::Instance => Finding::unknown(
                check,
                "not configured, and instance metadata does not tell the instance's own",
                "mend the line `instance` first",
            ),
            (None, _) => Finding::fails(
                check,
                "neither configured nor known from instance metadata",
                "set submit.region to the Region that the product runs in",
            ),
        }
    }

    fn role(&self) -> Finding {
        let check = "role";
        let by_role = self.config.submit.credentials == Credentials::Instance;
        let role = match &self.facts.role {
            Metadata::Found(name) if by_role => name.lines().next().unwrap_or(name),
            Metadata::Absent if by_role => {
                let remedy = format!(
                    "attach an instance profile, PROFILE, whose role has the statement {STATEMENT}: `aws ec2 \
                     associate-iam-instance-profile --instance-id {} --iam-instance-profile Name=PROFILE`",
                    self.instance_id()
                );
                return Finding::fails(check, "no role is attached to the instance", remedy);
            }
            _ => "",
        };
        let blocked = |reply: &&Reply| verdict(reply) == Verdict::Blocked && !self.is_the_clocks(reply);
        if let Some(reply) = self.facts.replies.iter().map(|(_, reply)| reply).find(blocked) {
            return Self::refused(role, reply);
        }
        match &self.facts.key {
            Some(Ok(key)) => {
                let name = match (&self.config.submit.role_arn, &self.config.submit.profile) {
                    _ if !role.is_empty() => role.to_owned(),
                    (Some(assumed), _) => assumed.clone(),
                    (None, Some(profile)) => format!("profile {profile}"),
                    (None, None) => "credentials of the environment".to_owned(),
                };
                let until = key.until.map(|end| format!(", valid until {end}")).unwrap_or_default();
                let found = format!("{name}, key {}{until}", key.id);
                let past = key.until.is_some_and(|end| end <= self.facts.now) && !self.clock_is_wrong();
                match past {
                    true => Finding::fails(check, format!("{found}, which is past"), "renew the credentials"),
                    false => Finding::ok(check, found),
                }
            }
            Some(Err(why)) if !role.is_empty() => Finding::fails(
                check,
                format!("{role} is attached, and no credentials came: {why}"),
                "see that the role exists and trusts ec2.amazonaws.com (`aws iam get-role`), then attach it again",
            ),
            Some(Err(why)) if by_role => {
                Finding::unknown(check, format!("no credentials came: {why}"), "mend the line `instance` first")
            }
            Some(Err(why)) => Finding::fails(
                check,
                format!("the environment has no credentials: {why}"),
                format!("give the agent's process a role, or AWS_… variables, with the statement {STATEMENT}"),
            ),
            None if role.is_empty() => Finding::unknown(check, "not asked", "mend the line `region` first"),
            None => Finding::ok(check, format!("{role} is attached")),
        }
    }

    /// AWS does not let the caller in.
    fn refused(role: &str, reply: &Reply) -> Finding {
        let check = "role";
        let found = format!("AWS says {}", reply.message);
        match (code(reply), role) {
            ("AccessDenied" | "Unauthorized" | "NotAuthorized", "") => {
                Finding::fails(check, found, format!("give the caller's role the statement {STATEMENT}"))
            }
            ("AccessDenied" | "Unauthorized" | "NotAuthorized", role) => {
                let remedy = format!(
                    "give the role that right: `aws iam put-role-policy --role-name {role} --policy-name meterd \
                     --policy-document '{{\"Version\":\"2012-10-17\",\"Statement\":[{STATEMENT}]}}'`"
                );
                Finding::fails(check, found, remedy)
            }
            ("ExpiredToken", "") => Finding::fails(check, found, "renew the credentials in the agent's environment"),
            ("ExpiredToken", _) => Finding::fails(
                check,
                found,
                "instance metadata gives out credentials that are past their end: detach the instance profile and attach it \
                 again (`aws ec2 replace-iam-instance-profile-association`)",
            ),
            ("OptInRequired", _) => {
                Finding::fails(check, found, "enable the Region for this account (AWS console, Account, AWS Regions)")
            }
            _ => Finding::fails(
                check,
                found,
                "make sure that nobody but AWS gives out these credentials, and that this machine's clock is right",
            ),
        }
    }

    fn network(&self) -> Finding {
        let check = "network";
        let Some(reached) = &self.facts.reached else {
            return Finding::unknown(check, "not asked", "mend the line `region` first");
        };
        let Reached { url, host, ms, proxy, trouble, .. } = reached;
        let through = proxy.map(|name| format!(" through the proxy in {name}")).unwrap_or_default();
        match trouble {
            None if self.config.submit.endpoint_url.is_some() => Finding::unknown(
                check,
                format!("{url} answers, and submit.endpoint_url sends everything there instead of to AWS"),
                "remove submit.endpoint_url before going live",
            ),
            None => Finding::ok(check, format!("{host} answers{through} in {ms} ms")),
            Some(Trouble::Name(why) | Trouble::Route(why) | Trouble::Answer(why))
                if self.config.submit.endpoint_url.is_some() =>
            {
                let remedy = "see that somebody listens there, or remove submit.endpoint_url: AWS has its own address";
                Finding::fails(check, format!("{url}, as submit.endpoint_url says, does not answer: {why}"), remedy)
            }
            Some(Trouble::Name(why)) => Finding::fails(
                check,
                format!("the name {host} cannot be looked up: {why}"),
                "see that DNS works here (resolvectl query amazonaws.com) and that the VPC has enableDnsSupport",
            ),
            Some(Trouble::Route(why)) => Finding::fails(
                check,
                format!("no connection to {host}: {why}"),
                "give the subnet a way out: an internet gateway and a public address, or a NAT gateway; let TCP 443 out in the \
                 security group and the network ACL; or name a proxy in HTTPS_PROXY in the agent's environment",
            ),
            Some(Trouble::Answer(why)) if proxy.is_some() => Finding::fails(
                check,
                format!("{host} does not answer{through}: {why}"),
                format!("let the proxy pass CONNECT {host}:443, or remove it from the agent's environment"),
            ),
            Some(Trouble::Answer(why)) => Finding::fails(
                check,
                format!("{host} takes connections and does not answer: {why}"),
                "see that nothing on the way breaks TLS open, that this machine's certificate authorities are installed \
                 (ca-certificates) and that its clock is right",
            ),
        }
    }

    fn clock(&self) -> Finding {
        let check = "clock";
        let Some(skew) = self.facts.skew_ms else {
            let first = if self.facts.reached.is_some() { "network" } else { "region" };
            return Finding::unknown(check, "AWS's clock was not heard", format!("mend the line `{first}` first"));
        };
        let apart = Duration::from_millis(skew.unsigned_abs());
        if skew.abs() <= SKEW_WARN_MS {
            return Finding::ok(check, format!("within {} s of AWS's", apart.as_secs() + 1));
        }
        let side = if skew > 0 { "behind" } else { "ahead of" };
        let waits = if apart > SKEW_MAX { "; records wait until they agree" } else { "" };
        Finding::fails(
            check,
            format!("this machine's clock is {} {side} AWS's{waits}", span(apart)),
            "set it and keep it so, by chrony or systemd-timesyncd: `timedatectl set-ntp true`; on EC2 the time server is \
             169.254.169.123",
        )
    }

    fn clock_is_wrong(&self) -> bool {
        self.facts.skew_ms.is_some_and(|skew| skew.abs() > SKEW_WARN_MS)
    }

    /// Whether AWS refuses a signature for the moment in it.
    fn is_the_clocks(&self, reply: &Reply) -> bool {
        self.clock_is_wrong() && matches!(code(reply), "InvalidSignature" | "SignatureDoesNotMatch" | "RequestExpired")
    }

    fn product_code(&self) -> Finding {
        let check = "product_code";
        let code = &self.config.product.code;
        let carried = match &self.facts.codes {
            Metadata::Found(codes) => codes.split_whitespace().collect(),
            _ => Vec::new(),
        };
        if let (Some(first), false) = (carried.first(), carried.contains(&code.as_str())) {
            let found = format!("the instance carries {}, product.code is {code}", carried.join(", "));
            let remedy = format!("set product.code = \"{first}\", or launch the instance from the listing's own AMI");
            return Finding::fails(check, found, remedy);
        }
        if let Some(refused) = self.replied("InvalidProductCode") {
            let remedy =
                "copy the product code from the listing in the AWS Marketplace Management Portal into product.code";
            return Finding::fails(check, format!("{code}: AWS says {}", refused.message), remedy);
        }
        if let Some(refused) = self.replied("CustomerNotEntitled") {
            let remedy =
                "subscribe this account to the listing (AWS Marketplace console), and launch the instance from there";
            return Finding::fails(check, format!("{code}: AWS says {}", refused.message), remedy);
        }
        match &self.facts.codes {
            Metadata::Found(_) if !carried.is_empty() => Finding::ok(check, format!("{code}, carried by the instance")),
            Metadata::Found(_) | Metadata::Absent => Finding::unknown(
                check,
                format!("the instance carries no product code to compare {code} with"),
                "it does when it was launched from the listing: do that, a limited one will do, and run this there",
            ),
            Metadata::Silent(_) | Metadata::Off => Finding::unknown(
                check,
                format!("{code}; instance metadata does not tell what the instance carries"),
                "mend the line `instance` first",
            ),
        }
    }

    /// Nothing that metering depends on, so it never fails.
    fn attribution(&self) -> Finding {
        let attribution::Brief { state, found } = attribution::brief(self.config, &self.facts.codes, &self.facts.tag);
        match state {
            attribution::State::Ok => Finding::ok(attribution::CHECK, found),
            _ => Finding::unknown(
                attribution::CHECK,
                found,
                "meterd attribution tells more; metering does not depend on it",
            ),
        }
    }

    fn dimension(&self, name: &str) -> Finding {
        let check = format!("dimension:{name}");
        let Some((_, reply)) = self.facts.replies.iter().find(|(asked, _)| asked == name) else {
            let first = match (&self.facts.key, &self.facts.reached, self.facts.replies.last()) {
                (_, _, Some((_, reply))) if is_unanswered(reply) => {
                    return Finding::unknown(check, "not asked", "run this again in a minute");
                }
                (_, _, Some((_, reply))) => self.cause(reply),
                (None, _, _) | (_, None, _) => "region",
                (_, Some(reached), _) if reached.trouble.is_some() => "network",
                _ => "role",
            };
            return Finding::unknown(check, "not asked", format!("mend the line `{first}` first"));
        };
        let says = match is_unanswered(reply) {
            true => format!("no answer: {}", reply.message),
            false => format!("AWS says {}", reply.message),
        };
        match verdict(reply) {
            _ if is_taken(reply) => Finding::ok(check, "AWS takes it (a dry run)"),
            _ if is_misspelt(reply) => {
                let known = self.facts.meant.iter().find(|(asked, _)| asked == name).map(|(_, known)| known.as_str());
                let near = known.or_else(|| named_like(name, &reply.message));
                let meant = near.map(|near| format!("did you mean \"{near}\"? ")).unwrap_or_default();
                let remedy = format!(
                    "{meant}write the dimension's API name exactly as it is published in the listing (capitals count): \
                     [[dimension]] name"
                );
                Finding::fails(check, says, remedy)
            }
            Verdict::NotTaken | Verdict::Ambiguous | Verdict::Conflict => {
                Finding::unknown(check, says, "run this again in a minute")
            }
            Verdict::OutOfBounds { .. } if !self.clock_is_wrong() => {
                Finding::unknown(check, says, "run this again in a minute")
            }
            Verdict::Refused if !speaks_for_all(reply) => {
                Finding::fails(check, says, "see what AWS says, and mend the configuration")
            }
            _ => Finding::unknown(check, says, format!("mend the line `{}` first", self.cause(reply))),
        }
    }

    /// The line that an answer which is not about its dimension belongs to.
    fn cause(&self, reply: &Reply) -> &'static str {
        match code(reply) {
            "InvalidProductCode" | "CustomerNotEntitled" => "product_code",
            "InvalidEndpointRegion" => "region",
            "TimestampOutOfBounds" => "clock",
            _ if self.is_the_clocks(reply) => "clock",
            _ => "role",
        }
    }

    /// A dry run that was answered with `wanted`.
    fn replied(&self, wanted: &str) -> Option<&Reply> {
        self.facts.replies.iter().map(|(_, reply)| reply).find(|reply| code(reply) == wanted)
    }

    fn instance_id(&self) -> &str {
        match &self.facts.id {
            Metadata::Found(id) => id,
            _ => self.machine.name.as_deref().filter(|_| self.machine.is_ec2).unwrap_or("INSTANCE_ID"),
        }
    }
}
