//! The configuration in force, as the log has it: written down when it changes.

use super::{Engine, EngineError, Options};
use crate::config::Measure;
use crate::disk::Disk;
use crate::entry::{DimensionId, Entry, Rules, Setup};
use crate::hour::Timestamp;
use crate::rollup::state::Phase;
use crate::wal::spares::Need;

/// Most dimensions that one log can ever know, renamed and removed ones included.
pub const DIMENSIONS_EVER_MAX: usize = 1024;

/// A dimension as the socket's words reach it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: DimensionId,
    pub(super) measure: Measure,
    /// Why nobody reports it, if so.
    pub(super) not_reported: Option<String>,
}

impl Known {
    fn new(id: DimensionId, rules: &Rules) -> Self {
        Known { id, measure: rules.measure, not_reported: Known::not_reported(rules) }
    }

    fn not_reported(rules: &Rules) -> Option<String> {
        if rules.measure == Measure::Uptime {
            return Some("is metered by the agent itself; nothing is to be reported".into());
        }
        let sources: Vec<&str> = rules.from.iter().map(|source| source.name.as_str()).collect();
        (!sources.is_empty()).then(|| format!("is made of others; report {}", sources.join(", ")))
    }
}

impl<D: Disk> Engine<D> {
    /// Puts another configuration in force, between two increments: all of it, or on an error nothing. What only a start
    /// can change stays as it is: the instance, the length of segments, what kind of log this is. Durable when it
    /// returns.
    pub fn reconfigure(&mut self, options: Options, now: Timestamp) -> Result<(), EngineError> {
        self.flush_building(now)?;
        // An uptime that begins here is metered from this moment on, and not from the last such entry, minutes ago.
        self.alive(false)?;
        let Options { saas, instance, segment_bytes, purpose, judge_clock, threads, .. } = self.options.clone();
        let options = Options { saas, instance, segment_bytes, purpose, judge_clock, threads, ..options };
        // What AWS refused may be mended by it, and is tried again at once, as after a start.
        let refused: Vec<_> =
            self.state.records.iter().filter(|(_, r)| r.phase == Phase::Held).map(|(k, _)| *k).collect();
        let before = std::mem::replace(&mut self.options, options);
        if let Err(error) = self.configure(now) {
            self.options = before;
            return Err(error);
        }
        for key in &refused {
            self.outbox.forget(key);
            self.dispatch.forget(key);
        }
        self.retention.keep(self.options.retain);
        Ok(self.commit(now)?)
    }

    /// Writes the configuration down if it differs from what the log says.
    pub(super) fn configure(&mut self, now: Timestamp) -> Result<(), EngineError> {
        let setup = self.setup(now)?;
        let names = setup.dimensions.iter().map(|(id, rules)| (rules.name.clone(), Known::new(*id, rules))).collect();
        if !self.is_in_force(&setup) {
            self.say_what_changes(&setup);
            self.record(&Entry::Setup(setup), Need::Control, now)?;
        }
        self.configure_register(now)?;
        self.names = names;
        let reported = self.names.iter().filter(|(_, known)| known.not_reported.is_none());
        let mut listed: Vec<&str> = reported.map(|(name, _)| name.as_str()).collect();
        listed.sort_unstable();
        self.listed = listed.join(", ");
        Ok(())
    }

    /// What is configured, as the log has it.
    fn setup(&self, now: Timestamp) -> Result<Setup, EngineError> {
        let mut next = self.state.dimensions.len();
        let mut dimensions = Vec::new();
        for rules in &self.options.dimensions {
            let id = self.state.dimension_named(&rules.name).unwrap_or_else(|| {
                next += 1;
                DimensionId(u16::try_from(next - 1).unwrap_or(u16::MAX))
            });
            dimensions.push((id, rules.clone()));
        }
        if next > DIMENSIONS_EVER_MAX {
            return Err(EngineError::TooManyDimensions(self.state.dimensions.len()));
        }
        Ok(Setup {
            at: now,
            product_code: self.options.product_code.clone(),
            // Only an entry of its own changes the name of a log that has one: see `whose`.
            instance: self.state.instance.clone().or_else(|| self.options.instance.clone()),
            dimensions,
            window_ms: u64::try_from(self.options.window.as_millis()).unwrap_or(u64::MAX),
            late: self.options.late,
            zero_records: self.options.zero_records,
            region: self.options.region.clone(),
        })
    }

    /// Says what a changed configuration does to usage under way.
    fn say_what_changes(&self, setup: &Setup) {
        let named =
            |id: usize| setup.dimensions.iter().find(|(known, _)| usize::from(known.0) == id).map(|(_, rules)| rules);
        for (id, dimension) in self.state.dimensions.iter().enumerate().filter(|(_, d)| d.configured) {
            let (name, remainder) = (&dimension.rules.name, dimension.remainder.total());
            match named(id) {
                None => tracing::warn!(
                    dimension = name,
                    %remainder,
                    "no longer configured: what it measured is still sealed and sent; its remainder waits until it is \
                     configured again"
                ),
                Some(rules) if *rules != dimension.rules => {
                    tracing::info!(dimension = name, "its rules change with the next hour; its remainder stays");
                }
                Some(_) => {}
            }
        }
    }

    fn is_in_force(&self, setup: &Setup) -> bool {
        let rules = |id: &DimensionId| {
            let dimension = self.state.dimension(*id)?;
            dimension.configured.then(|| dimension.newest_rules())
        };
        let configured = self.state.dimensions.iter().filter(|d| d.configured).count();
        self.state.product_code == setup.product_code
            && self.state.instance == setup.instance
            && self.state.window.as_millis() == u128::from(setup.window_ms)
            && self.state.late == setup.late
            && self.state.zero_records == setup.zero_records
            && self.state.region == setup.region
            && configured == setup.dimensions.len()
            && setup.dimensions.iter().all(|(id, new)| rules(id) == Some(new))
    }
}
