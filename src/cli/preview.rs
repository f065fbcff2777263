//! `meterd preview`: what the next seal would send.

use std::collections::BTreeMap;

use super::exit;
use super::say::{complain, on_one_line, say};
use super::state_dir::{Failure, StateDir};
use crate::decimal::Amount;
use crate::engine;
use crate::report::preview::{Line, Preview, preview};

/// Show what the next hour's records would be if the hour ended now
///
/// Computed by the code that seals, from what is on disk, also beside a running agent: billed units per dimension, tag set
/// and customer, what is left over, what the base price covers, ceilings that would hold a record back and, where `price`
/// is configured, the charge to expect. Changes nothing.
#[derive(Debug, clap::Args)]
pub struct PreviewArgs {
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateDir,
}

/// Shows it; returns the exit code.
pub fn run(args: &PreviewArgs) -> u8 {
    match look(args) {
        Ok(preview) if args.json => say!("{}", preview.json()),
        Ok(preview) => shown(&preview),
        Err((code, message)) => {
            complain!("meterd: {message}");
            return code;
        }
    }
    exit::FINE
}

fn look(args: &PreviewArgs) -> Result<Preview, Failure> {
    let (disk, dir) = args.state.open()?;
    let state = engine::read_only(&disk).map_err(|error| (exit::UNSAFE_LOG, format!("{}: {error}", dir.display())))?;
    Ok(preview(&state, &prices(args)))
}

/// Prices stand in the configuration only; a copy of a state directory may come without one.
fn prices(args: &PreviewArgs) -> BTreeMap<String, Amount> {
    let dimensions = args.state.config().map(|config| config.dimensions).unwrap_or_default();
    dimensions.into_iter().filter_map(|d| Some((d.name, d.price?))).collect()
}

fn shown(preview: &Preview) {
    say!("if the hour {} ended now:", preview.hour);
    if preview.nameless {
        say!("(nothing is sealed before the instance is known; the amounts are those that would be)");
    }
    if preview.lines.is_empty() {
        say!("\nnothing would be sent: nothing was reported in it");
    }
    preview.lines.iter().for_each(line);
    if preview.left_out > 0 {
        say!("\n{} smaller lines are not listed", preview.left_out);
    }
    if preview.lines.iter().any(|line| line.buyer.is_some()) {
        say!("\nin all:");
        for (dimension, total) in &preview.totals {
            let held = if total.held > 0 { format!(", {} held", total.held) } else { String::new() };
            say!("  {}: usage {}, {} billed units{held}", on_one_line(dimension), total.usage, total.units);
        }
    }
    if let Some(charge) = preview.charge() {
        say!("\nexpected charge: {charge} in the listing's currency (what is held is not in it)");
    }
}

fn line(line: &Line) {
    let whose = line.buyer.as_ref().map(|buyer| format!("{}  ", buyer.word())).unwrap_or_default();
    let what = match (&line.record, line.hold()) {
        (None, _) => "no record".to_owned(),
        (Some(record), None) => format!("{} billed units", record.request.quantity),
        (Some(record), Some(why)) => format!("{} billed units, HELD for a person: {why}", record.request.quantity),
    };
    say!("\n{}{}: {what}", on_one_line(&whose), on_one_line(&line.dimension));
    let mut came = vec![format!("usage {}", line.usage)];
    let mut add = |name: &str, amount: Amount| {
        if !amount.is_zero() {
            came.push(format!("{name} {amount}"));
        }
    };
    if let Some(record) = &line.record {
        add("of it late", record.late);
        add("left over from before", record.remainder_in);
        add("carried in", record.carried_in);
    }
    add("included in the base price", line.included);
    add("added by rounding", line.rounded);
    add("left over", line.remainder);
    say!("  {}", came.join(", "));
    if let Some(left) = line.included_left {
        say!("  included quantity left after it: {left}");
    }
    if let Some((price, charge)) = line.price.zip(line.charge()) {
        say!("  charge: {} x {price} = {charge}", line.units());
    }
    if line.spilled > 0 {
        say!("  {} billed units do not fit into one record: they go into the next", line.spilled);
    }
    if line.tags_are_full() {
        say!("  it has as many tag sets as an hour can have: usage under further ones is billed without tags");
    }
    for share in line.record.iter().flat_map(|record| &record.request.allocations) {
        let tags: Vec<String> = share.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let tags = if tags.is_empty() { "without tags".to_owned() } else { tags.join(" ") };
        say!("  {:>12}  {}", share.quantity, on_one_line(&tags));
    }
}
