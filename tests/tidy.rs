//! Rules of this repository, as a test: each failure names file, line and rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

/// A module may use only what stands before it.
const ORDER: [&str; 28] = [
    "decimal",
    "hour",
    "tags",
    "histogram",
    "clock",
    "disk",
    "config",
    "wal",
    "entry",
    "rollup",
    "index",
    "submit",
    "engine",
    "ingest",
    "gate",
    "status",
    "metrics",
    "attribution",
    "doctor",
    "view",
    "reconcile",
    "audit",
    "evidence",
    "report",
    "agent",
    "simulate",
    "bench",
    "cli",
];

/// `(module, what it must not mention, why)`.
const ABSENT: &[(&str, &str, &str)] = &[
    ("wal", "entry", "the log never reads a payload"),
    ("rollup", "clock", "the fold never asks the time"),
    ("rollup", "disk", "the fold never touches the disk"),
    ("engine", "clock", "the engine is told the time"),
    ("ingest", "submit", "ingest and submission do not see each other"),
    ("submit", "ingest", "ingest and submission do not see each other"),
];

/// Crates that only one file, or one directory, may know.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("sled::", &["src/index/store.rs"]),
    ("aws_sdk_", &["src/submit/aws/"]),
    // The tagging API has no crate of its own here: it is signed by hand, over the SDK's connections.
    ("aws_smithy_", &["src/submit/aws/", "src/submit/tagging.rs"]),
    ("aws_sigv4::", &["src/submit/tagging.rs"]),
    ("aws_config::", &["src/submit/aws/", "src/submit/tagging.rs"]),
    ("bincode::", &["src/entry/mod.rs"]),
    (
        "rustix::",
        &[
            "src/agent/admin.rs",
            "src/agent/alert/call.rs",
            "src/agent/lock.rs",
            "src/agent/run.rs",
            "src/cli/demo/agent.rs",
            "src/cli/terminal.rs",
            "src/clock.rs",
            "src/disk.rs",
        ],
    ),
];

/// Longest file, so that each can be held in the head.
const LINES_MAX: usize = 450;

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the source directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every line of code (no comments) with its place: file below the repository, module, line number, text.
fn lines() -> Vec<(String, String, usize, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut lines = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).expect("below the root").display().to_string();
        let module = name.trim_start_matches("src/").split(['/', '.']).next().expect("a module").to_owned();
        let text = fs::read_to_string(&file).expect("a source file");
        for (at, line) in text.lines().enumerate() {
            if !line.trim_start().starts_with("//") {
                lines.push((name.clone(), module.clone(), at + 1, line.to_owned()));
            }
        }
    }
    assert!(lines.len() > 1000, "the sources were not found");
    lines
}

/// The modules that a line names: `crate::X`.
fn named(line: &str) -> Vec<String> {
    let after = |part: &str| part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    line.split("crate::").skip(1).map(after).filter(|m| !m.is_empty()).collect()
}

#[test]
fn arrows_point_one_way() {
    let rank = |module: &str| ORDER.iter().position(|m| *m == module);
    let mut wrong = Vec::new();
    for (file, module, at, line) in lines() {
        let Some(own) = rank(&module) else {
            assert!(matches!(module.as_str(), "lib" | "main"), "{file}: module {module} is not in ORDER");
            continue;
        };
        for other in named(&line) {
            let Some(rank) = rank(&other) else { continue };
            if rank > own {
                wrong.push(format!("{file}:{at}: {module} uses {other}, which comes after it: {}", line.trim()));
            }
            for (_, _, why) in ABSENT.iter().filter(|(m, absent, _)| *m == module && *absent == other) {
                wrong.push(format!("{file}:{at}: {why}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_outside_thing_has_one_door() {
    let mut wrong = Vec::new();
    for (file, _, at, line) in lines() {
        for (name, doors) in ONLY_IN {
            let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            if words.into_iter().any(|w| w.starts_with(name)) && !doors.iter().any(|door| file.starts_with(door)) {
                wrong.push(format!("{file}:{at}: {name} belongs into {}: {}", doors.join(", "), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_can_be_held_in_the_head() {
    let mut last: Option<(String, usize)> = None;
    let mut long = Vec::new();
    let ends = |last: &Option<(String, usize)>, long: &mut Vec<String>| {
        if let Some((file, at)) = last
            && *at > LINES_MAX
        {
            long.push(format!("{file}: {at} lines; is there a seam?"));
        }
    };
    for (file, _, at, _) in lines() {
        if last.as_ref().is_some_and(|(before, _)| *before != file) {
            ends(&last, &mut long);
        }
        last = Some((file, at));
    }
    ends(&last, &mut long);
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("Cargo.toml");
    let section =
        manifest.split("[dependencies]").nth(1).expect("dependencies").split("\n[").next().expect("a section");
    let family = |line: &str| line.split(['-', '_', ' ']).next().map(str::to_owned);
    let mut before: Option<String> = None;
    let mut bare = Vec::new();
    for line in section.lines().filter(|l| !l.trim().is_empty()) {
        // A comment stands for the lines of one family below it (aws-…, tracing…).
        if !line.starts_with('#') && before.as_deref().is_none_or(|b| !b.starts_with('#') && family(b) != family(line))
        {
            bare.push(line.to_owned());
        }
        before = Some(line.to_owned());
    }
    assert!(bare.is_empty(), "no reason beside: {bare:#?}");
}
