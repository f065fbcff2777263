//! The promise of the metrics: Prometheus takes them, they say what status says, the alert rules and the dashboard use names
//! that exist, and the alerts fire in an outage and not beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::socket::{get, raw};
use crate::world::{DIMENSIONS, NOON, World, read, wait_until};

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/prometheus/meterd.rules.yml");
const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/grafana/meterd.json");
const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;
const HOUR: f64 = 3600.0;

fn scrape(world: &World) -> String {
    let answer = get(&world.socket(), "/metrics").expect("an agent that answers");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    answer.body
}

/// Every sample: the series as written, and its value.
fn samples(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let found: Vec<(String, String)> =
        lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(s, v)| (s.to_owned(), v.to_owned())).collect();
    let map: BTreeMap<_, _> = found.iter().cloned().collect();
    assert_eq!(map.len(), found.len(), "a series stands twice:\n{text}");
    map
}

/// Every name that is told of, with or without samples.
fn names(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect()
}

/// `promtool` with `args`; none, with a word about it, where there is no promtool.
fn promtool(args: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new("promtool");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        println!("skipped: no promtool (Debian's package prometheus)");
        return None;
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {args:?}: {said}");
    Some(said)
}

/// The metrics' names in a file.
fn used(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names = words.filter(|word| word.starts_with("meterd_"));
    let base =
        |name: &str| ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end).map(str::to_owned));
    names.map(|name| base(name).unwrap_or(name.to_owned())).collect()
}

#[test]
fn they_say_what_status_says_and_prometheus_takes_them() {
    let mut world = World::new(NOON - 60, 1800);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(
        &aws.url(),
        "[[dimension]]\nname = \"requests\"\nunit = \"10\"\n[[dimension]]\nname = \"bytes\"\n",
        "",
        "",
    );
    let agent = world.start();
    let keyed = r#"{"dimension":"bytes","quantity":"0.000001","key":"a"}"#;
    for line in
        [r#"{"dimension":"requests","quantity":"27.5"}"#, keyed, keyed, r#"{"dimension":"no","quantity":1}"#, "{"]
    {
        agent.tell(line);
    }
    let large = raw(
        &world.socket(),
        "POST /v1/usage HTTP/1.1\r\nhost: meterd\r\ncontent-length: 70000\r\nconnection: close\r\n\r\n",
    );
    assert!(large.starts_with("HTTP/1.1 413 "), "{large}");
    wait_until("AWS has a record", || agent.status()["records"]["accepted"] == 1);
    let text = scrape(&world);
    let found = samples(&text);
    promtool(&["check", "metrics"], &text);
    let value = |series: &str| found.get(series).unwrap_or_else(|| panic!("{series}:\n{text}")).as_str();
    for (series, expected) in [
        ("meterd_ready", "1"),
        ("meterd_gate_state{state=\"open\"}", "1"),
        ("meterd_gate_state{state=\"closed\"}", "0"),
        ("meterd_accepted_increments_total", "2"),
        ("meterd_duplicate_increments_total", "1"),
        ("meterd_refusals_total{code=\"unknown_dimension\"}", "1"),
        ("meterd_refusals_total{code=\"bad_request\"}", "1"),
        ("meterd_refusals_total{code=\"too_large\"}", "1"),
        ("meterd_sealed_units{dimension=\"requests\"}", "27.5"),
        ("meterd_accepted_units_total{dimension=\"requests\"}", "20"),
        ("meterd_remainder_units{dimension=\"requests\"}", "7.5"),
        ("meterd_received_units{dimension=\"bytes\"}", "0.000001"),
        ("meterd_books_balanced{dimension=\"bytes\"}", "1"),
        ("meterd_records{state=\"accepted\"}", "1"),
        ("meterd_aws_calls_total{call=\"record\",result=\"accepted\"}", "1"),
        ("meterd_commit_increments_sum", "2"),
        ("meterd_disk_reserve", "1"),
        ("meterd_failing_seconds", "0"),
    ] {
        assert_eq!(value(series), expected, "{series}:\n{text}");
    }
    let commits: u64 = value("meterd_commit_duration_seconds_count").parse().unwrap();
    assert!(commits >= 3 && value("meterd_commit_duration_seconds_bucket{le=\"+Inf\"}") == commits.to_string());
    assert!(!value("meterd_last_success_timestamp_seconds").is_empty());
    let names = names(&text);
    for file in [RULES, DASHBOARD] {
        let unknown: Vec<String> = used(&read(Path::new(file))).difference(&names).cloned().collect();
        assert!(unknown.is_empty(), "{file} uses {unknown:?}, which the agent does not export");
    }
    let dashboard: Value = serde_json::from_str(&read(Path::new(DASHBOARD))).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
}

/// Five minutes of the clock.
const TICK: f64 = 300.0;

#[test]
fn alerts_fire_in_an_outage_and_not_beside_it() {
    let Some(said) = promtool(&["check", "rules", RULES], "") else { return };
    assert!(said.contains("SUCCESS"), "{said}");
    // An hour takes two seconds.
    let mut world = World::new(NOON, 1800);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "[gate]\nclose_after = \"4h\"");
    let agent = world.start();
    let mut client = agent.lines();
    let at = |hours: f64| ((hours * HOUR) / TICK) as usize;
    let ticks = at(11.5);
    let mut series: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut out = false;
    for tick in 0..ticks {
        let moment = NOON as f64 + tick as f64 * TICK;
        while world.clock.now() < moment {
            sleep(Duration::from_millis(2));
        }
        if tick >= at(1.25) && !out {
            aws.fault(&json!({ "kind": "service_unavailable", "until": "+8h" }));
            out = true;
        }
        // A machine too busy to be on time has missed this one.
        if world.clock.now() > moment + TICK {
            continue;
        }
        assert_eq!(client.ask(ONE)["ok"], true);
        for (name, value) in samples(&scrape(&world)) {
            let values = series.entry(name).or_default();
            values.resize(tick, "_".to_owned());
            values.push(value);
        }
    }
    let input: Vec<Value> =
        series.iter().map(|(name, values)| json!({ "series": name, "values": values.join(" ") })).collect();
    let firing = |hours: f64, alerts: &[&str]| {
        let alerts: Vec<Value> =
            alerts.iter().map(|name| json!({ "labels": format!("{{alertname=\"{name}\"}}"), "value": 1 })).collect();
        let expr = "group by (alertname) (ALERTS{alertstate=\"firing\"})";
        json!({ "expr": expr, "eval_time": format!("{}m", at(hours) * 5), "exp_samples": alerts })
    };
    let test = json!({
        "rule_files": [RULES],
        "evaluation_interval": "5m",
        "tests": [{ "interval": "5m", "input_series": input, "promql_expr_test": [
            firing(1.2, &[]),
            // The record of 13:00 is due at 14:01, and AWS takes it until 20:00.
            firing(2.4, &[]),
            firing(2.9, &["MeterdSendingFails"]),
            firing(5.5, &["MeterdNeedsAttention", "MeterdSendingFails"]),
            firing(6.5, &["MeterdDeadlineNear", "MeterdGateClosed", "MeterdNeedsAttention", "MeterdSendingFails"]),
            // After 21:15 everything that waited is carried or sent.
            firing(11.3, &[]),
        ] }],
    });
    let file = world.path("outage.json");
    std::fs::write(&file, test.to_string()).unwrap();
    promtool(&["test", "rules", file.to_str().unwrap()], "").unwrap();
    println!("alerts in a simulated outage: {} series of {ticks} scrapes, as expected", series.len());
}
