//! The promise of `meterd doctor`: whatever would keep the first record from AWS is one line that fails, with the next step
//! beside it, and an agent's own look at its start says the same in `status`.
//!
//! The surroundings are those of `ec2.rs`: nothing is overridden in the command.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::ec2::{Ec2, HOST, HOUR, INSTANCE, attention, on_an_instance};
use crate::fake_aws::FakeAws;
use crate::world::{Ran, World, wait_until};

/// What `doctor --json` found.
struct Found {
    code: i32,
    checks: Vec<Value>,
}

impl Found {
    fn of(mut command: Command) -> Found {
        let ran = Ran::of(command.arg("--json"));
        let checks = ran.json().as_array().unwrap().clone();
        for check in &checks {
            let keys: Vec<&String> = check.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["check", "state", "found", "do"], "{check}");
            assert_eq!(check["do"].is_null(), check["state"] == "ok", "what to do, where it is not well: {check}");
        }
        Found { code: ran.code, checks }
    }

    fn line(&self, check: &str) -> &Value {
        let found = self.checks.iter().find(|line| line["check"] == check);
        found.unwrap_or_else(|| panic!("no line {check}: {:#?}", self.checks))
    }

    fn in_state(&self, state: &str) -> Vec<&str> {
        self.checks.iter().filter(|line| line["state"] == state).map(|line| line["check"].as_str().unwrap()).collect()
    }

    /// One line fails, in these words, and says this to do; the exit code says so too.
    #[track_caller]
    fn fails(&self, check: &str, found: &[&str], remedy: &[&str]) {
        assert_eq!((self.code, self.in_state("fails")), (1, vec![check]), "{:#?}", self.checks);
        let line = self.line(check);
        let says = |key: &str, words: &[&str]| {
            let text = line[key].as_str().unwrap();
            words.iter().for_each(|word| assert!(text.contains(word), "{word:?} in {key}: {line:#}"));
        };
        says("found", found);
        says("do", remedy);
    }

    /// What cannot be told for that reason names the line to mend first.
    #[track_caller]
    fn waits_for(&self, checks: &[&str], first: &str) {
        assert_eq!(self.in_state("unknown"), checks, "{:#?}", self.checks);
        for check in checks {
            let line = self.line(check);
            assert!(line["do"].as_str().unwrap().contains(&format!("`{first}` first")), "{line}");
        }
    }
}

fn doctor(ec2: &Ec2<'_>) -> Found {
    Found::of(ec2.meterd("doctor"))
}

/// Changes the configuration.
fn configure(world: &World, from: &str, to: &str) {
    let text = fs::read_to_string(world.config()).unwrap();
    assert!(text.contains(from), "{from:?} in {text}");
    fs::write(world.config(), text.replacen(from, to, 1)).unwrap();
}

fn with_a_role(ec2: &Ec2<'_>) {
    ec2.role(&json!({ "issue": 6 * HOUR }));
}

macro_rules! on_an_instance {
    ($test:ident, $body:expr) => {
        #[test]
        fn $test() {
            on_an_instance(concat!("doctor::", stringify!($test)), $body);
        }
    };
}

on_an_instance!(all_is_well, |ec2| {
    with_a_role(&ec2);
    configure(ec2.world, "[socket]", "[[dimension]]\nname = \"gigabytes\"\n[socket]");
    let found = doctor(&ec2);
    assert_eq!((found.code, found.in_state("ok").len()), (0, 11), "{:#?}", found.checks);
    let names = |found: &Found| -> Vec<String> {
        found.checks.iter().map(|line| line["check"].as_str().unwrap().to_owned()).collect()
    };
    let order = "instance region role network clock product_code attribution dimension:requests dimension:gigabytes disk socket";
    assert_eq!(names(&found).join(" "), order);
    let says = |check: &str, words: &str| {
        let line = found.line(check);
        assert!(line["found"].as_str().unwrap().contains(words), "{words:?} in {line}");
    };
    says("instance", INSTANCE);
    says("region", "us-east-1");
    says("role", "metering-role, key ASIATEST000000000001, valid until ");
    says("network", HOST);
    says("product_code", "prod");
    // One dry run each, and nothing is metered.
    let ledger = ec2.ledger();
    assert_eq!((&ledger["records"], &ledger["violations"]), (&json!([]), &json!([])));
    assert_eq!(ledger["requests"].as_array().unwrap().len(), 2);
    assert_eq!(fs::read_dir(ec2.world.path("")).unwrap().filter(|e| is_scratch(e.as_ref().unwrap())).count(), 0);
    assert!(!ec2.world.state().exists(), "nothing is made");

    // For people: aligned, without colour where nobody sees it, a total.
    let ran = Ran::of(&mut ec2.meterd("doctor"));
    assert_eq!((ran.code, ran.stdout.contains('\u{1b}'), ran.stderr.as_str()), (0, false, ""), "{ran:?}");
    assert!(ran.stdout.contains(&format!("\n  ok       instance             {INSTANCE}")), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("\n11 ok, 0 fails, 0 unknown\n"), "{}", ran.stdout);
    println!("{}", ran.stdout);

    // Beside a running agent, which is not in its way, nor it in the agent's.
    let agent = ec2.world.start_with(ec2.command());
    let found = doctor(&ec2);
    assert_eq!(found.code, 0, "{:#?}", found.checks);
    assert!(found.line("socket")["found"].as_str().unwrap().contains("an agent answers there"), "{:#?}", found.checks);
    assert_eq!(fs::read_dir(ec2.world.state()).unwrap().filter(|e| is_scratch(e.as_ref().unwrap())).count(), 0);
    assert_eq!(agent.status()["ready"], true);
});

fn is_scratch(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with(".meterd")
}

on_an_instance!(no_metadata, |ec2| {
    with_a_role(&ec2);
    let gone = Command::new("ip").args(["address", "del", "169.254.169.254/32", "dev", "lo"]).status().unwrap();
    assert!(gone.success());
    let found = doctor(&ec2);
    found.fails("instance", &["this is EC2", "does not answer"], &["modify-instance-metadata-options", "hop-limit 2"]);
    let unknown = ["region", "role", "network", "clock", "product_code", "attribution", "dimension:requests"];
    assert_eq!(found.in_state("unknown"), unknown, "{:#?}", found.checks);
    assert_eq!(found.line("region")["do"], "mend the line `instance` first");
});

on_an_instance!(no_role, |ec2| {
    let found = doctor(&ec2);
    let remedy = ["associate-iam-instance-profile", INSTANCE, r#""Action":"aws-marketplace:MeterUsage""#];
    found.fails("role", &["no role is attached"], &remedy);
    found.waits_for(&["dimension:requests"], "role");
    assert_eq!(ec2.ledger()["requests"], json!([]), "nothing to sign with");
});

on_an_instance!(a_role_without_the_right, |ec2| {
    with_a_role(&ec2);
    ec2.ask("POST", "/_control", &json!({ "mode": "refuse" }));
    let found = doctor(&ec2);
    let statement = r#"{"Effect":"Allow","Action":"aws-marketplace:MeterUsage","Resource":"*"}"#;
    found.fails("role", &["AccessDenied"], &["aws iam put-role-policy --role-name metering-role", statement]);
    found.waits_for(&["dimension:requests"], "role");
});

on_an_instance!(a_wrong_region, |ec2| {
    with_a_role(&ec2);
    configure(ec2.world, "[submit]", "[submit]\nregion = \"eu-west-1\"");
    let found = doctor(&ec2);
    found.fails("region", &["eu-west-1", "us-east-1"], &[r#"submit.region = "us-east-1""#]);
    found.waits_for(&["network", "clock", "dimension:requests"], "region");
});

on_an_instance!(a_foreign_product_code, |ec2| {
    with_a_role(&ec2);
    configure(ec2.world, "code = \"prod\"", "code = \"another\"");
    let found = doctor(&ec2);
    found.fails("product_code", &["carries prod", "another"], &[r#"set product.code = "prod""#]);
    assert_eq!(found.in_state("unknown"), ["attribution", "dimension:requests"], "{:#?}", found.checks);
    assert_eq!(found.line("dimension:requests")["do"], "mend the line `product_code` first");
});

on_an_instance!(a_mistyped_dimension, |ec2| {
    with_a_role(&ec2);
    ec2.ask("POST", "/_listing", &json!({ "dimensions": ["requests", "gigabytes"] }));
    configure(ec2.world, "[socket]", "[[dimension]]\nname = \"gigabites\"\n[socket]");
    let found = doctor(&ec2);
    found.fails("dimension:gigabites", &["InvalidUsageDimension"], &["published in the listing", "[[dimension]] name"]);
    assert_eq!(found.line("dimension:requests")["state"], "ok");
    // AWS names nothing, but what people get wrong most often can be asked for.
    configure(ec2.world, "gigabites", "Gigabyte");
    doctor(&ec2).fails("dimension:Gigabyte", &["InvalidUsageDimension"], &["did you mean \"gigabytes\"?"]);
    assert_eq!(ec2.ledger()["records"], json!([]));
});

on_an_instance!(no_route, |ec2| {
    with_a_role(&ec2);
    ec2.endpoint_at("203.0.113.9");
    let found = doctor(&ec2);
    found.fails("network", &[HOST, "203.0.113.9:443"], &["internet gateway", "NAT gateway", "TCP 443"]);
    found.waits_for(&["clock", "dimension:requests"], "network");
    // Nor a name.
    fs::write(ec2.world.path("hosts"), "127.0.0.1 localhost\n").unwrap();
    doctor(&ec2).fails("network", &[HOST, "cannot be looked up"], &["DNS"]);
});

on_an_instance!(a_clock_two_hours_off, |ec2| {
    with_a_role(&ec2);
    for (seconds, words) in [(2 * HOUR, "ahead of AWS's"), (-2 * HOUR, "behind AWS's")] {
        let mut command = ec2.meterd("doctor");
        command.env("FAKETIME_TIMESTAMP_FILE", ec2.clock_off_by(seconds));
        let found = Found::of(command);
        found.fails("clock", &["2 h 0 min", words, "records wait"], &["chrony", "169.254.169.123"]);
        assert_eq!(found.in_state("unknown"), Vec::<&str>::new(), "{:#?}", found.checks);
    }
});

on_an_instance!(a_full_disk, |ec2| {
    with_a_role(&ec2);
    let state = ec2.world.state();
    fs::create_dir(&state).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(&state).status().unwrap();
    assert!(mounted.success());
    let found = doctor(&ec2);
    found.fails("disk", &["tmpfs, 8.0 MiB free", "the log wants 80.0 MiB more"], &["free 72.0 MiB", "state.dir"]);
    // Read-only, with all the room there is.
    configure(ec2.world, "allow_volatile", "segment_bytes = 1048576\nallow_volatile");
    assert_eq!(doctor(&ec2).code, 0);
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&state).status().unwrap();
    assert!(remounted.success());
    doctor(&ec2).fails("disk", &["Read-only"], &["mount it writable"]);
    // One that a reboot empties.
    configure(ec2.world, "allow_volatile = true", "allow_volatile = false");
    doctor(&ec2).fails("disk", &["tmpfs, which a reboot empties"], &["state.allow_volatile"]);
});

on_an_instance!(an_agent_finds_it_at_its_start, |mut ec2| {
    ec2.ask("POST", "/_listing", &json!({ "dimensions": ["requests"] }));
    configure(ec2.world, "[socket]", "[[dimension]]\nname = \"gigabites\"\n[socket]");
    let world = ec2.world;
    let mut agent = world.start_with(ec2.command());
    // At once: not even the first look has been made.
    ec2.add(&agent, 1);
    wait_until("the look finds no role", || attention(&agent) == ["check_role"]);
    let status = agent.status();
    let check = &status["attention"][0];
    assert_eq!(check["do"], doctor(&ec2).line("role")["do"], "the same next step");
    assert!(check["since"].is_string(), "{check}");
    assert_eq!((Ran::of(&mut ec2.meterd("status")).code, ec2.ledger()["requests"].clone()), (1, json!([])));
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait().code(), Some(0), "it stops while it waits for another look");

    with_a_role(&ec2);
    let agent = world.start_with(ec2.command());
    wait_until("the look finds the dimension", || attention(&agent) == ["check_dimension"]);
    let status = agent.status();
    let message = status["attention"][0]["message"].as_str().unwrap();
    assert!(message.contains("gigabites") && message.contains("InvalidUsageDimension"), "{message}");
    let asked = |ec2: &Ec2<'_>| ec2.ledger()["requests"].as_array().unwrap().len();
    assert_eq!(asked(&ec2), 2, "one dry run for each dimension");
    drop(agent);

    // What AWS has taken is not asked for again, and what it says disproves what was found.
    configure(world, "gigabites", "gigabytes");
    ec2.ask("POST", "/_listing", &json!({ "dimensions": ["requests"] }));
    let agent = world.start_with(ec2.command());
    wait_until("the look finds the dimension", || attention(&agent) == ["check_dimension"]);
    ec2.ask("POST", "/_listing", &json!({ "dimensions": ["requests", "gigabytes"] }));
    let answer = agent.tell(r#"{"dimension":"gigabytes","quantity":1}"#);
    assert_eq!(answer["ok"], true, "{answer}");
    ec2.good_hour(&agent);
    wait_until("AWS has taken it", || attention(&agent).is_empty());
    drop(agent);
    let (looks, before) = (looks(&ec2), asked(&ec2));
    let agent = world.start_with(ec2.command());
    wait_until("it looks once more", || self::looks(&ec2) > looks);
    // This one has more to ask, so the other is over before it.
    assert_eq!(doctor(&ec2).code, 0);
    assert_eq!(asked(&ec2), before + 2, "no dry run but the command's own");
    assert_eq!(attention(&agent), Vec::<String>::new());
});

/// How often the product code was looked up in metadata.
fn looks(ec2: &Ec2<'_>) -> u64 {
    ec2.ask("GET", "/_imds", &json!({}))["GET /latest/meta-data/product-codes"][0].as_u64().unwrap()
}

#[test]
fn a_name_that_aws_knows_is_suggested() {
    let mut world = World::at_noon();
    let aws = FakeAws::on_the_machines_clock(&world, &["--dimension", "requests", "--dimension", "gigabytes"]);
    let dimensions = "[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"gigabites\"\n";
    world.configure(&aws.url(), dimensions, "", "");
    let found = Found::of(world.meterd(&["doctor"]));
    found.fails("dimension:gigabites", &["InvalidUsageDimension"], &["did you mean \"gigabytes\"?"]);
    // A simulation is not AWS, and is not taken for it.
    assert_eq!(found.line("network")["state"], "unknown");
    assert!(found.line("network")["do"].as_str().unwrap().contains("remove submit.endpoint_url"));
    assert_eq!(aws.ledger()["records"], json!([]));

    // Both forms of success; and the parts of a dimension are not published.
    drop(aws);
    let aws = FakeAws::on_the_machines_clock(&world, &["--dimension", "credits", "--dry-run-ok"]);
    let dimensions = "[[dimension]]\nname = \"credits\"\nfrom = [{ name = \"reads\", weight = \"2\" }]\n\
                      [[dimension]]\nname = \"reads\"\n";
    world.configure(&aws.url(), dimensions, "", "");
    let found = Found::of(world.meterd(&["doctor"]));
    assert_eq!((found.code, &found.line("dimension:credits")["state"]), (0, &json!("ok")), "{:#?}", found.checks);
    assert_eq!(aws.ledger()["calls"], 1);

    // Throttled is not wrong.
    aws.fault(&json!({ "kind": "throttle", "times": 1 }));
    let found = Found::of(world.meterd(&["doctor"]));
    assert_eq!((found.code, &found.line("dimension:credits")["state"]), (0, &json!("unknown")), "{:#?}", found.checks);

    world.clock.set(0.0);
    fs::write(world.config(), "[product]\n").unwrap();
    assert_eq!(world.run(&["doctor"]).code, 78);
}

#[test]
fn a_socket_that_is_not_as_it_should_be() {
    let world = World::at_noon();
    let doctor = || Found::of(world.meterd(&["doctor"])).line("socket").clone();
    let stands = |line: &Value, state: &str, words: &str| {
        assert_eq!(line["state"], state, "{line}");
        assert!(line["found"].as_str().unwrap().contains(words), "{words:?} in {line}");
    };
    stands(&doctor(), "ok", "is not there yet");
    fs::write(world.socket(), "").unwrap();
    stands(&doctor(), "fails", "is no socket");
    fs::remove_file(world.socket()).unwrap();
    let mut agent = world.start();
    stands(&doctor(), "ok", "an agent answers there");
    let mode = |mode| fs::set_permissions(world.socket(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o666);
    stands(&doctor(), "fails", "has mode 0666, socket.mode is 0660");
    mode(0o660);
    agent.kill();
    stands(&doctor(), "ok", "was left behind");
    assert!(Path::new(&world.socket()).exists());
}
