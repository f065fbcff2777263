//! The books, for people: received = everything else.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::terminal::{Terminal, wrapped};
use crate::rollup::books::Books;

/// The books of a dimension, by column, as the agent's JSON has them.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Row {
    dimension: String,
    #[serde(default)]
    balanced: bool,
    #[serde(flatten)]
    amounts: BTreeMap<String, String>,
}

/// In the order they are shown.
const COLUMNS: [&str; 11] = [
    "received",
    "open",
    "pending",
    "accepted",
    "with_person",
    "expired",
    "included",
    "discarded",
    "lost",
    "rounded",
    "remainder",
];
/// These are shown even where all of them are zero.
const ALWAYS: [&str; 3] = ["received", "open", "accepted"];

impl Row {
    fn amount(&self, column: &str) -> &str {
        self.amounts.get(column).map_or("0", String::as_str)
    }
}

/// The books as lines: a table where it fits, else one dimension after the other.
pub fn table(rows: &[Row], terminal: &Terminal) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let wrong: Vec<&str> = rows.iter().filter(|row| !row.balanced).map(|row| row.dimension.as_str()).collect();
    let verdict = match wrong.is_empty() {
        true => "balanced".to_owned(),
        false => format!("they DO NOT BALANCE: {}", wrong.join(", ")),
    };
    let mut lines = wrapped(&format!("books, in usage units since the log began: {verdict}"), 0, terminal.columns);
    let shown: Vec<&str> = COLUMNS
        .into_iter()
        .filter(|column| ALWAYS.contains(column) || rows.iter().any(|row| row.amount(column) != "0"))
        .collect();
    let width_of = |column: &str| rows.iter().map(|row| row.amount(column).len()).max().unwrap_or(0).max(column.len());
    let name = rows.iter().map(|row| row.dimension.chars().count()).max().unwrap_or(0);
    let wide = 2 + name + shown.iter().map(|column| 2 + width_of(column)).sum::<usize>();
    if wide <= terminal.columns {
        let line = |first: &str, cell: &dyn Fn(&str) -> String| {
            let cells = shown.iter().map(|column| format!("  {:>1$}", cell(column), width_of(column)));
            format!("  {first:<name$}{}", cells.collect::<String>())
        };
        lines.push(line("", &|column| column.to_owned()));
        lines.extend(rows.iter().map(|row| line(&row.dimension, &|column| row.amount(column).to_owned())));
        return lines;
    }
    for row in rows {
        lines.extend(wrapped(&row.dimension, 2, terminal.columns));
        for column in shown.iter().filter(|column| ALWAYS.contains(column) || row.amount(column) != "0") {
            lines.push(pair(&format!("    {column}"), row.amount(column), terminal.columns));
        }
    }
    lines
}

/// The same of books that are at hand.
pub fn shown(books: &[Books], terminal: &Terminal) -> String {
    let rows: Vec<Row> = serde_json::to_value(books).and_then(serde_json::from_value).unwrap_or_default();
    table(&rows, terminal).join("\n")
}

/// A name and, at the right, its amount; on two lines where one is too short.
pub fn pair(name: &str, amount: &str, columns: usize) -> String {
    const RIGHT: usize = 44;
    let columns = columns.min(RIGHT);
    let room = columns.saturating_sub(name.chars().count());
    if room > amount.len() { format!("{name}{amount:>room$}") } else { format!("{name}\n{amount:>columns$}") }
}
