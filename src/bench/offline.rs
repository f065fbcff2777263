//! What needs no socket: reading a log back at a start, and sealing an hour.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::figures::median;
use crate::config::Config;
use crate::config::limits::DIMENSIONS;
use crate::config::limits::defaults::SEGMENT_BYTES as SEGMENT_BYTES_USUAL;
use crate::disk::{RealDisk, forget_cached};
use crate::engine::{Engine, NewIncrement, Options, read_only};
use crate::entry::Peer;
use crate::hour::Timestamp;
use crate::index::Index;
use crate::rollup::tagged::TAG_SETS_MAX;
use crate::wal::Purpose;

/// The beginning of an hour.
const NOW: Timestamp = Timestamp::from_seconds(1_795_262_400);
const AN_HOUR_LATER: Timestamp = Timestamp::from_seconds(1_795_262_400 + 3600 + 120);
/// What a plain increment takes of the log at most: one segment holds all that is read back, nothing is behind a checkpoint.
const BYTES_EACH_MAX: u64 = 16;
const SEGMENT_BYTES: u64 = SEGMENT_BYTES_USUAL as u64;
/// Increments in one commit, as many as a pipelined connection makes of it.
const BATCH: u64 = 10_000;

/// Reading a log at a start beside reading the same bytes and doing nothing with them.
#[derive(Debug, Clone, Serialize)]
pub struct Recovery {
    /// Increments in the log.
    pub increments: u64,
    /// Its bytes in use, in millions.
    pub log_mb: f64,
    /// From the page cache.
    pub cached: Reading,
    /// After the kernel was asked to forget the file.
    pub cold: Reading,
}

/// Medians of some readings.
#[derive(Debug, Clone, Serialize)]
pub struct Reading {
    /// Megabytes (10^6) of log a second.
    pub mb_per_second: f64,
    /// Increments a second.
    pub increments_per_second: f64,
    /// A bare read of the same file, in megabytes a second.
    pub bare_mb_per_second: f64,
}

impl Recovery {
    /// Makes a log of so many plain increments in `dir`, which is made, and reads it `rounds` times each way, in turn.
    pub fn measure(dir: &Path, increments: u64, rounds: usize, stop: &dyn Fn() -> bool) -> Result<Recovery, String> {
        let failed = |error: &dyn std::fmt::Display| format!("reading a log back in {}: {error}", dir.display());
        let segment_bytes = (increments * BYTES_EACH_MAX).next_multiple_of(SEGMENT_BYTES);
        let mut engine = engine(dir, "[[dimension]]\nname = \"requests\"\n", segment_bytes)?;
        let one = NewIncrement { dimension: "requests".into(), quantity: Some("1".into()), ..NewIncrement::default() };
        for n in 1..=increments {
            engine.take(Peer::default(), &one, NOW).map_err(|refusal| failed(&refusal.message))?;
            if n % BATCH == 0 || n == increments {
                engine.commit(NOW).map_err(|error| failed(&error))?;
                if stop() {
                    return Err("interrupted".to_owned());
                }
            }
        }
        drop(engine);
        let segment = dir.join("wal/0000000000000001.seg");
        let bytes = fs::read(&segment).map_err(|error| failed(&error))?;
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        drop(bytes);
        let bare = || read_start(&segment, used).map_err(|error| failed(&error));
        let fold = || read_only(&RealDisk::new(dir)).map(drop).map_err(|error| failed(&error));
        let mut times: [Vec<f64>; 4] = Default::default();
        for _ in 0..rounds {
            for (at, times) in times.iter_mut().enumerate() {
                if at < 2 {
                    forget_cached(&segment).map_err(|error| failed(&error))?;
                }
                let begun = Instant::now();
                if at % 2 == 0 { bare() } else { fold() }?;
                times.push(begun.elapsed().as_secs_f64());
            }
        }
        let [bare_cold, cold, bare_cached, cached] = times.map(|times| median(times.into_iter()));
        let log_mb = used as f64 / 1e6;
        let reading = |bare: f64, fold: f64| Reading {
            mb_per_second: log_mb / fold,
            increments_per_second: increments as f64 / fold,
            bare_mb_per_second: log_mb / bare,
        };
        Ok(Recovery { increments, log_mb, cached: reading(bare_cached, cached), cold: reading(bare_cold, cold) })
    }
}

fn read_start(path: &Path, bytes: u64) -> io::Result<()> {
    let mut read = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    File::open(path)?.take(bytes).read_to_end(&mut read).map(drop)
}

/// How long it takes to seal an hour: nothing is acknowledged meanwhile.
#[derive(Debug, Clone, Serialize)]
pub struct RollUp {
    /// Dimensions, each with usage.
    pub dimensions: u64,
    /// Milliseconds without tags.
    pub plain_ms: f64,
    /// Tag sets of each dimension in the fullest hour.
    pub tag_sets: u64,
    /// Milliseconds of the fullest hour.
    pub fullest_ms: f64,
}

impl RollUp {
    /// Seals hours of engines of its own in `dir`, which is made.
    pub fn measure(dir: &Path, rounds: usize) -> Result<RollUp, String> {
        let dimensions = *DIMENSIONS.end() as u64;
        fs::create_dir(dir).map_err(|error| format!("the directory {}: {error}", dir.display()))?;
        let (mut plain, mut fullest) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            plain.push(sealing(&dir.join(format!("plain-{round}")), dimensions, 0)?);
            fullest.push(sealing(&dir.join(format!("fullest-{round}")), dimensions, TAG_SETS_MAX as u64)?);
        }
        let ms = |times: Vec<Duration>| median(times.iter().map(Duration::as_secs_f64)) * 1e3;
        Ok(RollUp { dimensions, plain_ms: ms(plain), tag_sets: TAG_SETS_MAX as u64, fullest_ms: ms(fullest) })
    }
}

fn sealing(dir: &Path, dimensions: u64, tag_sets: u64) -> Result<Duration, String> {
    let failed = |error: &dyn std::fmt::Display| format!("sealing an hour in {}: {error}", dir.display());
    let tables: String = (0..dimensions).map(|d| format!("[[dimension]]\nname = \"d{d}\"\n")).collect();
    let mut engine = engine(dir, &tables, SEGMENT_BYTES)?;
    for d in 0..dimensions {
        for set in 0..tag_sets.max(1) {
            let new = NewIncrement {
                dimension: format!("d{d}").into(),
                quantity: Some("1".into()),
                tags: if tag_sets > 0 { vec![("team".into(), format!("team-{set}"))] } else { Vec::new() },
                ..NewIncrement::default()
            };
            engine.take(Peer::default(), &new, NOW).map_err(|refusal| failed(&refusal.message))?;
        }
        engine.commit(NOW).map_err(|error| failed(&error))?;
    }
    let begun = Instant::now();
    engine.tick(AN_HOUR_LATER).map_err(|error| failed(&error))?;
    let took = begun.elapsed();
    drop(engine);
    fs::remove_dir_all(dir).map_err(|error| failed(&error))?;
    Ok(took)
}

fn engine(dir: &Path, dimensions: &str, segment_bytes: u64) -> Result<Engine<RealDisk>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("a log in {}: {error}", dir.display());
    let text = format!("[product]\ncode = \"bench\"\n{dimensions}[submit]\nregion = \"us-east-1\"\n");
    let config = Config::parse(&text, "the bench").map_err(|error| failed(&error))?;
    let options = Options { segment_bytes, ..Options::of(&config, Some("i-bench".into()), Purpose::Test, false) };
    fs::create_dir(dir).map_err(|error| failed(&error))?;
    Engine::open(Arc::new(RealDisk::new(dir)), options, NOW, |_| Ok(Index::in_memory())).map_err(|error| failed(&error))
}
