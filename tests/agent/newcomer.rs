//! The promise to whoever looks for the first time, at night: `meterd status` answers "is it working, and if not what do I
//! do". Each trouble is made for real; the page has to name it, and the command on it is typed as it stands there and leads
//! on, until the page says that metering works.
//!
//! All pages, as they are on a pipe: `cargo test --test agent newcomer -- --nocapture`.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use crate::clones;
use crate::ec2::{Ec2, INSTANCE, attention, on_an_instance};
use crate::fake_aws::FakeAws;
use crate::world::{DIMENSIONS, NOON, PATIENCE, Ran, TestClock, World, read, wait_for, wait_until};

/// An hour takes three seconds.
const SPEED: u32 = 1200;

const HOUR: i64 = 3600;

/// What `meterd status` shows.
struct Page {
    code: i32,
    text: String,
}

impl Page {
    /// One that was seen; and how it looks on other widths.
    fn of(ran: Ran, meterd: &dyn Fn(&str) -> Command) -> Page {
        assert!(ran.stderr.is_empty() || ran.code == 69, "all of it is on the page: {ran:?}");
        for columns in [80, 40] {
            let page = Ran::of(meterd("status").env("COLUMNS", columns.to_string()));
            for line in page.stdout.lines() {
                let is_command = line.starts_with("        ");
                assert!(is_command || line.chars().count() <= columns, "{columns} columns: {line:?}");
                assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
                assert_eq!(line.trim_end(), line);
            }
        }
        Page { code: ran.code, text: ran.stdout }
    }

    fn verdict(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The text, with its lines made one.
    fn words(&self) -> String {
        self.text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn says(&self, words: &[&str]) -> &Page {
        let text = self.words();
        words.iter().for_each(|word| assert!(text.contains(word), "{word:?} in\n{}", self.text));
        self
    }

    /// The commands on it, each as it can be copied.
    fn commands(&self) -> Vec<String> {
        let mut commands: Vec<String> = Vec::new();
        let mut goes_on = false;
        for line in self.text.lines() {
            match (line.strip_prefix("        "), commands.last_mut()) {
                (Some(more), Some(last)) if goes_on => *last += &format!("\n{more}"),
                (Some(command), _) if !command.starts_with(' ') => commands.push(command.to_owned()),
                _ => {
                    goes_on = false;
                    continue;
                }
            }
            goes_on = line.ends_with(['\\', ',']);
        }
        commands
    }

    #[track_caller]
    fn command(&self, begins: &str) -> String {
        let found = self.commands().into_iter().find(|command| command.starts_with(begins));
        found.unwrap_or_else(|| panic!("no command {begins:?} in\n{}", self.text))
    }
}

/// The README shows this, but for its figures.
#[track_caller]
fn stands_in_readme(shown: &str) {
    let without_figures = |text: &str| {
        let mut words: Vec<&str> = Vec::new();
        for word in text.split_whitespace() {
            let is_unit = ["d", "h", "min", "s"].contains(&word.trim_end_matches([')', ',']));
            let word = if is_unit || word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word };
            if word != "#" || words.last() != Some(&"#") {
                words.push(word);
            }
        }
        words.join(" ")
    };
    let readme = read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")));
    assert!(
        without_figures(&readme).contains(&without_figures(shown)),
        "the README shows something else than\n{shown}"
    );
}

/// The page, once it begins so.
fn wait_for_page(meterd: &dyn Fn(&str) -> Command, verdict: &str) -> Page {
    let ran = wait_for(&format!("a page that begins with {verdict:?}"), || {
        let ran = Ran::of(&mut meterd("status"));
        ran.stdout.starts_with(verdict).then_some(ran)
    });
    let page = Page::of(ran, meterd);
    println!("\n$ meterd status    # {}\n{}", std::thread::current().name().unwrap_or_default(), page.text);
    page
}

fn page(world: &World, verdict: &str) -> Page {
    wait_for_page(&|name| world.meterd(&[name]), verdict)
}

/// Metering works again.
fn fine(meterd: &dyn Fn(&str) -> Command) {
    wait_until("metering works again", || {
        let ran = Ran::of(&mut meterd("status"));
        ran.code == 0 && ran.stdout.starts_with("metering works\n")
    });
}

/// Types a command into a shell. What only a whole machine or AWS has is played by a script that writes down its words.
fn typed(meterd: &dyn Fn(&str) -> Command, dir: &Path, command: &str) -> Ran {
    let tools = dir.join("tools");
    fs::create_dir_all(&tools).unwrap();
    for tool in ["aws", "timedatectl", "systemctl", "journalctl"] {
        let path = tools.join(tool);
        fs::write(&path, "#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let model = meterd("status");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).current_dir(dir).env_clear();
    shell.envs(model.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let own = Path::new(env!("CARGO_BIN_EXE_meterd")).parent().unwrap();
    shell.env("PATH", format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.display(), own.display()));
    shell.env("METERD_CONFIG", dir.join("meterd.toml"));
    println!("# {command}");
    Ran::of(&mut shell)
}

fn type_in(world: &World, command: &str) -> Ran {
    typed(&|name| world.meterd(&[name]), &world.path(""), command)
}

#[test]
fn aws_is_down() {
    // The clock keeps to the machine's pace wherever something has to be seen before it changes.
    let mut world = World::new(NOON - 600, 1);
    let agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":1250}"#)["ok"], true);
    agent.stop();
    world.clock = TestClock::new(NOON, 1);
    let aws = FakeAws::simulation(&mut world, &[]);
    let url = aws.url();
    world.configure(&url, DIMENSIONS, "", "[hour]\ngrace = \"0s\"\n");
    let agent = world.start();
    wait_until("AWS has it", || agent.status()["records"]["accepted"] == 1);
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":1100}"#)["ok"], true);
    assert_eq!(agent.tell(r#"{"dimension":"gigabytes","quantity":"17.5"}"#)["ok"], true);
    let works = page(&world, "metering works");
    assert_eq!((works.code, works.verdict(), works.commands()), (0, "metering works", vec![]));
    works.says(&[
        "i-test, product prod",
        "accepted a record at",
        "open hour 2026-11-21 12:00 to 13:00 UTC",
        "balanced",
    ]);
    works.says(&["requests 1100", "gigabytes 17.5", "requests 2350 1100 1250"]);
    stands_in_readme(&works.text);
    agent.stop();

    // The first failures are no reason to get anybody out of bed.
    drop(aws);
    world.clock = TestClock::new(NOON + HOUR - 2, 1);
    let agent = world.start();
    let tried = page(&world, "metering works;");
    assert_eq!(tried.code, 0, "{}", tried.text);
    tried.says(&["to AWS failed, which is tried again by itself", "waiting for AWS", "hour 12:00 until", "left"]);
    agent.stop();

    // Half an hour of them are, and after an hour applications are told.
    world.clock = TestClock::new(NOON + HOUR + 600, SPEED);
    let agent = world.start();
    let down = page(&world, "usage is taken and kept, but does NOT get to AWS");
    assert_eq!(down.code, 1);
    down.says(&["aws_unreachable, since", "usage is kept meanwhile, and sent by itself when AWS answers", "left"]);
    let (trouble, _) = down.text.split_once("meterd doctor\n").expect("what to do");
    stands_in_readme(trouble);
    let doctor = type_in(&world, &down.command("meterd doctor"));
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(doctor.stdout.contains("fails    network"), "{doctor:?}");
    wait_until("the gate is on the page", || world.run(&["status"]).stdout.contains("\ngate      warn since "));
    page(&world, "usage is taken and kept").says(&["deadline, since", "not accepted yet", "are told to warn"]);
    let _aws = FakeAws::again(&world, &url);
    fine(&|name| world.meterd(&[name]));
    drop(agent);

    // And when the agent itself is gone.
    let gone = page(&world, "no agent answers");
    assert_eq!(gone.code, 69);
    gone.says(&["accepted, 0 pending", "increments acknowledged", "balanced"]);
    for begins in ["systemctl status meterd", "journalctl -u meterd", "systemctl restart meterd"] {
        gone.command(begins);
    }
    let _agent = world.start();
    fine(&|name| world.meterd(&[name]));
}

#[test]
fn a_dimension_is_mistyped() {
    let mut world = World::new(NOON - 300, SPEED);
    let aws = FakeAws::simulation(&mut world, &["--dimension", "requests", "--dimension", "gigabytes"]);
    world.configure(&aws.url(), "[[dimension]]\nname = \"requests\"\n[[dimension]]\nname = \"gigabites\"\n", "", "");
    let agent = world.start();
    // In the configuration: AWS refuses it.
    assert_eq!(agent.tell(r#"{"dimension":"gigabites","quantity":5}"#)["ok"], true);
    let held = page(&world, "metering works, but some usage waits for your word");
    assert_eq!(held.code, 1);
    let hour = world.records()[0]["hour"].as_str().unwrap().to_owned();
    held.says(&[
        "held, since",
        &format!("gigabites {hour}"),
        "InvalidUsageDimension",
        "in the configuration",
        "carry --to NAME",
    ]);
    agent.stop();
    let text = fs::read_to_string(world.config()).unwrap().replace("gigabites", "gigabytes");
    fs::write(world.config(), text).unwrap();
    type_in(&world, &held.command("systemctl restart meterd"));
    let agent = world.start();
    let told = page(&world, "metering works, but some usage waits for your word");
    told.says(&["(configured: requests, gigabytes)"]);
    let carried = type_in(&world, &told.command(&format!("meterd settle {hour} gigabites carry --to gigabytes")));
    assert_eq!(carried.code, 0, "{carried:?}");
    fine(&|name| world.meterd(&[name]));
    wait_until("AWS has it under its name", || aws.ledger()["totals"] == json!({ "gigabytes": 5 }));

    // In the application, once: an hour later nobody is told of it any more.
    assert_eq!(agent.tell(r#"{"dimension":"gigabites","quantity":2}"#)["error"], "unknown_dimension");
    fine(&|name| world.meterd(&[name]));
}

#[test]
fn an_application_mistypes_a_dimension() {
    let world = World::at_noon();
    let agent = world.start();
    let answer = agent.tell(r#"[{"dimension":"requests","quantity":1},{"dimension":"gigabites","quantity":2}]"#);
    assert_eq!((&answer["error"], &answer["index"]), (&json!("unknown_dimension"), &json!(1)));
    assert_eq!(agent.tell(r#"{"dimension":"gigabites","quantity":2}"#)["error"], "unknown_dimension");
    let refused = page(&world, "metering works, but some usage is refused");
    assert_eq!(refused.code, 1);
    let process = format!("(process {})", std::process::id());
    refused.says(&["unknown_dimension, since", "\"gigabites\"", "refused 2 times", &process]);
    refused.says(&["did it mean \"gigabytes\"?", "2 unknown_dimension since the agent's start"]);
    // Whoever writes cannot put a command on the page.
    let names = ["`rm -rf /`", "x` `rm -rf /", "a`b"];
    for name in names {
        assert_eq!(agent.tell(&json!({ "dimension": name, "quantity": 2 }).to_string())["error"], "unknown_dimension");
        let shown = page(&world, "metering works, but some usage is refused").commands();
        assert_eq!(shown, ["systemctl restart meterd"], "{name}");
    }
    // It names one that AWS has: configured, that is what it is.
    let more = format!("{}[[dimension]]\nname = \"gigabites\"\n", DIMENSIONS);
    world.configure("http://127.0.0.1:9", &more, "", "");
    type_in(&world, &refused.command("systemctl restart meterd"));
    agent.stop();
    let agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"gigabites","quantity":2}"#)["ok"], true);
    fine(&|name| world.meterd(&[name]));
}

#[test]
fn it_is_a_clone() {
    let first = World::new(NOON + 600, SPEED);
    clones::configure(&first, clones::NOWHERE, "i-first");
    let agent = first.start();
    clones::use_it(&agent, 5);
    wait_until("its hour is sealed", || agent.status()["records"]["pending"] == 1);
    clones::use_it(&agent, 7);
    agent.stop();
    let mut copied = World::new(first.clock.now() as i64, SPEED);
    let aws = FakeAws::simulation(&mut copied, &[]);
    clones::copy(&first.state(), &copied.state());
    clones::configure(&copied, &aws.url(), "i-second");
    let agent = copied.start();
    clones::use_it(&agent, 3);
    let told = page(&copied, "metering works, but some usage waits for your word");
    assert_eq!(told.code, 1);
    told.says(&["other_instance", "i-first's, which left unsent: 12 of requests", "i-first itself can send until"]);
    told.says(&["this instance replaces i-first", "this is a copy, and i-first goes on elsewhere"]);
    assert!(told.commands().contains(&"meterd adopt i-first".to_owned()), "{}", told.text);
    let (trouble, _) = told.text.split_once("meterd discard i-first\n").expect("what to do");
    stands_in_readme(trouble);
    let discarded = type_in(&copied, &told.command("meterd discard i-first"));
    assert_eq!(discarded.code, 0, "{discarded:?}");
    fine(&|name| copied.meterd(&[name]));
    wait_until("its own usage is billed", || aws.ledger()["totals"] == json!({ "requests": 3 }));
}

#[test]
fn the_log_cannot_be_made_safe() {
    let world = World::new(NOON, 60);
    let agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":5}"#)["ok"], true);
    agent.stop();
    // Nobody can tell any more what the only segment is.
    let wal = world.state().join("wal");
    let segment = fs::read_dir(&wal).unwrap().map(|e| e.unwrap().path()).min().expect("a segment");
    let whole = fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    damaged[..4096].fill(0xff);
    fs::write(&segment, damaged).unwrap();
    let agent = world.start();
    // Writers are told at once, and nobody hangs.
    let begun = Instant::now();
    let mut client = agent.lines();
    for _ in 0..100 {
        let answer = client.ask(r#"{"dimension":"requests","quantity":1}"#);
        assert_eq!((&answer["error"], &answer["recorded"]), (&json!("not_ready"), &json!("no")), "{answer}");
    }
    assert!(begun.elapsed() < PATIENCE);
    let told = page(&world, "usage is NOT being taken: the log cannot be opened");
    assert_eq!(told.code, 1);
    told.says(&["not_ready, since", "both copies of the segment's header are damaged", "it is tried again by itself"]);
    assert_eq!(type_in(&world, &told.command("cp -a")).code, 0);
    assert!(world.path("state.kept/wal").is_dir());
    let verified = type_in(&world, &told.command("meterd verify"));
    assert!(
        verified.code == 76 && verified.stderr.contains("no segment in wal/ has a header that holds"),
        "{verified:?}"
    );
    fs::write(&segment, whole).unwrap();
    fine(&|name| world.meterd(&[name]));
    assert_eq!(client.ask(r#"{"dimension":"requests","quantity":1}"#)["ok"], true, "on a connection from before");
}

#[test]
fn the_role_is_missing_the_clock_is_wrong_the_disk_is_full() {
    on_an_instance("newcomer::the_role_is_missing_the_clock_is_wrong_the_disk_is_full", no_role_no_clock_no_room);
}

fn no_role_no_clock_no_room(mut ec2: Ec2<'_>) {
    let world = ec2.world;
    let state = world.state();
    fs::create_dir(&state).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "none"]).arg(&state).status().unwrap();
    assert!(mounted.success());
    let text = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), text.replace("allow_volatile", "segment_bytes = 1048576\nallow_volatile")).unwrap();
    let agent = world.start_with(ec2.command());
    ec2.add(&agent, 1);

    // Before the first hour is over, it is known already that nothing will get through.
    let told = wait_for_page(&|name| ec2.meterd(name), "usage is taken and kept, but does NOT get to AWS");
    assert_eq!(told.code, 1);
    told.says(&["check_role, since", "no role is attached to the instance", "PROFILE"]);
    let attach = told.command("aws ec2 associate-iam-instance-profile");
    let ran = typed(&|name| ec2.meterd(name), &world.path(""), &attach);
    let words: Vec<&str> = ran.stdout.trim_end_matches('\0').split('\0').collect();
    assert_eq!(
        words,
        ["ec2", "associate-iam-instance-profile", "--instance-id", INSTANCE, "--iam-instance-profile", "Name=PROFILE"]
    );
    // Later it has happened.
    ec2.hour(&agent);
    wait_until("it says that it is blocked", || attention(&agent).contains(&"aws_blocked".to_owned()));
    let told = wait_for_page(&|name| ec2.meterd(name), "usage is taken and kept, but does NOT get to AWS");
    told.says(&["aws_blocked, since", "aws-marketplace:MeterUsage", "waiting for AWS"]);
    let doctor = typed(&|name| ec2.meterd(name), &world.path(""), &told.command("meterd doctor"));
    assert!(doctor.stdout.contains("aws ec2 associate-iam-instance-profile"), "{doctor:?}");
    ec2.role(&json!({ "issue": 6 * HOUR }));
    ec2.good_hour(&agent);
    fine(&|name| ec2.meterd(name));

    // Ahead by two days, and AWS says so.
    ec2.role(&json!({ "shift": -48 * HOUR }));
    ec2.pass(48 * HOUR);
    let told = wait_for_page(
        &|name| ec2.meterd(name),
        "usage is taken and kept, but no hour is closed: the clock is in doubt",
    );
    assert_eq!(told.code, 1);
    told.says(&["clock_doubt, since", "this machine's clock says", "was expected"]);
    let set = typed(&|name| ec2.meterd(name), &world.path(""), &told.command("timedatectl"));
    assert_eq!(set.stdout, "set-ntp\0true\0");
    ec2.pass(-48 * HOUR);
    ec2.role(&json!({ "shift": 0 }));
    fine(&|name| ec2.meterd(name));

    // No room, taken by somebody else.
    let filler = state.join("filler");
    let took =
        Command::new("dd").args(["if=/dev/zero", "bs=4096"]).arg(format!("of={}", filler.display())).output().unwrap();
    assert!(!took.status.success(), "the disk is not full");
    let long = format!("{{\"dimension\":\"requests\",\"quantity\":0,\"tags\":{{\"team\":\"{}\"}}}}\n", "x".repeat(120));
    let mut client = agent.lines();
    wait_until("usage is refused", || {
        client.send(long.repeat(200));
        (0..200).map(|_| client.answer()).any(|answer| answer["error"] == "disk_full")
    });
    let told = wait_for_page(&|name| ec2.meterd(name), "usage is NOT being taken: the disk is full");
    assert_eq!(told.code, 1);
    told.says(&["disk_full", "free some space on the state directory's disk, then it goes on by itself"]);
    let df = typed(&|name| ec2.meterd(name), &world.path(""), &told.command("df -h"));
    assert!(df.stdout.contains("100%"), "{df:?}");
    fs::remove_file(&filler).unwrap();
    wait_until("usage is taken", || client.ask(long.trim_end())["ok"] == true);
    fine(&|name| ec2.meterd(name));
}

/// An AWS that refuses whatever it is asked, in these words.
fn refuse(mut stream: std::net::TcpStream, words: &str) -> std::io::Result<()> {
    let mut head = std::io::BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    std::io::copy(&mut head.take(length), &mut std::io::sink())?;
    let body = json!({ "__type": "InvalidTagException", "message": format!("no such tag {words}") }).to_string();
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len())
}

/// What others write must not be obeyed by the terminal that shows it.
#[test]
fn nothing_that_others_wrote_reaches_the_terminal_as_a_control() {
    const EVIL: &str = "evil\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}";
    let world = World::new(NOON - 300, SPEED);
    let aws = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    clones::configure(&world, &format!("http://{}", aws.local_addr().unwrap()), "i-test");
    std::thread::spawn(move || aws.incoming().for_each(|stream| drop(refuse(stream.unwrap(), EVIL))));
    let agent = world.start();
    let keyed = json!({ "dimension": "requests", "quantity": 1, "key": EVIL });
    assert_eq!(agent.tell(&keyed.to_string())["ok"], true);
    assert_eq!(agent.tell(&json!({ "dimension": EVIL, "quantity": 1 }).to_string())["error"], "unknown_dimension");
    wait_until("AWS has spoken", || attention(&agent).contains(&"held".to_owned()));
    let state = world.state();
    let commands: [&[&str]; 9] = [
        &["status"],
        &["status", "--json"],
        &["records"],
        &["records", "--json"],
        &["records", "--csv"],
        &["add", EVIL, "1"],
        &["inspect", state.to_str().unwrap()],
        &["inspect", "--json", state.to_str().unwrap()],
        &["settle", "2026-11-21T11:00:00Z", EVIL, "carry"],
    ];
    for args in commands {
        let ran = world.run(args);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!said.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{args:?}: {ran:?}");
        assert!(said.contains("evil"), "{args:?}: {ran:?}");
    }
    // Programs read the same as before.
    let status = world.run(&["status", "--json"]).json();
    assert!(status["attention"][0]["message"].as_str().unwrap().ends_with(EVIL), "{status}");
}
