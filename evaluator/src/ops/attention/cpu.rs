//! The kernel for processors: visits blocks of queries and the keys that one of them sees. What a query of a block does not
//! see, fewer keys than the block has queries, is set to zero and not counted.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use pulp::Arch;
use rayon::prelude::*;

use super::{AttentionOp, Band, backward::Backward, forward::Forward, one_query::OneQuery};
use crate::{
    model::Pass,
    ops::{
        contiguous, cpu_tensor,
        heads::{SHARE, interleave},
        values,
    },
};

/// Of scores and of the weighted sum; backwards one for each of both factors.
const PRODUCTS: Pass = Pass {
    forward: 2,
    backward: 4,
};

/// Sizes of one call or of one of its sequences, and where the rows of one head lie.
#[derive(Clone)]
pub(super) struct Sizes {
    /// Rows of queries, padding included.
    pub(super) rows: usize,
    /// Queries that are there.
    pub(super) queries: usize,
    pub(super) heads: usize,
    pub(super) groups: usize,
    pub(super) depth: usize,
    pub(super) band: Band,
}

impl Sizes {
    pub(super) fn of(q: &FlexTensor, k: &FlexTensor, band: Band) -> (usize, Sizes) {
        let (q, k) = (q.shape(), k.shape());
        assert!(
            q[2] % k[2] == 0,
            "{} query heads cannot share {} key/value heads",
            q[2],
            k[2]
        );
        assert!(
            band.keys <= k[1],
            "{} keys are asked for, {} are there",
            band.keys,
            k[1]
        );
        (
            q[0],
            Sizes {
                rows: q[1],
                queries: q[1],
                heads: q[2],
                groups: k[2],
                depth: q[3],
                band,
            },
        )
    }

    /// Those of one sequence.
    pub(super) fn sequence(&self, b: usize) -> Sizes {
        let (band, queries) = self.band.of(b, self.queries);
        Sizes {
            queries,
            band,
            ..*self
        }
    }

    pub(super) fn share(&self) -> usize {
        self.heads / self.groups
    }

    pub(super) fn query_stride(&self) -> usize {
        self.heads * self.depth
    }

    pub(super) fn key_stride(&self) -> usize {
        self.groups * self.depth
    }
}

impl AttentionOp for Flex {
    fn attention_forward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        band: Band,
    ) -> (FlexTensor, FlexTensor) {
        let (batch, heads) = (q.shape()[0], q.shape()[2]);
        let pairs = band.pairs(q.shape()[1]);
        let mut saved = vec![0.0f32; batch * heads * pairs];
        let o = forward(q, k, v, band, Some(&mut saved));
        (o, cpu_tensor(saved, &[batch, heads, pairs]))
    }

    fn attention_output(q: FlexTensor, k: FlexTensor, v: FlexTensor, band: Band) -> FlexTensor {
        forward(q, k, v, band, None)
    }

    fn attention_backward(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        saved: FlexTensor,
        gradient: FlexTensor,
        band: Band,
    ) -> [FlexTensor; 3] {
        let (q, k, v, gradient) = (contiguous(q), contiguous(k), contiguous(v), contiguous(gradient));
        let (batch, sizes) = Sizes::of(&q, &k, band);
        let pairs = sizes.band.pairs(sizes.queries);
        let (qs, ks, vs, gs) = (values(&q), values(&k), values(&v), values(&gradient));
        let (q_len, k_len) = (sizes.queries * sizes.query_stride(), ks.len() / batch);
        let arch = Arch::new();
        let parts: Vec<[Vec<f32>; 3]> = values(&saved)
            .par_chunks(sizes.share() * pairs)
            .enumerate()
            .map(|(task, p)| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                arch.dispatch(Backward {
                    q: &qs[b * q_len..][..q_len],
                    k: &ks[b * k_len..][..k_len],
                    v: &vs[b * k_len..][..k_len],
                    gradient: &gs[b * q_len..][..q_len],
                    group: g,
                    sizes: &sizes.sequence(b),
                    p,
                })
            })
            .collect();
        sizes
            .band
            .count_backward(batch, sizes.queries, sizes.heads * sizes.depth, PRODUCTS);
        let join = |which: usize, shape: &[usize], width: usize| {
            let parts = parts.iter().map(|p| p[which].as_slice());
            cpu_tensor(interleave(parts, sizes.groups, width), shape)
        };
        [
            join(0, &q.shape(), sizes.share() * sizes.depth),
            join(1, &k.shape(), sizes.depth),
            join(2, &k.shape(), sizes.depth),
        ]
    }
}

/// The output; `saved` receives the probabilities where there is a backward pass to come.
fn forward(q: FlexTensor, k: FlexTensor, v: FlexTensor, band: Band, saved: Option<&mut [f32]>) -> FlexTensor {
    let (q, k, v) = (contiguous(q), contiguous(k), contiguous(v));
    let (batch, sizes) = Sizes::of(&q, &k, band);
    let pairs = sizes.band.pairs(sizes.queries);
    let (qs, ks, vs) = (values(&q), values(&k), values(&v));
    let (q_len, k_len) = (sizes.queries * sizes.query_stride(), ks.len() / batch);
    let arch = Arch::new();
    // few pairs, as in decoding, are not worth waking another core for each head
    let least = SHARE.div_ceil(sizes.share() * pairs * sizes.depth);
    if sizes.queries == 1 && saved.is_none() {
        let mut out = vec![0.0f32; qs.len()];
        let groups = sizes.groups.div_ceil(rayon::current_num_threads());
        let groups = groups.max(least).min(sizes.groups);
        let heads = groups * sizes.share() * sizes.depth;
        let sequences = out.par_chunks_mut(q_len).enumerate();
        sequences.for_each(|(b, out)| {
            out.par_chunks_mut(heads).enumerate().for_each(|(part, out)| {
                arch.dispatch(OneQuery {
                    q: &qs[b * q_len + part * heads..][..out.len()],
                    k: &ks[b * k_len..][..k_len][part * groups * sizes.depth..],
                    v: &vs[b * k_len..][..k_len][part * groups * sizes.depth..],
                    sizes: &sizes.sequence(b),
                    out,
                });
            });
        });
        let width = sizes.heads * sizes.depth;
        sizes.band.count_forward(batch, 1, width, PRODUCTS);
        return cpu_tensor(out, &q.shape());
    }
    // one task for each sequence and key/value head: its output columns are interleaved with other heads', so each task
    // returns its own and they are put in place afterwards
    let of_task = |task: usize, p: Option<&mut [f32]>| {
        let (b, g) = (task / sizes.groups, task % sizes.groups);
        let mut out = vec![0.0f32; sizes.rows * sizes.share() * sizes.depth];
        arch.dispatch(Forward {
            q: &qs[b * q_len..][..q_len],
            k: &ks[b * k_len..][..k_len],
            v: &vs[b * k_len..][..k_len],
            group: g,
            sizes: &sizes.sequence(b),
            p,
            out: &mut out,
        });
        out
    };
    let parts: Vec<Vec<f32>> = match saved {
        Some(saved) => {
            let tasks = saved
                .par_chunks_mut(sizes.share() * pairs)
                .with_min_len(least)
                .enumerate();
            tasks.map(|(task, p)| of_task(task, Some(p))).collect()
        }
        None => {
            let tasks = (0..batch * sizes.groups).into_par_iter().with_min_len(least);
            tasks.map(|task| of_task(task, None)).collect()
        }
    };
    sizes
        .band
        .count_forward(batch, sizes.queries, sizes.heads * sizes.depth, PRODUCTS);
    let parts = parts.iter().map(Vec::as_slice);
    cpu_tensor(
        interleave(parts, sizes.groups, sizes.share() * sizes.depth),
        &q.shape(),
    )
}
