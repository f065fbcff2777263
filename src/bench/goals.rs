//! What is meant to be reached, held against what was measured.

use serde::Serialize;

use super::run::{Case, Report};
use super::words::{Protocol, With};

/// A limit, and the figure that is held against it.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    /// What is measured.
    pub what: &'static str,
    /// In which unit; empty for a ratio.
    pub unit: &'static str,
    /// What was measured.
    pub figure: f64,
    /// The limit.
    pub limit: f64,
    /// Whether the figure is to be at most the limit, else at least.
    pub at_most: bool,
    /// Whether it is.
    pub reached: bool,
}

fn goal(what: &'static str, unit: &'static str, figure: Option<f64>, at_most: bool, limit: f64) -> Option<Goal> {
    let figure = figure?;
    let reached = if at_most { figure <= limit } else { figure >= limit };
    Some(Goal { what, unit, figure, limit, at_most, reached })
}

/// All whose figures are in the report.
pub fn of(report: &Report) -> Vec<Goal> {
    let plain = |connections, pipelined| report.case(Protocol::Lines, connections, pipelined);
    let echo = |connections| report.echo.iter().find(|echo| echo.connections == connections).map(|echo| &echo.rate);
    let alone = plain(1, false).zip(echo(1)).map(|(alone, echo)| alone.rate.p50_us / (report.raw.p50_us + echo.p50_us));
    // One thread that serves all as an echo does, and then syncs once.
    let best = echo(64).map(|echo| 64.0 / (64.0 / echo.per_second + 1.0 / report.raw.per_second));
    let many = plain(64, false).zip(best).map(|(many, best)| many.rate.per_second / best);
    let stream = plain(1, true).map(|stream| stream.rate.per_second / 1e6);
    let http = report.load.iter().filter(|case| case.protocol == Protocol::Http && case.with == With::Nothing);
    let to_lines = |http: &Case| {
        let lines = plain(http.connections, false)?;
        (!http.pipelined).then(|| http.rate.per_second / lines.rate.per_second)
    };
    let http = http.filter_map(to_lines).min_by(f64::total_cmp);
    let stored = report.disk.iter().find(|disk| disk.pipelined && disk.with == With::Nothing);
    let stored = stored.map(|disk| disk.bytes_per_increment);
    let resident = report.resident_kib_max.map(|kib| kib as f64 / 1024.0);
    let recovery = report.recovery.as_ref();
    let to_bare = |reading: &super::offline::Reading| reading.mb_per_second / reading.bare_mb_per_second;
    let goals = [
        goal("alone, the median answer to raw sync + echo", "", alone, true, 1.1),
        goal("64 connections to 64/(64/E + 1/F)", "", many, false, 0.9),
        goal("one pipelined connection", "million/s", stream, false, 3.0),
        goal("HTTP to JSON lines, the least of the ratios", "", http, false, 0.7),
        goal("on disk, pipelined", "bytes each", stored, true, 16.0),
        goal("resident under all of the load", "MiB", resident, true, 32.0),
        goal("reading the log back to a bare read, cold", "", recovery.map(|r| to_bare(&r.cold)), false, 0.9),
        goal("reading the log back to a bare read, cached", "", recovery.map(|r| to_bare(&r.cached)), false, 0.9),
    ];
    goals.into_iter().flatten().collect()
}

impl Report {
    /// Plain increments so put.
    pub fn case(&self, protocol: Protocol, connections: usize, pipelined: bool) -> Option<&Case> {
        self.load.iter().find(|case| {
            (case.protocol, case.with, case.connections, case.pipelined)
                == (protocol, With::Nothing, connections, pipelined)
        })
    }
}
