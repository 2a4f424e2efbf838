//! The fixed rotations that hash: never trained, the same in every process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::Hashing;

const SEED: u64 = 0x2001_0445_1000_0000;

/// Normal values `[rounds, d, buckets / 2]`.
///
/// One set serves all layers and heads, whose projections differ anyway, so that a head keeps its hash when others are
/// pruned. A round has the same values however many rounds there are.
pub(super) fn rotations(d: usize, hashing: Hashing) -> Arc<[f32]> {
    static DRAWN: Mutex<BTreeMap<[usize; 3], Arc<[f32]>>> = Mutex::new(BTreeMap::new());
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    let sizes = [hashing.rounds, d, hashing.buckets / 2];
    let values = drawn.entry(sizes).or_insert_with(|| {
        let rounds = (0..hashing.rounds).flat_map(|round| {
            let mut random = ChaCha8Rng::seed_from_u64(SEED);
            random.set_stream(round as u64);
            StandardNormal.sample_iter(random).take(d * (hashing.buckets / 2))
        });
        rounds.collect()
    });
    values.clone()
}
