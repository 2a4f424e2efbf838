//! Which past blocks a query sees, which keys stand for a block, and the estimator over those keys.

use crate::ops::simd;

/// The recursion over positions: leaves of `leaf` positions, and dyadic blocks of whole leaves.
///
/// Blocks begin at multiples of their length, whatever the length of the sequence, so that a token sees the same
/// blocks when it is decoded as when a whole sequence is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdeBlocks {
    /// Positions of a diagonal leaf, which is attended exactly.
    pub leaf: usize,
    /// Keys drawn of a longer block; a block of no more keys is attended exactly.
    pub samples: usize,
}

/// A block that lies wholly in the past of the leaves that see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Its first position.
    pub(super) start: usize,
    /// Its positions.
    pub(super) len: usize,
    /// The row of its draw; `None` where all of its keys are seen.
    pub(super) row: Option<usize>,
}

impl KdeBlocks {
    /// The lowest level whose blocks, of `leaf · 2^level` positions, are sampled.
    fn sampled_level(self) -> u32 {
        (self.samples / self.leaf + 1).next_power_of_two().ilog2()
    }

    /// Blocks drawn by the time that `n` tokens are attended.
    pub fn drawn(self, n: usize) -> usize {
        (n.saturating_sub(1) / self.leaf) >> self.sampled_level()
    }

    /// The block of a row, in the order in which blocks become past.
    pub(super) fn block(self, row: usize) -> Block {
        let end = (row + 1) << self.sampled_level();
        let leaves = 1 << end.trailing_zeros();
        Block {
            start: (end - leaves) * self.leaf,
            len: leaves * self.leaf,
            row: Some(row),
        }
    }

    /// The blocks that the queries of a leaf see in full length, the longest and oldest first.
    pub(super) fn past(self, leaf: usize) -> impl Iterator<Item = Block> {
        let levels = (0..usize::BITS - leaf.leading_zeros()).rev();
        levels
            .filter(move |level| leaf >> level & 1 == 1)
            .map(move |level| {
                let end = leaf >> level << level;
                let sampled = level >= self.sampled_level();
                Block {
                    start: (end - (1 << level)) * self.leaf,
                    len: self.leaf << level,
                    row: sampled.then(|| (end >> self.sampled_level()) - 1),
                }
            })
    }

    /// Pairs of the query at `position` with a key.
    pub fn pairs_at(self, position: usize) -> usize {
        let past = self.past(position / self.leaf);
        past.map(|block| block.len.min(self.samples)).sum::<usize>() + position % self.leaf + 1
    }

    /// Pairs of queries and keys of a sequence of `n`.
    pub fn pairs(self, n: usize) -> usize {
        (0..n).map(|position| self.pairs_at(position)).sum()
    }
}

/// Uniform numbers in [0, 1), the same for the same stream, head and sample.
///
/// The stream of a block is its end, which no other block has; 0 is that of a whole sequence.
pub(super) fn uniforms(stream: usize, head: usize, samples: usize) -> impl Iterator<Item = f64> {
    let stream = mix(stream as u64 ^ mix(head as u64));
    (0..samples as u64).map(move |s| (mix(stream ^ mix(s)) >> 11) as f64 / (1u64 << 53) as f64)
}

/// One step of `SplitMix64`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Turns the squared norms of the values of a block into `p` up to a factor: half of it in their shares, half even.
///
/// The even half stands for the norms of the columns of the attention, which only later queries would tell; it bounds
/// the weight of a sample by twice the mean.
pub(super) fn proportions(squares: &mut [f32]) {
    let mean = squares.iter().map(|x| f64::from(*x)).sum::<f64>() / squares.len() as f64;
    let scale = 1.0 / (mean + f64::MIN_POSITIVE);
    for x in squares {
        *x = (f64::from(*x) * scale + 1.0) as f32;
    }
}

/// Draws keys by their values: as many indices as uniform numbers in the first half of `draw`, the logarithms of their
/// weights in the other.
#[inline(always)]
pub(super) fn draw_keys<'a>(
    values: impl Iterator<Item = &'a [f32]>,
    uniforms: impl Iterator<Item = f64>,
    draw: &mut [f32],
) {
    let mut p: Vec<f32> = values.map(|v| simd::dot(v, v)).collect();
    proportions(&mut p);
    let (chosen, log_weights) = draw.split_at_mut(draw.len() / 2);
    choose(&p, uniforms, chosen, log_weights);
}

/// Draws keys i.i.d. with `p` proportional to `proportions`, one for each uniform number: their indices and the
/// logarithms of their weights `1 / (m p)`.
pub(super) fn choose(
    proportions: &[f32],
    uniforms: impl Iterator<Item = f64>,
    chosen: &mut [f32],
    log_weights: &mut [f32],
) {
    let running = proportions.iter().scan(0.0, |sum, p| {
        *sum += f64::from(*p);
        Some(*sum)
    });
    let sums: Vec<f64> = running.collect();
    let total = sums.last().copied().unwrap_or(0.0);
    let mean = total / chosen.len() as f64;
    for ((chosen, log_weight), u) in chosen.iter_mut().zip(log_weights).zip(uniforms) {
        let index = sums
            .partition_point(|sum| *sum <= u * total)
            .min(proportions.len() - 1);
        // positions are kept among floats, exact up to 2^24
        *chosen = index as f32;
        *log_weight = (mean / f64::from(proportions[index])).ln() as f32;
    }
}

/// One query over its keys: `Σ w_j e^{q·k_j} v_j / Σ w_j e^{q·k_j}`, one estimator for both sums.
///
/// `scores` holds the logarithms of the weights, those behind the first `kept` being zero; `keys` is turned, `[d, stride]`.
/// Adds to `out` and gives the logarithm of the denominator.
#[inline(always)]
pub(super) fn attend(
    query: &[f32],
    keys: &[f32],
    stride: usize,
    values: &[f32],
    scores: &mut [f32],
    kept: usize,
    out: &mut [f32],
) -> f32 {
    simd::add_weighted_rows(scores, query, keys, stride);
    let (weights, left_out) = scores.split_at_mut(kept);
    left_out.fill(0.0);
    let max = simd::max(weights);
    for w in weights.iter_mut() {
        *w = simd::exp(*w - max);
    }
    let sum = simd::sum(weights);
    let inverse = 1.0 / sum;
    for w in weights.iter_mut() {
        *w *= inverse;
    }
    simd::add_weighted_rows(out, scores, values, out.len());
    max + sum.ln()
}
