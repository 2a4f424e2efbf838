//! One block in whole numbers.

use rayon::prelude::*;

use super::{Dyadic, HeadShape, IntegerNorm, KeysAndValues, Product, STREAM_LIMIT, Span, Turns, whole};
use crate::ops::integer::{attend, i_silu};

/// Elements of a task at least.
const ELEMENTS_PER_TASK: usize = 4 * 1024;

whole! {
    /// One block.
    #[derive(Debug)]
    pub(super) struct IntegerBlock {
        pub(super) attention_norm: IntegerNorm,
        /// To queries in steps finer by [`Turns::STEPS`] than those that are turned.
        pub(super) query: Product,
        /// To keys, likewise.
        pub(super) key: Product,
        /// To values.
        pub(super) value: Product,
        /// To the stream.
        pub(super) output: Product,
        pub(super) shape: HeadShape,
        /// From products of queries and keys to scores.
        pub(super) to_scores: Dyadic,
        /// From weighted sums of values to what `output` is given.
        pub(super) to_output: Dyadic,
        pub(super) feed_forward_norm: IntegerNorm,
        /// To what `i_silu` is given.
        pub(super) gate: Product,
        /// Likewise.
        pub(super) up: Product,
        /// To the stream.
        pub(super) down: Product,
        /// From products of both to what `down` is given.
        pub(super) to_down: Dyadic,
    }
}

whole! {
    /// Memory that one block after the other computes in.
    #[derive(Default)]
    pub(super) struct Scratch {
        /// What matrices are given, and what comes out of the attention.
        bytes: Vec<i8>,
        /// Turned, as keys are.
        queries: Vec<i8>,
        keys: Vec<i8>,
        values: Vec<i8>,
        /// What comes out of matrices.
        wide: Vec<i32>,
        other: Vec<i32>,
    }
}

impl IntegerBlock {
    /// Takes the stream `[rows, n, width]` through the block; keys and values are added to what `seen` holds.
    pub(super) fn through(
        &self,
        stream: &mut [i32],
        span: Span,
        turns: &Turns,
        seen: &mut KeysAndValues,
        scratch: &mut Scratch,
    ) {
        self.attended(stream, span, turns, seen, scratch);
        self.fed(stream, scratch);
    }

    fn attended(
        &self,
        stream: &mut [i32],
        span: Span,
        turns: &Turns,
        seen: &mut KeysAndValues,
        scratch: &mut Scratch,
    ) {
        let Scratch {
            bytes,
            queries,
            keys,
            values,
            wide,
            ..
        } = scratch;
        let tokens = stream.len() / self.output.outputs();
        let position = |i: usize| span.at + i % span.n;
        sized(bytes, stream.len());
        self.attention_norm.apply(stream, bytes);
        for (product, turned) in [(&self.query, &mut *queries), (&self.key, &mut *keys)] {
            sized(wide, tokens * product.outputs());
            product.apply(bytes, wide);
            sized(turned, wide.len());
            turns.turn(wide, product.outputs(), position, turned);
        }
        sized(wide, tokens * self.value.outputs());
        self.value.apply(bytes, wide);
        // cut off at 127 by the product
        values.clear();
        values.extend(wide.iter().map(|value| *value as i8));
        seen.write(keys, values, span.n, span.at);
        sized(bytes, queries.len());
        let factors = [self.to_scores, self.to_output];
        attend(
            self.shape,
            (queries, span.n),
            seen,
            |i| span.seen(i),
            factors,
            bytes,
        );
        sized(wide, stream.len());
        self.output.apply(bytes, wide);
        add(stream, wide);
    }

    fn fed(&self, stream: &mut [i32], scratch: &mut Scratch) {
        let Scratch {
            bytes, wide, other, ..
        } = scratch;
        let tokens = stream.len() / self.down.outputs();
        sized(bytes, stream.len());
        self.feed_forward_norm.apply(stream, bytes);
        for (product, out) in [(&self.gate, &mut *wide), (&self.up, &mut *other)] {
            sized(out, tokens * product.outputs());
            product.apply(bytes, out);
        }
        sized(bytes, wide.len());
        let products = wide.par_iter().zip(&*other).zip(&mut *bytes);
        products
            .with_min_len(ELEMENTS_PER_TASK)
            .for_each(|((gate, up), out)| {
                *out = self.to_down.to_i8(i64::from(i_silu(*gate)) * i64::from(*up));
            });
        sized(wide, stream.len());
        self.down.apply(bytes, wide);
        add(stream, wide);
    }
}

/// Gives a vector this length; what it holds is written over.
fn sized<T: Clone + Default>(x: &mut Vec<T>, n: usize) {
    x.resize(n, T::default());
}

fn add(stream: &mut [i32], more: &[i32]) {
    for (x, more) in stream.iter_mut().zip(more) {
        *x = (*x + more).clamp(-STREAM_LIMIT, STREAM_LIMIT);
    }
}
