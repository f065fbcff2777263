//! The promise of the socket: one answer a line, in the words of the interface.

use serde_json::{Value, json};

use crate::world::{NOON, World, units};

/// One dimension of each measure that is taken on the socket.
pub const EVERY_MEASURE: &str = "[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"gigabytes\"\n\
    [[dimension]]\nname = \"events\"\nmeasure = \"count\"\n[[dimension]]\nname = \"peak\"\nmeasure = \"max\"\n\
    [[dimension]]\nname = \"level\"\nmeasure = \"last\"\n";

fn every_measure() -> World {
    let world = World::at_noon();
    world.configure("http://127.0.0.1:9", EVERY_MEASURE, "", "");
    world
}

/// Asserts that `answer` refuses for good with this code; returns its message.
pub fn refused(answer: &Value, code: &str) -> String {
    assert_eq!(answer["error"], code, "{answer}");
    let mut rest = answer.as_object().unwrap().clone();
    let message = rest.remove("message").unwrap().as_str().unwrap().to_owned();
    rest.remove("index");
    assert_eq!(Value::Object(rest), json!({ "ok": false, "error": code, "retryable": false }));
    assert!(!message.is_empty());
    message
}

#[test]
fn the_worked_exchange_is_what_the_agent_says_to_the_letter() {
    let world = World::at_noon();
    let agent = world.start();
    let document = include_str!("../../src/ingest/PROTOCOL.md");
    let exchange = document.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let exchange: Vec<&str> = exchange.lines().collect();
    assert_eq!(exchange.len(), 8, "{exchange:?}");
    let mut client = agent.lines();
    for pair in exchange.chunks(2) {
        client.send(format!("{}\n", pair[0]));
        assert_eq!(client.line().unwrap().trim_end(), pair[1]);
    }
    assert_eq!(agent.books("gigabytes")["received"], "0.25");
}

#[test]
fn what_is_wrong_with_an_increment_has_a_name_and_harms_nothing() {
    let world = every_measure();
    let agent = world.start();
    let long_key = "k".repeat(129);
    let six_tags = r#"{"a":"1","b":"1","c":"1","d":"1","e":"1","f":"1"}"#;
    let now = world.clock.now() as i64;
    let (too_old, ahead, sealed) = (now - 7 * 86_400 - 60, now + 5 * 60 + 60, now - 7200);
    let cases = [
        (r#"{"dimension":"requests","quantity":1,"colour":"red"}"#.to_owned(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1,"quantity":1}"#.into(), "bad_request"),
        (r#"{"dimension":"requests","dimension":"requests","quantity":1}"#.into(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1,"tags":{"a":"1","a":"1"}}"#.into(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1,"tags":{"a":"1","\u0061":"2"}}"#.into(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1,"tags":{"a":1}}"#.into(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1,"tags":["a"]}"#.into(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1,"key":7}"#.into(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1,"at":"yesterday"}"#.into(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1,"at":true}"#.into(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1,"id":"alice"}"#.into(), "bad_request"),
        (r#"{"dimension":7,"quantity":1}"#.into(), "bad_request"),
        (r#"{"quantity":1}"#.into(), "bad_request"),
        ("{}".into(), "bad_request"),
        ("[]".into(), "bad_request"),
        ("[ ]".into(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1"#.into(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1}}"#.into(), "bad_request"),
        (r#"{"dimension":"requests","quantity":1} {"dimension":"requests","quantity":1}"#.into(), "bad_request"),
        ("true".into(), "bad_request"),
        ("GET / HTTP/1.1".into(), "bad_request"),
        (r#"["requests",1,null,null,null,null,null,null]"#.into(), "bad_request"),
        (r#"[["requests",1,null,null,null,null,null,null]]"#.into(), "bad_request"),
        (r#"{"dimension":"Requests","quantity":1}"#.into(), "unknown_dimension"),
        (r#"{"dimension":"","quantity":1}"#.into(), "unknown_dimension"),
        (r#"{"dimension":"requests"}"#.into(), "bad_quantity"),
        (r#"{"dimension":"peak"}"#.into(), "bad_quantity"),
        (r#"{"dimension":"level"}"#.into(), "bad_quantity"),
        (r#"{"dimension":"events","quantity":2}"#.into(), "bad_quantity"),
        (r#"{"dimension":"requests","quantity":1,"key":""}"#.into(), "bad_key"),
        (format!(r#"{{"dimension":"requests","quantity":1,"key":"{long_key}"}}"#), "bad_key"),
        (format!(r#"{{"dimension":"requests","quantity":1,"at":{too_old}}}"#), "time_out_of_range"),
        (format!(r#"{{"dimension":"requests","quantity":1,"at":{ahead}}}"#), "time_out_of_range"),
        (format!(r#"{{"dimension":"peak","quantity":1,"at":{sealed}}}"#), "hour_closed"),
        (format!(r#"{{"dimension":"level","quantity":1,"at":{sealed}}}"#), "hour_closed"),
        (format!(r#"{{"dimension":"requests","quantity":1,"tags":{six_tags}}}"#), "bad_tags"),
        (r#"{"dimension":"requests","quantity":1,"tags":{"":"1"}}"#.into(), "bad_tags"),
        (r#"{"dimension":"requests","quantity":1,"tags":{"a":""}}"#.into(), "bad_tags"),
        (r#"{"dimension":"requests","quantity":1,"tags":{"a":"ä"}}"#.into(), "bad_tags"),
        (r#"{"dimension":"requests","quantity":1,"tags":{"a":"b,c"}}"#.into(), "bad_tags"),
        (r#"{"dimension":"peak","quantity":1,"tags":{"a":"1"}}"#.into(), "bad_tags"),
        (r#"{"dimension":"requests","quantity":1,"customer":"123456789012"}"#.into(), "bad_customer"),
        (r#"{"dimension":"requests","quantity":1,"license":"arn:aws:license"}"#.into(), "bad_customer"),
    ];
    let mut client = agent.lines();
    for (line, code) in &cases {
        // A line that opens HTTP does so only at a connection's beginning.
        let answer = client.ask(&format!("\n{line}"));
        assert_eq!(answer["error"], *code, "{line} -> {answer}");
        refused(&answer, code);
    }
    let names = refused(&client.ask(r#"{"dimension":"x","quantity":1}"#), "unknown_dimension");
    assert_eq!(names, "no dimension \"x\"; configured: events, gigabytes, level, peak, requests");
    assert_eq!(client.ask(r#"{"dimension":"requests","quantity":1}"#), json!({ "ok": true, "seq": 1 }));
    assert_eq!(agent.books("requests")["received"], "1");
}

#[test]
fn quantities_are_decimals_and_never_pass_through_a_float() {
    let world = World::at_noon();
    let agent = world.start();
    let mut client = agent.lines();
    let mut total: i128 = 0;
    let good: [(&str, i128); 18] = [
        ("0", 0),
        ("-0", 0),
        ("1", 1_000_000),
        ("0.1", 100_000),
        ("0.2", 200_000),
        ("1e-6", 1),
        ("1E-6", 1),
        ("10e-7", 1),
        ("1e+3", 1_000_000_000),
        ("1.5e2", 150_000_000),
        ("0.0000000e99", 0),
        ("999999999999.999999", 999_999_999_999_999_999),
        ("9007199254740993e-3", 9_007_199_254_740_993_000),
        (r#""0.25""#, 250_000),
        (r#""0.250000000""#, 250_000),
        (r#""1e-6""#, 1),
        (r#""\u0031""#, 1_000_000),
        ("0.1234560000", 123_456),
    ];
    for (text, millionths) in good {
        let answer = client.ask(&format!(r#"{{"dimension":"requests","quantity":{text}}}"#));
        if millionths < 1_000_000_000_000_000_000 {
            assert_eq!(answer["ok"], true, "{text} -> {answer}");
            total += millionths;
        } else {
            refused(&answer, "bad_quantity");
        }
    }
    let bad = [
        "-1",
        "-1e-6",
        "1000000000000",
        "1e12",
        "1e400",
        "1e-7",
        "0.0000001",
        "1.0000001",
        r#""-1""#,
        r#""""#,
        r#"" 1""#,
        r#""1 ""#,
        r#""+1""#,
        r#"".5""#,
        r#""1.""#,
        r#""0x10""#,
        r#""NaN""#,
        r#""Infinity""#,
        r#""1,5""#,
        r#""01""#,
        r#""1e""#,
        "true",
        "{}",
        "[1]",
        "1e999999999999999999999",
        r#""١""#,
        "null",
    ];
    for text in bad {
        let answer = client.ask(&format!(r#"{{"dimension":"requests","quantity":{text}}}"#));
        assert_eq!(answer["error"], "bad_quantity", "{text} -> {answer}");
        refused(&answer, "bad_quantity");
    }
    for no_json in [".5", "+1", "1.", "01", "0x10", "NaN", "Infinity", "1e", "--1"] {
        refused(&client.ask(&format!(r#"{{"dimension":"requests","quantity":{no_json}}}"#)), "bad_request");
    }
    let whole = total / 1_000_000;
    let part = format!("{:06}", total % 1_000_000);
    assert_eq!(agent.books("requests")["received"], format!("{whole}.{}", part.trim_end_matches('0')));
}

#[test]
fn a_key_stands_for_one_increment() {
    let world = World::at_noon();
    let agent = world.start();
    let mut client = agent.lines();
    let increment = |quantity: &str, key: &str, more: &str| {
        format!(r#"{{"dimension":"requests","quantity":{quantity},"key":"{key}"{more}}}"#)
    };
    assert_eq!(client.ask(&increment("1", "a", "")), json!({ "ok": true, "seq": 1 }));
    for same in ["1", "1.0", "1e0", r#""1""#, r#""1.000000""#, "10e-1"] {
        assert_eq!(client.ask(&increment(same, "a", "")), json!({ "ok": true, "seq": 1, "duplicate": true }), "{same}");
    }
    // The same moment, written otherwise; the same tags in another order.
    let (at, also_at) = (r#","at":"2026-11-21T12:01:00Z""#, r#","at":"2026-11-21T14:01:00+02:00""#);
    assert_eq!(client.ask(&increment("1", "b", at))["seq"], 2);
    assert_eq!(client.ask(&increment("1", "b", also_at)), json!({ "ok": true, "seq": 2, "duplicate": true }));
    let seconds = format!(r#","at":{}"#, NOON + 60);
    assert_eq!(client.ask(&increment("1", "b", &seconds))["duplicate"], true);
    assert_eq!(client.ask(&increment("1", "c", r#","tags":{"x":"1","y":"2"}"#))["seq"], 3);
    assert_eq!(client.ask(&increment("1", "c", r#","tags":{"y":"2","x":"1"}"#))["duplicate"], true);

    let others = [
        increment("2", "a", ""),
        increment("1", "a", at),
        increment("1", "a", r#","tags":{"x":"1"}"#),
        increment("1", "b", ""),
        increment("1", "c", ""),
        increment("1", "c", r#","tags":{"x":"1","y":"3"}"#),
        increment("1", "c", r#","tags":{"x":"1y","":"2"}"#),
        increment("1", "a", "").replace("requests", "gigabytes"),
    ];
    for other in others {
        let answer = client.ask(&other);
        let code = if other.contains(r#""":"#) { "bad_tags" } else { "key_conflict" };
        refused(&answer, code);
    }
    // The longest key, in bytes.
    let longest = "ä".repeat(64);
    assert_eq!(client.ask(&increment("1", &longest, ""))["seq"], 4);
    assert_eq!(client.ask(&increment("1", &longest, ""))["duplicate"], true);
    refused(&client.ask(&increment("1", &format!("{longest}ä"), "")), "bad_key");
    assert_eq!(units(&agent.books("requests"), "received"), 4);
}

#[test]
fn each_user_has_a_name_space_of_keys() {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can write as another user");
    }
    let world = World::at_noon();
    let text = crate::world::read(&world.config()).replace("[state]", "mode = \"0666\"\n[state]");
    std::fs::write(world.config(), text).unwrap();
    let agent = world.start();
    let add = |quantity: &str, uid: u32| {
        let mut command = world.meterd(&["add", "requests", quantity, "--key", "same", "--json"]);
        // An address of its own: the binary need not be where everybody may look.
        let ran = crate::world::Ran::of(command.uid(uid).gid(uid).current_dir("/"));
        (ran.code, ran)
    };
    let (code, ran) = add("1", 0);
    assert_eq!((code, ran.json()["seq"].clone()), (0, json!(1)));
    match world.meterd(&["--version"]).uid(65_534).gid(65_534).current_dir("/").output() {
        Ok(output) if output.status.success() => {}
        other => return println!("skipped: the binary cannot be run by another user: {other:?}"),
    }
    let (code, ran) = add("2", 65_534);
    assert_eq!((code, ran.json()), (0, json!({ "ok": true, "seq": 2 })));
    assert_eq!(add("2", 65_534).1.json()["duplicate"], true);
    assert_eq!(add("1", 65_534).0, 1, "another content under that user's key");
    assert_eq!(add("1", 0).1.json()["duplicate"], true);
    assert_eq!(units(&agent.books("requests"), "received"), 3);
}

#[test]
fn the_time_of_an_increment_has_two_ends() {
    let world = every_measure();
    let agent = world.start();
    let mut client = agent.lines();
    let now = world.clock.now() as i64;
    let mut at =
        |dimension: &str, at: i64| client.ask(&format!(r#"{{"dimension":"{dimension}","quantity":1,"at":{at}}}"#));
    for fine in [now - 7 * 86_400 + 120, now - 86_400, now - 3600, now, now + 4 * 60] {
        assert_eq!(at("requests", fine)["ok"], true, "{fine}");
        assert_eq!(at("events", fine)["ok"], true, "{fine}");
    }
    for fine in [now, now + 4 * 60] {
        assert_eq!(at("peak", fine)["ok"], true);
        assert_eq!(at("level", fine)["ok"], true);
    }
    for out in [0, now - 7 * 86_400 - 5, now + 5 * 60 + 120, 4_102_444_800, 253_402_300_799] {
        refused(&at("requests", out), "time_out_of_range");
        refused(&at("peak", out), "time_out_of_range");
    }
    for fraction in ["1795263000.123456", "\"1795263000.5\"", "\"2026-11-21T12:10:00.123456789+00:00\""] {
        let answer = client.ask(&format!(r#"{{"dimension":"requests","quantity":1,"at":{fraction}}}"#));
        assert_eq!(answer["ok"], true, "{fraction} -> {answer}");
    }
}

#[test]
fn of_max_and_last_the_moment_counts_not_the_order() {
    let world = every_measure();
    let agent = world.start();
    let mut client = agent.lines();
    for (quantity, at) in [(5, 60), (9, 30), (7, 50)] {
        for dimension in ["peak", "level"] {
            let line = format!(r#"{{"dimension":"{dimension}","quantity":{quantity},"at":{}}}"#, NOON + at);
            assert_eq!(client.ask(&line)["ok"], true);
        }
    }
    let open = agent.status()["open_hour"].clone();
    assert_eq!(open["hour"], "2026-11-21T12:00:00Z");
    let usage = |name: &str| {
        let dimensions = open["dimensions"].as_array().unwrap();
        dimensions.iter().find(|d| d["name"] == name).unwrap()["usage"].clone()
    };
    assert_eq!((usage("peak"), usage("level")), (json!("9"), json!("5")));
}

#[test]
fn an_array_is_all_or_nothing() {
    let world = World::at_noon();
    let agent = world.start();
    let mut client = agent.lines();
    let one = |key: &str| format!(r#"{{"dimension":"requests","quantity":1,"key":"{key}"}}"#);
    let plain = r#"{"dimension":"gigabytes","quantity":2}"#;
    let answer = client.ask(&format!("[{plain},{},{plain}]", one("a")));
    assert_eq!(answer, json!({ "ok": true, "seq": 3, "count": 3, "duplicates": 0 }));
    // One that is known from before, and one twice in the same array.
    let answer = client.ask(&format!("[{},{},{},{plain}]", one("a"), one("b"), one("b")));
    assert_eq!(answer, json!({ "ok": true, "seq": 5, "count": 4, "duplicates": 2 }));
    let answer = client.ask(&format!("[{plain},{}]", one("a")));
    assert_eq!(answer, json!({ "ok": true, "seq": 2, "count": 2, "duplicates": 1 }), "seq is the last one's");
    assert_eq!(client.ask(&format!("[{plain}]")), json!({ "ok": true, "seq": 7, "count": 1, "duplicates": 0 }));
    let wrong = [
        (format!(r#"[{plain},{{"dimension":"x","quantity":1}},{plain}]"#), 1, "unknown_dimension"),
        (format!(r#"[{plain},{plain},{{"dimension":"requests","quantity":-1}}]"#), 2, "bad_quantity"),
        (format!("[{plain},{plain},7]"), 2, "bad_request"),
        (format!(r#"[{{"dimension":"requests","quantity":1,"x":1}},{plain}]"#), 0, "bad_request"),
        (format!(r#"[{},{}]"#, one("n"), one("n").replace(":1,", ":2,")), 1, "key_conflict"),
        (format!(r#"[{plain},{}]"#, one("a").replace(":1,", ":2,")), 1, "key_conflict"),
        (format!("[{plain},[{plain}]]"), 1, "bad_request"),
    ];
    for (line, index, code) in wrong {
        let answer = client.ask(&line);
        refused(&answer, code);
        assert_eq!(answer["index"], index, "{line} -> {answer}");
    }
    assert_eq!(client.ask(&format!("[{plain},"))["index"], Value::Null);
    // Nothing of the refused arrays stayed, their keys included.
    assert_eq!(client.ask(&one("n")), json!({ "ok": true, "seq": 8 }));
    assert_eq!(units(&agent.books("requests"), "received"), 3);
    assert_eq!(units(&agent.books("gigabytes"), "received"), 10);
}
