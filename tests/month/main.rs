//! A month of the shipped binary in seconds: outages, crashes, late usage, carries, a conflict, a hold and what AWS refuses;
//! then what the month's report says, recomputed from `records --json` by a program that shares no code with it, and its
//! page in a real browser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test says what it skips, and shows the agent's log")]
#![allow(clippy::float_arithmetic, reason = "a test's own clock counts no money")]

#[path = "../agent/fake_aws.rs"]
#[allow(dead_code, reason = "the other suite uses the rest")]
mod fake_aws;
#[path = "../agent/socket.rs"]
#[allow(dead_code, reason = "the other suite uses the rest")]
mod socket;
#[path = "../agent/world.rs"]
#[allow(dead_code, reason = "the other suite uses the rest")]
mod world;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::{Value, json};

use fake_aws::FakeAws;
use meterd::disk::RealDisk;
use meterd::report::{self, Span};
use socket::Lines;
use world::{Agent, Ran, World, wait_until};

/// 2026-11-01T00:10:00Z.
const BEGIN: i64 = 1_793_491_800;
/// 2026-11-30T22:00:00Z: the last usage.
const LAST: f64 = 1_796_076_000.0;
/// An hour takes 72 ms.
const SPEED: u32 = 50_000;
const HOUR: f64 = 3600.0;
/// What others may have written.
const HOSTILE: &str = "<script>window.harmed=1</script><img src=x onerror=window.harmed=1>";

const DIMENSIONS: &str = "[[dimension]]\nname = \"requests\"\nprice = \"0.01\"\n[[dimension]]\nname = \"gigabytes\"\nunit = \
                          \"10\"\nincluded = { quantity = \"40\", per = \"month\" }\nprice = \"0.25\"\n[[dimension]]\nname = \
                          \"users\"\nmeasure = \"max\"\nhold_above = \"50\"\n";

/// Small segments that are kept for a day, so that most of the month is in the archive when it is reported.
fn configure(world: &World, aws: &str) {
    let (socket, state) = (world.socket(), world.state());
    let text = format!(
        "[product]\ncode = \"prod\"\n{DIMENSIONS}[socket]\npath = {socket:?}\n[state]\ndir = {state:?}\nsegment_bytes = \
         1048576\nretain_days = 1\nallow_volatile = true\n[instance]\nid = \"i-month\"\n[submit]\nregion = \"us-east-1\"\n\
         endpoint_url = \"{aws}\"\ncredentials = \"environment\"\noffset = \"0s\"\n[hour]\ngrace = \"30s\"\n"
    );
    fs::write(world.config(), text).unwrap();
}

/// Tells until it is acknowledged, across crashes: with a key a resend adds nothing.
fn tell(world: &World, client: &mut Option<Lines>, line: &str) {
    wait_until("an increment is acknowledged", || {
        if client.is_none() {
            *client = Lines::try_connect(&world.socket()).ok();
        }
        let told = client.as_mut().and_then(|c| {
            c.try_send(line).ok()?;
            c.try_line().ok()?
        });
        if told.is_none() {
            *client = None;
        }
        told.is_some_and(|answer| answer.starts_with("{\"ok\":true"))
    });
}

/// An application that goes on all month; every tenth report is late by some hours. Returns what it was acknowledged.
fn application(world: &World, done: &AtomicBool) -> (u64, u64) {
    let (mut client, mut requests, mut hundredths) = (None, 0, 0);
    for n in 0u64.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        // Only what is late says when it was: a clock that starts with a process lags behind by minutes at this speed.
        let at = if n % 10 == 9 { format!(",\"at\":{:.0}", world.clock.now() - 3.0 * HOUR) } else { String::new() };
        let (some, more) = (1 + n % 7, 61 + n % 300);
        tell(
            world,
            &mut client,
            &format!("{{\"dimension\":\"requests\",\"quantity\":{some},\"key\":\"r-{n}\"{at}}}\n"),
        );
        tell(
            world,
            &mut client,
            &format!(
                "{{\"dimension\":\"gigabytes\",\"quantity\":\"{}.{:02}\",\"key\":\"g-{n}\"}}\n",
                more / 100,
                more % 100
            ),
        );
        (requests, hundredths) = (requests + some, hundredths + more);
        if n % 5 == 0 {
            tell(world, &mut client, &format!("{{\"dimension\":\"users\",\"quantity\":{}}}\n", 5 + n % 20));
        }
        if n % 2 == 0 {
            // Reports of nothing, so that the log outgrows what it keeps.
            let one = |m| format!("{{\"dimension\":\"requests\",\"quantity\":0,\"key\":\"{n}-{m:0>100}\"}}");
            let array: Vec<String> = (0..100).map(one).collect();
            tell(world, &mut client, &format!("[{}]\n", array.join(",")));
        }
        // A night without use, every day.
        let night = (world.clock.now() / HOUR) as i64 % 24 < 4;
        sleep(Duration::from_millis(if night { 60 } else { 20 }));
    }
    (requests, hundredths)
}

fn sleep_until(world: &World, moment: f64) {
    while world.clock.now() < moment {
        sleep(Duration::from_millis(5));
    }
}

fn count(agent: &Agent<'_>, state: &str) -> u64 {
    agent.status()["records"][state].as_u64().unwrap()
}

/// Has AWS answer so until a record is in `state`: on a slow machine a call may be too late for AWS anyway.
fn meets(aws: &FakeAws, agent: &Agent<'_>, fault: &Value, state: &str) {
    wait_until(state, || {
        aws.fault(fault);
        sleep(Duration::from_millis(200));
        count(agent, state) > 0
    });
    aws.mend();
}

/// The application ends with it.
struct Ended<'d>(&'d AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lives through November; returns what was acknowledged.
fn november<'w>(world: &'w World, aws: &FakeAws) -> (Agent<'w>, (u64, u64)) {
    let done = AtomicBool::new(false);
    let mut agent = world.start();
    let day = |n: f64| BEGIN as f64 + n * 24.0 * HOUR;
    let told = thread::scope(|scope| {
        let application = scope.spawn(|| application(world, &done));
        // Also when the test fails.
        let _ended = Ended(&done);
        sleep_until(world, day(2.0));
        agent.kill();
        agent = world.start();
        // AWS is out for longer than it takes records for, with a crash in that.
        sleep_until(world, day(8.0));
        aws.fault(&json!({ "kind": "refuse_connection", "until": "+15h" }));
        sleep_until(world, day(8.3));
        agent.kill();
        agent = world.start();
        wait_until("a record is carried", || count(&agent, "carried") > 0);
        // Another one, which AWS gets over in time.
        sleep_until(world, day(14.0));
        aws.fault(&json!({ "kind": "service_unavailable", "until": "+3h" }));
        sleep_until(world, day(17.0));
        let other = json!({ "kind": "other_quantity", "dimension": "requests", "times": 1 });
        meets(aws, &agent, &other, "conflict");
        let code = "InvalidProductCodeException";
        let refused = json!({ "kind": "error", "status": 400, "code": code, "dimension": "gigabytes", "times": 1 });
        meets(aws, &agent, &refused, "held");
        let held = count(&agent, "held");
        tell(world, &mut None, "{\"dimension\":\"users\",\"quantity\":80}\n");
        wait_until("one is above its ceiling", || count(&agent, "held") > held);
        // Half a day in which no agent runs, so late that the log still knows.
        sleep_until(world, day(28.5));
        agent.kill();
        sleep_until(world, day(29.0));
        agent = world.start();
        sleep_until(world, LAST);
        done.store(true, Ordering::Relaxed);
        application.join().unwrap()
    });
    wait_until("the month is over, and nothing is on its way", || {
        let status = agent.status();
        let is_over = status["open_hour"]["hour"].as_str().is_none_or(|hour| hour >= "2026-12-01");
        let books = status["books"].as_array().unwrap();
        is_over && books.iter().all(|b| b["open"] == "0" && b["pending"] == "0")
    });
    (agent, told)
}

#[test]
fn a_months_report_says_what_the_records_say() {
    let mut world = World::new(BEGIN, SPEED);
    let trail = world.path("trail.json").display().to_string();
    let aws = FakeAws::simulation(&mut world, &["--cloudtrail", &trail]);
    configure(&world, &aws.url());
    let (agent, (requests, hundredths)) = november(&world, &aws);
    keep(&world);
    let archived = fs::read_dir(world.state().join("archive")).map_or(0, Iterator::count);
    assert!(archived > 0, "none of it came to the archive");

    // Beside the running agent.
    let records = world.run(&["records", "--json"]);
    let status = world.run(&["status", "--json"]);
    fs::write(world.path("records.jsonl"), &records.stdout).unwrap();
    fs::write(world.path("status.json"), &status.stdout).unwrap();
    fs::write(world.path("ledger.json"), aws.ledger().to_string()).unwrap();
    let [csv, json, html] =
        ["month.csv", "month.json", "month.html"].map(|name| world.path(name).display().to_string());
    let ran = world.run(&["report", "--month", "2026-11", "--csv", &csv, "--json", &json, "--html", &html]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 3), "{ran:?}");
    let said: Value = serde_json::from_str(&world::read(Path::new(&json))).unwrap();
    let received = |name: &str| {
        let dimensions = said["dimensions"].as_array().unwrap();
        dimensions.iter().find(|d| d["dimension"] == name).unwrap()["total"]["received"].as_str().unwrap().to_owned()
    };
    assert_eq!(received("requests"), requests.to_string(), "{said:#}");
    let gigabytes = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    assert_eq!(received("gigabytes"), gigabytes.trim_end_matches('0').trim_end_matches('.'));
    python(&world, "check.py", &["."]);
    reconciles(&world, &trail);

    // Of a copy, without the agent, the same; and for people.
    agent.stop();
    let copy = world.path("copy");
    assert!(Command::new("cp").arg("-r").args([&world.state(), &copy]).status().unwrap().success());
    let again = world.run(&["report", "--month", "2026-11", "--json", "-", copy.to_str().unwrap()]);
    let mut again = again.json();
    for changing in ["as_of", "open_from", "away"] {
        again[changing] = said[changing].clone();
    }
    assert_eq!(again, said);
    let table = world.run(&["report", "--month", "2026-11"]);
    for words in
        ["requests:", "AWS did not take records for", "conflict", "held", "records that did not go the plain way"]
    {
        assert!(table.stdout.contains(words), "{words}: {}", table.stdout);
    }
    assert!(!table.stdout.contains("DO NOT ADD UP"), "{}", table.stdout);
    let other = world.run(&["report", "--month", "2026-10", "--json", "-"]).json();
    assert_eq!((&other["dimensions"], &other["records"]), (&json!([]), &json!([])));
    assert_eq!(world.run(&["report", "--month", "2026-13"]).code, 64);
    let disk = RealDisk::read_only(&copy);
    let mut hostile = report::read(&disk, &Span::parse("2026-11").unwrap()).unwrap();
    for (_, record) in &mut hostile.records {
        record.last_error = record.last_error.as_ref().map(|error| format!("{error} {HOSTILE}"));
    }
    hostile.product_code = HOSTILE.to_owned();
    hostile.instance = Some(format!("'\"{HOSTILE}"));
    hostile.dimensions[0].name = HOSTILE.to_owned();
    hostile.notes.push(HOSTILE.to_owned());
    fs::write(world.path("hostile.html"), report::html::html(&hostile)).unwrap();
    if let Some(browser) = browser() {
        python(&world, "page.py", &[browser, "hostile.html"]);
    }
}

/// What AWS wrote of the month is what these books say, but for what waits for a person.
fn reconciles(world: &World, trail: &str) {
    let records = world.path("records.jsonl").display().to_string();
    let ran = world.run(&["reconcile", "--json", "--records", &records, "--cloudtrail", trail, "--month", "2026-11"]);
    let found = ran.json();
    let found = &found["cloudtrail"];
    let ours: Vec<Value> = world::read(Path::new(&records)).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let accepted = ours.iter().filter(|r| r["state"] == "accepted" && r["hour"].as_str().unwrap() < "2026-12").count();
    assert_eq!(
        (&found["matched"], &found["missing_at_aws"], &found["different_quantity"]),
        (&json!(accepted), &json!(0), &json!(0)),
        "{found:#}"
    );
    let differ: Vec<&Value> =
        found["rows"].as_array().unwrap().iter().filter(|row| row["result"] == "unknown_to_us").collect();
    assert!(differ.iter().all(|row| row["state"] == "conflict" || row["state"] == "in_doubt"), "{differ:#?}");
    assert_eq!((ran.code, differ.iter().filter(|row| row["state"] == "conflict").count()), (1, 1), "{differ:#?}");
    println!("reconciled with AWS's trail: {accepted} matched, {} wait for a person", differ.len());
}

/// Where the state is to be kept for a look: `METERD_MONTH=DIR`.
fn keep(world: &World) {
    if let Some(dir) = std::env::var_os("METERD_MONTH") {
        assert!(Command::new("cp").arg("-rT").arg(world.path("")).arg(dir).status().unwrap().success());
    }
}

fn python(world: &World, program: &str, args: &[&str]) {
    let program = format!("{}/tests/month/{program}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    let ran = Ran::of(command.arg(program).args(args).current_dir(world.path("")));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    print!("{}", ran.stdout);
}

fn browser() -> Option<&'static str> {
    let is_here = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|ran| ran.status.success());
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_here);
    if found.is_none() {
        println!("skipped: no Chromium is here, the report's page is not opened");
    }
    found
}

/// What `preview` says is what the seal then does.
#[test]
fn a_preview_is_what_the_seal_does() {
    let mut world = World::new(BEGIN, 600);
    let aws = FakeAws::simulation(&mut world, &[]);
    configure(&world, &aws.url());
    let agent = world.start();
    let told = [
        r#"[{"dimension":"requests","quantity":7,"tags":{"team":"blue team"}},{"dimension":"requests","quantity":5}]"#,
        r#"[{"dimension":"gigabytes","quantity":"75.5"},{"dimension":"users","quantity":51}]"#,
    ];
    for line in told {
        assert_eq!(agent.tell(line)["ok"], true);
    }
    let preview = world.run(&["preview", "--json"]).json();
    assert_eq!((&preview["hour"], &preview["instance_known"]), (&json!("2026-11-01T00:00:00Z"), &json!(true)));
    let lines = preview["lines"].as_array().unwrap().clone();
    let of = |name: &str| lines.iter().find(|line| line["dimension"] == name).unwrap_or_else(|| panic!("{preview:#}"));
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    assert_eq!((of("requests")["quantity"].as_u64(), text(of("requests"), "charge")), (Some(12), "0.12".into()));
    // 75.5 - 40 = 35.5: 3 units of 10, and 5.5 left over.
    let gigabytes = of("gigabytes");
    assert_eq!(
        ["included", "included_left", "remainder", "charge"].map(|f| text(gigabytes, f)),
        ["40", "0", "5.5", "0.75"]
    );
    assert_eq!((of("users")["quantity"].as_u64(), text(of("users"), "hold")), (Some(51), "above 50".into()));
    assert_eq!(preview["charge"], "0.87");
    let shown = world.run(&["preview"]);
    for words in
        ["expected charge: 0.87", "HELD for a person: above 50", "included quantity left after it: 0", "team=blue team"]
    {
        assert!(shown.stdout.contains(words), "{words}: {}", shown.stdout);
    }
    wait_until("the hour is sealed", || world.records().len() == 3);
    for record in world.records() {
        let line = of(record["dimension"].as_str().unwrap());
        for field in
            ["quantity", "usage", "included", "remainder", "remainder_in", "carried_in", "late", "hold", "allocations"]
        {
            assert_eq!(line[field], record[field], "{field}: {line:#} {record:#}");
        }
    }
}
