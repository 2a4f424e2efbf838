//! The fixed projections of random features: never trained, the same in every process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

const SEED: u64 = 0x2009_1479_4000_0000;

/// Projections of `d` components, one in each of `m` columns `[d, m]`.
///
/// One set serves all layers and heads, whose own projections differ anyway, so that a head keeps its features when
/// others are pruned.
pub(super) fn projections(d: usize, m: usize) -> Arc<[f32]> {
    static DRAWN: Mutex<BTreeMap<[usize; 2], Arc<[f32]>>> = Mutex::new(BTreeMap::new());
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    drawn
        .entry([d, m])
        .or_insert_with(|| draw(d, m, SEED).into())
        .clone()
}

/// Normal vectors of which each `d` in a row are orthogonal (2009.14794, section 2.4).
///
/// Directions are those of orthogonalised normal vectors, lengths those of other normal vectors: each projection alone
/// is normal, so the estimate stays unbiased, and its spread is smaller than that of independent ones.
pub(super) fn draw(d: usize, m: usize, seed: u64) -> Vec<f32> {
    let mut columns: Vec<Vec<f64>> = vec![];
    for block in 0..m.div_ceil(d) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(block as u64);
        let mut normal = || -> Vec<f64> { StandardNormal.sample_iter(&mut random).take(d).collect() };
        let mut directions: Vec<Vec<f64>> = vec![];
        for _ in 0..d.min(m - block * d) {
            let mut x = normal();
            for other in &directions {
                let along = dot(&x, other);
                x.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
            let length = dot(&x, &x).sqrt();
            x.iter_mut().for_each(|x| *x /= length);
            directions.push(x);
        }
        for mut x in directions {
            let other = normal();
            let length = dot(&other, &other).sqrt();
            x.iter_mut().for_each(|x| *x *= length);
            columns.push(x);
        }
    }
    (0..d)
        .flat_map(|c| columns.iter().map(move |column| column[c] as f32))
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
