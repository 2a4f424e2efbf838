//! Softmax attention in whole numbers, to keys and values of 8 bits.

use multiversion::multiversion;
use rayon::prelude::*;

use super::{Dyadic, i_exp, whole};
use crate::counter;

/// Binary digits after the point of a probability. With these a sum of probabilities times 8-bit values fits in 32 bits,
/// however many there are, for probabilities sum to one.
const PROBABILITY_BITS: u32 = 20;

/// Multiply-adds of one task at least.
const MACS_PER_TASK: usize = 16 * 1024;

whole! {
    /// How queries share keys and values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct HeadShape {
        /// Query heads.
        pub heads: usize,
        /// Key/value heads; each serves `heads / kv_heads` query heads.
        pub kv_heads: usize,
        /// Components of one head.
        pub depth: usize,
    }
}

whole! {
    /// Keys and values of the tokens so far, 8 bits each: `[batch, capacity, width]`.
    #[derive(Clone, Debug)]
    pub struct KeysAndValues {
        keys: Vec<i8>,
        values: Vec<i8>,
        capacity: usize,
        width: usize,
    }
}

impl KeysAndValues {
    /// Room for `capacity` tokens of each of `batch` sequences.
    pub fn new(batch: usize, capacity: usize, shape: HeadShape) -> Self {
        let width = shape.kv_heads * shape.depth;
        let empty = || vec![0; batch * capacity * width];
        KeysAndValues {
            keys: empty(),
            values: empty(),
            capacity,
            width,
        }
    }

    /// Bytes of all that there is room for.
    pub fn bytes(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    /// Writes keys and values `[batch, n, width]` of the tokens from `at` on.
    ///
    /// # Panics
    /// If there is no room for them.
    pub fn write(&mut self, keys: &[i8], values: &[i8], n: usize, at: usize) {
        assert!(
            at + n <= self.capacity,
            "rows {at}..{} do not fit a cache of {}",
            at + n,
            self.capacity
        );
        let (row, sequence) = (n * self.width, self.capacity * self.width);
        let copy = |from: &[i8], to: &mut [i8]| {
            for (from, to) in from.chunks_exact(row).zip(to.chunks_exact_mut(sequence)) {
                to[at * self.width..][..row].copy_from_slice(from);
            }
        };
        copy(keys, &mut self.keys);
        copy(values, &mut self.values);
    }
}

/// What comes out of an attention, `[batch, n, heads, depth]`, for queries of that shape.
///
/// The query of number `i`, of the sequence of number `i / n`, sees the first `seen(i)` tokens of its sequence; where it is padding,
/// none, and nothing comes out. `to_scores` is the factor from products of queries and keys to scores with
/// [`FRACTION_BITS`](super::FRACTION_BITS), `to_out` that from values to what comes out.
pub fn attend(
    shape: HeadShape,
    (queries, n): (&[i8], usize),
    memory: &KeysAndValues,
    seen: impl Fn(usize) -> usize + Sync,
    [to_scores, to_out]: [Dyadic; 2],
    out: &mut [i8],
) {
    let HeadShape {
        heads,
        kv_heads,
        depth,
    } = shape;
    let weighing = Weighing {
        to_scores,
        to_out,
        stride: memory.width,
    };
    let tasks = out
        .par_chunks_exact_mut(depth)
        .zip(queries.par_chunks_exact(depth));
    let shortest = MACS_PER_TASK.div_ceil(2 * depth * memory.capacity.max(1));
    let pairs: usize = tasks
        .enumerate()
        .with_min_len(shortest)
        .map_init(Vec::new, |scores, (i, (out, query))| {
            let (token, head) = (i / heads, i % heads);
            let first = token / n * memory.capacity * memory.width + head * kv_heads / heads * depth;
            let seen = seen(token);
            scores.resize(seen, 0);
            weigh(
                weighing,
                query,
                [&memory.keys[first..], &memory.values[first..]],
                scores,
                out,
            );
            seen
        })
        .sum();
    // scores and weighted sum
    counter::add_macs(2 * depth * pairs);
}

/// How one query weighs values.
#[derive(Clone, Copy)]
struct Weighing {
    to_scores: Dyadic,
    to_out: Dyadic,
    /// From one token's keys or values to the next one's.
    stride: usize,
}

/// One query of one head; `scores` has a place for each token that it sees.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+fma", "x86_64+avx2+fma"))]
fn weigh(how: Weighing, query: &[i8], [keys, values]: [&[i8]; 2], scores: &mut [i32], out: &mut [i8]) {
    let depth = query.len();
    for (score, key) in scores.iter_mut().zip(keys.chunks(how.stride)) {
        let products = query
            .iter()
            .zip(&key[..depth])
            .map(|(q, k)| i32::from(*q) * i32::from(*k));
        *score = how
            .to_scores
            .within(i64::from(products.sum::<i32>()), i32::MAX / 2);
    }
    softmax(scores);
    // of so many components at once, which is all that a head mostly has
    let mut sums = [0i32; 64];
    for (part, out) in out.chunks_mut(sums.len()).enumerate() {
        let (at, n) = (part * sums.len(), out.len());
        let sums = &mut sums[..n];
        sums.fill(0);
        for (probability, value) in scores.iter().zip(values.chunks(how.stride)) {
            for (sum, value) in sums.iter_mut().zip(&value[at..at + n]) {
                *sum += probability * i32::from(*value);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = how.to_out.to_i8(i64::from(*sum));
        }
    }
}

/// Turns scores with [`FRACTION_BITS`](super::FRACTION_BITS) into probabilities, of which 2²⁰ are one; what they sum to differs from
/// that by half a step for each of them, as each is rounded.
#[inline(always)]
pub fn softmax(scores: &mut [i32]) {
    const SHIFT: u32 = 62 - PROBABILITY_BITS;
    let Some(most) = scores.iter().copied().max() else {
        return;
    };
    let mut sum = 0i64;
    for score in scores.iter_mut() {
        *score = i_exp(*score - most);
        sum += i64::from(*score);
    }
    // the largest alone is above 2²⁹, so that the products below fit
    let inverse = (1i64 << 62) / sum;
    for score in scores {
        *score = ((i64::from(*score) * inverse + (1 << (SHIFT - 1))) >> SHIFT) as i32;
    }
}

impl Dyadic {
    /// The factor from weighted sums of values of one step to what comes out in another.
    #[expect(
        clippy::float_arithmetic,
        reason = "factors become whole numbers here, before anything is computed"
    )]
    pub fn of_weighted(values: f64, out: f64) -> Self {
        Dyadic::nearest(values / out / f64::from(1u32 << PROBABILITY_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::FRACTION_BITS, *};

    const ONE: f64 = (1 << PROBABILITY_BITS) as f64;

    fn scores(n: usize) -> Vec<i32> {
        (0..n).map(|i| (i as i32 * 7919 % 2003 - 1001) * 60).collect()
    }

    #[test]
    fn probabilities_sum_to_one_and_are_those_of_a_softmax() {
        for n in [1, 2, 7, 64, 1000, 50_000] {
            let exact: Vec<f64> = scores(n)
                .iter()
                .map(|s| (f64::from(*s) / f64::from(1 << FRACTION_BITS)).exp())
                .collect();
            let total: f64 = exact.iter().sum();
            let mut found = scores(n);
            softmax(&mut found);
            let off = (found.iter().map(|p| i64::from(*p)).sum::<i64>() as f64 - ONE).abs();
            assert!(
                off <= 0.5 * n as f64 + 1.5,
                "{n}: the sum is off by {off} of 2^20"
            );
            for (found, exact) in found.iter().zip(exact) {
                let lost = (f64::from(*found) / ONE - exact / total).abs();
                // twice the relative error of the exponential
                assert!(
                    lost < 0.009 * exact / total + 1.0 / ONE,
                    "{n}: {found} {}",
                    exact / total
                );
            }
        }
        softmax(&mut []);
        // the largest differences there are
        let mut far = [i32::MAX / 2, -(i32::MAX / 2)];
        softmax(&mut far);
        assert_eq!(far, [1 << PROBABILITY_BITS, 0]);
    }

    #[test]
    fn the_work_is_that_of_the_pairs_and_the_result_that_of_the_definition() {
        let shape = HeadShape {
            heads: 4,
            kv_heads: 2,
            depth: 6,
        };
        let (batch, n, capacity) = (2, 5, 7);
        let bytes =
            |n: usize, by: i32| -> Vec<i8> { (0..n as i32).map(|i| (i * by % 201 - 100) as i8).collect() };
        let queries = bytes(batch * n * 24, 7919);
        let mut memory = KeysAndValues::new(batch, capacity, shape);
        assert_eq!(memory.bytes(), 2 * batch * capacity * 12);
        let (keys, values) = (bytes(batch * n * 12, 6007), bytes(batch * n * 12, 4001));
        memory.write(&keys, &values, n, 0);
        // steps of queries times keys, in scores, and of values in what comes out
        let (of_scores, of_out) = (2e-4, 1.25);
        let factors = [
            Dyadic::nearest(of_scores * f64::from(1 << FRACTION_BITS)),
            Dyadic::of_weighted(1.0, of_out),
        ];
        let mut out = vec![0i8; queries.len()];
        let seen = |i: usize| if i == 9 { 0 } else { i % n + 1 };
        let ((), macs) =
            counter::count_macs(|| attend(shape, (&queries, n), &memory, seen, factors, &mut out));
        assert_eq!(macs, (2 * 4 * 6 * (15 + 10)) as u64);
        for (i, (query, out)) in queries.chunks(6).zip(out.chunks(6)).enumerate() {
            let (token, head) = (i / 4, i % 4);
            if token == 9 {
                assert_eq!(out, [0; 6]);
                continue;
            }
            let row = |of: &[i8], t: usize| -> Vec<f64> {
                let first = (token / n * n + t) * 12 + head / 2 * 6;
                of[first..first + 6].iter().map(|x| f64::from(*x)).collect()
            };
            let weights: Vec<f64> = (0..seen(token))
                .map(|t| {
                    let products = row(&keys, t)
                        .into_iter()
                        .zip(query)
                        .map(|(k, q)| k * f64::from(*q));
                    (products.sum::<f64>() * of_scores).exp()
                })
                .collect();
            let total: f64 = weights.iter().sum();
            for (c, out) in out.iter().enumerate() {
                let exact: f64 = weights
                    .iter()
                    .enumerate()
                    .map(|(t, w)| w * row(&values, t)[c])
                    .sum();
                let exact = exact / total / of_out;
                assert!((f64::from(*out) - exact).abs() < 1.3, "{out} {exact}");
            }
        }
    }
}
