//! One run: everything has its turn in each round, and the rounds are put together.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::agent::Agent;
use super::echo::{self, Echo};
use super::figures::{Rate, Slice};
use super::goals::{self, Goal};
use super::load::{Load, STREAM, alone};
use super::machine::Machine;
use super::offline::{Recovery, RollUp};
use super::place::Place;
use super::raw::Raw;
use super::words::{Protocol, With, Words};

/// Connections that wait for each answer.
const WAITING: [usize; 5] = [1, 4, 16, 64, 256];
/// Connections that do not.
const STREAMING: [usize; 2] = [1, 4];

/// A part of the run that can be asked for by itself. The bases always are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Increments as JSON lines.
    Lines,
    /// Increments over HTTP.
    Http,
    /// Bytes on disk.
    Disk,
    /// Reading a log back.
    Recovery,
    /// Sealing an hour.
    RollUp,
}

/// How to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What, besides the bases.
    pub parts: Vec<Part>,
    /// How long the turns of bases and load last altogether.
    pub span: Duration,
    /// How many turns each has.
    pub rounds: usize,
    /// Increments in the log that is read back.
    pub log_of: u64,
}

/// All that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The program's.
    pub version: &'static str,
    /// What it was measured on.
    pub machine: Machine,
    /// How many turns each had.
    pub rounds: usize,
    /// How long one lasted.
    pub turn_ms: u64,
    /// Raw `fdatasync`.
    pub raw: Rate,
    /// The bare echo, by connections.
    pub echo: Vec<Echoed>,
    /// The agent under load.
    pub load: Vec<Case>,
    /// The most memory that the agent held under all of the load, in KiB; none if there was no load.
    pub resident_kib_max: Option<u64>,
    /// From the start of a killed agent to its first answer behind that load, in milliseconds.
    pub restart_ms: Option<f64>,
    /// Bytes on disk.
    pub disk: Vec<DiskUse>,
    /// Reading a log back.
    pub recovery: Option<Recovery>,
    /// Sealing an hour.
    pub rollup: Option<RollUp>,
    /// What is meant to be reached, and what was.
    pub goals: Vec<Goal>,
}

/// The bare echo from so many connections.
#[derive(Debug, Clone, Serialize)]
pub struct Echoed {
    /// Connections.
    pub connections: usize,
    /// Answers.
    #[serde(flatten)]
    pub rate: Rate,
}

/// One kind of load.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// How increments are put.
    pub protocol: Protocol,
    /// What they carry.
    pub with: With,
    /// From how many connections.
    pub connections: usize,
    /// Whether answers are not waited for; waits then are of chunks of [`STREAM`].
    pub pipelined: bool,
    /// Acknowledged increments.
    #[serde(flatten)]
    pub rate: Rate,
    /// Increments for each raw sync in the same time.
    pub to_raw: f64,
}

/// What an increment takes of the log.
#[derive(Debug, Clone, Serialize)]
pub struct DiskUse {
    /// What increments carry.
    pub with: With,
    /// From how many connections.
    pub connections: usize,
    /// Whether answers are not waited for.
    pub pipelined: bool,
    /// Increments that were measured.
    pub increments: u64,
    /// Bytes of each, with all that the log holds beside them.
    pub bytes_per_increment: f64,
}

/// Measures `program` by `plan` on the disk that `dir` lies on, in a directory of its own that is gone afterwards. `stop` is
/// asked now and then whether to give up; `progress` is told what comes next.
pub fn run(
    plan: &Plan,
    dir: &Path,
    program: &Path,
    stop: &dyn Fn() -> bool,
    progress: &dyn Fn(&str),
) -> Result<Report, String> {
    let place = Place::make(dir)?;
    let run = Run { plan, program, dir: place.path(), stop, progress };
    run.all()
}

struct Run<'a> {
    plan: &'a Plan,
    program: &'a Path,
    dir: &'a Path,
    stop: &'a dyn Fn() -> bool,
    progress: &'a dyn Fn(&str),
}

/// A kind of load before it is measured, and its turns.
struct Kind {
    protocol: Protocol,
    with: With,
    connections: usize,
    at_once: usize,
    words: Words,
    turns: Vec<Slice>,
}

impl Run<'_> {
    fn wants(&self, part: Part) -> bool {
        self.plan.parts.contains(&part)
    }

    fn go_on(&self, what: &str) -> Result<(), String> {
        if (self.stop)() {
            return Err("interrupted".to_owned());
        }
        (self.progress)(what);
        Ok(())
    }

    fn all(&self) -> Result<Report, String> {
        let kinds = self.kinds();
        let turns = (1 + WAITING.len() + kinds.len()) * self.plan.rounds;
        let turn = self.plan.span.div_f64(turns as f64);
        let mut report = self.load(kinds, turn)?;
        if self.wants(Part::Disk) {
            report.disk = self.disk(turn)?;
        }
        if self.wants(Part::Recovery) {
            self.go_on("recovery")?;
            let dir = self.dir.join("recovery");
            report.recovery = Some(Recovery::measure(&dir, self.plan.log_of, self.plan.rounds, self.stop)?);
            self.clear(&dir)?;
        }
        if self.wants(Part::RollUp) {
            self.go_on("roll-up")?;
            report.rollup = Some(RollUp::measure(&self.dir.join("rollup"), self.plan.rounds)?);
        }
        report.goals = goals::of(&report);
        Ok(report)
    }

    /// All kinds of load that are wanted. Keys last in a round: what the index does behind them is waited for.
    fn kinds(&self) -> Vec<Kind> {
        let protocols = [(Part::Lines, Protocol::Lines), (Part::Http, Protocol::Http)];
        let wanted = protocols.iter().filter(|(part, _)| self.wants(*part));
        let mut kinds = Vec::new();
        for with in [With::Nothing, With::Tags, With::Keys] {
            for (_, protocol) in wanted.clone() {
                let shapes = WAITING.map(|n| (n, 1)).into_iter().chain(STREAMING.map(|n| (n, STREAM)));
                kinds.extend(shapes.map(|(connections, at_once)| Kind {
                    protocol: *protocol,
                    with,
                    connections,
                    at_once,
                    words: Words::increment(*protocol, with),
                    turns: Vec::new(),
                }));
            }
        }
        kinds
    }

    /// The bases and the load, in turn.
    fn load(&self, mut kinds: Vec<Kind>, turn: Duration) -> Result<Report, String> {
        let failed = |error: std::io::Error| match (self.stop)() {
            true => "interrupted".to_owned(),
            false => format!("measuring in {}: {error}", self.dir.display()),
        };
        let mut agent =
            if kinds.is_empty() { None } else { Some(Agent::start(self.program, &self.dir.join("agent"))?) };
        let mut raw = Raw::new(self.dir).map_err(failed)?;
        let echo_at = self.dir.join("echo");
        let _echo = Echo::start(&echo_at).map_err(failed)?;
        let echoed = Words::echoed();
        let (mut raws, mut echoes) = (Vec::new(), WAITING.map(|_| Vec::new()));
        let before = agent.as_ref().map_or(Ok(0), Agent::acknowledged)?;
        let (mut next_key, mut asked) = (0, 0);
        for round in 1..=self.plan.rounds {
            self.go_on(&format!("round {round} of {}", self.plan.rounds))?;
            raws.push(raw.measure(turn).map_err(failed)?);
            for (connections, turns) in WAITING.into_iter().zip(&mut echoes) {
                let echo = Load { socket: &echo_at, connections, at_once: 1, words: &echoed };
                turns.push(match connections {
                    1 => echo::alone().and_then(|s| alone(s, &echoed, turn, &mut 0, self.stop)).map_err(failed)?,
                    _ => echo.run(turn, &mut 0, self.stop)?,
                });
            }
            let Some(agent) = &agent else { continue };
            for kind in &mut kinds {
                let slice = kind.turn(agent, turn, &mut next_key, self.stop)?;
                asked += slice.done;
                kind.turns.push(slice);
            }
        }
        // Every answer that was taken for an `ok` was one, and no increment was taken for a known one.
        if let Some(agent) = &agent {
            let counted = agent.acknowledged()? - before - 1;
            if counted != asked {
                return Err(format!("the load counts {asked} acknowledged increments, the agent {counted}"));
            }
        }
        let resident_kib_max = agent.as_ref().map(Agent::resident_kib_max);
        let restart = agent.as_mut().map(Agent::kill_and_restart).transpose()?;
        if let Some(agent) = agent {
            drop(agent);
            self.clear(&self.dir.join("agent"))?;
        }
        let raw = Rate::of(raws);
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::look(self.dir),
            rounds: self.plan.rounds,
            turn_ms: u64::try_from(turn.as_millis()).unwrap_or(u64::MAX),
            echo: WAITING
                .into_iter()
                .zip(echoes)
                .map(|(connections, turns)| Echoed { connections, rate: Rate::of(turns) })
                .collect(),
            load: kinds.into_iter().map(|kind| kind.case(&raw)).collect(),
            raw,
            resident_kib_max,
            restart_ms: restart.map(|took| took.as_secs_f64() * 1e3),
            disk: Vec::new(),
            recovery: None,
            rollup: None,
            goals: Vec::new(),
        })
    }

    /// Each from an agent of its own, whose log holds nothing else.
    fn disk(&self, turn: Duration) -> Result<Vec<DiskUse>, String> {
        let kinds = [
            (With::Nothing, 1, 1),
            (With::Nothing, 64, 1),
            (With::Nothing, 1, STREAM),
            (With::Tags, 1, STREAM),
            (With::Keys, 1, STREAM),
        ];
        let mut uses = Vec::new();
        for (with, connections, at_once) in kinds {
            self.go_on("bytes on disk")?;
            let dir = self.dir.join("disk");
            let mut agent = Agent::start(self.program, &dir)?;
            let words = Words::increment(Protocol::Lines, with);
            let load = Load { socket: &agent.socket, connections, at_once, words: &words };
            load.run(turn * 2, &mut 0, self.stop)?;
            let increments = agent.acknowledged()?;
            agent.kill();
            let bytes_per_increment = agent.log_bytes()? as f64 / increments as f64;
            drop(agent);
            self.clear(&dir)?;
            uses.push(DiskUse { with, connections, pipelined: at_once > 1, increments, bytes_per_increment });
        }
        Ok(uses)
    }

    fn clear(&self, dir: &Path) -> Result<(), String> {
        fs::remove_dir_all(dir).map_err(|error| format!("removing {}: {error}", dir.display()))
    }
}

impl Kind {
    /// Measures it once, with what the agent used for it.
    fn turn(
        &self,
        agent: &Agent,
        span: Duration,
        next_key: &mut u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Slice, String> {
        let before = agent.cpu();
        let Kind { connections, at_once, words, .. } = self;
        let load = Load { socket: &agent.socket, connections: *connections, at_once: *at_once, words };
        let who = |error| format!("{:?} with {:?} from {connections}: {error}", self.protocol, self.with);
        let slice = load.run(span, next_key, stop).map_err(who)?;
        if self.with == With::Keys {
            agent.rest();
        }
        Ok(Slice { cpu: agent.cpu().saturating_sub(before), ..slice })
    }

    fn case(self, raw: &Rate) -> Case {
        let rate = Rate::of(self.turns);
        Case {
            protocol: self.protocol,
            with: self.with,
            connections: self.connections,
            pipelined: self.at_once > 1,
            to_raw: rate.per_second / raw.per_second,
            rate,
        }
    }
}
