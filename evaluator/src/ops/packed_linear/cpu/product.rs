//! Products of few inputs with the codes themselves.
//!
//! The codes at one place of every word form a plane, and so do the inputs that meet them. A plane is a shift and a mask
//! of whole vectors of words, so nothing is moved about within a vector, whatever the bits. A code becomes a number in two
//! instructions: as the upper bits of a mantissa it is `1 + code / 2^bits`, and what that has too much is known of a group.

#![expect(
    clippy::needless_range_loop,
    reason = "one index runs over the vectors of several rows"
)]

use pulp::{Arch, Simd, WithSimd};

use super::{
    super::streams,
    decode::{Book, Decode, Even},
    view::{LANES, Matrix, View},
};
use crate::ops::simd;

/// Rows that go side by side and share the loads of inputs; of more, the processor foresees less well what is read next.
const ROWS: usize = 2;

/// An input `[columns]` as the words of each stream meet it.
pub(super) struct Input {
    streams: [Planes; 2],
    /// Sum over each group, filled up with zeros to whole vectors.
    sums: Vec<f32>,
}

/// An input as the words of one stream meet it: plane `i` holds what meets the `i`th code of each word, and zeros beyond the
/// columns, up to whole vectors of words.
struct Planes {
    inputs: Vec<f32>,
    stride: usize,
}

impl Input {
    pub(super) fn of(x: &[f32], m: Matrix) -> Self {
        let mut sums: Vec<f32> = x.chunks(m.group).map(simd::sum).collect();
        sums.resize(m.padded_groups(), 0.0);
        Input {
            streams: streams(m.bits).map(|bits| Planes::of(x, bits)),
            sums,
        }
    }
}

impl Planes {
    fn of(x: &[f32], bits: usize) -> Planes {
        let per_word = 32usize.checked_div(bits).unwrap_or(0);
        let stride = x.len().div_ceil(per_word.max(1)).next_multiple_of(LANES);
        let mut inputs = vec![0.0f32; per_word * stride];
        if per_word > 0 {
            for (word, x) in x.chunks(per_word).enumerate() {
                for (plane, x) in x.iter().enumerate() {
                    inputs[plane * stride + word] = *x;
                }
            }
        }
        Planes { inputs, stride }
    }
}

/// `y[r][s] = row r · x[s]` for the rows of one task.
pub(super) fn multiply(m: Matrix, first: usize, inputs: &[Input], y: &mut [f32]) {
    let job = Job { m, first, inputs, y };
    match Arch::new() {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => simd.vectorize(super::decode::WithPermutes(simd, job)),
        arch => arch.dispatch(job),
    }
}

/// The rows of one task.
pub(super) struct Job<'a> {
    m: Matrix<'a>,
    first: usize,
    inputs: &'a [Input],
    y: &'a mut [f32],
}

impl Job<'_> {
    /// The levels of the code book, if there is one.
    pub(super) fn levels(&self) -> [f32; 16] {
        match self.m.levels {
            View::Book(levels) => *levels,
            View::Even(_) => [0.0; 16],
        }
    }

    #[inline(always)]
    pub(super) fn work<S: Simd>(self, simd: S, book: impl Decode<S>) {
        let Job { m, first, inputs, y } = self;
        let n = inputs.len();
        let factors = Factors::of(m, first, y.len() / n);
        let mut buffers = [Buffers::of(m), Buffers::of(m)];
        // a row of 8 bits is long enough to be read on its own, and read faster so
        let pairs = if m.bits == 8 { 0 } else { y.len() / (ROWS * n) };
        let (pairs, rest) = y.split_at_mut(pairs * ROWS * n);
        let mut row = 0;
        for y in pairs.chunks_exact_mut(ROWS * n) {
            for (r, buffers) in buffers.iter_mut().enumerate() {
                buffers.fill(m, &factors, row + r);
            }
            rows::<S, ROWS>(simd, m, first + row, inputs, &buffers, book, y);
            row += ROWS;
        }
        for y in rest.chunks_exact_mut(n) {
            buffers[0].fill(m, &factors, row);
            rows::<S, 1>(simd, m, first + row, inputs, &buffers, book, y);
            row += 1;
        }
    }
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let book = Book(self.levels());
        self.work(simd, book);
    }
}

/// Scales and zeros of all rows of a task, made at once because a row has few of them.
struct Factors {
    /// `[rows, groups]`
    scales: Vec<f32>,
    /// `[rows, zeros_per_row]`, or nothing.
    zeros: Vec<f32>,
    zeros_per_row: usize,
}

impl Factors {
    fn of(m: Matrix, first: usize, rows: usize) -> Self {
        let mut scales = vec![0.0; rows * m.groups];
        m.scales(first, &mut scales);
        let (mut zeros, zeros_per_row) = (vec![], m.zeros_per_row());
        if let View::Even(words) = m.levels {
            zeros.resize(rows * zeros_per_row, 0.0);
            m.zeros(words, first, &mut zeros);
        }
        Factors {
            scales,
            zeros,
            zeros_per_row,
        }
    }
}

/// What is made of the scales and zeros of one row.
struct Buffers {
    /// Of each group, what a unit of its inputs has too much.
    surplus: Vec<f32>,
    /// The scale of each word of both streams, times what the codes' numbers are short of.
    of_words: [Vec<f32>; 2],
}

impl Buffers {
    fn of(m: Matrix) -> Self {
        let words = |bits: usize| (m.groups * m.group * bits / 32).next_multiple_of(LANES);
        Buffers {
            surplus: vec![0.0; m.padded_groups()],
            of_words: streams(m.bits).map(|bits| vec![0.0; words(bits)]),
        }
    }

    #[inline(always)]
    fn fill(&mut self, m: Matrix, factors: &Factors, row: usize) {
        let scales = &factors.scales[row * m.groups..][..m.groups];
        let [low, high] = streams(m.bits);
        let View::Even(_) = m.levels else {
            spread(scales, 1.0, m.group * low / 32, &mut self.of_words[0]);
            return;
        };
        // a code of the second stream is worth as much as all of the first one's
        let worth = (1u32 << low) as f32;
        let mut ones = worth;
        spread(scales, worth, m.group * low / 32, &mut self.of_words[0]);
        if high > 0 {
            let all = (1u32 << m.bits) as f32;
            ones += all;
            spread(scales, all, m.group * high / 32, &mut self.of_words[1]);
        }
        let zeros = &factors.zeros[row * factors.zeros_per_row..][..m.groups];
        for ((surplus, scale), zero) in self.surplus.iter_mut().zip(scales).zip(zeros) {
            *surplus = scale * (zero + ones);
        }
    }
}

/// Writes a group's scale for each of its words.
#[inline(always)]
fn spread(scales: &[f32], worth: f32, words_per_group: usize, of_words: &mut [f32]) {
    match words_per_group {
        1 => spread_over::<1>(scales, worth, of_words),
        2 => spread_over::<2>(scales, worth, of_words),
        4 => spread_over::<4>(scales, worth, of_words),
        8 => spread_over::<8>(scales, worth, of_words),
        16 => spread_over::<16>(scales, worth, of_words),
        _ => spread_over::<32>(scales, worth, of_words),
    }
}

#[inline(always)]
fn spread_over<const WORDS: usize>(scales: &[f32], worth: f32, of_words: &mut [f32]) {
    for (of_words, scale) in of_words.as_chunks_mut::<WORDS>().0.iter_mut().zip(scales) {
        *of_words = [worth * scale; WORDS];
    }
}

/// Products of `R` rows with all inputs.
#[inline(always)]
fn rows<S: Simd, const R: usize>(
    simd: S,
    m: Matrix,
    first: usize,
    inputs: &[Input],
    buffers: &[Buffers; ROWS],
    book: impl Decode<S>,
    y: &mut [f32],
) {
    let (mut low, mut high) = ([(&[][..], &[][..]); R], [(&[][..], &[][..]); R]);
    for r in 0..R {
        let [first_words, second_words] = m.words(first + r);
        low[r] = (first_words, &buffers[r].of_words[0][..]);
        high[r] = (second_words, &buffers[r].of_words[1][..]);
    }
    for (i, x) in inputs.iter().enumerate() {
        let [xl, xh] = &x.streams;
        let mut sums = [simd.splat_f32s(0.0); R];
        match (m.levels, m.bits) {
            (View::Book(_), _) => stream::<S, R, 4, 8>(simd, low, xl, book, &mut sums),
            (_, 8) => even::<S, R, 8, 4>(simd, low, xl, &mut sums),
            (_, 4..=6) => even::<S, R, 4, 8>(simd, low, xl, &mut sums),
            _ => even::<S, R, 2, 16>(simd, low, xl, &mut sums),
        }
        match m.bits {
            6 => even::<S, R, 2, 16>(simd, high, xh, &mut sums),
            3 | 5 => even::<S, R, 1, 32>(simd, high, xh, &mut sums),
            _ => {}
        }
        if let View::Even(_) = m.levels {
            let of_groups = S::as_simd_f32s(&x.sums).0;
            for r in 0..R {
                let surplus = S::as_simd_f32s(&buffers[r].surplus).0;
                for g in 0..of_groups.len() {
                    let more = simd.mul_f32s(surplus[g], of_groups[g]);
                    sums[r] = simd.sub_f32s(sums[r], more);
                }
            }
        }
        for r in 0..R {
            y[r * inputs.len() + i] = simd.reduce_sum_f32s(sums[r]);
        }
    }
}

/// Adds the products of one stream of evenly spaced levels, and those of the ones that codes are added to.
#[inline(always)]
fn even<S: Simd, const R: usize, const BITS: usize, const PLANES: usize>(
    simd: S,
    rows: [(&[i32], &[f32]); R],
    x: &Planes,
    sums: &mut [S::f32s; R],
) {
    stream::<S, R, BITS, PLANES>(simd, rows, x, Even::<S>::new(simd, BITS), sums);
}

/// Adds `Σ_words scale · Σ number of the code · x` of one stream of `R` rows, each its words and their scales. Plain loops: what
/// takes a closure is not compiled for the vectors.
#[inline(always)]
fn stream<S: Simd, const R: usize, const BITS: usize, const PLANES: usize>(
    simd: S,
    rows: [(&[i32], &[f32]); R],
    x: &Planes,
    decode: impl Decode<S>,
    sums: &mut [S::f32s; R],
) {
    let mut inputs: [&[S::f32s]; PLANES] = [&[]; PLANES];
    for p in 0..PLANES {
        inputs[p] = S::as_simd_f32s(&x.inputs[p * x.stride..][..x.stride]).0;
    }
    let (mut whole, mut rest): ([&[S::u32s]; R], [&[u32]; R]) = ([&[]; R], [&[]; R]);
    let mut scales: [&[S::f32s]; R] = [&[]; R];
    for r in 0..R {
        (whole[r], rest[r]) = S::as_simd_u32s(pulp::bytemuck::cast_slice(rows[r].0));
        scales[r] = S::as_simd_f32s(rows[r].1).0;
    }
    let vectors = whole[0].len();
    let mut total = *sums;
    for v in 0..vectors + usize::from(!rest[0].is_empty()) {
        let mut words = [simd.splat_u32s(0); R];
        for r in 0..R {
            words[r] = if v < vectors {
                whole[r][v]
            } else {
                simd.partial_load_u32s(rest[r])
            };
        }
        let mut part = [simd.splat_f32s(0.0); R];
        for p in 0..PLANES {
            let x = inputs[p][v];
            for r in 0..R {
                let number = decode.number(simd, words[r], p * BITS);
                part[r] = simd.mul_add_e_f32s(number, x, part[r]);
            }
        }
        for r in 0..R {
            total[r] = simd.mul_add_e_f32s(scales[r][v], part[r], total[r]);
        }
    }
    *sums = total;
}
