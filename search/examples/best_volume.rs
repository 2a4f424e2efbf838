//! How the recorded best volumes of the benchmarks without a closed form were found.
//!
//!     cargo run --release -p search --example best_volume -- language-model 400
//!
//! Decomposition (Zhang and Li 2007): each of many directions keeps its best point under the weighted Chebyshev
//! distance, and takes what its neighbours find. Every point that no other dominates is kept; the printed volume is
//! theirs. The second argument is the number of generations.
#![expect(clippy::print_stdout, reason = "a tool that prints")]
#![expect(clippy::unwrap_used, reason = "a tool fails by panicking")]

use rand::{Rng, RngExt};
use search::{benchmark::benchmark, front, hypervolume, proposal_rng};

/// Points that exchange parts.
const NEIGHBOURS: usize = 12;
/// Most points kept, such that the volume of four objectives takes seconds.
const KEPT: usize = 3000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap();
    let generations: u32 = arguments.next().map_or(400, |n| n.parse().unwrap());
    let benchmark = benchmark(&name).unwrap();
    let (space, mut rng) = (benchmark.space(), proposal_rng(7, 0));
    let evaluate = |unit: &[f64]| benchmark.evaluate(&space.decode(unit));

    let random: Vec<Vec<f64>> = (0..20_000)
        .map(|_| evaluate(&uniform(space.len(), &mut rng)))
        .collect();
    let objectives = random[0].len();
    for (title, share) in [("median", 0.5), ("90 % quantile", 0.9)] {
        let of = |i: usize| {
            let mut column: Vec<f64> = random.iter().map(|v| v[i]).collect();
            column.sort_by(f64::total_cmp);
            column[(share * column.len() as f64) as usize]
        };
        println!(
            "{title} of random points: {:?}",
            (0..objectives).map(of).collect::<Vec<_>>()
        );
    }

    let directions: Vec<Vec<f64>> = (0..100 * objectives)
        .map(|_| direction(objectives, &mut rng))
        .collect();
    let near: Vec<Vec<usize>> = directions.iter().map(|d| nearest(d, &directions)).collect();
    let mut units: Vec<Vec<f64>> = directions
        .iter()
        .map(|_| uniform(space.len(), &mut rng))
        .collect();
    let mut values: Vec<Vec<f64>> = units.iter().map(|u| evaluate(u)).collect();
    let mut kept = values.clone();
    kept.extend(random);
    kept = trimmed(kept, benchmark.reference);
    for generation in 0..generations {
        let (low, high) = ends(&kept);
        let distance = |v: &[f64], d: &[f64]| {
            let terms = v.iter().zip(d).zip(low.iter().zip(&high));
            terms
                .map(|((v, w), (l, h))| w * (v - l) / (h - l).max(1e-12))
                .fold(f64::MIN, f64::max)
        };
        for (i, near) in near.iter().enumerate() {
            let unit = child(&units, near, i, &mut rng);
            let value = evaluate(&unit);
            for j in near.iter().copied().chain([rng.random_range(0..units.len())]) {
                if distance(&value, &directions[j]) < distance(&values[j], &directions[j]) {
                    units[j] = unit.clone();
                    values[j] = value.clone();
                }
            }
            kept.push(value);
        }
        kept = trimmed(kept, benchmark.reference);
        if (generation + 1) % (generations / 10).max(1) == 0 {
            let volume = hypervolume(&kept, benchmark.reference);
            println!(
                "{} points: volume {volume:.6}, from {:?} to {:?}",
                kept.len(),
                ends(&kept).0,
                ends(&kept).1
            );
        }
    }
}

fn uniform(n: usize, rng: &mut impl Rng) -> Vec<f64> {
    (0..n).map(|_| rng.random()).collect()
}

/// Weights of sum 1, uniform among all such.
fn direction(n: usize, rng: &mut impl Rng) -> Vec<f64> {
    let raw: Vec<f64> = (0..n).map(|_| -rng.random::<f64>().max(1e-12).ln()).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|v| (v / sum).max(1e-4)).collect()
}

fn nearest(to: &[f64], all: &[Vec<f64>]) -> Vec<usize> {
    let apart = |i: &usize| all[*i].iter().zip(to).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|a, b| apart(a).total_cmp(&apart(b)));
    order.truncate(NEIGHBOURS);
    order
}

/// One of three moves: towards the difference of two neighbours, a few parts of a neighbour, or a step in one parameter.
fn child(units: &[Vec<f64>], near: &[usize], i: usize, rng: &mut impl Rng) -> Vec<f64> {
    let n = units[i].len();
    let mut pick = || &units[near[rng.random_range(0..near.len())]];
    let (a, b) = (pick(), pick());
    let mut unit = units[i].clone();
    match rng.random_range(0..3) {
        0 => {
            let along: f64 = rng.random::<f64>() * 0.8;
            (0..n).for_each(|d| unit[d] += along * (a[d] - b[d]));
        }
        1 => (0..n)
            .filter(|_| rng.random::<f64>() < 0.3)
            .for_each(|d| unit[d] = a[d]),
        _ => {}
    }
    let d = rng.random_range(0..n);
    unit[d] = match rng.random_range(0..4) {
        0 => rng.random(),
        // steps of every size, to the last digits
        _ => unit[d] + (rng.random::<f64>() - 0.5) * 10f64.powf(-6.0 * rng.random::<f64>()),
    };
    unit.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
    unit
}

/// The part of the front that counts, and of a large one what lies furthest apart after sorting by neighbours.
fn trimmed(mut points: Vec<Vec<f64>>, reference: &[f64]) -> Vec<Vec<f64>> {
    points.retain(|p| p.iter().zip(reference).all(|(p, r)| p < r));
    let best = front::front(&points);
    let mut kept: Vec<Vec<f64>> = best.into_iter().map(|i| points[i].clone()).collect();
    // equal points do not dominate each other
    kept.sort_by(|a, b| a.partial_cmp(b).unwrap());
    kept.dedup();
    if kept.len() <= KEPT {
        return kept;
    }
    // a grid as fine as it may be: the first point of each cell stays, and so do the ends
    let (low, high) = ends(&kept);
    let mut cells = 10.0;
    let mut thinned = Vec::new();
    loop {
        let mut met = std::collections::HashSet::new();
        let next: Vec<Vec<f64>> = kept
            .iter()
            .filter(|v| {
                let cell: Vec<i64> = (0..v.len())
                    .map(|i| (cells * (v[i] - low[i]) / (high[i] - low[i]).max(1e-12)) as i64)
                    .collect();
                met.insert(cell)
            })
            .cloned()
            .collect();
        if next.len() > KEPT {
            return thinned;
        }
        thinned = next;
        cells *= 1.1;
    }
}

/// The least and the greatest value of each objective.
fn ends(points: &[Vec<f64>]) -> (Vec<f64>, Vec<f64>) {
    let fold = |start: f64, with: fn(f64, f64) -> f64| -> Vec<f64> {
        (0..points[0].len())
            .map(|i| points.iter().map(|p| p[i]).fold(start, with))
            .collect()
    };
    (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max))
}
