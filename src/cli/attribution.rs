//! `meterd attribution`: how AWS credits the seller with what this instance uses, and what is missing.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::exit;
use super::say::{complain, say};
use crate::attribution::lines::{APP_ID_CHARS_MAX, Line, lines};
use crate::attribution::{Attribution, Method, Report, State, Tagged, token};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Overrides};

/// Show how AWS credits you with what this instance uses: product code, user agent, resource tag
///
/// AWS calls it Partner Revenue Measurement. Asks instance metadata, and with the instance's role the Resource Groups
/// Tagging API (tag:GetResources); changes nothing but with `tag`. Metering does not depend on any of it.
#[derive(Debug, clap::Args)]
pub struct AttributionArgs {
    /// Show ready-made lines that have your own software's calls to AWS carry the token
    #[arg(long)]
    lines: bool,
    /// One JSON object, the lines included
    #[arg(long, global = true)]
    json: bool,
    /// The configuration file [default: METERD_CONFIG, else /etc/meterd/meterd.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Set the resource tag on the instance and its volumes where it is absent
    ///
    /// Another partner's value is never overwritten. Needs tag:GetResources, tag:TagResources and ec2:CreateTags; which of
    /// them is missing is said.
    Tag,
}

/// Looks, or tags; returns the exit code.
pub fn run(args: &AttributionArgs) -> u8 {
    let loaded = Overrides::from_env(|name| std::env::var_os(name)).and_then(|overrides| {
        let path = overrides.config_path(args.config.as_deref());
        Config::load_for_run(&path, &overrides)
    });
    let config = match loaded {
        Ok(config) => config,
        Err(errors) => {
            complain!("meterd: {errors}");
            return exit::CONFIG;
        }
    };
    let token = token(&config.product.code);
    if args.lines {
        show_lines(args.json, &token);
        return exit::FINE;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("meterd: starting: {error}");
            return exit::REFUSED;
        }
    };
    let (attribution, now) = (Attribution::new(&config), SystemClock::default().now());
    match args.action {
        None => {
            let report = runtime.block_on(attribution.look(now));
            if args.json {
                let mut shown = serde_json::to_value(&report).unwrap_or_default();
                shown["lines"] = json!(lines(&token));
                say!("{shown}");
            } else {
                say!("{}", shown(&report).trim_end());
            }
            if report.is_credited() { exit::FINE } else { exit::REFUSED }
        }
        Some(Action::Tag) => told(args.json, &runtime.block_on(attribution.tag(now))),
    }
}

fn told(as_json: bool, Tagged { report, set, retry }: &Tagged) -> u8 {
    let done = report.is_tagged();
    if as_json {
        say!(
            "{}",
            json!({ "ok": done, "set": set, "resource_tag": report.resource_tag, "resources": report.resources })
        );
    } else {
        set.iter().for_each(|arn| say!("set on {arn}"));
        say!("{}", method("resource tag", &report.resource_tag).trim_end());
        say!("{}", resources(report).trim_end());
    }
    match (done, retry) {
        (true, _) => exit::FINE,
        (false, true) => exit::RETRY,
        (false, false) => exit::REFUSED,
    }
}

fn shown(report: &Report) -> String {
    let methods = [
        ("marketplace metering", &report.marketplace_metering),
        ("user agent", &report.user_agent),
        ("resource tag", &report.resource_tag),
    ];
    let all: String = methods.iter().map(|(name, found)| method(name, found)).collect();
    format!("meterd attribution: product {}\n\n{all}{}", report.product_code, resources(report))
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Absent => "absent",
        State::Other => "other",
        State::Unknown => "unknown",
    }
}

fn method(name: &str, Method { state, found, remedy }: &Method) -> String {
    let mut out = format!("  {:<7}  {name:<20}  {found}\n", word(*state));
    if let Some(remedy) = remedy {
        // Writing into a string does not fail.
        let _ = writeln!(out, "{:33}do: {remedy}", "");
    }
    out
}

fn resources(report: &Report) -> String {
    let line = |resource: &crate::attribution::Resource| {
        let value = resource.value.as_deref().unwrap_or("-");
        format!("             {:<7}  {}  {value}\n", word(resource.state), resource.arn)
    };
    report.resources.iter().map(line).collect()
}

fn show_lines(as_json: bool, token: &str) {
    let lines = lines(token);
    if as_json {
        say!("{}", serde_json::to_value(&lines).unwrap_or(Value::Null));
        return;
    }
    say!(
        "{token} in the user agent of your own software's calls to AWS\n(one call about a resource in a month is what counts)"
    );
    if token.chars().count() > APP_ID_CHARS_MAX {
        say!(
            "\nIt is longer than the {APP_ID_CHARS_MAX} characters that an application id may have: AWS_SDK_UA_APP_ID and\nsdk_ua_app_id may be refused or cut, take the line of your SDK"
        );
    }
    for Line { of, line, tried, trap } in lines {
        say!("\n{of} ({}):", tried.map_or_else(|| "not tried".to_owned(), |what| format!("tried: {what}")));
        line.lines().for_each(|line| say!("    {line}"));
        say!("  {trap}");
    }
}
