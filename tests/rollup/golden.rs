//! Folders of usage and what became of it, for a person to read: `tests/golden/rollup/NAME/` holds a configuration, what
//! happened by the clock (`usage.txt`), and the records and books that followed (`result.txt`).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use meterd::hour::Timestamp;

use super::world::{ROOT, World};

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rollup");
    let mut found: Vec<PathBuf> =
        fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    found.sort();
    found
}

fn moment(day: &str, time: &str) -> Timestamp {
    let seconds = if time.len() == 5 { ":00" } else { "" };
    Timestamp::parse(&format!("{day}T{time}{seconds}Z")).unwrap_or_else(|| panic!("no moment: {day} {time}"))
}

/// Does what one line of `usage.txt` says.
fn obey(world: &mut World, folder: &Path, said: &str) {
    let words: Vec<&str> = said.split_whitespace().collect();
    match words.as_slice() {
        [first, ..] if first.starts_with(['{', '[']) => match said.split_once("  refused: ") {
            Some((line, code)) => {
                let refusal = world.take(line).expect_err("it is to be refused");
                assert_eq!(refusal.code.name(), code, "{}", refusal.message);
            }
            None => drop(world.take(said).unwrap_or_else(|r| panic!("{said}: {r:?}"))),
        },
        ["restart"] => {
            world.stop();
            world.start();
        }
        ["crash"] => {
            world.crash();
            world.start();
        }
        ["stop"] => world.stop(),
        ["start"] => world.start(),
        ["machine", "off", "until", day, time] => {
            world.crash();
            world.machine_off(moment(day, time));
            world.start();
        }
        ["end"] => world.end(),
        ["call", "off"] => world.call_off(),
        ["aws", "away"] => world.aws_away = true,
        ["aws", "back"] => world.aws_away = false,
        ["clock", "off", "by", seconds, "s"] => world.wall_off_ms = seconds.parse::<i64>().unwrap() * 1000,
        ["config", name] => world.configure(&fs::read_to_string(folder.join(name)).unwrap()),
        ["release", day, time, dimension] => release(world, moment(day, time), dimension, None),
        ["release", day, time, dimension, "at", "most", n] => {
            release(world, moment(day, time), dimension, Some(n.parse().unwrap()));
        }
        other => panic!("what is {other:?}?"),
    }
}

fn release(world: &mut World, hour: Timestamp, dimension: &str, at_most: Option<u32>) {
    let at = world.reading().at;
    world.engine().release(dimension, hour.hour(), at_most, ROOT, at).unwrap();
}

fn play(folder: &Path) -> String {
    let config = fs::read_to_string(folder.join("config.toml")).unwrap();
    let usage = fs::read_to_string(folder.join("usage.txt")).unwrap();
    let mut world: Option<World> = None;
    let (mut day, mut running) = (String::new(), true);
    for line in usage.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.len() == 10 && !line.contains(':') {
            day = line.to_owned();
            continue;
        }
        let (time, said) = line.split_once(' ').unwrap_or((line, ""));
        let at = moment(&day, time);
        let world = world.get_or_insert_with(|| World::new(&config, at));
        if running {
            world.pass(at);
        } else {
            world.now = at;
        }
        if !said.is_empty() {
            obey(world, folder, said.trim());
        }
        running = said.trim() != "stop";
        if running {
            world.assert_balanced();
        }
    }
    show(&mut world.unwrap())
}

fn show(world: &mut World) -> String {
    let mut out = String::from("records\n");
    for r in world.records() {
        let _ = write!(out, "{} {:<10} {:>10} {:<9}", r.hour, r.dimension, r.quantity, r.state);
        let mut say = |name: &str, value: &str| {
            if value != "0" {
                let _ = write!(out, " {name} {value}");
            }
        };
        say("usage", &r.usage);
        say("late", &r.late);
        say("included", &r.included);
        say("remainder_in", &r.remainder_in);
        say("carried_in", &r.carried_in);
        say("remainder", &r.remainder);
        say("carried_into", r.carried_into.as_deref().unwrap_or("0"));
        say("hold", r.hold.as_deref().unwrap_or("0"));
        for share in &r.allocations {
            let tags: Vec<String> = share.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
            say(&format!("[{}]", tags.join(" ")), &share.quantity.to_string());
        }
        out.push('\n');
    }
    out.push_str("books\n");
    for books in world.engine().state().books() {
        let _ = write!(out, "{:<10}", books.dimension);
        for (name, amount) in books.columns() {
            if !amount.is_zero() {
                let _ = write!(out, " {name} {amount}");
            }
        }
        let _ = writeln!(out, " {}", if books.balanced() { "balanced" } else { "NOT BALANCED" });
    }
    out
}

/// To write the result of a new folder: `METERD_GOLDEN=write cargo test --test rollup golden`; then read it as the
/// finance team would.
#[test]
fn usage_becomes_these_records() {
    let (mut wrong, mut played) = (String::new(), 0);
    for folder in folders() {
        let found = play(&folder);
        let result = folder.join("result.txt");
        if std::env::var("METERD_GOLDEN").is_ok_and(|v| v == "write") {
            fs::write(&result, &found).unwrap();
        }
        let expected = fs::read_to_string(&result).unwrap_or_default();
        if found != expected {
            wrong += &format!("--- {}, expected:\n{expected}--- found:\n{found}", folder.display());
        }
        played += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(played >= 15, "only {played} folders were found");
}
