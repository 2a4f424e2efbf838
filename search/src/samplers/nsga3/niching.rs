//! Which points of the last rank survive: those by directions that are little used.

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// `size` of the candidates, given the survivors of better ranks.
pub(super) fn pick(
    survivors: &[&[f64]],
    candidates: &[&[f64]],
    size: usize,
    directions: &[Vec<f64>],
    rng: &mut ChaCha8Rng,
) -> Vec<usize> {
    let all = [survivors, candidates].concat();
    let scale = Scale::new(&all);
    let nearest = |point: &&[f64]| nearest(&scale.apply(point), directions);
    let mut used = vec![0usize; directions.len()];
    survivors.iter().for_each(|p| used[nearest(p).0] += 1);
    let mut members: Vec<Vec<(f64, usize)>> = vec![Vec::new(); directions.len()];
    for (i, point) in candidates.iter().enumerate() {
        let (direction, distance) = nearest(point);
        members[direction].push((distance, i));
    }
    let mut picked = Vec::with_capacity(size);
    while picked.len() < size.min(candidates.len()) {
        let open = (0..directions.len()).filter(|d| !members[*d].is_empty());
        let least = open.clone().map(|d| used[d]).min().expect("a candidate is left");
        let rarest: Vec<usize> = open.filter(|d| used[*d] == least).collect();
        let direction = *rarest.choose(rng).expect("one is the least used");
        let here = &mut members[direction];
        let places: Vec<usize> = (0..here.len()).collect();
        // the first by a direction is the one closest to it, further ones are drawn
        let place = if least == 0 {
            places
                .into_iter()
                .min_by(|a, b| here[*a].0.total_cmp(&here[*b].0))
        } else {
            places.choose(rng).copied()
        };
        picked.push(here.swap_remove(place.expect("someone stands here")).1);
        used[direction] += 1;
    }
    picked
}

/// Shifts the ideal point to 0 and the intercepts of the plane through the extreme points to 1.
struct Scale {
    ideal: Vec<f64>,
    width: Vec<f64>,
}

impl Scale {
    fn new(points: &[&[f64]]) -> Scale {
        let objectives = points.first().map_or(0, |p| p.len());
        let fold = |o: usize, start: f64, f: fn(f64, f64) -> f64| points.iter().map(|p| p[o]).fold(start, f);
        let ideal: Vec<f64> = (0..objectives)
            .map(|o| fold(o, f64::INFINITY, f64::min))
            .collect();
        let range: Vec<f64> = (0..objectives)
            .map(|o| fold(o, f64::NEG_INFINITY, f64::max) - ideal[o])
            .map(|r| if r > 0.0 && r.is_finite() { r } else { 1.0 })
            .collect();
        let shifted = |point: &[f64]| -> Vec<f64> {
            point
                .iter()
                .zip(&ideal)
                .zip(&range)
                .map(|((v, i), r)| (v - i) / r)
                .collect()
        };
        // the extreme point of an axis is the least in the other objectives, by the achievement function
        let achievement = |p: &[f64], axis: usize| {
            let others = p
                .iter()
                .enumerate()
                .map(|(o, v)| if o == axis { *v } else { v * 1e6 });
            others.fold(0.0, f64::max)
        };
        let extremes: Vec<Vec<f64>> = (0..objectives)
            .filter_map(|axis| {
                let all = points.iter().map(|p| shifted(p));
                all.min_by(|a, b| achievement(a, axis).total_cmp(&achievement(b, axis)))
            })
            .collect();
        let intercepts = intercepts(extremes).filter(|all| all.iter().all(|i| (1e-6..=1.0).contains(i)));
        let width = match intercepts {
            Some(intercepts) => range.iter().zip(intercepts).map(|(r, i)| r * i).collect(),
            None => range,
        };
        Scale { ideal, width }
    }

    fn apply(&self, point: &[f64]) -> Vec<f64> {
        let scales = self.ideal.iter().zip(&self.width);
        point.iter().zip(scales).map(|(v, (i, w))| (v - i) / w).collect()
    }
}

/// Where the plane through the rows cuts the axes, by elimination; `None` if they are not on one plane.
fn intercepts(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = rows.len();
    rows.iter_mut().for_each(|row| row.push(1.0));
    for column in 0..n {
        let pivot = (column..n).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()))?;
        rows.swap(column, pivot);
        let lead = rows[column].clone();
        if lead[column].abs() < 1e-12 {
            return None;
        }
        for (i, row) in rows.iter_mut().enumerate() {
            let factor = if i == column {
                0.0
            } else {
                row[column] / lead[column]
            };
            row.iter_mut().zip(&lead).for_each(|(x, l)| *x -= factor * l);
        }
    }
    // the plane is a x + b y + .. = 1
    Some((0..n).map(|i| rows[i][i] / rows[i][n]).collect())
}

/// The direction whose line passes nearest, and the distance to it.
fn nearest(point: &[f64], directions: &[Vec<f64>]) -> (usize, f64) {
    let square = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>();
    let distance = |direction: &[f64]| {
        let along: f64 = point.iter().zip(direction).map(|(p, d)| p * d).sum();
        (square(point) - along * along / square(direction))
            .max(0.0)
            .sqrt()
    };
    let all = directions.iter().map(|d| distance(d)).enumerate();
    all.min_by(|a, b| a.1.total_cmp(&b.1))
        .expect("there are directions")
}

#[cfg(test)]
mod tests {
    use super::{super::directions::directions, *};
    use crate::proposal_rng;

    #[test]
    fn intercepts_by_hand() {
        // x / 2 + y / 4 = 1
        assert_eq!(
            intercepts(vec![vec![2.0, 0.0], vec![1.0, 2.0]]),
            Some(vec![2.0, 4.0])
        );
        assert_eq!(intercepts(vec![vec![1.0, 1.0], vec![2.0, 2.0]]), None);
    }

    #[test]
    fn objectives_of_any_unit_are_scaled_alike() {
        let points: Vec<Vec<f64>> = (0..=10)
            .map(|i| f64::from(i) / 10.0)
            .map(|x| vec![5.0 + x, 1e6 * (1.0 - x)])
            .collect();
        let points: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
        let scale = Scale::new(&points);
        let middle = scale.apply(points[5]);
        assert!(middle.iter().all(|v| (v - 0.5).abs() < 1e-9), "{middle:?}");
    }

    #[test]
    fn distances_are_perpendicular() {
        let (direction, distance) = nearest(&[1.0, 0.0], &[vec![0.0, 1.0], vec![0.5, 0.5]]);
        assert_eq!(direction, 1);
        assert!((distance - 0.5f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn empty_directions_are_filled_first_by_who_is_closest() {
        // survivors hold both ends; of the candidates one is in the middle, one beside it, two at an end
        let survivors: [&[f64]; 2] = [&[0.0, 1.0], &[1.0, 0.0]];
        let candidates: [&[f64]; 4] = [&[0.95, 0.05], &[0.52, 0.48], &[0.5, 0.5], &[0.98, 0.02]];
        let picked = pick(
            &survivors,
            &candidates,
            1,
            &directions(2, 3),
            &mut proposal_rng(0, 0),
        );
        assert_eq!(picked, [2]);
        let mut all = pick(
            &survivors,
            &candidates,
            4,
            &directions(2, 3),
            &mut proposal_rng(0, 0),
        );
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }
}
