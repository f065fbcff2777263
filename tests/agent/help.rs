//! The promise of the help: every command says what it does, its exit codes, examples that work, and the files it reads;
//! man pages and completions say the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use meterd::cli::{self, lessons};

use crate::fake_aws::FakeAws;
use crate::socket::get;
use crate::world::{NOON, Ran, World, wait_until};

#[test]
fn every_command_has_a_lesson_and_every_lesson_a_command() {
    let command = cli::command();
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let verbs: BTreeSet<&str> = shown.map(|verb| verb.get_name()).collect();
    let lessons: BTreeSet<&str> = lessons::LESSONS.iter().map(|lesson| lesson.verb).collect();
    assert_eq!(verbs, lessons, "src/cli/lessons/verbs.rs has one for each");
    for lesson in lessons::LESSONS {
        assert!(!lesson.exits.is_empty() && !lesson.examples.is_empty(), "{}", lesson.verb);
        for (_, line) in lesson.examples {
            // A line that is folded cannot be copied.
            assert!(line.len() <= 74 && line.contains(&format!("meterd {}", lesson.verb)), "{line}");
        }
        let help = World::at_noon().run(&[lesson.verb, "--help"]);
        for heading in ["Usage: meterd", "Exit codes:", "Examples:"] {
            assert!(help.stdout.contains(heading), "{}: {heading}: {help:?}", lesson.verb);
        }
    }
    let all = World::at_noon().run(&["--help"]).stdout;
    for words in
        ["To begin with:", "meterd demo", "The agent:", "Asking:", "Operating:", "Before going live:", "Offline:"]
    {
        assert!(all.contains(words), "{words}: {all}");
    }
    for verb in verbs {
        assert_eq!(all.matches(&format!("\n  {verb} ")).count(), 1, "{verb} stands in one group: {all}");
    }
}

/// What the shell makes of an example.
fn typed(world: &World, line: &str) -> Ran {
    let mut command = world.meterd(&[]);
    let bin = Path::new(command.get_program()).parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("bash");
    shell.args(["-c", line]).current_dir(world.path("")).stdin(Stdio::null()).env("PATH", path);
    for (name, value) in command.args(["--help"]).get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    Ran::of(&mut shell)
}

/// The examples of a verb as they would be typed here.
fn examples(world: &World, verb: &str) -> Vec<String> {
    let lesson = lessons::of(verb).unwrap();
    let state = world.state().display().to_string();
    lesson.examples.iter().map(|(_, line)| line.replace("/var/lib/meterd", &state)).collect()
}

#[test]
fn the_examples_in_the_help_work() {
    // The hour 11:00 ends in half a minute of a clock that runs 60 times as fast as the machine's.
    let mut world = World::new(NOON - 30, 60);
    let aws = FakeAws::simulation(&mut world, &["--dimension", "requests", "--dimension", "gigabytes"]);
    let dimensions = "[[dimension]]\nname = \"requests\"\nhold_above = \"1000\"\n[[dimension]]\nname = \"gigabytes\"\n\
                      [[dimension]]\nname = \"gigabyte\"\n";
    world.configure(&aws.url(), dimensions, "", "[hour]\ngrace = \"0s\"\n");
    let agent = world.start();
    assert_eq!(agent.tell(r#"{"dimension":"requests","quantity":2000}"#)["ok"], true);
    assert_eq!(agent.tell(r#"{"dimension":"gigabyte","quantity":3}"#)["ok"], true);
    wait_until("both records are held", || agent.status()["records"]["held"] == 2);

    let mut tried = 0;
    let mut work = |verb: &str, codes: &[i32]| {
        for line in examples(&world, verb) {
            let ran = typed(&world, &line);
            assert!(codes.contains(&ran.code), "{line}: {ran:?}");
            tried += 1;
        }
    };
    // Of those that decide about the same record only the first finds it; the others are understood and refused.
    let mut decided = 0;
    for line in ["settle", "release"].iter().flat_map(|verb| examples(&world, verb)) {
        let ran = typed(&world, &line);
        assert!(ran.code == 0 || (ran.code == 1 && ran.stderr.contains("no record of")), "{line}: {ran:?}");
        decided += usize::from(ran.code == 0);
    }
    assert_eq!(decided, 2, "one of requests, one of gigabyte");
    for verb in ["add", "records", "report", "preview", "export", "check-config", "reload", "verify", "inspect", "seal"]
    {
        work(verb, &[0]);
    }
    // They tell by it what they found.
    for verb in ["status", "doctor", "attribution"] {
        work(verb, &[0, 1]);
    }
    // There is no other instance: tests of copies are elsewhere.
    for verb in ["adopt", "discard"] {
        work(verb, &[1]);
    }
    agent.stop();
    work("scrub", &[0, 1]);
    assert!(!world.state().join("wal").exists(), "it was scrubbed in the end");
    // What runs until it is stopped, demo and bench (they have tests of their own), what another shell reads and what wants
    // files of a month: they parse. So do those about customers, whom this product has none of.
    let parsed =
        ["demo", "bench", "simulate-aws", "run", "completions", "reconcile", "import", "evidence", "customers"];
    for verb in parsed {
        for line in examples(&world, verb) {
            let words = line.split_once("meterd").unwrap().1.split(['|', ')']).next().unwrap();
            let words = ["meterd"].into_iter().chain(words.split_whitespace());
            cli::command().try_get_matches_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            tried += 1;
        }
    }
    let all: usize = lessons::LESSONS.iter().map(|lesson| lesson.examples.len()).sum();
    let of_two: usize = ["settle", "release"].iter().map(|verb| examples(&world, verb).len()).sum();
    assert_eq!(tried + of_two, all, "no verb was left out");
}

#[test]
fn the_first_lines_of_the_help_work_too() {
    let world = World::at_noon();
    let mut child = world.meterd(&["run", "--dev"]).env_remove("METERD_CONFIG").stderr(Stdio::null()).spawn().unwrap();
    let socket = world.path("meterd-dev/meterd.sock");
    wait_until("the agent of --dev answers", || get(&socket, "/healthz").is_some());
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Whether a program is here; says so if not.
fn have(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: {program} is not here");
    }
    found
}

#[test]
fn there_is_a_man_page_for_every_command_and_man_has_nothing_to_say_about_it() {
    let world = World::at_noon();
    let dir = world.path("man");
    let ran = world.run(&["man", dir.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut pages: Vec<String> =
        fs::read_dir(&dir).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    let mut wanted: Vec<String> = lessons::LESSONS.iter().map(|lesson| format!("meterd-{}.1", lesson.verb)).collect();
    wanted.extend(["meterd.1".into(), "meterd.toml.5".into()]);
    wanted.sort();
    assert_eq!(pages, wanted);
    let (man, mandoc) = (have("man") && have("groff"), have("mandoc"));
    for page in pages {
        let path = dir.join(&page);
        let text = fs::read_to_string(&path).unwrap();
        let headings = match page.as_str() {
            "meterd.1" => ["NAME", "SYNOPSIS", "COMMANDS"],
            "meterd.toml.5" => ["NAME", "WHAT A DIMENSION MEASURES", "SEE ALSO"],
            _ => ["EXIT STATUS", "EXAMPLES", "OPTIONS"],
        };
        for heading in headings {
            assert!(
                text.contains(&format!(".SH {heading}")) || text.contains(&format!(".SH \"{heading}\"")),
                "{page}: {heading}"
            );
        }
        if man {
            let mut command = Command::new("man");
            command.args(["--warnings", "-l"]).arg(&path).env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8");
            let ran = Ran::of(&mut command);
            assert!(ran.code == 0 && ran.stderr.is_empty(), "{page}: {ran:?}");
            assert!(ran.stdout.contains("meterd"), "{page}: {ran:?}");
        }
        if mandoc {
            let ran = Ran::of(Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&path));
            assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{page}");
        }
    }
}

#[test]
fn shells_complete_commands_and_flags() {
    let world = World::at_noon();
    let script = |shell: &str| {
        let ran = world.run(&["completions", shell]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let path = world.path(&format!("completions.{shell}"));
        fs::write(&path, &ran.stdout).unwrap();
        path.display().to_string()
    };
    let ask = |shell: &str, line: String| {
        let ran = Ran::of(Command::new(shell).args(["-c", &line]).current_dir(world.path("")));
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(ran.stderr, "", "{shell}");
        ran.stdout
    };
    let bash = script("bash");
    if have("bash") {
        let complete = |words: &str| {
            ask(
                "bash",
                format!(
                    "source {bash}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
                     _meterd meterd \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\""
                ),
            )
        };
        assert_eq!(complete("meterd sta"), "status\n");
        assert_eq!(complete("meterd settle --so"), "--socket\n");
        assert!(complete("meterd records --state ''").contains("in_doubt"));
    }
    let zsh = script("zsh");
    if have("zsh") {
        ask("zsh", format!("autoload -U compinit; compinit -D -u; source {zsh}; (( $+functions[_meterd] ))"));
    }
    let fish = script("fish");
    if have("fish") {
        let told = ask("fish", format!("source {fish}; complete -C 'meterd sta'"));
        assert!(told.starts_with("status\t"), "{told}");
    }
}
