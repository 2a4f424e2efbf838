//! Who is best among results of several objectives: by non-dominated rank, then spread over the front.
//!
//! Within a front an epsilon-net (Schmucker et al. 2021, arXiv:2106.12639): first the best in the first objective, then
//! always the point that is farthest from all that were taken, objectives scaled to the front's range. Results that
//! break limits come last, by how far they do. With one objective this is the order of its values.

use std::borrow::Borrow;

use crate::{Rung, front};

/// Indices of the best `most` results, best first; ties go to the earlier one.
pub(super) fn best<R: Borrow<Rung>>(results: &[R], most: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(most);
    if most > 0 {
        walk(results, |index| {
            order.push(index);
            order.len() < most
        });
    }
    order
}

/// Index of the best result that is `wanted`.
pub(super) fn best_where<R: Borrow<Rung>>(results: &[R], wanted: impl Fn(usize) -> bool) -> Option<usize> {
    let mut found = None;
    walk(results, |index| {
        found = wanted(index).then_some(index);
        found.is_none()
    });
    found
}

/// Visits results from the best on, until `visit` says stop; fronts are found as they are reached.
fn walk<R: Borrow<Rung>>(results: &[R], mut visit: impl FnMut(usize) -> bool) {
    let (kept, mut broken): (Vec<usize>, Vec<usize>) =
        (0..results.len()).partition(|i| results[*i].borrow().violation == 0.0);
    let values: Vec<&[f64]> = kept.iter().map(|i| &*results[*i].borrow().values).collect();
    for members in front::peel(&values) {
        let mut net = Net::new(&values, members);
        while let Some(index) = net.next() {
            if !visit(kept[index]) {
                return;
            }
        }
    }
    broken.sort_by(|a, b| {
        let violation = |i: &usize| results[*i].borrow().violation;
        violation(a).total_cmp(&violation(b))
    });
    for index in broken {
        if !visit(index) {
            return;
        }
    }
}

/// An epsilon-net that grows point by point.
struct Net<'a> {
    values: &'a [&'a [f64]],
    /// One over the range of each objective within the front, 0 where it does not vary.
    scale: Vec<f64>,
    /// The members not yet taken, with their squared distance to the nearest that is.
    left: Vec<(usize, f64)>,
    started: bool,
}

impl<'a> Net<'a> {
    fn new(values: &'a [&'a [f64]], members: Vec<usize>) -> Self {
        let width = members.first().map_or(0, |m| values[*m].len());
        let scale = (0..width).map(|objective| {
            let of = members.iter().map(|m| values[*m][objective]);
            let (low, high) = of.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
                (l.min(v), h.max(v))
            });
            let range = high - low;
            if range > 0.0 && range.is_finite() {
                1.0 / range
            } else {
                0.0
            }
        });
        Net {
            values,
            scale: scale.collect(),
            left: members.into_iter().map(|m| (m, f64::INFINITY)).collect(),
            started: false,
        }
    }

    fn next(&mut self) -> Option<usize> {
        // members come in ascending order, and only a strictly better one replaces the choice: ties go to the earlier
        let mut choice = None;
        for (at, (member, distance)) in self.left.iter().enumerate() {
            let merit = if self.started {
                *distance
            } else {
                -self.values[*member].first().copied().unwrap_or(0.0)
            };
            if choice.is_none_or(|(_, best)| merit > best) {
                choice = Some((at, merit));
            }
        }
        let (taken, _) = self.left.remove(choice?.0);
        self.started = true;
        let from = self.values[taken];
        for (member, distance) in &mut self.left {
            let to = self.values[*member].iter().zip(from).zip(&self.scale);
            let squared: f64 = to.map(|((a, b), scale)| ((a - b) * scale).powi(2)).sum();
            *distance = distance.min(squared);
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rungs(values: &[&[f64]]) -> Vec<Rung> {
        let rung = |values: &&[f64]| Rung {
            fidelity: 0.5,
            values: values.to_vec(),
            violation: 0.0,
            limited: vec![],
            curve: vec![],
        };
        values.iter().map(rung).collect()
    }

    #[test]
    fn one_objective_is_ranked_by_value() {
        let results = rungs(&[&[3.0], &[1.0], &[2.0], &[1.0]]);
        assert_eq!(best(&results, 4), [1, 3, 2, 0]);
        assert_eq!(best(&results, 2), [1, 3]);
    }

    #[test]
    fn a_front_is_covered_from_its_ends_to_its_gaps() {
        // a straight front at 0, 1, 2, 5, 10 of 10; behind it a dominated point that is best in nothing
        let results = rungs(&[
            &[2.0, 8.0],
            &[0.0, 10.0],
            &[6.0, 6.0],
            &[10.0, 0.0],
            &[5.0, 5.0],
            &[1.0, 9.0],
        ]);
        assert_eq!(best(&results, 6), [1, 3, 4, 0, 5, 2]);
    }

    #[test]
    fn who_breaks_limits_comes_last_by_how_far() {
        let mut results = rungs(&[&[1.0], &[2.0], &[3.0]]);
        results[0].violation = 0.5;
        results[1].violation = 0.1;
        assert_eq!(best(&results, 3), [2, 1, 0]);
        assert_eq!(best_where(&results, |i| i != 2), Some(1));
    }
}
