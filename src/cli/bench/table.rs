//! The report for people: 80 columns, plain.

#![allow(clippy::float_arithmetic, reason = "figures of a measurement are no money")]

use indicatif::HumanCount;

use crate::bench::figures::Rate;
use crate::bench::goals::Goal;
use crate::bench::load::STREAM;
use crate::bench::offline::{Reading, Recovery, RollUp};
use crate::bench::words::{Protocol, With};
use crate::bench::{Case, DiskUse, Report};

/// The lines of it.
pub fn lines(report: &Report) -> Vec<String> {
    let machine = &report.machine;
    let mut lines = vec![
        format!("meterd bench {}: {} rounds, {} ms a turn", report.version, report.rounds, report.turn_ms),
        machine.cpu.clone(),
        format!("cores: {}, Linux {}", machine.cores, machine.kernel),
        format!("{} on {}", machine.file_system, machine.disk),
        String::new(),
        "connections       a second    x raw   p50 us   p99 us  p99.9 us   max us CPU s/M".to_owned(),
        row("raw fdatasync", &report.raw, 1.0),
        "bare echo".to_owned(),
    ];
    let echoes = report.echo.iter();
    lines.extend(echoes.map(|e| row(&shape(e.connections, false), &e.rate, e.rate.per_second / report.raw.per_second)));
    let mut kind = None;
    for case in &report.load {
        let heading = format!("{}{}", of_protocol(case.protocol), of_with(case.with));
        if kind.as_ref() != Some(&heading) {
            lines.push(heading.clone());
            kind = Some(heading);
        }
        lines.push(row(&shape(case.connections, case.pipelined), &case.rate, case.to_raw));
    }
    if report.load.iter().any(|case: &Case| case.pipelined) {
        lines.push(format!("(pipelined: waits are of chunks of {STREAM}, from first byte to last answer)"));
    }
    lines.push(String::new());
    if let Some((kib, ms)) = report.resident_kib_max.zip(report.restart_ms) {
        lines.push(format!("Resident under all of this: at most {:.1} MiB", kib as f64 / 1024.0));
        lines.push(format!("Killed and started behind all of this: answers after {ms:.0} ms"));
    }
    if !report.disk.is_empty() {
        lines.push("Bytes on disk, an increment".to_owned());
        lines.extend(report.disk.iter().map(disk));
    }
    lines.extend(report.recovery.iter().flat_map(recovery));
    lines.extend(report.rollup.iter().map(rollup));
    if !report.goals.is_empty() {
        lines.push("Goals".to_owned());
        lines.extend(report.goals.iter().map(goal));
    }
    lines
}

fn of_protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Lines => "JSON lines",
        Protocol::Http => "HTTP",
    }
}

fn of_with(with: With) -> &'static str {
    match with {
        With::Nothing => "",
        With::Keys => ", with keys",
        With::Tags => ", with tags",
    }
}

fn shape(connections: usize, pipelined: bool) -> String {
    format!("{connections:>5}{}", if pipelined { " pipelined" } else { "" })
}

fn row(label: &str, rate: &Rate, to_raw: f64) -> String {
    let cpu = if rate.cpu_s_per_million > 0.0 { format!("{:.2}", rate.cpu_s_per_million) } else { "-".to_owned() };
    let columns = [
        format!("{label:<15}{:>11}", HumanCount(rate.per_second as u64).to_string()),
        format!("{:>8}", short(to_raw)),
        format!("{:>8}", short(rate.p50_us)),
        format!("{:>8}", short(rate.p99_us)),
        format!("{:>9}", short(rate.p999_us)),
        format!("{:>8}", short(rate.max_us)),
        format!("{cpu:>7}"),
    ];
    columns.join(" ").trim_end().to_owned()
}

/// With as many digits as tell something.
fn short(value: f64) -> String {
    match value {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn disk(of: &DiskUse) -> String {
    let label = format!("{}{}", shape(of.connections, of.pipelined), of_with(of.with));
    let count = HumanCount(of.increments).to_string();
    format!("{label:<28}{:>8}   of {count} increments", short(of.bytes_per_increment))
}

fn recovery(of: &Recovery) -> Vec<String> {
    let reading = |what: &str, reading: &Reading| {
        format!(
            "  {what:<8}{:>7} MB/s, {:>5} million increments/s; a bare read {:>6} MB/s",
            short(reading.mb_per_second),
            short(reading.increments_per_second / 1e6),
            short(reading.bare_mb_per_second),
        )
    };
    let count = HumanCount(of.increments).to_string();
    vec![
        format!("Reading a log back: {count} increments, {} MB", short(of.log_mb)),
        reading("cold", &of.cold),
        reading("cached", &of.cached),
    ]
}

fn rollup(of: &RollUp) -> String {
    format!(
        "Sealing an hour of {} dimensions: {} ms; with {} tag sets each: {} ms",
        of.dimensions,
        short(of.plain_ms),
        HumanCount(of.tag_sets),
        short(of.fullest_ms)
    )
}

fn goal(of: &Goal) -> String {
    let reached = if of.reached { "reached    " } else { "not reached" };
    let bound = if of.at_most { "at most" } else { "at least" };
    let unit = if of.unit.is_empty() { String::new() } else { format!(" ({})", of.unit) };
    format!("  {reached} {:>6}, {bound:<8} {:<4} {}{unit}", short(of.figure), of.limit, of.what)
}
