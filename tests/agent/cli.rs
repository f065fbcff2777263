//! The promise of the command line: exit codes that scripts can rely on, JSON for programs, and no panic when nobody
//! listens.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::fake_aws::FakeAws;
use crate::protocol::EVERY_MEASURE;
use crate::world::{DIMENSIONS, NOON, Ran, World, units, wait_until};

#[test]
fn add_exits_with_what_became_of_the_increment() {
    let world = World::at_noon();
    world.configure("http://127.0.0.1:9", EVERY_MEASURE, "", "");
    let none = world.run(&["add", "requests", "1"]);
    assert_eq!(none.code, 69, "{none:?}");
    assert!(none.stderr.contains("is meterd running?"), "{none:?}");
    let agent = world.start();
    let cases: [(&[&str], i32, &str); 14] = [
        (&["add", "requests", "1"], 0, "ok, increment 1"),
        (
            &["add", "requests", "0.25", "--key", "upload-7f3a", "--tag", "team=blue", "--tag", "a=b=c"],
            0,
            "increment 2",
        ),
        (&["add", "requests", "0.25", "--key", "upload-7f3a", "--tag", "a=b=c", "--tag", "team=blue"], 0, "known"),
        (&["add", "requests", "2", "--key", "upload-7f3a"], 1, "key_conflict"),
        (&["add", "requests", "1", "--at", "2026-11-21T12:01:00Z"], 0, "increment 3"),
        (&["add", "requests", "1", "--at", "1795262460"], 0, "increment 4"),
        (&["add", "requests", "1", "--at", "2020-01-01T00:00:00Z"], 1, "time_out_of_range"),
        (&["add", "events"], 0, "increment 5"),
        (&["add", "requests"], 1, "bad_quantity"),
        (&["add", "requests", "-1"], 1, "bad_quantity"),
        (&["add", "nothing", "1"], 1, "configured: events, gigabytes, level, peak, requests"),
        (&["add", "peak", "1", "--tag", "a=b"], 1, "bad_tags"),
        (&["add", "requests", "1", "--tag", "novalue"], 64, "KEY=VALUE"),
        (&["add"], 64, "DIM"),
    ];
    for (args, code, words) in cases {
        let ran = world.run(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains(words), "{args:?}: {ran:?}");
        assert_eq!(ran.stdout.is_empty(), code != 0, "{args:?}: {ran:?}");
    }
    assert_eq!(world.run(&["add", "requests", "1", "--json"]).json(), json!({ "ok": true, "seq": 6 }));
    let refused = world.run(&["add", "nothing", "1", "--json"]);
    assert_eq!((refused.code, &refused.json()["error"]), (1, &json!("unknown_dimension")));
    assert_eq!(agent.books("requests")["received"], "4.25");
    // The socket by name, and by the environment.
    let socket = world.socket().display().to_string();
    let by_name = |command: &mut Command| Ran::of(command.env_remove("METERD_CONFIG")).code;
    assert_eq!(by_name(world.meterd(&["add", "events", "--socket", &socket]).env("METERD_SOCKET", "/nowhere")), 0);
    assert_eq!(by_name(world.meterd(&["add", "events"]).env("METERD_SOCKET", &socket)), 0);
    assert_eq!(by_name(world.meterd(&["add", "events"]).env("METERD_SOCKET", "/nowhere/else.sock")), 69);
}

#[test]
fn add_asks_for_a_retry_where_one_makes_sense() {
    // An agent that hears and dies, and one that is too busy.
    let world = World::at_noon();
    let says = |answer: &'static [u8]| {
        let _ = std::fs::remove_file(world.socket());
        let listener = std::os::unix::net::UnixListener::bind(world.socket()).unwrap();
        let deaf = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            stream.write_all(answer).unwrap();
        });
        let ran = world.run(&["add", "requests", "1"]);
        deaf.join().unwrap();
        ran
    };
    let died = says(b"");
    assert_eq!(died.code, 75, "{died:?}");
    assert!(died.stderr.contains("unknown") && died.stderr.contains("--key"), "{died:?}");
    let busy = b"{\"ok\":false,\"error\":\"overloaded\",\"message\":\"busy\",\"retryable\":true,\"recorded\":\"no\"}\n";
    assert_eq!(says(busy).code, 75);
    assert_eq!(says(b"{\"ok\":true,").code, 75, "an answer that is cut short is no ok");
}

fn add_lines(world: &World, flags: &[&str], text: &[u8]) -> Ran {
    let mut command = world.meterd(&["add", "-"]);
    let mut child =
        command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, text) = (child.stdin.take().unwrap(), text.to_vec());
    // It may end before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&text)));
    let ran = Ran::after(child);
    writer.join().unwrap();
    ran
}

#[test]
fn add_reads_lines_in_three_forms_and_says_which_one_was_refused() {
    let world = World::at_noon();
    world.configure("http://127.0.0.1:9", EVERY_MEASURE, "", "");
    let agent = world.start();
    let text = "requests 1\n\n  requests 2.5 key-1  \nevents\n{\"dimension\":\"requests\",\"quantity\":1}\n\
                [{\"dimension\":\"requests\",\"quantity\":1},{\"dimension\":\"events\"}]\nrequests 2.50 key-1";
    let fine = add_lines(&world, &[], text.as_bytes());
    assert_eq!(fine.code, 0, "{fine:?}");
    assert_eq!(fine.stdout, "6 of 6 lines are durable, 0 refused\n");
    assert_eq!(agent.books("requests")["received"], "5.5");
    assert_eq!(units(&agent.books("events"), "received"), 2);
    let mixed = add_lines(&world, &[], b"requests 1\nnothing 1\nrequests 1 a key\nrequests x\n{\nrequests 1\n");
    assert_eq!(mixed.code, 1, "{mixed:?}");
    assert_eq!(mixed.stdout, "2 of 6 lines are durable, 4 refused\n");
    for words in ["line 2: unknown_dimension", "line 3: bad_request", "line 4: bad_quantity", "line 5: bad_request"] {
        assert!(mixed.stderr.contains(words), "{words}: {mixed:?}");
    }
    assert_eq!(agent.books("requests")["received"], "7.5");
    let first_is_wrong = add_lines(&world, &[], b"GET / HTTP/1.1 \nrequests 1\n");
    assert_eq!((first_is_wrong.code, first_is_wrong.stdout.as_str()), (1, "1 of 2 lines are durable, 1 refused\n"));
    let json = add_lines(&world, &["--json"], b"requests 1\nnothing 1\n");
    let answers: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((answers.len(), &answers[0]["ok"], &answers[1]["ok"]), (2, &json!(true), &json!(false)));
    let too_large = format!("requests 1\nrequests 1 {}\nrequests 1\n", "k".repeat(70_000));
    let too_large = add_lines(&world, &[], too_large.as_bytes());
    assert_eq!(too_large.code, 1, "{too_large:?}");
    assert!(too_large.stderr.contains("line 2: too_large"), "{too_large:?}");
    assert_eq!(add_lines(&world, &[], b"").stdout, "0 of 0 lines are durable, 0 refused\n");
    for flags in [&["1"][..], &["--key", "k"], &["--tag", "a=b"], &["--at", "1795262460"]] {
        let ran = add_lines(&world, flags, b"requests 1\n");
        assert_eq!(ran.code, 64, "{flags:?} would be missing from the bill: {ran:?}");
    }
    assert_eq!(agent.books("requests")["received"], "11.5", "a line that is too long does not end it");
}

#[test]
fn add_takes_many_lines_at_once() {
    const LINES: usize = 50_000;
    let world = World::at_noon();
    let agent = world.start();
    let ran = add_lines(&world, &[], "requests 1\n".repeat(LINES).as_bytes());
    assert_eq!((ran.code, ran.stdout), (0, format!("{LINES} of {LINES} lines are durable, 0 refused\n")));
    assert_eq!(units(&agent.books("requests"), "received"), LINES as u64);
}

#[test]
fn add_makes_each_line_durable_as_it_comes_and_ends_with_the_agent() {
    let world = World::at_noon();
    let mut agent = world.start();
    let mut command = world.meterd(&["add", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for n in 1..=3 {
        writeln!(stdin, "requests 1").unwrap();
        wait_until("the line is durable", || agent.status()["log"]["accepted_seq"] == n);
    }
    agent.kill();
    // Standard input stays open.
    let ran = Ran::after(child);
    assert_eq!(ran.code, 75, "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 3);
    drop(stdin);
}

#[test]
fn status_says_whether_metering_works_and_shows_the_books_when_no_agent_answers() {
    let world = World::at_noon();
    let agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":"12.5"}"#)["ok"], true);
    let fine = world.run(&["status"]);
    assert_eq!(fine.code, 0, "{fine:?}");
    for words in ["metering works\n", "instance  i-test, product prod", "requests   12.5", "balanced"] {
        assert!(fine.stdout.contains(words), "{words}: {fine:?}");
    }
    assert!(!fine.stdout.contains('\u{1b}'), "colour where nobody sees it: {fine:?}");
    let json = world.run(&["status", "--json"]);
    assert_eq!(json.code, 0);
    let mut told = json.json();
    let mut asked = agent.status();
    for changing in ["now", "uptime_s"] {
        told[changing] = Value::Null;
        asked[changing] = Value::Null;
    }
    assert_eq!(told, asked, "the same as over HTTP");
    assert_eq!(told["open_hour"]["dimensions"][0], json!({ "name": "requests", "usage": "12.5" }));
    agent.stop();

    let offline = world.run(&["status"]);
    assert_eq!(offline.code, 69, "{offline:?}");
    assert!(offline.stdout.starts_with("no agent answers: usage is NOT being taken\n"), "{offline:?}");
    assert!(offline.stdout.contains("1 increment acknowledged") && offline.stdout.contains("12.5"), "{offline:?}");
    let offline = world.run(&["status", "--json"]);
    assert_eq!(offline.code, 69);
    assert!(offline.stderr.contains("no agent answers at "), "{offline:?}");
    let shown = offline.json();
    assert_eq!((&shown["ready"], &shown["books"][0]["received"]), (&json!(false), &json!("12.5")));
    assert_eq!(shown["books"][0]["balanced"], true);
    // Where there is nothing to show.
    std::fs::remove_dir_all(world.state()).unwrap();
    let nothing = world.run(&["status"]);
    assert_eq!(nothing.code, 69, "{nothing:?}");
    assert!(!world.state().exists(), "a look changes nothing");
}

#[test]
fn looking_offline_changes_no_byte() {
    let world = World::at_noon();
    let mut agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":1}"#)["ok"], true);
    agent.kill();
    let look = || {
        let mut found = Vec::new();
        let mut dirs = vec![world.state()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => dirs.push(path),
                    false => found.push((path.clone(), std::fs::read(&path).unwrap())),
                }
            }
        }
        found.sort();
        found
    };
    let before = look();
    let shown = world.run(&["status", "--json"]);
    assert_eq!((shown.code, &shown.json()["books"][0]["received"]), (69, &json!("1")));
    assert!(look() == before, "the state directory was changed");
}

#[test]
fn records_are_shown_for_people_programs_and_spreadsheets() {
    let mut world = World::new(NOON - 300, 600);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    aws.fault(&json!({ "kind": "error", "code": "InvalidTagException", "dimension": "gigabytes" }));
    let agent = world.start();
    assert_eq!(world.run(&["records"]).stdout, "no records\n");
    assert_eq!(world.run(&["records", "--json"]).stdout, "");
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":1}"#)["ok"], true);
    assert_eq!(agent.tell(r#"{"dimension":"gigabytes","quantity":2}"#)["ok"], true);
    wait_until("both have an outcome", || {
        let records = agent.status()["records"].clone();
        records["accepted"] == 1 && records["held"] == 1
    });
    let records = world.records();
    assert_eq!(records.len(), 2);
    let fields = [
        "hour",
        "dimension",
        "customer",
        "quantity",
        "usage",
        "carried_in",
        "remainder_in",
        "remainder",
        "late",
        "state",
        "metering_record_id",
        "timestamp",
        "client_token",
        "attempts",
        "first_attempt",
        "last_attempt",
        "last_error",
        "carried_into",
        "allocations",
    ];
    for record in &records {
        let names: Vec<&String> = record.as_object().unwrap().keys().collect();
        assert_eq!(names[..fields.len()], fields, "{record}");
        assert_eq!(record["customer"], Value::Null);
    }
    let accepted = records.iter().find(|r| r["dimension"] == "requests").unwrap();
    let hour = accepted["hour"].as_str().unwrap();
    assert_eq!(accepted["timestamp"], hour.replace(":00:00Z", ":59:59Z"));
    assert_eq!((&accepted["remainder_in"], &accepted["late"]), (&json!("0"), &json!("0")));

    let count = |args: &[&str]| {
        let ran = world.run(&[&["records", "--json"], args].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.stdout.lines().count()
    };
    assert_eq!(count(&["--state", "accepted"]), 1);
    assert_eq!(count(&["--state", "in_doubt"]), 0);
    assert_eq!(count(&["--hour", hour]), count(&["--hour", &hour.replace(":00:00Z", ":31:00Z")]));
    assert!(count(&["--hour", hour]) >= 1);
    assert_eq!(count(&["--hour", "2026-11-20T11:00:00Z"]), 0);
    assert_eq!(world.run(&["records", "--state", "nonsense"]).code, 64);
    assert_eq!(world.run(&["records", "--hour", "noon"]).code, 64);
    assert_eq!(world.run(&["records", "--json", "--csv"]).code, 64);

    let table = world.run(&["records"]).stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains("InvalidTagException"), "{table}");
    let csv = world.run(&["records", "--csv"]).stdout;
    let mut rows = csv.lines();
    let heading: Vec<&str> = rows.next().unwrap().split(',').collect();
    for row in rows {
        // Only the error's words hold commas, and they are quoted.
        let plain: Vec<&str> = row.split('"').step_by(2).collect();
        let cells: usize = plain.iter().map(|part| part.matches(',').count()).sum::<usize>() + 1;
        assert_eq!(cells, heading.len(), "{row}");
    }
    agent.stop();
    let gone = world.run(&["records"]);
    assert_eq!((gone.code, gone.stdout.as_str()), (69, ""));
}

#[test]
fn check_config_shows_what_holds_or_what_is_wrong() {
    let world = World::at_noon();
    let fine = world.run(&["check-config"]);
    assert_eq!(fine.code, 0, "{fine:?}");
    assert!(fine.stdout.contains("grace = \"60s\"") || fine.stdout.contains("grace = \"1m\""), "{fine:?}");
    let path = world.path("shown.toml");
    std::fs::write(&path, &fine.stdout).unwrap();
    let again = world.run(&["check-config", "--config", path.to_str().unwrap()]);
    assert_eq!(again.code, 0, "what it shows is a configuration: {again:?}");
    let body = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    assert_eq!(body(&again.stdout), body(&fine.stdout));
    assert_eq!(world.run(&["check-config", "--json"]).json()["product"]["code"], "prod");
    std::fs::write(world.config(), "[product]\ncode = 7\n").unwrap();
    let wrong = world.run(&["check-config"]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (78, ""));
    assert!(wrong.stderr.contains("meterd.toml:2: "), "{wrong:?}");
    assert_eq!(world.run(&["status"]).code, 78, "a configuration that is named is not passed over");
}

#[test]
fn every_command_explains_itself_and_refuses_what_it_does_not_know() {
    let world = World::at_noon();
    let all = world.run(&["--help"]);
    assert_eq!(all.code, 0);
    for command in ["run", "add", "status", "records", "check-config", "simulate-aws"] {
        assert!(all.stdout.contains(command), "{command}: {all:?}");
        for flag in ["--help", "-h"] {
            let help = world.run(&[command, flag]);
            assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{command}");
            assert!(help.stdout.contains("Usage: meterd") && help.stdout.len() > 200, "{help:?}");
        }
        let unknown = world.run(&[command, "--frobnicate"]);
        assert_eq!(unknown.code, 64, "{unknown:?}");
        assert!(unknown.stderr.contains("--frobnicate"), "{unknown:?}");
    }
    assert!(world.run(&["--version"]).stdout.starts_with("meterd "));
    assert_eq!(world.run(&["frobnicate"]).code, 64);
    assert_eq!(world.run(&[]).code, 64);
}

#[test]
fn nobody_at_the_other_end_of_the_pipe_is_no_reason_to_panic() {
    let world = World::at_noon();
    let agent = world.start();
    let cases: [(&[&str], i32); 13] = [
        (&["add", "requests", "1"], 0),
        (&["add", "requests", "1", "--json"], 0),
        (&["status"], 0),
        (&["status", "--json"], 0),
        (&["add", "nothing", "1"], 1),
        (&["status"], 1),
        (&["records"], 0),
        (&["records", "--csv"], 0),
        (&["check-config"], 0),
        (&["--help"], 0),
        (&["run"], 73),
        (&["run", "--frobnicate"], 64),
        (&["status", "--socket", "/nowhere.sock"], 69),
    ];
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    for (args, code) in cases {
        let mut command = world.meterd(args);
        if args == ["run"] {
            command.args(world.clock.flags());
        }
        let status = command.stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
    assert_eq!(units(&agent.books("requests"), "received"), 2);
}
