//! Crossover and mutation of points of the unit cube.
//!
//! Simulated binary crossover and polynomial mutation, Deb and Agrawal 1995; names are swapped or drawn anew.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use spaces::{Domain, Space, Value};

/// Distribution index of the crossover: the higher, the closer children stay to their parents.
const CROSSOVER_ETA: f64 = 2.0;
/// Distribution index of the mutation.
const MUTATION_ETA: f64 = 10.0;

/// A child of two points whose inactive coordinates are `None`; what neither parent has is drawn uniformly.
pub(crate) fn crossover(
    space: &Space,
    a: &[Option<f64>],
    b: &[Option<f64>],
    rng: &mut ChaCha8Rng,
) -> Vec<f64> {
    let parameters = space.parameters().iter();
    parameters
        .zip(a.iter().zip(b))
        .map(|(parameter, genes)| match genes {
            (Some(x), Some(y)) if rng.random_bool(0.5) => {
                if parameter.domain.is_ordered() {
                    simulated_binary(*x, *y, rng)
                } else {
                    *y
                }
            }
            (Some(x), _) | (None, Some(x)) => *x,
            (None, None) => rng.random(),
        })
        .collect()
}

/// Changes each coordinate with probability `rate`; a value of a finite domain that is to change does change.
pub(crate) fn mutate(space: &Space, unit: &mut [f64], rate: f64, rng: &mut ChaCha8Rng) {
    for (parameter, u) in space.parameters().iter().zip(unit) {
        if rng.random_bool(rate.clamp(0.0, 1.0)) {
            *u = mutated(&parameter.domain, *u, rng);
        }
    }
}

/// Changes one coordinate; a value of a finite domain does change.
pub(crate) fn mutate_at(space: &Space, unit: &mut [f64], place: usize, rng: &mut ChaCha8Rng) {
    unit[place] = mutated(&space.parameters()[place].domain, unit[place], rng);
}

fn mutated(domain: &Domain, u: f64, rng: &mut ChaCha8Rng) -> f64 {
    let Some(n) = domain.cardinality() else {
        return polynomial(u, rng);
    };
    if n == 1 {
        return u;
    }
    if !domain.is_ordered() {
        return other_name(n, u, rng);
    }
    let moved = polynomial(u, rng);
    let before = domain.from_unit(u);
    if domain.from_unit(moved) != before {
        return moved;
    }
    // a step too small to leave the value's slice goes to the neighbouring value on the same side
    let up = moved > u;
    let next = neighbour(domain, &before, u, n, up).or_else(|| neighbour(domain, &before, u, n, !up));
    next.unwrap_or(moved)
}

/// The coordinate of one of the other names of `n`, each as likely.
pub(crate) fn other_name(n: u64, u: f64, rng: &mut ChaCha8Rng) -> f64 {
    let slot = ((u * n as f64) as u64).min(n - 1);
    ((slot + rng.random_range(1..n)) % n) as f64 / n as f64 + 0.5 / n as f64
}

fn neighbour(domain: &Domain, value: &Value, u: f64, n: u64, up: bool) -> Option<f64> {
    match (domain, value) {
        // logarithmic slices differ in width, so whole numbers go by value
        (Domain::Int { step, .. }, Value::Int(i)) => {
            let next = if up {
                i.checked_add(*step)
            } else {
                i.checked_sub(*step)
            };
            domain.to_unit(&Value::Int(next?))
        }
        _ => {
            let next = u + if up { 1.0 } else { -1.0 } / n as f64;
            (0.0..1.0).contains(&next).then_some(next)
        }
    }
}

/// One child of simulated binary crossover, kept in the unit interval.
fn simulated_binary(x: f64, y: f64, rng: &mut ChaCha8Rng) -> f64 {
    let p: f64 = rng.random();
    let exponent = 1.0 / (CROSSOVER_ETA + 1.0);
    let spread = if p <= 0.5 {
        (2.0 * p).powf(exponent)
    } else {
        (0.5 / (1.0 - p)).powf(exponent)
    };
    let sign = if rng.random_bool(0.5) { 1.0 } else { -1.0 };
    (0.5 * (x + y + sign * spread * (x - y))).clamp(0.0, 1.0)
}

/// Polynomial mutation whose reach shrinks towards the nearer end, so that the ends do not collect points.
fn polynomial(u: f64, rng: &mut ChaCha8Rng) -> f64 {
    let p: f64 = rng.random();
    let exponent = 1.0 / (MUTATION_ETA + 1.0);
    let moved = if p < 0.5 {
        let reach = (1.0 - u).powf(MUTATION_ETA + 1.0);
        u + (2.0 * p + (1.0 - 2.0 * p) * reach).powf(exponent) - 1.0
    } else {
        let reach = u.powf(MUTATION_ETA + 1.0);
        u + 1.0 - (2.0 * (1.0 - p) + (2.0 * p - 1.0) * reach).powf(exponent)
    };
    moved.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use spaces::Parameter;

    use super::*;
    use crate::proposal_rng;

    fn one(domain: Domain) -> Space {
        let parameter = Parameter {
            name: "x".into(),
            domain,
            condition: Default::default(),
        };
        Space::new(vec![parameter]).unwrap()
    }

    #[test]
    fn a_mutation_of_a_finite_domain_changes_the_value() {
        let names =
            |n: i64| Domain::categorical((0..n).map(|i| format!("n{i}").as_str().into()).collect()).unwrap();
        for domain in [
            Domain::int(2, 6, false, 1).unwrap(),
            Domain::int(1, 4000, true, 1).unwrap(),
            Domain::int(64, 256, false, 32).unwrap(),
            Domain::float(0.0, 1.0, false, Some(0.25)).unwrap(),
            Domain::categorical([32, 8, 4].map(Value::Int).to_vec()).unwrap(),
            names(2),
            names(5),
        ] {
            let (space, mut rng) = (one(domain.clone()), proposal_rng(1, 2));
            for _ in 0..500 {
                let before = rng.random::<f64>();
                let mut unit = [before];
                mutate(&space, &mut unit, 1.0, &mut rng);
                assert_ne!(
                    domain.from_unit(unit[0]),
                    domain.from_unit(before),
                    "{domain} at {before}"
                );
            }
        }
    }

    #[test]
    fn a_crossover_keeps_to_the_parents_genes() {
        let space =
            one(Domain::categorical((0..9).map(|i| format!("n{i}").as_str().into()).collect()).unwrap());
        let mut rng = proposal_rng(0, 0);
        let (mut met, mut drawn) = ([0; 2], HashSet::new());
        for _ in 0..100 {
            let child = crossover(&space, &[Some(0.1)], &[Some(0.9)], &mut rng);
            met[usize::from(child[0] > 0.5)] += 1;
            assert_eq!(crossover(&space, &[None], &[Some(0.9)], &mut rng), [0.9]);
            drawn.insert(crossover(&space, &[None], &[None], &mut rng)[0].to_bits());
        }
        assert!(met[0] > 20 && met[1] > 20, "{met:?}");
        assert_eq!(drawn.len(), 100, "what neither parent has is drawn anew");
    }

    #[test]
    fn real_children_stay_near_and_the_mean_stays() {
        let mut rng = proposal_rng(0, 0);
        let n = 20_000;
        let mean: f64 = (0..n).map(|_| simulated_binary(0.4, 0.6, &mut rng)).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let far = (0..n)
            .filter(|_| (polynomial(0.5, &mut rng) - 0.5).abs() > 0.25)
            .count();
        // three quarters to the power of eta + 1 of them
        assert!((700..1000).contains(&far), "{far}");
    }
}
