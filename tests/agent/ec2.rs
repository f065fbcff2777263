//! The promise of the instance: on EC2 the agent needs no word about Region, instance or credentials, and a role that
//! is missing, late, rotated or expired costs nothing; and an end that metadata announces is in time.
//!
//! Nothing is overridden in the agent. The test runs itself again in a network and mount namespace of its own, where
//! 169.254.169.254 answers as instance metadata, the service's real name leads to a local TLS endpoint, and `/sys` shows
//! an EC2 machine; libfaketime moves the agent's clock by the hour.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::fake_aws::first_line;
use crate::socket::exchange;
use crate::world::{Agent, NOON, PATIENCE, World, units, wait_until};

pub const INSTANCE: &str = "i-0123456789abcdef0";
pub const HOST: &str = "metering.marketplace.us-east-1.amazonaws.com";
pub const TAGGING_HOST: &str = "tagging.us-east-1.amazonaws.com";
/// Set in the namespace.
const INSIDE: &str = "METERD_TEST_INSIDE";
pub const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// From ten past nine to one in the morning.
fn half_a_day(mut ec2: Ec2<'_>) {
    let world = ec2.world;
    let mut agent = world.start_with(ec2.command());
    wait_until("metadata names the instance", || agent.status()["instance_id"] == INSTANCE);

    // No role for three hours: usage is taken, a person is told, nothing leaves.
    (0..3).for_each(|_| ec2.hour(&agent));
    wait_until("it says that it is blocked", || blocked(&agent));
    assert_eq!(agent.status()["records"]["pending"], 3);
    assert_eq!(ec2.keys(), vec![]);

    // Attached late: everything goes out, signed with the role's key, for this Region, under the service's real name.
    ec2.role(&json!({ "issue": 6 * HOUR }));
    ec2.good_hour(&agent);
    assert!(!blocked(&agent));
    assert_eq!(agent.status()["records"]["accepted"], 4);
    ec2.good_hour(&agent);
    assert_eq!(ec2.keys().len(), 1);

    // AWS's clock and ours two hours apart: shown, and nothing goes out until they agree.
    ec2.role(&json!({ "shift": -2 * HOUR }));
    ec2.hour(&agent);
    wait_until("it says that the clocks differ", || attention(&agent).contains(&"clock_skew".to_owned()));
    let skew = agent.status()["aws"]["clock_skew_ms"].as_i64().unwrap();
    assert!((skew + 2 * HOUR * 1000).abs() < 60_000, "{skew}");
    assert_eq!(agent.status()["records"]["accepted"], 5, "none goes out");
    ec2.role(&json!({ "shift": 0 }));
    wait_until("they agree", || attention(&agent).is_empty());
    ec2.good_hour(&agent);
    assert_eq!(attention(&agent), Vec::<String>::new());

    // Rotated while the first key still lives; past its end only the second is used.
    ec2.role(&json!({ "issue": 6 * HOUR }));
    (0..5).for_each(|_| ec2.good_hour(&agent));
    let keys = ec2.keys();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys.iter().flat_map(|(_, codes)| codes).all(|code| code != "ExpiredTokenException"), "{keys:?}");

    // Metadata goes on giving out the second key when it is past its end.
    (0..3).for_each(|_| ec2.hour(&agent));
    wait_until("it says that it is blocked", || blocked(&agent));
    let status = agent.status();
    assert!(status["aws"]["last_error"].as_str().unwrap().contains("ExpiredToken"), "{status}");
    ec2.role(&json!({ "issue": 6 * HOUR }));
    ec2.good_hour(&agent);
    let keys = ec2.keys();
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert!(keys[1].1.contains(&"ExpiredTokenException".to_owned()), "{keys:?}");

    // A crash, and a proxy: for AWS alone, metadata is asked directly.
    agent.kill();
    let mut command = ec2.command();
    for name in ["HTTPS_PROXY", "HTTP_PROXY"] {
        command.env(name, "http://127.0.0.1:3128");
    }
    assert_eq!(ec2.ask("GET", "/_proxied", &json!({})), json!([]));
    let mut agent = world.start_with(command);
    ec2.good_hour(&agent);
    let proxied = ec2.ask("GET", "/_proxied", &json!({}));
    assert!(proxied.as_array().unwrap().iter().all(|line| *line == format!("CONNECT {HOST}:443")), "{proxied}");
    assert_ne!(proxied, json!([]));
    agent.kill();

    // Nobody writes or asks any more: the agent sees by itself that the clock has moved, as after a machine's sleep.
    let agent = world.start_with(ec2.command());
    // Long enough for it to have nothing more to do; on a slow machine the test merely proves less.
    sleep(Duration::from_secs(2));
    ec2.pass(HOUR);
    wait_until("AWS has all of it", || ec2.ledger()["totals"]["requests"] == ec2.tally);
    wait_until("its last answer is written down", || units(&agent.books("requests"), "accepted") == ec2.tally);
    let ledger = ec2.ledger();
    assert_eq!(ledger["violations"], json!([]));
    assert_eq!(ledger["totals"], json!({ "requests": ec2.tally }));
    let hours: BTreeSet<String> = ledger["records"].as_array().unwrap().iter().map(|r| r["hour"].to_string()).collect();
    assert_eq!(hours.len(), ledger["records"].as_array().unwrap().len(), "one record an hour");
    assert_eq!(world.records().len(), hours.len());
}

pub fn attention(agent: &Agent<'_>) -> Vec<String> {
    let status = agent.status();
    status["attention"].as_array().unwrap().iter().map(|a| a["code"].as_str().unwrap().to_owned()).collect()
}

/// Whether `status` says that the right is missing.
fn blocked(agent: &Agent<'_>) -> bool {
    attention(agent).contains(&"aws_blocked".to_owned())
}

/// Two minutes before a spot instance is gone.
fn the_last_two_minutes(mut ec2: Ec2<'_>) {
    let world = ec2.world;
    ec2.role(&json!({ "issue": 6 * HOUR }));
    ec2.items(&json!({ "autoscaling/target-lifecycle-state": "InService" }));
    let agent = world.start_with(ec2.command());
    wait_until("metadata names the instance", || agent.status()["instance_id"] == INSTANCE);
    ec2.add(&agent, 3);
    // A reboot: stopped in order and started again. Nothing is sent.
    agent.stop();
    let agent = world.start_with(ec2.command());
    ec2.add(&agent, 4);
    let asked = |path: &str| ec2.ask("GET", "/_imds", &json!({}))[format!("GET /latest/meta-data/{path}")][0].as_u64();
    let before = asked("spot/instance-action");
    wait_until("metadata was asked since", || asked("spot/instance-action") > before);
    assert_eq!(ec2.ledger()["records"], json!([]));

    let begun = machine_now();
    let moment = meterd::hour::Timestamp::from_seconds(begun + ec2.offset + 120);
    let notice = json!({ "action": "terminate", "time": moment.to_string() }).to_string();
    ec2.items(&json!({ "spot/instance-action": notice }));
    wait_until("AWS has the hour that goes on", || ec2.ledger()["totals"]["requests"] == ec2.tally);
    println!("accepted {} s after the notice", machine_now() - begun);
    let refused = agent.tell(r#"{"dimension":"requests","quantity":1}"#);
    assert_eq!((&refused["error"], &refused["recorded"]), (&json!("shutting_down"), &json!("no")), "{refused}");
    wait_until("the answer is written down", || agent.status()["records"]["accepted"] == 1);
    assert_eq!(attention(&agent), ["ending"]);

    // Five minutes past its moment the machine still runs.
    (0..2).for_each(|_| ec2.pass(4 * 60));
    wait_until("the end is called off", || agent.status()["ending"].is_null());
    ec2.add(&agent, 5);
    // The next hour, and AWS's part of it.
    (0..8).for_each(|_| ec2.pass(HOUR / 4));
    wait_until("the next hour goes out too", || ec2.ledger()["totals"]["requests"] == ec2.tally);
    let ledger = ec2.ledger();
    assert_eq!((&ledger["violations"], ledger["records"].as_array().unwrap().len()), (&json!([]), 2), "{ledger}");
}

#[test]
fn a_role_that_is_missing_late_rotated_or_expired_costs_nothing() {
    on_an_instance("ec2::a_role_that_is_missing_late_rotated_or_expired_costs_nothing", half_a_day);
}

#[test]
fn an_announced_end_gets_the_open_hour_accepted_and_a_reboot_does_not() {
    on_an_instance("ec2::an_announced_end_gets_the_open_hour_accepted_and_a_reboot_does_not", the_last_two_minutes);
}

/// Runs the test function `name` again in namespaces of its own, and there `test` on an instance. Where something that it
/// takes is missing, says so.
pub fn on_an_instance(name: &str, test: impl FnOnce(Ec2<'_>)) {
    if std::env::var_os(INSIDE).is_some() {
        let world = World::new(NOON, 1);
        return test(Ec2::new(&world));
    }
    let Some(clock) = all_here() else { return };
    let this = std::env::current_exe().unwrap();
    let mut again = Command::new("unshare");
    again.args(["--net", "--mount"]).arg(this);
    again.args(["--exact", name, "--nocapture"]);
    let output = again.env(INSIDE, clock).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("1 passed"), "{}", text(&output.stdout));
    print!("{}", text(&output.stdout));
}

/// Where libfaketime lies, if all that the test needs is here.
fn all_here() -> Option<PathBuf> {
    let works = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    let clock = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let clock = clock.map(|dir| dir.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    let lacking = [
        (!works("unshare", &["--net", "--mount", "true"]), "the right to make namespaces (root, unshare)"),
        (!works("ip", &["-V"]), "ip (iproute2)"),
        (!works("openssl", &["version"]), "openssl"),
        (!works("python3", &["-c", "import botocore.loaders, botocore.validate"]), "python3 with botocore"),
        (clock.is_none(), "libfaketime (Debian: faketime)"),
    ];
    if let Some((_, what)) = lacking.iter().find(|(missing, _)| *missing) {
        println!("skipped: {what} is not here");
        return None;
    }
    clock
}

/// The instance, from inside the namespace.
pub struct Ec2<'w> {
    pub world: &'w World,
    surroundings: Child,
    control: SocketAddr,
    /// Seconds between the machine's clock and the one that the agent sees.
    offset: i64,
    tally: u64,
}

impl Drop for Ec2<'_> {
    fn drop(&mut self) {
        let _ = self.surroundings.kill();
        let _ = self.surroundings.wait();
    }
}

fn machine_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

fn must(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// A certificate authority and a certificate for the service's name, valid for any clock of the test.
fn certificates(dir: &Path) -> [String; 3] {
    let [ca, ca_key, key, request, certificate, names] =
        ["ca.pem", "ca.key", "key.pem", "request.pem", "cert.pem", "names"]
            .map(|name| dir.join(name).display().to_string());
    fs::write(&names, format!("subjectAltName=DNS:{HOST},DNS:{TAGGING_HOST}\n")).unwrap();
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let mut own = vec!["req", "-x509", "-days", "3650", "-subj", "/CN=a test's own", "-keyout", &ca_key, "-out", &ca];
    own.extend(curve);
    must("openssl", &own);
    let mut ask = vec!["req", "-subj", "/CN=metering", "-keyout", &key, "-out", &request];
    ask.extend(curve);
    must("openssl", &ask);
    let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "3650"];
    must("openssl", &[&sign[..], &["-extfile", &names, "-out", &certificate]].concat());
    [ca, certificate, key]
}

impl<'w> Ec2<'w> {
    fn new(world: &'w World) -> Ec2<'w> {
        must("ip", &["link", "set", "lo", "up"]);
        must("ip", &["address", "add", "169.254.169.254/32", "dev", "lo"]);
        // What tells an EC2 machine whose id only metadata knows.
        must("mount", &["-t", "tmpfs", "none", "/sys"]);
        fs::create_dir("/sys/hypervisor").unwrap();
        fs::write("/sys/hypervisor/uuid", "ec2e1916-9099-7caf-fd21-012345abcdef\n").unwrap();
        // A machine whose boots have no name: only the clock on the wall tells the time.
        must("mount", &["--bind", "/dev/null", "/proc/sys/kernel/random/boot_id"]);
        let hosts = world.path("hosts");
        fs::write(&hosts, format!("127.0.0.1 localhost {HOST} {TAGGING_HOST}\n")).unwrap();
        must("mount", &["--bind", hosts.to_str().unwrap(), "/etc/hosts"]);
        let [_, certificate, key] = certificates(&world.path(""));
        let (socket, state) = (world.socket(), world.state());
        let text = format!(
            "[product]\ncode = \"prod\"\n[[dimension]]\nname = \"requests\"\n[socket]\npath = {socket:?}\n[state]\n\
             dir = {state:?}\nallow_volatile = true\n[submit]\ncredentials = \"instance\"\noffset = \"0s\"\n\
             [instance]\nid = \"auto\"\n"
        );
        fs::write(world.config(), text).unwrap();
        // Ten past nine, on a day on which the certificates are valid.
        let now = machine_now();
        let offset = (now / DAY + 2) * DAY + 9 * HOUR + 600 - now;
        fs::write(world.path("offset"), format!("{offset:+}\n")).unwrap();
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/aws_model/instance.py"));
        command.args(["--certificate", &certificate, "--key", &key, "--offset"]).arg(world.path("offset"));
        command.args(["--instance", INSTANCE, "--region", "us-east-1", "--product", "prod"]);
        let (surroundings, port) = first_line(command).expect("the surroundings start");
        let control = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
        Ec2 { world, surroundings, control, offset, tally: 0 }
    }

    /// The agent as systemd starts it, but for the clock and the authority that signed for the local endpoint.
    pub fn command(&self) -> Command {
        self.meterd("run")
    }

    /// Another command of it, in the same surroundings.
    pub fn meterd(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
        command.args([name, "--config"]).arg(self.world.config()).env_clear().stdin(Stdio::null());
        command.env("SSL_CERT_FILE", self.world.path("ca.pem"));
        command.env("LD_PRELOAD", std::env::var_os(INSIDE).unwrap());
        command.env("FAKETIME_TIMESTAMP_FILE", self.world.path("offset"));
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }

    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(self.control).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let answer =
            exchange(&mut stream, method, path, &[("connection", "close")], body.to_string().as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// The name that leads to AWS leads to `address` from here on.
    pub fn endpoint_at(&self, address: &str) {
        fs::write(self.world.path("hosts"), format!("127.0.0.1 localhost\n{address} {HOST}\n")).unwrap();
    }

    /// The file that says how far the commands' clock is from the machine's.
    pub fn clock_off_by(&self, seconds: i64) -> PathBuf {
        let file = self.world.path("another offset");
        fs::write(&file, format!("{:+}\n", self.offset + seconds)).unwrap();
        file
    }

    pub fn role(&self, change: &Value) {
        self.ask("POST", "/_role", change);
    }

    /// What instance metadata has from here on; null takes an item away.
    pub fn items(&self, change: &Value) {
        self.ask("POST", "/_items", change);
    }

    pub fn ledger(&self) -> Value {
        self.ask("GET", "/_ledger", &json!({}))
    }

    /// From here on this boot of the machine has a name, until that is taken away again. The clock must not be moved
    /// meanwhile: an agent would see that the machine's own clock knows nothing of it.
    pub fn boot(&self, name: Option<&str>) {
        let shown = "/proc/sys/kernel/random/boot_id";
        let Some(name) = name else { return must("umount", &[shown]) };
        let file = self.world.path("boot");
        fs::write(&file, format!("{name}\n")).unwrap();
        must("mount", &["--bind", file.to_str().unwrap(), shown]);
    }

    /// Moves the clock; what was under way before is over.
    pub fn pass(&mut self, seconds: i64) {
        self.offset += seconds;
        let (next, file) = (self.world.path("offset.next"), self.world.path("offset"));
        fs::write(&next, format!("{:+}\n", self.offset)).unwrap();
        fs::rename(next, file).unwrap();
    }

    /// An hour with usage in it, the last of it in the next hour. In steps so small that nobody doubts the clock.
    pub fn hour(&mut self, agent: &Agent<'_>) {
        for _ in 0..5 {
            self.pass(HOUR / 5);
            self.add(agent, 1);
        }
    }

    /// An hour whose record AWS takes, as the last of all that wait.
    pub fn good_hour(&mut self, agent: &Agent<'_>) {
        self.hour(agent);
        wait_until("AWS has all that is sealed", || {
            let status = agent.status();
            assert_eq!(status["records"]["in_doubt"], 0, "{status}");
            status["records"]["pending"] == 0 && units(&agent.books("requests"), "open") == 1
        });
    }

    pub fn add(&mut self, agent: &Agent<'_>, quantity: u64) {
        let answer = agent.tell(&format!("{{\"dimension\":\"requests\",\"quantity\":{quantity}}}"));
        assert_eq!(answer["ok"], true, "{answer}");
        self.tally += quantity;
    }

    /// The access keys that AWS has seen, in the order of their first call, each with its answers' codes.
    fn keys(&self) -> Vec<(String, Vec<String>)> {
        let mut keys: Vec<(String, Vec<String>)> = Vec::new();
        for request in self.ledger()["requests"].as_array().unwrap() {
            let key = request["key"].as_str().unwrap().to_owned();
            let code = request["code"].as_str().unwrap_or("ok").to_owned();
            match keys.iter_mut().find(|(known, _)| *known == key) {
                Some((_, codes)) => codes.push(code),
                None => keys.push((key, vec![code])),
            }
        }
        keys
    }
}
