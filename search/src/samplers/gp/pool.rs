//! Candidates for the acquisition: everywhere, around the front, and around the best so far.

use std::f64::consts::PI;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use spaces::{Domain, Space};

use crate::variation::other_name;

/// Moves some coordinates: numbers by normal steps of that scale, short lists by at least one place, names at random.
pub(super) fn nudge(space: &Space, unit: &[f64], rate: f64, scale: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut moved = unit.to_vec();
    if moved.is_empty() {
        return moved;
    }
    let sure = rng.random_range(0..moved.len());
    for (i, (parameter, u)) in space.parameters().iter().zip(&mut moved).enumerate() {
        if i == sure || rng.random_bool(rate) {
            *u = step(&parameter.domain, *u, scale, rng);
        }
    }
    moved
}

fn step(domain: &Domain, u: f64, scale: f64, rng: &mut ChaCha8Rng) -> f64 {
    match domain.cardinality() {
        Some(1) => u,
        Some(n) if !domain.is_ordered() => other_name(n, u, rng),
        Some(n) => {
            // at least one place, or nothing would move at small scales
            let places = normal(rng) * scale;
            let least = 1.0 / n as f64;
            (u + places.abs().max(least).copysign(places)).clamp(0.0, 1.0)
        }
        None => (u + normal(rng) * scale).clamp(0.0, 1.0),
    }
}

/// A standard normal number (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (2.0 * PI * v).cos()
}
