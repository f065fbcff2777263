//! The promise of the configuration: a mistake is found with its line and what is allowed, all of them in one go;
//! what is not said has its documented default; and what is shown is what holds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy.toml frees the tests, and these are their helpers")]

#[path = "support/any_config.rs"]
mod any_config;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use meterd::config::{
    Alert, Config, Credentials, DEFAULT_PATH, Dimension, Gate, HourRules, Included, Instance, Late, Measure, Offset,
    Overrides, Period, Product, ProductKind, Round, Socket, Source, State, Submit, ZeroRecords,
};
use meterd::decimal::Amount;
use proptest::prelude::*;

const MINIMAL: &str = "[product]\ncode = \"abc\"\n[[dimension]]\nname = \"requests\"\n";

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

fn minimal() -> Config {
    Config::parse(MINIMAL, "minimal").unwrap()
}

/// `MINIMAL` with more lines; sections after the dimension, or its keys.
fn with(more: &str) -> Config {
    Config::parse(&format!("{MINIMAL}{more}"), "more").unwrap_or_else(|errors| panic!("{more:?}: {errors}"))
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn every_mistake_is_found_with_its_line_and_what_is_allowed() {
    let directory = repository("tests/golden/config");
    let mut cases = 0;
    let mut wrong = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        cases += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected = fs::read_to_string(path.with_extension("err")).unwrap_or_default();
        let found = match Config::load_for_run(&path, &Overrides::default()) {
            Ok(_) => "(accepted)".to_owned(),
            Err(errors) => format!("{errors}\n").replace(path.to_str().unwrap(), name),
        };
        if found != expected {
            wrong += &format!("--- {name}, expected:\n{expected}--- found:\n{found}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(cases >= 30, "only {cases} cases were looked at");
}

#[test]
fn what_is_not_said_has_its_default() {
    let dimension = Dimension {
        name: "requests".to_owned(),
        measure: Measure::Sum,
        sticky: false,
        unit: Amount::from_units(1),
        round: Round::Carry,
        hold_above: None,
        included: None,
        price: None,
        allow_users: vec![],
        from: vec![],
    };
    let expected = Config {
        product: Product { code: "abc".to_owned(), kind: ProductKind::Ami },
        dimensions: vec![dimension],
        socket: Socket {
            path: "/run/meterd/meterd.sock".into(),
            mode: 0o660,
            allow_users: vec![],
            allow_groups: vec![],
            allow_read_users: vec![],
        },
        alert: Alert { command: vec![] },
        state: State {
            dir: "/var/lib/meterd".into(),
            segment_bytes: 16_777_216,
            retain_days: 7,
            allow_volatile: false,
        },
        submit: Submit {
            region: None,
            endpoint_url: None,
            credentials: Credentials::Instance,
            profile: None,
            role_arn: None,
            offset: Offset::Auto,
            window: hours(6),
            late: Late::CarryForward,
            zero_records: ZeroRecords::Off,
            calls_in_flight: 1,
        },
        instance: Instance { id: None },
        hour: HourRules { grace: Duration::from_secs(60) },
        gate: Gate { warn_after: hours(1), close_after: None },
    };
    assert_eq!(minimal(), expected);
}

#[test]
fn defaults_follow_kind_and_measure() {
    let saas = Config::parse(&MINIMAL.replace("\"abc\"", "\"abc\"\nkind = \"saas\""), "saas").unwrap();
    assert_eq!((saas.submit.credentials, saas.submit.window), (Credentials::Environment, hours(24)));
    let rounds = [("sum", Round::Carry), ("count", Round::Carry), ("max", Round::Up), ("last", Round::Up)];
    for (measure, round) in [&rounds[..], &[("unique", Round::Up), ("uptime", Round::Up)]].concat() {
        assert_eq!(with(&format!("measure = \"{measure}\"")).dimensions[0].round, round, "{measure}");
    }
}

#[test]
fn both_ends_of_every_bound_are_inside() {
    let long_code = "c".repeat(255);
    let text = MINIMAL.replace("abc", &long_code).replace("requests", "a23456789012345");
    let config = Config::parse(&text, "long").unwrap();
    assert_eq!((config.product.code.len(), config.dimensions[0].name.len()), (255, 15));

    let low = "unit = \"0.000001\"\nhold_above = \"0\"\nincluded = { quantity = 0, per = \"hour\" }\n\
        [socket]\nmode = \"0000\"\n[state]\nsegment_bytes = 1048576\nretain_days = 1\n\
        [submit]\noffset = \"0s\"\nwindow = \"1h\"\n[hour]\ngrace = \"0s\"\n[gate]\nwarn_after = \"1m\"\nclose_after = \"2h\"\n";
    let low = with(low);
    assert_eq!(low.dimensions[0].unit, Amount::from_millionths(1));
    assert_eq!(low.dimensions[0].hold_above, Some(Amount::ZERO));
    assert_eq!(low.dimensions[0].included, Some(Included { quantity: Amount::ZERO, per: Period::Hour }));
    assert_eq!((low.socket.mode, low.state.segment_bytes, low.state.retain_days), (0, 1_048_576, 1));
    assert_eq!((low.submit.offset, low.submit.window), (Offset::Fixed(Duration::ZERO), hours(1)));
    assert_eq!(low.gate, Gate { warn_after: Duration::from_secs(60), close_after: Some(hours(2)) });

    let high = "unit = \"999999999999.999999\"\nprice = \"1e3\"\n\
        [socket]\nmode = \"0777\"\nallow_users = [4294967294, \"0\", \"root\"]\nallow_groups = [\"root\"]\n\
        [state]\nsegment_bytes = 0x4000_0000\nretain_days = 3650\n\
        [submit]\noffset = \"50m\"\nwindow = \"24h\"\n[hour]\ngrace = \"900s\"\n";
    let high = with(high);
    assert_eq!(high.dimensions[0].unit.to_string(), "999999999999.999999");
    assert_eq!(high.dimensions[0].price, Some(Amount::from_units(1000)));
    assert_eq!((high.socket.mode, high.state.segment_bytes, high.state.retain_days), (0o777, 1 << 30, 3650));
    assert_eq!((high.socket.allow_users, high.socket.allow_groups), (vec![u32::MAX - 1, 0, 0], vec![0]));
    assert_eq!((high.submit.offset, high.submit.window), (Offset::Fixed(Duration::from_secs(3000)), hours(24)));
    assert_eq!(high.hour.grace, Duration::from_secs(900));
}

/// The example of the reference, `src/config/CONFIG.md`.
fn reference() -> Config {
    let page = fs::read_to_string(repository("src/config/CONFIG.md")).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    Config::parse(rest.split_once("```").unwrap().0, "CONFIG.md").unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_reference_is_consistent_and_names_the_true_defaults() {
    let (reference, minimal) = (reference(), minimal());
    assert_eq!(reference.socket, minimal.socket);
    assert_eq!(reference.state, minimal.state);
    assert_eq!(Submit { region: None, endpoint_url: None, ..reference.submit }, minimal.submit);
    assert_eq!(reference.instance, minimal.instance);
    assert_eq!(reference.hour, minimal.hour);
    assert_eq!(reference.gate, minimal.gate);
    assert_eq!(reference.alert.command, ["/usr/bin/logger", "-t", "meterd"]);
    let source = |name: &str, weight| Source { name: name.to_owned(), weight: Amount::from_units(weight) };
    assert_eq!(reference.dimensions[2].from, [source("reads", 1), source("writes", 5)]);
}

#[test]
fn the_sample_runs_as_it_is() {
    let sample = Config::load_for_run(&repository("systemd/meterd.toml"), &Overrides::default()).unwrap();
    let code = "5ugbbrmu7ud3u5hsipfzug61p".to_owned();
    assert_eq!(sample, Config { product: Product { code, kind: ProductKind::Ami }, ..minimal() });
}

proptest! {
    #[test]
    fn what_is_shown_is_what_holds(config in any_config::any_config()) {
        let shown = config.to_toml();
        prop_assert_eq!(Config::parse(&shown, "shown").map_err(|errors| format!("{errors}\n{shown}")), Ok(config.clone()));
        // JSON shows the same: its strings, numbers and lists are those of the TOML.
        let mut json = config.to_json();
        drop_nulls(&mut json);
        let toml: serde_json::Value = serde_json::to_value(toml::from_str::<toml::Value>(&shown).unwrap()).unwrap();
        prop_assert_eq!(json, toml);
    }

    #[test]
    fn what_the_log_carries_comes_back(config in any_config::any_config()) {
        let bytes = bincode::serialize(&config.dimensions).unwrap();
        prop_assert_eq!(bincode::deserialize::<Vec<Dimension>>(&bytes).unwrap(), config.dimensions);
    }
}

fn drop_nulls(json: &mut serde_json::Value) {
    match json {
        serde_json::Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
    move |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
}

#[test]
fn the_environment_overrides_the_paths() {
    let none = Overrides::from_env(env(&[("METERD_CONFIG", ""), ("METERD_SOCKET", "")])).unwrap();
    assert_eq!(none, Overrides::default());
    assert_eq!(none.config_path(None), Path::new(DEFAULT_PATH));

    let set = Overrides::from_env(env(&[("METERD_CONFIG", "a.toml"), ("METERD_SOCKET", "/tmp/m.sock")])).unwrap();
    assert_eq!(set.config_path(None), Path::new("a.toml"));
    assert_eq!(set.config_path(Some(Path::new("b.toml"))), Path::new("b.toml"));
    let overridden = Config::load_for_run(&repository("systemd/meterd.toml"), &set).unwrap();
    assert_eq!(overridden.socket.path, Path::new("/tmp/m.sock"));

    let refused = Overrides::from_env(env(&[("METERD_SOCKET", "m.sock")])).unwrap_err();
    assert_eq!(refused.to_string(), "METERD_SOCKET: is \"m.sock\"; allowed: an absolute path of up to 107 bytes");
}

#[test]
fn only_this_machine_is_loopback() {
    let to = |url: &str| with(&format!("[submit]\nendpoint_url = \"{url}\"\n")).submit.is_loopback();
    assert!(!minimal().submit.is_loopback());
    assert!(to("http://127.0.0.1:4000") && to("https://localhost") && to("http://[::1]:4000/"));
    assert!(!to("https://metering.marketplace.us-east-1.amazonaws.com") && !to("https://127.0.0.1.example"));
}

#[test]
fn a_file_that_cannot_be_read_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = |name: &str| {
        let path = directory.path().join(name);
        let errors = Config::load(&path).unwrap_err();
        assert_eq!(errors.iter().count(), 1);
        errors.to_string().replace(path.to_str().unwrap(), "FILE")
    };
    let missing = refusal("none.toml");
    assert!(missing.starts_with("FILE: there is no such file; write one with [product]"), "{missing}");
    assert!(missing.contains("--config or METERD_CONFIG"), "{missing}");
    fs::write(directory.path().join("latin1.toml"), b"[product]\ncode = \"a\"\n# caf\xe9\n").unwrap();
    assert_eq!(refusal("latin1.toml"), "FILE:3: not UTF-8; save the file in UTF-8");
    fs::write(directory.path().join("large.toml"), "#".repeat(256 * 1024 + 1)).unwrap();
    assert_eq!(refusal("large.toml"), "FILE: is larger than 262144 bytes; name the configuration file");
    fs::create_dir(directory.path().join("dir.toml")).unwrap();
    assert!(refusal("dir.toml").starts_with("FILE: cannot be read: "), "{}", refusal("dir.toml"));
}

fn check_config(arguments: &[&str], config: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
    command.arg("check-config").args(arguments).env("METERD_CONFIG", config).env_remove("METERD_SOCKET");
    command.output().unwrap()
}

#[test]
fn check_config_shows_what_holds_or_what_is_wrong() {
    let (sample, bad) = (repository("systemd/meterd.toml"), repository("tests/golden/config/empty.toml"));
    let good = check_config(&[], &sample);
    assert_eq!((good.status.code(), &*good.stderr), (Some(0), &b""[..]));
    let shown = String::from_utf8(good.stdout).unwrap();
    assert_eq!(Config::parse(&shown, "shown").unwrap(), Config::load(&sample).unwrap());

    let json: serde_json::Value = serde_json::from_slice(&check_config(&["--json"], &sample).stdout).unwrap();
    assert_eq!(json["submit"]["window"], "6h");
    assert_eq!(json["dimension"][0]["hold_above"], serde_json::Value::Null);

    let refused = check_config(&[], &bad);
    assert_eq!((refused.status.code(), &*refused.stdout), (Some(78), &b""[..]));
    assert_eq!(String::from_utf8(refused.stderr).unwrap(), format!("{}\n", Config::load(&bad).unwrap_err()));
    let refused = check_config(&["--json", "--config", bad.to_str().unwrap()], &sample);
    let json: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((refused.status.code(), json["errors"][0]["line"].as_u64()), (Some(78), Some(1)));
    assert_eq!(json["errors"][0]["what"], "product.code is missing");
}

/// A profile and a role are of the default chain.
#[test]
fn whose_credentials_are_taken_can_be_said_where_the_chain_is_asked() {
    let with = |submit: &str| Config::parse(&format!("{MINIMAL}\n[submit]\n{submit}\n"), "whose");
    let role = "arn:aws:iam::123456789012:role/metering";
    let both = format!("profile = \"seller\"\nrole_arn = \"{role}\"");
    let taken = with(&format!("credentials = \"environment\"\n{both}")).unwrap().submit;
    assert_eq!((taken.profile.as_deref(), taken.role_arn.as_deref()), (Some("seller"), Some(role)));
    let refused = with(&both).unwrap_err().to_string();
    assert_eq!(refused.matches("submit.credentials = \"environment\"").count(), 2, "{refused}");
    let refused = with("credentials = \"environment\"\nrole_arn = \"metering\"").unwrap_err().to_string();
    assert!(refused.contains("the ARN of a role"), "{refused}");
    let refused = with("calls_in_flight = 5").unwrap_err().to_string();
    assert!(refused.contains("allowed: 1 to 4"), "{refused}");
}

/// `meterd@NAME` is the same agent in other places.
#[test]
fn the_template_units_differ_from_the_units_in_names_and_places_only() {
    let lines = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(repository(&format!("systemd/{name}"))).unwrap();
        let kept = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        kept.map(str::to_owned).collect()
    };
    let places = [
        ("Description=Usage metering for AWS Marketplace: %i", "Description=Usage metering for AWS Marketplace"),
        (" --config /etc/meterd/%i.toml", ""),
        ("StateDirectory=meterd/%i", "StateDirectory=meterd"),
        ("/run/meterd/%i/", "/run/meterd/"),
        ("@%i.", "."),
    ];
    for (template, unit) in [
        ("meterd@.service", "meterd.service"),
        ("meterd@.socket", "meterd.socket"),
        ("meterd-admin@.socket", "meterd-admin.socket"),
    ] {
        let plain = |line: String| places.iter().fold(line, |line, (there, here)| line.replace(there, here));
        let ours: Vec<String> = lines(template).into_iter().map(plain).collect();
        // A poweroff ends an instance, not a seller's agent.
        let theirs = lines(unit).into_iter().filter(|line| line != "Wants=meterd-end.service");
        let theirs: Vec<String> = theirs.map(|line| line.replace(" meterd-end.service", "")).collect();
        assert_eq!(ours, theirs, "{template}");
    }
}
