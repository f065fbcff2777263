//! The promise of `[alert] command`: it is told what is new for a person and what is over, once, in the end always, and
//! holds up nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use meterd::hour::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use crate::world::{Agent, DIMENSIONS, NOON, World, read, wait_until};

const NOBODY: &str = "http://127.0.0.1:9";
const ONE: &str = r#"{"dimension":"requests","quantity":1}"#;
/// A minute takes a second.
const SPEED: u32 = 60;

/// Keeps what it is told, each call a file of its own.
const KEEPS: &str = "#!/bin/sh\n\
    n=$(ls \"$1\" | grep -c document)\n\
    env > \"$1/environment.$n\"\n\
    printf '%s\\n' \"$#\" \"$2\" > \"$1/message.$n\"\n\
    cat > \"$1/new.$n\" && mv \"$1/new.$n\" \"$1/document.$n\"\n";

struct Scene {
    world: World,
    told: PathBuf,
    script: PathBuf,
}

impl Scene {
    fn new(text: &str) -> Scene {
        let world = World::new(NOON + 60, SPEED);
        let (told, script) = (world.path("told"), world.path("pager"));
        fs::create_dir(&told).unwrap();
        let scene = Scene { world, told, script };
        scene.pager(text);
        scene.configure("i-test", "");
        scene
    }

    fn pager(&self, text: &str) {
        let new = self.world.path("pager.new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, &self.script).unwrap();
    }

    fn configure(&self, instance: &str, more: &str) {
        let alert = format!("[alert]\ncommand = [{:?}, {:?}]\n{more}", self.script, self.told);
        self.world.configure(NOBODY, DIMENSIONS, "", &alert);
        let text = read(&self.world.config()).replace("\"i-test\"", &format!("{instance:?}"));
        fs::write(self.world.config(), text).unwrap();
    }

    /// The documents of all calls so far.
    fn documents(&self) -> Vec<Value> {
        let documents = (0..).map_while(|n| fs::read_to_string(self.told.join(format!("document.{n}"))).ok());
        documents.map(|text| serde_json::from_str(&text).unwrap()).collect()
    }

    /// Those in which a code is new or over, each with its number. A busy machine has its own: a slow disk.
    fn about(&self, code: &str) -> Vec<(usize, Value)> {
        let is_in = |list: &Value| list.as_array().unwrap().iter().any(|other| other == code);
        let about = |(_, document): &(usize, Value)| is_in(&document["raised"]) || is_in(&document["gone"]);
        self.documents().into_iter().enumerate().filter(about).collect()
    }

    /// The last of so many calls about a code.
    fn wait_for_call(&self, n: usize, code: &str) -> (usize, Value) {
        wait_until("the command is called", || self.about(code).len() >= n);
        self.about(code).swap_remove(n - 1)
    }

    fn wait(&self, seconds: f64) {
        let until = self.world.clock.now() + seconds;
        wait_until("time to pass", || self.world.clock.now() >= until);
    }

    /// Has a configuration refused, or taken: what needs attention then is at the test's word.
    fn trouble(&self, agent: &Agent<'_>, is: bool) {
        self.configure("i-test", if is { "nonsense = 1\n" } else { "" });
        agent.signal(Signal::HUP);
        wait_until("it is read", || has(agent, "config_refused") == is);
    }
}

fn has(agent: &Agent<'_>, code: &str) -> bool {
    agent.status()["attention"].as_array().unwrap().iter().any(|item| item["code"] == code)
}

fn moment(document: &Value) -> i64 {
    Timestamp::parse(document["at"].as_str().unwrap()).unwrap().seconds()
}

/// What stays over restarts: another instance's usage in this log.
#[test]
fn what_needs_a_person_is_told_once_over_restarts_and_so_is_its_end() {
    let scene = Scene::new(KEEPS);
    let agent = scene.world.start();
    assert_eq!(agent.tell(ONE)["ok"], true);
    agent.stop();
    scene.configure("i-other", "");
    let mut agent = scene.world.start();
    const CODE: &str = "other_instance";
    let (number, first) = scene.wait_for_call(1, CODE);
    let status = agent.status();
    let item = |list: &Value| list.as_array().unwrap().iter().find(|item| item["code"] == CODE).unwrap().clone();
    assert_eq!((&first["instance_id"], &first["product_code"]), (&"i-other".into(), &"prod".into()));
    assert_eq!(first["gone"], serde_json::json!([]));
    assert_eq!(item(&first["attention"])["do"], item(&status["attention"])["do"], "{first:#}");
    let message = read(&scene.told.join(format!("message.{number}")));
    assert!(
        message.starts_with("2\ni-other: ") && message.contains("other_instance: "),
        "the last argument: {message}"
    );
    assert_eq!(message.lines().nth(1), first["message"].as_str());
    let environment = read(&scene.told.join(format!("environment.{number}")));
    let names: Vec<&str> = environment.lines().map(|line| line.split('=').next().unwrap()).collect();
    for name in &names {
        let ours = ["PATH", "LANG", "METERD_ALERT_RAISED", "METERD_ALERT_GONE", "METERD_ALERT_COUNT"].contains(name);
        assert!(ours || ["PWD", "_", "SHLVL", "OLDPWD"].contains(name), "{name}: the shell adds some, the agent none");
    }
    let listed: Vec<&str> = first["raised"].as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    assert!(environment.contains(&format!("METERD_ALERT_RAISED={}\n", listed.join(" "))), "{environment}");
    let count = first["attention"].as_array().unwrap().len();
    assert!(environment.contains(&format!("METERD_ALERT_COUNT={count}\n")), "{environment}");

    // It is told once, whatever happens to the agent.
    wait_until("it is noted", || scene.world.state().join("alerted.json").exists());
    for _ in 0..2 {
        agent.kill();
        agent = scene.world.start();
        scene.wait(130.0);
        assert!(has(&agent, "other_instance"));
        assert_eq!(scene.about(CODE).len(), 1, "{:#?}", scene.documents());
    }
    // Nobody can tell any more what was told: then it is told again.
    agent.kill();
    fs::write(scene.world.state().join("alerted.json"), "{").unwrap();
    let agent = scene.world.start();
    scene.wait_for_call(2, CODE);

    assert_eq!(scene.world.run(&["discard"]).code, 0);
    let (_, over) = scene.wait_for_call(3, CODE);
    let message = over["message"].as_str().unwrap();
    assert!(message.contains("over: ") && message.contains(CODE), "{message}");
    assert_eq!(over["attention"] == serde_json::json!([]), message.ends_with(" | nothing needs attention"), "{over:#}");
    assert!(!has(&agent, "alert_failed"));
}

#[test]
fn a_cause_that_comes_and_goes_is_told_once_a_minute_at_most_and_its_end_in_the_end() {
    const CODE: &str = "config_refused";
    let is_in = |list: &Value| list.as_array().unwrap().iter().any(|code| code == CODE);
    let scene = Scene::new(KEEPS);
    let agent = scene.world.start();
    // Within a minute, and with the agent's eye perhaps on neither.
    for _ in 0..20 {
        scene.trouble(&agent, true);
        scene.wait(5.0);
        scene.trouble(&agent, false);
    }
    scene.trouble(&agent, true);
    scene.wait(150.0);
    scene.trouble(&agent, false);
    wait_until("its end is told", || scene.about(CODE).last().is_some_and(|(_, last)| is_in(&last["gone"])));
    scene.wait(200.0);
    let (documents, about) = (scene.documents(), scene.about(CODE));
    // One after the other: what is new and what is over take turns.
    for (n, (_, document)) in about.iter().enumerate() {
        assert_eq!(is_in(&document["raised"]), n % 2 == 0, "{documents:#?}");
    }
    assert_eq!(about.len() % 2, 0, "{documents:#?}");
    for pair in documents.windows(2) {
        assert!(moment(&pair[1]) - moment(&pair[0]) >= 59, "{documents:#?}");
    }
}

#[test]
fn a_command_that_fails_is_seen_and_called_again_and_one_that_hangs_holds_up_nothing() {
    let scene = Scene::new("#!/bin/sh\necho nobody is at home >&2\nexit 7\n");
    let agent = scene.world.start();
    scene.trouble(&agent, true);
    wait_until("that is seen", || has(&agent, "alert_failed"));
    let status = agent.status();
    let item = status["attention"].as_array().unwrap().iter().find(|item| item["code"] == "alert_failed").unwrap();
    let message = item["message"].as_str().unwrap();
    assert!(message.contains("exit status: 7: nobody is at home"), "{message}");
    assert!(agent.log().contains("nobody is at home"));
    // What it could not tell is over meanwhile; somebody is told all the same that all is well.
    scene.trouble(&agent, false);
    scene.wait(70.0);
    scene.pager(KEEPS);
    wait_until("the command is called", || !scene.documents().is_empty());
    let told = &scene.documents()[0]["attention"];
    assert!(!told.as_array().unwrap().iter().any(|item| item["code"] == "config_refused"), "{told:#}");
    wait_until("it is well", || !has(&agent, "alert_failed"));

    scene.pager("#!/bin/sh\necho $$ > \"$1/pid\"\nsleep 1000\n");
    scene.trouble(&agent, true);
    wait_until("it hangs", || fs::read_to_string(scene.told.join("pid")).is_ok_and(|pid| pid.ends_with('\n')));
    assert_eq!(agent.tell(ONE)["ok"], true);
    let pid = read(&scene.told.join("pid")).trim().to_owned();
    let begun = Instant::now();
    agent.stop();
    assert!(begun.elapsed().as_secs() < 25, "its time-out was waited for: {:?}", begun.elapsed());
    let is_there = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        !status.is_empty() && !status.contains("State:\tZ")
    };
    wait_until("it is killed with the agent", || !is_there());
}

#[test]
fn doctor_says_whether_it_can_be_called() {
    let scene = Scene::new(KEEPS);
    let line = || {
        let found = scene.world.run(&["doctor", "--json"]).json();
        found.as_array().unwrap().iter().find(|line| line["check"] == "alert").cloned()
    };
    assert_eq!(line().unwrap()["state"], "ok");
    fs::set_permissions(&scene.script, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(line().unwrap()["state"], "fails", "{:?}", line());
    fs::remove_file(&scene.script).unwrap();
    assert_eq!(line().unwrap()["state"], "fails", "{:?}", line());
    // A pager that is missing keeps nobody from metering.
    let agent = scene.world.start();
    assert_eq!(agent.tell(ONE)["ok"], true);
    scene.world.configure(NOBODY, DIMENSIONS, "", "");
    assert_eq!(line(), None);
}
