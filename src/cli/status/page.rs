//! The page: the verdict, what needs a person, then the figures.

use super::look::{Attention, Status};
use super::verdict::verdict;
use super::words::{ago, between, bytes, moment, rows, seconds};
use crate::cli::books::{pair, table};
use crate::cli::terminal::{Paint, Terminal, command_lines, wrapped};
use crate::hour::Timestamp;

/// Where the text of a fact begins.
const FACTS: usize = 10;

/// The whole of it.
pub fn lines(status: &Status, terminal: &Terminal) -> Vec<String> {
    let (paint, words) = verdict(status);
    let mut page: Vec<String> =
        wrapped(&words, 0, terminal.columns).iter().map(|line| terminal.paint(paint, line)).collect();
    for item in &status.attention {
        page.push(String::new());
        page.extend(attention(item, &status.now, terminal));
    }
    let sections = [facts(status, terminal), waiting(status, terminal), open_hour(status, terminal), {
        let mut books = table(&status.books, terminal);
        strengthen(&mut books, terminal);
        books
    }];
    for section in sections.into_iter().filter(|section| !section.is_empty()) {
        page.push(String::new());
        page.extend(section);
    }
    page.iter().flat_map(|line| line.split('\n')).map(str::to_owned).collect()
}

fn strengthen(section: &mut [String], terminal: &Terminal) {
    if let Some(heading) = section.first_mut() {
        *heading = terminal.paint(Paint::Strong, heading);
    }
}

fn attention(item: &Attention, now: &str, terminal: &Terminal) -> Vec<String> {
    let since = item.since.as_ref().map_or_else(String::new, |since| {
        let lasted = between(since, now).map_or_else(String::new, |span| format!(" ({span})"));
        format!(", since {}{lasted}", moment(since, now))
    });
    let mut block = wrapped(&format!("{}{since}", item.code), 0, terminal.columns);
    strengthen(&mut block, terminal);
    block.extend(wrapped(&item.message, 2, terminal.columns));
    block.extend(remedy(&item.remedy, terminal.columns));
    block
}

/// What to do, with each command on lines of its own.
fn remedy(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for (n, part) in text.split('`').enumerate() {
        if n % 2 == 1 {
            lines.extend(command_lines(part, 8, columns));
            continue;
        }
        let part = part.trim_start_matches([';', ',', '.', ')', ' ']).trim_end_matches(['(', ' ']);
        let lead = if n == 0 { "do: " } else { "" };
        lines.extend(wrapped(&format!("{lead}{part}"), 4, columns));
    }
    lines
}

fn facts(status: &Status, terminal: &Terminal) -> Vec<String> {
    let now = status.now.as_str();
    let mut facts: Vec<(&str, String)> = Vec::new();
    let up = status.uptime_s.map_or_else(String::new, |up| format!(", up {}", seconds(up)));
    let version = status.version.as_ref().map_or_else(String::new, |version| format!(", meterd {version}"));
    // With its date: it is the one that the others leave theirs out for.
    if !now.is_empty() {
        facts.push(("now", format!("{}{up}{version}", moment(now, ""))));
    }
    if !status.product_code.is_empty() {
        let instance = status.instance_id.as_deref().unwrap_or("not known yet");
        facts.push(("instance", format!("{instance}, product {}", status.product_code)));
    }
    // A log that nobody could open tells nothing.
    let is_read = status.log.segments > 0 || status.log.accepted_seq > 0;
    if is_read {
        facts.push(("AWS", aws(status)));
        facts.push(("records", records(status)));
    }
    let told = match status.gate.as_str() {
        "warn" => Some("applications that ask are told to warn"),
        "closed" => Some("applications that ask are told to stop"),
        _ => None,
    };
    if let Some(told) = told {
        let since = status.gate_since.as_ref().map_or_else(String::new, |at| format!(" since {}", ago(at, now)));
        facts.push(("gate", format!("{}{since}: {told}", status.gate)));
    }
    let refused: Vec<String> = status.refused.iter().map(|(code, count)| format!("{count} {code}")).collect();
    if !refused.is_empty() {
        facts.push(("refused", format!("{} since the agent's start", refused.join(", "))));
    }
    if let Some(credit) = &status.attribution {
        facts.push(("credit", format!("{}; seen {} (meterd attribution)", credit.found, ago(&credit.seen, now))));
    }
    if let Some(dir) = &status.state_dir {
        facts.push(("state", dir.clone()));
    }
    if is_read {
        facts.push(("log", log(status)));
    }
    let line = |(label, text): (&str, String)| {
        let mut lines = wrapped(&text, FACTS, terminal.columns);
        if let Some(first) = lines.first_mut() {
            *first = format!("{label:<FACTS$}{}", first.trim_start());
        }
        lines
    };
    facts.into_iter().flat_map(line).collect()
}

fn aws(status: &Status) -> String {
    let last = match &status.aws.last_success {
        Some(at) => format!("accepted a record at {}", ago(at, &status.now)),
        None => "has accepted no record yet".to_owned(),
    };
    // What a person is told already is not told twice.
    let told = |error: &&String| !status.attention.iter().any(|item| item.message.contains(error.as_str()));
    match (status.aws.consecutive_failures, status.aws.last_error.as_ref().filter(told)) {
        (0, _) => last,
        (failed, None) => format!("{last}; failures since: {failed}"),
        (failed, Some(error)) => format!("{last}; failures since: {failed}, the last one: {error}"),
    }
}

fn records(status: &Status) -> String {
    let always = |state: &str| state == "pending" || state == "accepted";
    let counts = status.records.iter().filter(|(state, count)| always(state) || **count != 0);
    counts.map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

fn log(status: &Status) -> String {
    let log = &status.log;
    let lost = match log.lost_increments {
        0 => String::new(),
        lost => format!(", {lost} LOST by damage to the disk"),
    };
    let size = match log.segments {
        0 => String::new(),
        1 => format!(", {} in 1 segment", bytes(log.bytes)),
        segments => format!(", {} in {segments} segments", bytes(log.bytes)),
    };
    let increments = if log.accepted_seq == 1 { "increment" } else { "increments" };
    format!("{} {increments} acknowledged{lost}{size}", log.accepted_seq)
}

fn waiting(status: &Status, terminal: &Terminal) -> Vec<String> {
    if status.next_deadlines.is_empty() {
        return Vec::new();
    }
    let mut lines = wrapped("waiting for AWS, the next deadline first", 0, terminal.columns);
    strengthen(&mut lines, terminal);
    let row = |record: &super::look::Pending| {
        let left = between(&status.now, &record.deadline).unwrap_or_default();
        [
            record.dimension.clone(),
            format!("{} units", record.quantity),
            format!("hour {}", moment(&record.hour, &status.now).trim_end_matches(":00 UTC")),
            format!("until {}", moment(&record.deadline, &status.now)),
            format!("{left} left"),
        ]
    };
    let all: Vec<_> = status.next_deadlines.iter().map(row).collect();
    lines.extend(rows(&all, [false, true, false, false, true], terminal.columns));
    let pending = status.records.get("pending").and_then(serde_json::Value::as_u64).unwrap_or(0);
    let shown = status.next_deadlines.len() as u64;
    if pending > shown {
        lines.extend(wrapped(
            &format!("and {} more: meterd records --state pending", pending - shown),
            2,
            terminal.columns,
        ));
    }
    lines
}

fn open_hour(status: &Status, terminal: &Terminal) -> Vec<String> {
    let Some(open) = status.open_hour.as_ref().filter(|open| !open.dimensions.is_empty()) else { return Vec::new() };
    let minute = |moment: &str| moment.get(11..16).unwrap_or_default().to_owned();
    let end = Timestamp::parse(&open.hour).map(|begun| minute(&begun.hour().end().to_string())).unwrap_or_default();
    let (date, begun) = (open.hour.get(..10).unwrap_or_default(), minute(&open.hour));
    // Moments in this form sort as text.
    let early = if open.hour > status.now { " (the one before it was closed early)" } else { "" };
    let mut lines = wrapped(&format!("open hour {date} {begun} to {end} UTC{early}"), 0, terminal.columns);
    strengthen(&mut lines, terminal);
    let all: Vec<_> = open.dimensions.iter().map(|d| [d.name.clone(), d.usage.clone()]).collect();
    let widest = |cell: fn(&[String; 2]) -> usize| all.iter().map(cell).max().unwrap_or(0);
    let width = widest(|[name, _]| name.chars().count() + 2) + widest(|[_, usage]| usage.len() + 2);
    if width <= terminal.columns {
        lines.extend(rows(&all, [false, true], terminal.columns));
    } else {
        lines.extend(all.iter().map(|[name, usage]| pair(&format!("  {name}"), usage, terminal.columns)));
    }
    lines
}
