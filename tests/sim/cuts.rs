//! What survives a power cut: by seed, or every way in turn. Sees each unsynced sector, name and length on its own.
//! Cannot see: more than a sample where there are too many to walk.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::disk::{Fate, SimDisk};

/// Nothing unsynced survives (seed 0), all of it does (1), or any of it (others).
pub fn by_seed(seed: u64) -> impl Fate {
    let mut rng = Rng::with_seed(seed);
    let garbage = rng.usize(0..8) == 0;
    move |n: usize, blank: bool| match seed {
        0 => 0,
        1 => n - 1,
        _ if blank && garbage && rng.usize(0..4) == 0 => n,
        _ => rng.usize(0..n),
    }
}

/// As many combinations are walked one by one; beyond, the likely and the nasty ones and a sample.
const ALL_UP_TO: usize = 64;
const SAMPLE: u64 = 24;

/// The disks that a power cut at this moment can leave, each once; `sample` seeds what is drawn.
pub fn all(disk: &SimDisk, sample: u64, seen: &mut BTreeSet<u64>) -> Vec<SimDisk> {
    let mut domains: Vec<(usize, bool)> = Vec::new();
    disk.fork().cut(&mut |n: usize, blank: bool| {
        domains.push((n, blank));
        n - 1
    });
    let mut ways: Vec<Vec<usize>> = Vec::new();
    let product = domains.iter().try_fold(1_usize, |p, (n, _)| p.checked_mul(*n).filter(|p| *p <= ALL_UP_TO));
    if let Some(product) = product {
        for mut number in 0..product {
            let digits = domains.iter().map(|(n, _)| {
                let digit = number % n;
                number /= n;
                digit
            });
            ways.push(digits.collect());
        }
    } else {
        let old = vec![0; domains.len()];
        let new: Vec<usize> = domains.iter().map(|(n, _)| n - 1).collect();
        for i in 0..domains.len() {
            let (mut one, mut but_one) = (old.clone(), new.clone());
            (one[i], but_one[i]) = (new[i], old[i]);
            ways.extend([one, but_one]);
        }
        ways.extend([old, new]);
    }
    for (i, (n, blank)) in domains.iter().enumerate() {
        // Of sectors that change nothing but to garbage, a few.
        if *blank && (*n > 1 || i % 8 == 7) && ways.len() < 2 * ALL_UP_TO {
            let mut way: Vec<usize> = domains.iter().map(|(n, _)| n - 1).collect();
            way[i] = *n;
            ways.push(way);
        }
    }
    let mut disks = Vec::new();
    let mut keep = |cut: SimDisk| {
        if seen.insert(cut.mark()) {
            disks.push(cut);
        }
    };
    for way in ways {
        let cut = disk.fork();
        let mut choices = way.into_iter();
        // What survives of one thing can take away another choice.
        cut.cut(&mut |n: usize, blank: bool| choices.next().unwrap_or(0).min(if blank { n } else { n - 1 }));
        keep(cut);
    }
    if product.is_none() {
        for n in 0..SAMPLE {
            let cut = disk.fork();
            cut.cut(&mut by_seed(2 + sample + n));
            keep(cut);
        }
    }
    disks
}
