//! The model in whole numbers: what serves in the place of its blocks of floats where it is packed so (I-BERT, 2101.01321).
//!
//! Between the embedding's rows and the logits there is no float: every struct on the way is [`Whole`](crate::ops::integer::Whole).
//! Weights, what matrices are given, and keys and values have 8 bits; the residual stream has 32, of which 21 are those of the
//! largest number seen on calibration text.

#![deny(clippy::float_arithmetic)]

mod block;
mod build;
mod matrix;
mod serve;
mod steps;

use std::sync::Arc;

use self::block::{IntegerBlock, Scratch};
pub(super) use self::serve::InIntegers;
pub use self::{
    matrix::Integer,
    steps::{BlockSteps, Steps},
};
use crate::{
    counter,
    ops::integer::{
        Dyadic, HeadShape, IntegerMatrix, IntegerNorm, KeysAndValues, Product, STREAM_LIMIT, Turns, whole,
    },
};

/// The counter of tokens that went through the model in whole numbers.
pub(crate) const ACTIVITY: &str = "integer_only_tokens";

/// Binary digits after the point of a logit.
const LOGIT_BITS: u32 = 16;

whole! {
    /// A model in whole numbers.
    #[derive(Debug)]
    struct IntegerModel {
        /// `[vocabulary, width]`
        embedding: Arc<IntegerMatrix>,
        /// The factor from each of its rows to the stream.
        entry: Vec<Dyadic>,
        /// The token before each text, where there is one, `[width]`.
        leading: Vec<i32>,
        blocks: Vec<IntegerBlock>,
        norm: IntegerNorm,
        /// From the last norm to logits with [`LOGIT_BITS`].
        head: Product,
        turns: Turns,
        /// Whether tokens see later ones, and a text has one vector.
        both_ways: bool,
    }
}

/// Rows of tokens on their way through the blocks.
#[derive(Clone, Copy)]
struct Span<'a> {
    /// Tokens of a row.
    n: usize,
    /// Where the first of them stands.
    at: usize,
    /// How many of each row are no padding, where tokens see later ones; else they see those up to themselves.
    whole: Option<&'a [usize]>,
}

impl Span<'_> {
    /// How many tokens of its row the token of number `i` sees.
    fn seen(&self, i: usize) -> usize {
        let (row, place) = (i / self.n, i % self.n);
        match self.whole {
            Some(lengths) if place < lengths[row] => lengths[row],
            Some(_) => 0,
            None => self.at + place + 1,
        }
    }
}

impl IntegerModel {
    /// Logits with [`LOGIT_BITS`] of whole rows, `tokens [rows, n]` of which `lengths` are no padding: for each token
    /// `[rows, n, vocabulary]`, or for each text `[rows, classes]`.
    fn logits(&self, tokens: &[usize], n: usize, lengths: &[usize]) -> Vec<i32> {
        counter::add_activity(ACTIVITY, tokens.len());
        let (mut stream, width) = (self.enter(tokens, n), self.width());
        let leads = usize::from(!self.leading.is_empty());
        let (n, lengths): (_, Vec<usize>) = (n + leads, lengths.iter().map(|n| n + leads).collect());
        let span = Span {
            n,
            at: 0,
            whole: self.both_ways.then_some(&lengths),
        };
        let mut scratch = Scratch::default();
        for block in &self.blocks {
            let mut seen = KeysAndValues::new(lengths.len(), n, block.shape);
            block.through(&mut stream, span, &self.turns, &mut seen, &mut scratch);
        }
        if self.both_ways {
            let texts = stream.chunks_exact(n * width).zip(&lengths);
            let pooled: Vec<i32> = texts.flat_map(|(text, n)| self.pooled(text, *n)).collect();
            return self.head(&pooled);
        }
        self.head(&stream)
    }

    /// Takes in `tokens [rows, n]` after `at` others that `memory` holds, a part for each block from the first on, and gives the
    /// logits of the last `scored` of each row, `[rows, scored, vocabulary]`.
    fn extend<'m>(
        &self,
        tokens: &[usize],
        [n, scored, at]: [usize; 3],
        memory: impl Iterator<Item = &'m mut KeysAndValues>,
    ) -> Vec<i32> {
        counter::add_activity(ACTIVITY, tokens.len());
        let (mut stream, width) = (self.enter(tokens, n), self.width());
        let span = Span { n, at, whole: None };
        let mut scratch = Scratch::default();
        for (block, seen) in self.blocks.iter().zip(memory) {
            block.through(&mut stream, span, &self.turns, seen, &mut scratch);
        }
        let last = stream.chunks_exact(n * width);
        let last: Vec<i32> = last
            .flat_map(|row| &row[(n - scored) * width..])
            .copied()
            .collect();
        self.head(&last)
    }

    /// Components of a logit: tokens or classes.
    fn outputs(&self) -> usize {
        self.head.outputs()
    }

    fn width(&self) -> usize {
        self.embedding.dims()[1]
    }

    /// The stream of embedded tokens, with the one before each row where there is one.
    fn enter(&self, tokens: &[usize], n: usize) -> Vec<i32> {
        let mut stream = Vec::with_capacity((tokens.len() + tokens.len() / n) * self.width());
        for row in tokens.chunks_exact(n) {
            stream.extend(&self.leading);
            for token in row {
                let factor = self.entry[*token];
                let row = self.embedding.row(*token).iter();
                stream.extend(row.map(|code| factor.within(i64::from(*code), STREAM_LIMIT)));
            }
        }
        stream
    }

    /// One vector of a text, `[n, width]` and padding: what stands in the place of the token before it, or the mean.
    fn pooled(&self, text: &[i32], n: usize) -> Vec<i32> {
        let width = self.width();
        if !self.leading.is_empty() {
            return text[..width].to_vec();
        }
        let mut sums = vec![0i64; width];
        for token in text.chunks_exact(width).take(n) {
            for (sum, x) in sums.iter_mut().zip(token) {
                *sum += i64::from(*x);
            }
        }
        let n = n as i64;
        sums.iter()
            .map(|sum| (sum + n / 2).div_euclid(n) as i32)
            .collect()
    }

    /// Logits of what comes out of the last block, `[.., width]`.
    fn head(&self, stream: &[i32]) -> Vec<i32> {
        let mut normal = vec![0; stream.len()];
        self.norm.apply(stream, &mut normal);
        let mut logits = vec![0; stream.len() / self.width() * self.outputs()];
        self.head.apply(&normal, &mut logits);
        logits
    }

    /// What each block remembers of `batch` sequences of up to `capacity` tokens, by its number.
    fn memory(&self, block: usize, batch: usize, capacity: usize) -> KeysAndValues {
        KeysAndValues::new(batch, capacity, self.blocks[block].shape)
    }
}
