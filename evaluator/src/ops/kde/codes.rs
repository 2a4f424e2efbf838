//! Angular hashing: on which sides of fixed hyperplanes a vector lies, and the order of vectors by that.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::ops::simd;

const SEED: u64 = 0x2302_0245_1000_0000;
/// Sides that a code has room for.
const MOST_BITS: usize = 16;

/// Normal values `[d, bits]`, a hyperplane in each column: never trained, the same in every process.
///
/// One set serves all layers and heads, whose projections differ anyway, so that a head keeps its codes when others are
/// pruned. A bit has the same hyperplane however many bits there are.
pub(super) fn hyperplanes(d: usize, bits: usize) -> Arc<[f32]> {
    static DRAWN: Mutex<BTreeMap<[usize; 2], Arc<[f32]>>> = Mutex::new(BTreeMap::new());
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    let planes = drawn.entry([d, bits]).or_insert_with(|| {
        let mut planes = vec![0.0; d * bits];
        for bit in 0..bits {
            let mut random = ChaCha8Rng::seed_from_u64(SEED);
            random.set_stream(bit as u64);
            for (c, x) in StandardNormal.sample_iter(random).take(d).enumerate() {
                planes[c * bits + bit] = x;
            }
        }
        planes.into()
    });
    planes.clone()
}

/// On which side of each hyperplane `[d, bits]` a vector lies, one bit for each.
#[inline(always)]
pub(super) fn code(x: &[f32], hyperplanes: &[f32]) -> usize {
    let bits = hyperplanes.len() / x.len();
    let mut sides = [0.0f32; MOST_BITS];
    let sides = &mut sides[..bits];
    simd::add_weighted_rows(sides, x, hyperplanes, bits);
    let bits = sides.iter().enumerate();
    bits.map(|(bit, side)| usize::from(*side >= 0.0) << bit).sum()
}

/// Where a code stands in the order in which neighbours differ in one bit (Gray).
pub(super) fn gray_rank(code: usize) -> usize {
    let shifts = (0..usize::BITS.ilog2()).map(|s| 1 << s);
    shifts.fold(code, |rank, shift: u32| rank ^ (rank >> shift))
}

/// Positions in the order of their ranks, equal ones in their own order.
pub(super) fn order(ranks: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by_key(|i| ranks[*i]);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_collide_as_often_as_the_angle_says() {
        let (draws, d) = (20_000, 16);
        for angle in [0.1f32, 0.5, 1.0, std::f32::consts::FRAC_PI_2] {
            let mut pair = [vec![0.0; d], vec![0.0; d]];
            pair[0][0] = 1.0;
            (pair[1][0], pair[1][1]) = (angle.cos(), angle.sin());
            for bits in [1, 2, 4] {
                let hits = (0..draws).filter(|seed| {
                    let random = ChaCha8Rng::seed_from_u64(*seed);
                    let hyperplanes: Vec<f32> = StandardNormal.sample_iter(random).take(bits * d).collect();
                    code(&pair[0], &hyperplanes) == code(&pair[1], &hyperplanes)
                });
                let share = hits.count() as f64 / draws as f64;
                let expected = (1.0 - f64::from(angle) / std::f64::consts::PI).powi(bits as i32);
                assert!(
                    (share - expected).abs() < 0.015,
                    "{angle}, {bits} bits: {share}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn neighbours_in_the_order_of_codes_differ_in_one_bit() {
        let ranks: Vec<usize> = (0..64).map(gray_rank).collect();
        for pair in order(&ranks).windows(2) {
            assert_eq!((pair[0] ^ pair[1]).count_ones(), 1);
        }
        assert_eq!(order(&[2, 0, 2, 0, 1]), [1, 3, 4, 0, 2]);
    }

    #[test]
    fn a_bit_keeps_its_hyperplane_when_there_are_more() {
        let (two, ten) = (hyperplanes(5, 2), hyperplanes(5, 10));
        for (few, many) in two.chunks(2).zip(ten.chunks(10)) {
            assert_eq!(few, &many[..2]);
        }
    }
}
