//! A sweep along the first objective over a division of the free space into boxes (Lacour et al. 2017).
//!
//! The space of the other objectives that no point dominates yet is kept as boxes without overlap. A point takes the
//! boxes whose corner it is better than, adds what it covers of them, and leaves at most one new box a side of each.

use crate::front::sorted_column;

/// How many corners are compared before it is asked whether one was hit: some vector registers' worth.
const BLOCK: usize = 16;

/// The corner where there is no box: beyond no point.
const NOWHERE: i32 = -2;

/// The free space in `D` coordinates.
///
/// Corners are compared by rank, where of equal values the one that came first is less: no two points then share a
/// coordinate, and what such ties cut off has no volume.
struct Boxes<'a, const D: usize> {
    /// Values and ranks of all points; the first `D` stand for the outer walls, the next ones for the points.
    values: &'a [[f64; D]],
    ranks: &'a [[i32; D]],
    /// The rank of each box's corner, a column a coordinate, in whole blocks.
    corners: [Vec<i32>; D],
    /// Which points' values the corner consists of.
    bounds: Vec<[u32; D]>,
    /// Room to note the boxes that a point hits, and those that it leaves.
    hit: Vec<u32>,
    fresh: Vec<[u32; D]>,
}

impl<const D: usize> Boxes<'_, D> {
    /// Takes the room that a point dominates out of the free space, and gives its volume.
    #[inline(never)]
    fn take(&mut self, point: u32) -> f64 {
        let (value, rank) = (self.values[point as usize], self.ranks[point as usize]);
        let hits = self.find(&rank);
        if self.fresh.len() < hits * D {
            self.fresh.resize(hits * D, [0; D]);
        }
        let (mut volume, mut fresh) = (0.0, 0);
        for slot in &self.hit[..hits] {
            let bounds = self.bounds[*slot as usize];
            let values = bounds.map(|b| &self.values[b as usize]);
            let ranks = bounds.map(|b| &self.ranks[b as usize]);
            let mut part = 1.0;
            for j in 0..D {
                let inner = |low: f64, v: &&[f64; D]| if v[j] > low { v[j] } else { low };
                part *= values[j][j] - values[..j].iter().fold(value[j], inner);
            }
            volume += part;
            // whether a side leaves a box is a toss-up: it is always written, and counted where it does
            for j in 0..D {
                let mut left = bounds;
                left[j] = point;
                self.fresh[fresh] = left;
                fresh += usize::from((0..D).all(|k| (k == j) | (ranks[k][j] < rank[j])));
            }
        }
        self.replace(hits, fresh);
        volume
    }

    /// Notes the boxes whose corner is beyond `rank` in every coordinate, ascending, and counts them.
    // apart from `take`, which would be short of registers with it
    #[inline(never)]
    fn find(&mut self, rank: &[i32; D]) -> usize {
        let (padded, mut hits) = (self.corners[0].len(), 0);
        if self.hit.len() < padded {
            self.hit.resize(2 * padded, 0);
        }
        for start in (0..padded).step_by(BLOCK) {
            let mut beyond = [-1i32; BLOCK];
            for (column, r) in self.corners.iter().zip(rank) {
                for (b, c) in beyond.iter_mut().zip(&column[start..start + BLOCK]) {
                    *b &= -i32::from(c > r);
                }
            }
            if beyond.iter().fold(0, |any, b| any | b) != 0 {
                // no more hits than slots so far, so there is room for a block
                let room = &mut self.hit[hits..hits + BLOCK];
                let mut more = 0;
                for (at, b) in (start as u32..).zip(beyond) {
                    room[more % BLOCK] = at;
                    more += (b & 1) as usize;
                }
                hits += more;
            }
        }
        hits
    }

    /// Puts the first `fresh` new boxes where the first `hits` hit ones are.
    #[inline(never)]
    fn replace(&mut self, hits: usize, fresh: usize) {
        for at in 0..fresh {
            let bounds = self.fresh[at];
            let corner: [i32; D] = std::array::from_fn(|j| self.ranks[bounds[j] as usize][j]);
            if at < hits {
                self.put(self.hit[at] as usize, corner, bounds);
            } else {
                self.push(corner, bounds);
            }
        }
        // from the last, so that what moves into a slot is never to go itself
        for at in (fresh..hits).rev() {
            self.remove(self.hit[at] as usize);
        }
    }

    fn put(&mut self, slot: usize, corner: [i32; D], bounds: [u32; D]) {
        for (column, c) in self.corners.iter_mut().zip(corner) {
            column[slot] = c;
        }
        self.bounds[slot] = bounds;
    }

    fn push(&mut self, corner: [i32; D], bounds: [u32; D]) {
        let slot = self.bounds.len();
        if slot == self.corners[0].len() {
            self.corners
                .iter_mut()
                .for_each(|c| c.resize(slot + BLOCK, NOWHERE));
        }
        self.bounds.push(bounds);
        self.put(slot, corner, bounds);
    }

    fn remove(&mut self, slot: usize) {
        let last = self.bounds.len() - 1;
        for column in &mut self.corners {
            column[slot] = column[last];
            column[last] = NOWHERE;
        }
        self.bounds.swap_remove(slot);
    }
}

/// The volume of points with `D + 1` objectives, all better than the reference.
pub(super) fn volume<const D: usize>(points: &[f64], reference: &[f64]) -> f64 {
    let width = D + 1;
    let count = points.len() / width;
    let sweep = sorted_column(points.iter().step_by(width).copied());
    let mut values = Vec::with_capacity(D + count);
    let mut ranks = Vec::with_capacity(D + count);
    for wall in 0..D {
        values.push(std::array::from_fn(|j| {
            if j == wall {
                reference[j + 1]
            } else {
                f64::NEG_INFINITY
            }
        }));
        ranks.push(std::array::from_fn(|j| if j == wall { i32::MAX } else { -1 }));
    }
    values.extend(
        sweep
            .iter()
            .map(|i| -> [f64; D] { std::array::from_fn(|j| points[i * width + j + 1]) }),
    );
    ranks.resize(D + count, [0; D]);
    for j in 0..D {
        let column = sorted_column(values[D..].iter().map(|v| v[j]));
        for (rank, at) in column.into_iter().enumerate() {
            ranks[D + at][j] = rank as i32;
        }
    }
    // in three coordinates no more than two a point and one, in four mostly some
    let likely = (2 * count + 1).next_multiple_of(BLOCK);
    let mut free = Boxes {
        values: &values,
        ranks: &ranks,
        corners: std::array::from_fn(|_| Vec::with_capacity(likely)),
        bounds: Vec::with_capacity(likely),
        hit: vec![0; likely],
        fresh: Vec::new(),
    };
    free.push([i32::MAX; D], std::array::from_fn(|j| j as u32));
    let parts = sweep
        .iter()
        .zip(D as u32..)
        .map(|(i, at)| free.take(at) * (reference[0] - points[i * width]));
    parts.sum()
}
