//! Counts by size, in plain integers: cheap enough for the way from the socket to the disk.

/// How many values there were up to each bound.
#[derive(Debug, Clone)]
pub struct Histogram {
    bounds: &'static [u64],
    /// Values above the bound before and up to the one at the same place; the last above all of them.
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    /// An empty one with these bounds, which rise.
    pub fn new(bounds: &'static [u64]) -> Self {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0 }
    }

    /// Takes in a value.
    pub fn add(&mut self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    /// Each bound, with how many values were not above it.
    pub fn up_to(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds.iter().copied().zip(counts)
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> u64 {
        self.sum
    }
}
