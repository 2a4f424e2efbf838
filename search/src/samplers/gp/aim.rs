//! Up to where an improvement counts, where nobody has said so.
//!
//! The volume is bounded by a reference point that a search then has to guess: where the front will end is not known yet.
//! The guess takes in the front so far and the front that the expected values promise; for one proposal in two also what
//! the first trials were like, without which a front that has shrunk to one end would never look for the other, and with
//! which every proposal would look for ends where most fronts have none. What nearly all of the first trials are better
//! than counts for none: nobody wants a front that has grown there. Where objectives are known beforehand a few dozen
//! candidates from anywhere stand beside the first trials, which by themselves are too few to tell what is usual. Each proposal draws for each objective how far
//! towards the worst of these it looks, so that some proposals round off the ends of the front and others fill its middle.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The nearest that a proposal looks, as a share of the front that lies within.
const NEAREST: f64 = 0.75;
/// Share of what is usual that lies within, at the farthest.
const USUAL: f64 = 0.75;
/// Share of what is usual beyond which nothing counts: an end of the front where an objective is worse than nearly
/// anywhere else is of no use to anyone, and there may be no end to it.
const FARTHEST: f64 = 0.9;
/// Share of the proposals that take in what is usual.
const WIDE: f64 = 0.5;
/// What is added beyond, as a share of the range.
const MARGIN: f64 = 0.1;

/// A reference point for the front so far, a foreseen one and what is usual: the first trials, or more than those.
pub(super) fn reference(
    front: &[Vec<f64>],
    foreseen: &[Vec<f64>],
    usual: &[Vec<f64>],
    rng: &mut ChaCha8Rng,
) -> Vec<f64> {
    let width = foreseen.first().map_or(0, Vec::len);
    let wide = rng.random_bool(WIDE);
    (0..width)
        .map(|k| {
            let share = NEAREST + (1.0 - NEAREST) * rng.random::<f64>();
            let worst_of = |points, share| quantile(points, k, share).unwrap_or(f64::NEG_INFINITY);
            let farthest = quantile(usual, k, FARTHEST).unwrap_or(f64::INFINITY);
            let mut worst = worst_of(front, share)
                .max(worst_of(foreseen, share))
                .min(farthest);
            if wide {
                worst = worst.max(worst_of(usual, share * USUAL));
            }
            let best = front.iter().map(|p| p[k]).fold(worst, f64::min);
            // a flat objective needs some room too
            worst + (MARGIN * (worst - best)).max(1e-6)
        })
        .collect()
}

fn quantile(points: &[Vec<f64>], k: usize, share: f64) -> Option<f64> {
    let mut values: Vec<f64> = points.iter().map(|p| p[k]).collect();
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some(values[(last as f64 * share).round() as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proposal_rng;

    #[test]
    fn a_front_that_shrank_to_one_end_still_looks_for_the_other() {
        let trials: Vec<Vec<f64>> = (0..16).map(|i| vec![f64::from(i), 15.0 - f64::from(i)]).collect();
        let front = vec![vec![0.0, 1.0], vec![0.1, 0.9]];
        let mut wide = 0;
        for seed in 0..200 {
            let at = reference(&front, &front, &trials, &mut proposal_rng(seed, 0));
            assert!(at.iter().all(|r| (0.0..16.0).contains(r)), "{at:?}");
            wide += u32::from(at.iter().all(|r| *r > 8.0));
        }
        assert!((80..120).contains(&wide), "{wide} of 200");
    }
}
