//! From times to figures: rates, medians and percentiles.

use std::time::Duration;

use serde::Serialize;

/// What was measured in one turn.
#[derive(Debug, Clone, Default)]
pub struct Slice {
    /// How many things were done.
    pub done: u64,
    /// How long that took altogether.
    pub lasted: Duration,
    /// How long each was waited for, in nanoseconds; in a stream, each chunk of it.
    pub waits: Vec<u32>,
    /// What it took of the agent's processor time, where that is known.
    pub cpu: Duration,
}

impl Slice {
    /// Takes in a wait; one above four seconds counts as that.
    pub fn took(&mut self, wait: Duration) {
        self.waits.push(u32::try_from(wait.as_nanos()).unwrap_or(u32::MAX));
    }

    /// Things done in a second.
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.lasted.as_secs_f64()
    }
}

/// Turns of the same thing, put together.
#[derive(Debug, Clone, Serialize)]
pub struct Rate {
    /// Things done in a second: the median of the turns.
    pub per_second: f64,
    /// Waits in microseconds, of all turns: half of them are at most so long, and so on.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1000.
    pub p999_us: f64,
    /// All.
    pub max_us: f64,
    /// Seconds of the agent's processor time for a million; 0 where it had no part.
    pub cpu_s_per_million: f64,
}

impl Rate {
    /// Of at least one turn.
    pub fn of(slices: Vec<Slice>) -> Rate {
        let per_second = median(slices.iter().map(Slice::rate));
        let done: u64 = slices.iter().map(|slice| slice.done).sum();
        let cpu: Duration = slices.iter().map(|slice| slice.cpu).sum();
        let mut waits: Vec<u32> = slices.into_iter().flat_map(|slice| slice.waits).collect();
        waits.sort_unstable();
        let at = |thousandths: usize| f64::from(up_to(&waits, thousandths)) / 1e3;
        Rate {
            per_second,
            p50_us: at(500),
            p99_us: at(990),
            p999_us: at(999),
            max_us: at(1000),
            cpu_s_per_million: cpu.as_secs_f64() * 1e6 / (done.max(1) as f64),
        }
    }
}

/// The least of `sorted` that so many thousandths do not exceed.
fn up_to(sorted: &[u32], thousandths: usize) -> u32 {
    let at = (sorted.len() * thousandths).div_ceil(1000).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0)
}

/// The one in the middle; the upper one of two, 0 of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<u32> = (1..=1000).collect();
        assert_eq!([500, 990, 999, 1000].map(|of| up_to(&sorted, of)), [500, 990, 999, 1000]);
        assert_eq!([500, 990, 999, 1000].map(|of| up_to(&[3, 8], of)), [3, 8, 8, 8]);
        assert_eq!(up_to(&[], 500), 0);
    }

    #[test]
    fn a_rate_is_the_median_of_its_turns_and_the_waits_of_all() {
        let turn = |done, wait| Slice { done, lasted: Duration::from_secs(1), waits: vec![wait], cpu: Duration::ZERO };
        let rate = Rate::of(vec![turn(10, 5000), turn(1000, 1000), turn(20, 2000)]);
        assert_eq!((rate.per_second, rate.p50_us, rate.max_us), (20.0, 2.0, 5.0));
    }
}
