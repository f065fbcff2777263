//! How far `meterd add -` is, on a terminal.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

/// How often it is drawn anew while nothing else happens.
const TICK: Duration = Duration::from_millis(100);

/// Lines read, lines that are durable, refused ones, and how many a second; nothing where standard error is no terminal.
pub fn progress(read: &Arc<AtomicU64>, refused: &Arc<AtomicU64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let count = |of: &Arc<AtomicU64>| {
        let of = Arc::clone(of);
        move |_: &ProgressState, out: &mut dyn Write| {
            // Writing into a line of text does not fail.
            let _ = write!(out, "{}", HumanCount(of.load(Ordering::Relaxed)));
        }
    };
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{:.0}", state.per_sec());
    };
    let template = "{spinner} {read} read, {human_pos} answered, {refused} of them refused, {rate}/s";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.with_key("read", count(read)).with_key("refused", count(refused)).with_key("rate", rate));
    }
    bar.enable_steady_tick(TICK);
    bar
}
