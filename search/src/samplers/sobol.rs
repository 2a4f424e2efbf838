//! Scrambled Sobol points (Joe and Kuo 2008; Owen scrambling by hashing, Burley 2020): spread more evenly than chance.
//!
//! Trial `i` takes the `i`-th point, so that a replay agrees whatever finished in between. Where that point is refused,
//! the trial takes the `i`-th point of another scrambling, and so on.

use rand::Rng;
use sobol_burley::{NUM_DIMENSIONS, sample};

use super::{Method, Sampler};
use crate::{Ask, AskError, Proposal, ask::stream};

pub(super) const METHOD: Method = Method {
    name: "sobol",
    doc: "evenly spread configurations that look at no results",
    paper: "Joe and Kuo, SIAM J. Sci. Comput. 2008; Burley, JCGT 2020",
    build: || Box::new(Sobol),
};

/// Length of one sequence; later trials go on with another scrambling.
const LENGTH: u32 = 1 << 16;
/// The stream of random numbers that seeds the scramblings, beyond those of the trials.
const STREAM: u64 = 1 << 32;

/// The sampler; it has no state.
pub(super) struct Sobol;

impl Sampler for Sobol {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let (seed, number, dimensions) = (ask.problem.seed, ask.number, ask.problem.space.len());
        let mut attempt = 0;
        ask.first(|_| {
            attempt += 1;
            point(seed, attempt - 1, number, dimensions)
        })
    }
}

/// The point of one trial in the scrambling of that attempt.
fn point(seed: u64, attempt: u32, number: u32, dimensions: usize) -> Vec<f64> {
    let mut scrambles = stream(seed, STREAM);
    let mut scramble_of = |block: u32| {
        // one scrambling for each attempt, stretch of the sequence and block of dimensions
        let stretch = number / LENGTH;
        scrambles.set_word_pos(u128::from(attempt) << 32 | u128::from(stretch) << 16 | u128::from(block));
        scrambles.next_u32()
    };
    let mut unit = Vec::with_capacity(dimensions);
    for block in 0..(dimensions as u32).div_ceil(NUM_DIMENSIONS) {
        let scramble = scramble_of(block);
        let left = dimensions as u32 - block * NUM_DIMENSIONS;
        unit.extend((0..left.min(NUM_DIMENSIONS)).map(|d| f64::from(sample(number % LENGTH, d, scramble))));
    }
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sixteenth_holds_one_of_sixteen_points() {
        for seed in 0..5 {
            let points: Vec<_> = (0..16).map(|i| point(seed, 0, i, 300)).collect();
            for d in 0..300 {
                let mut met = [false; 16];
                points.iter().for_each(|p| met[(p[d] * 16.0) as usize] = true);
                assert!(met.iter().all(|m| *m), "seed {seed}, dimension {d}");
            }
        }
    }

    #[test]
    fn seeds_attempts_and_stretches_differ() {
        let base = point(0, 0, 3, 4);
        assert_eq!(base, point(0, 0, 3, 4));
        for other in [point(1, 0, 3, 4), point(0, 1, 3, 4), point(0, 0, 3 + LENGTH, 4)] {
            assert_ne!(base, other);
        }
    }
}
