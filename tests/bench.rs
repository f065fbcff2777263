//! `meterd bench` as a stranger runs it: its table has every row, its JSON is whole, it refuses what is no disk, and it
//! leaves nothing behind. How fast anything is, is not judged here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use meterd::disk::file_system;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The bench in `dir`, in an environment that must not matter to it.
fn bench(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
    command
        .args(["bench", "--dir"])
        .arg(dir)
        .args(args)
        .env("METERD_CONFIG", "/nonexistent/meterd.toml")
        .env("METERD_SOCKET", "/nonexistent/meterd.sock")
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// On the disk of the build, which is none in memory.
fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn words(of: Output) -> (Option<i32>, String, String) {
    (of.status.code(), String::from_utf8(of.stdout).unwrap(), String::from_utf8(of.stderr).unwrap())
}

fn entries(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_table_has_all_its_rows() {
    let dir = disk();
    let (code, shown, complaint) = words(bench(dir.path(), &["--quick"]).output().unwrap());
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{shown}");
    let count = |begin: &str| shown.lines().filter(|line| line.starts_with(begin)).count();
    for heading in
        ["raw fdatasync ", "bare echo", "Resident ", "Killed ", "Bytes on disk", "Reading a log back: ", "Goals"]
    {
        assert_eq!(count(heading), 1, "{heading}:\n{shown}");
    }
    for kind in
        ["JSON lines", "HTTP"].iter().flat_map(|p| ["", ", with keys", ", with tags"].map(|w| format!("{p}{w}")))
    {
        assert_eq!(shown.lines().filter(|line| **line == kind).count(), 1, "{kind}:\n{shown}");
    }
    // Each kind's, those of the echo, and those of bytes on disk.
    for (row, times) in [("    1  ", 8), ("    4  ", 7), ("   16  ", 7), ("   64  ", 8), ("  256  ", 7)] {
        assert_eq!(count(row), times, "{row:?}:\n{shown}");
    }
    for (row, times) in [("    1 pipelined", 9), ("    4 pipelined", 6)] {
        assert_eq!(count(row), times, "{row:?}:\n{shown}");
    }
    assert_eq!(count("  reached ") + count("  not reached "), 8, "{shown}");
    // Below the machine's own names, which are as long as they are.
    assert!(shown.lines().skip(4).all(|line| line.chars().count() <= 80), "wider than 80 columns:\n{shown}");
    assert!(!shown.contains('\u{1b}'), "colours, though nobody looks:\n{shown}");
    assert_eq!(entries(dir.path()), Vec::<String>::new());
}

#[test]
fn the_json_is_whole() {
    let dir = disk();
    let (code, shown, complaint) =
        words(bench(dir.path(), &["--quick", "--json", "lines", "rollup"]).output().unwrap());
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{shown}");
    let report: Value = serde_json::from_str(&shown).unwrap();
    for known in ["cpu", "kernel", "file_system", "disk"] {
        assert!(report["machine"][known].as_str().is_some_and(|text| !text.is_empty()), "{known}: {report}");
    }
    let load = report["load"].as_array().unwrap();
    assert_eq!((load.len(), report["echo"].as_array().unwrap().len()), (21, 5), "{report}");
    let rates = load.iter().chain(report["echo"].as_array().unwrap()).chain([&report["raw"]]);
    for rate in rates {
        let figures = ["per_second", "p50_us", "p99_us", "p999_us", "max_us"].map(|name| rate[name].as_f64().unwrap());
        assert!(figures.iter().all(|figure| *figure > 0.0), "{rate}");
        assert!(figures[1..].is_sorted(), "percentiles rise: {rate}");
    }
    assert!(load.iter().all(|case| case["to_raw"].as_f64().unwrap() > 0.0), "{report}");
    assert!(load.iter().map(|case| case["cpu_s_per_million"].as_f64().unwrap()).sum::<f64>() > 0.0, "{report}");
    for part in ["plain_ms", "fullest_ms"] {
        assert!(report["rollup"][part].as_f64().unwrap() > 0.0, "{report}");
    }
    // What was not asked for is not there, nor what would be said of it.
    assert_eq!((&report["recovery"], report["disk"].as_array().unwrap().len()), (&Value::Null, 0));
    assert!(report["resident_kib_max"].as_u64().unwrap() > 0, "{report}");
    let goals = report["goals"].as_array().unwrap();
    assert_eq!(goals.len(), 4, "{report}");
    for goal in goals {
        let [figure, limit] = ["figure", "limit"].map(|name| goal[name].as_f64().unwrap());
        let reached = if goal["at_most"] == true { figure <= limit } else { figure >= limit };
        assert_eq!(goal["reached"], reached, "{goal}");
    }
    assert_eq!(entries(dir.path()), Vec::<String>::new());
}

/// Processes that have `path` in their command line.
fn processes_with(path: &Path) -> usize {
    let path = path.to_str().unwrap();
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(path)).count()
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let dir = disk();
    let child = bench(dir.path(), &["--seconds", "600"]).spawn().unwrap();
    let own = dir.path().join(format!("meterd-bench-{}", child.id()));
    let began = Instant::now();
    // The echo is made once the agent takes increments, right before the first round.
    while !own.join("echo").exists() {
        assert!(began.elapsed() < Duration::from_secs(120), "it does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(processes_with(&own), 1, "the agent");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let (code, shown, complaint) = words(child.wait_with_output().unwrap());
    assert_eq!((code, shown.as_str(), complaint.as_str()), (Some(130), "", "interrupted\n"));
    assert_eq!(processes_with(&own), 0, "the agent outlives the bench");
    assert_eq!(entries(dir.path()), Vec::<String>::new());
}

#[test]
fn what_is_no_disk_or_somebody_elses_is_refused() {
    let memory = Path::new("/dev/shm");
    if file_system(memory).is_ok_and(|found| found.kind == "tmpfs") {
        let (code, _, complaint) = words(bench(memory, &["--quick"]).output().unwrap());
        assert_eq!(code, Some(1));
        assert!(complaint.contains("/dev/shm lies on tmpfs") && complaint.contains("--dir"), "{complaint}");
    } else {
        println!("skipped: /dev/shm is no tmpfs here");
    }
    let dir = disk();
    fs::create_dir(dir.path().join("wal")).unwrap();
    let (code, _, complaint) = words(bench(dir.path(), &["--quick"]).output().unwrap());
    assert_eq!(code, Some(1));
    assert!(complaint.contains("is an agent's state") && complaint.contains("--dir"), "{complaint}");
    assert_eq!(entries(dir.path()), ["wal"]);
}
