//! The region that a front leaves open, cut into boxes.
//!
//! The local upper bounds of a front and the boxes below them, by Lacour, Klamroth and Fonseca 2017: each box reaches
//! to one bound, and together they cover once what no point of the front dominates, up to the reference point.

/// Boxes over the levels of each objective.
#[derive(Clone, Debug)]
pub(crate) struct Boxes {
    /// For each objective the coordinates at which boxes end, ascending; the first is minus infinity.
    pub(crate) levels: Vec<Vec<f64>>,
    /// For each box and objective, the levels between which it lies.
    sides: Vec<(u32, u32)>,
}

/// A corner below which nothing is dominated, and for each objective the point that bounds it there.
#[derive(Clone)]
struct Bound {
    corner: Vec<f64>,
    /// Row `k` is the point that bounds objective `k`.
    defining: Vec<f64>,
}

impl Boxes {
    /// The boxes that `front` leaves open below `reference`; points that are not below it do not count.
    pub(crate) fn new(front: &[Vec<f64>], reference: &[f64]) -> Boxes {
        let m = reference.len();
        let mut first = Bound {
            corner: reference.to_vec(),
            defining: vec![f64::NEG_INFINITY; m * m],
        };
        for (k, end) in reference.iter().enumerate() {
            first.defining[k * m + k] = *end;
        }
        let mut bounds = vec![first];
        for point in &untied(front) {
            let mut next = Vec::with_capacity(bounds.len() + m);
            for bound in bounds {
                if point.iter().zip(&bound.corner).all(|(p, c)| p < c) {
                    next.extend((0..m).filter_map(|j| bound.lowered(j, point)));
                } else {
                    next.push(bound);
                }
            }
            bounds = next;
        }
        let levels: Vec<Vec<f64>> = (0..m)
            .map(|k| {
                let mut levels: Vec<f64> = bounds.iter().map(|b| b.corner[k]).collect();
                levels.push(f64::NEG_INFINITY);
                levels.extend(bounds.iter().map(|b| b.low(k)));
                levels.sort_unstable_by(f64::total_cmp);
                levels.dedup();
                levels
            })
            .collect();
        let place = |k: usize, v: f64| levels[k].partition_point(|l| *l < v) as u32;
        let mut sides = Vec::with_capacity(bounds.len() * m);
        for bound in &bounds {
            if (0..m).all(|k| bound.low(k) < bound.corner[k]) {
                sides.extend((0..m).map(|k| (place(k, bound.low(k)), place(k, bound.corner[k]))));
            }
        }
        Boxes { levels, sides }
    }

    /// Sum over the boxes of the product over the objectives of what `below` says at the upper level minus the lower.
    pub(crate) fn sum(&self, below: &[Vec<f64>]) -> f64 {
        let m = self.levels.len();
        let mut total = 0.0;
        for sides in self.sides.chunks_exact(m) {
            let mut product = 1.0;
            for ((low, high), below) in sides.iter().zip(below) {
                product *= below[*high as usize] - below[*low as usize];
            }
            total += product;
        }
        total
    }

    /// The least sum over the objectives of the distances to a box's upper levels.
    pub(crate) fn nearest(&self, distance: impl Fn((usize, f64)) -> f64) -> f64 {
        let boxes = self.sides.chunks_exact(self.levels.len());
        let sums = boxes.map(|sides| {
            let uppers = sides
                .iter()
                .enumerate()
                .map(|(k, (_, high))| (k, self.levels[k][*high as usize]));
            uppers.map(&distance).sum()
        });
        sums.fold(f64::INFINITY, f64::min)
    }

    /// Number of boxes.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.sides.len() / self.levels.len()
    }
}

/// The points with equal coordinates moved apart by next to nothing: the bounds are defined for those.
fn untied(front: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut apart = front.to_vec();
    let mut order: Vec<usize> = (0..front.len()).collect();
    for k in 0..front.first().map_or(0, Vec::len) {
        order.sort_by(|a, b| front[*a][k].total_cmp(&front[*b][k]).then(a.cmp(b)));
        for pair in order.windows(2) {
            let least = apart[pair[0]][k];
            if apart[pair[1]][k] <= least {
                apart[pair[1]][k] = least + (least.abs() * 1e-13).max(1e-13);
            }
        }
    }
    apart
}

impl Bound {
    /// The bound moved down to `point` in objective `j`; `None` where another bound covers it.
    fn lowered(&self, j: usize, point: &[f64]) -> Option<Bound> {
        let m = self.corner.len();
        let redundant = (0..m).any(|k| k != j && self.defining[k * m + j] >= point[j]);
        if redundant {
            return None;
        }
        let mut next = self.clone();
        next.corner[j] = point[j];
        next.defining[j * m..][..m].copy_from_slice(point);
        Some(next)
    }

    /// Where the box below this bound begins in objective `k`.
    fn low(&self, k: usize) -> f64 {
        let m = self.corner.len();
        (0..k)
            .map(|i| self.defining[i * m + k])
            .fold(f64::NEG_INFINITY, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::{front::front, hypervolume, proposal_rng};

    #[test]
    fn the_boxes_fill_what_the_front_leaves_open() {
        for m in 1..=5usize {
            for seed in 0..30 {
                let mut rng = proposal_rng(seed, m as u32);
                // whole numbers tie often
                let ties = seed % 2 == 0;
                let mut value = || {
                    let v: f64 = rng.random();
                    if ties { (v * 5.0).floor() / 5.0 } else { v }
                };
                let points: Vec<Vec<f64>> = (0..14).map(|_| (0..m).map(|_| value()).collect()).collect();
                let members: Vec<Vec<f64>> = front(&points).into_iter().map(|i| points[i].clone()).collect();
                let reference = vec![0.9; m];
                let boxes = Boxes::new(&members, &reference);
                let clipped: Vec<Vec<f64>> = boxes
                    .levels
                    .iter()
                    .map(|l| l.iter().map(|v| v.max(-0.1)).collect())
                    .collect();
                let open = boxes.sum(&clipped);
                let whole = hypervolume(&members, &reference) + open;
                assert!(
                    (whole - 1f64.powi(m as i32)).abs() < 1e-9,
                    "{m} objectives, seed {seed}: {whole}"
                );
                if m == 2 {
                    assert!(boxes.len() <= members.len() + 1);
                }
            }
        }
    }
}
