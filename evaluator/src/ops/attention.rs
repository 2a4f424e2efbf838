//! Softmax attention over a causal band: full causal attention and a sliding window, with grouped key/value heads.
//!
//! `O_i = softmax_j(q_i · k_j / √d) v_j` over the keys `j` that the band of row `i` holds. The CPU kernel visits
//! exactly those pairs, so a window of `w` costs `w` products for each query and never forms the full matrix.
//! The probabilities are kept for the backward pass (a tiled form that recomputes them is another technique).

use std::ops::Range;

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
        flex::FlexTensor,
    },
    tensor::{Bool, Int, Tensor, TensorMetadata, backend::Backend, ops::FloatTensor},
};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{contiguous, cpu_tensor, simd, unwrap, values, wrap};
use crate::counter;

/// Which keys each query sees: query `i` stands at position `offset + i` of `keys` keys, and sees itself and the
/// `window - 1` positions before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// Position of the first query among the keys.
    pub offset: usize,
    /// Number of keys that are filled; the key tensor may be longer.
    pub keys: usize,
    /// Number of keys seen at most; `usize::MAX` for all.
    pub window: usize,
}

impl Band {
    /// Causal over a whole sequence of `n`.
    pub fn causal(n: usize) -> Band {
        Band {
            offset: 0,
            keys: n,
            window: usize::MAX,
        }
    }

    /// The keys that query `i` sees.
    pub fn row(&self, i: usize) -> Range<usize> {
        let end = (self.offset + i + 1).min(self.keys);
        end.saturating_sub(self.window)..end
    }

    /// Pairs of query and key for `queries` queries.
    pub fn pairs(&self, queries: usize) -> usize {
        (0..queries).map(|i| self.row(i).len()).sum()
    }
}

/// Attention over a band. Shapes: `q [b, n, h, d]`, `k` and `v` `[b, keys or more, g, d]` with `g` dividing `h`.
pub trait AttentionOp: Backend {
    /// Gives the output `[b, n, h, d]` and what [`AttentionOp::attention_backward`] needs beside the inputs.
    fn attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        band: Band,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (o, p) = reference_forward::<Self>(wrap(q), wrap(k), wrap(v), band);
        (unwrap(o), unwrap(p))
    }

    /// Gradients of `q`, `k` and `v`.
    fn attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        saved: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        band: Band,
    ) -> [FloatTensor<Self>; 3] {
        reference_backward::<Self>(wrap(q), wrap(k), wrap(v), wrap(saved), wrap(gradient), band).map(unwrap)
    }
}

/// Attention over a band; see [`AttentionOp`].
pub fn attention<B: AttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    band: Band,
) -> Tensor<B, 4> {
    wrap(B::attention_forward(unwrap(q), unwrap(k), unwrap(v), band).0)
}

#[cfg(feature = "cuda")]
impl AttentionOp for burn::backend::Cuda {}

/// Repeats the key/value heads so that there are as many as query heads, and brings heads before positions.
fn spread<B: Backend>(x: Tensor<B, 4>, keys: usize, heads: usize) -> Tensor<B, 4> {
    let [b, _, g, d] = x.dims();
    let x = x.slice([0..b, 0..keys]).swap_dims(1, 2);
    x.unsqueeze_dim::<5>(2)
        .expand([b, g, heads / g, keys, d])
        .reshape([b, heads, keys, d])
}

fn outside_band<B: Backend>(device: &B::Device, queries: usize, band: Band) -> Tensor<B, 2, Bool> {
    let at = Tensor::<B, 1, Int>::arange(band.offset as i64..(band.offset + queries) as i64, device);
    let key = Tensor::<B, 1, Int>::arange(0..band.keys as i64, device);
    let at = at.unsqueeze_dim::<2>(1).expand([queries, band.keys]);
    let key = key.unsqueeze_dim::<2>(0).expand([queries, band.keys]);
    let ahead = key.clone().greater(at.clone());
    if band.window >= band.keys {
        ahead
    } else {
        ahead.bool_or((at - key).greater_equal_elem(band.window as i64))
    }
}

/// Dense scores under a mask: the plain definition, and what a GPU executes.
fn reference_forward<B: AttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    band: Band,
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let [b, n, h, d] = q.dims();
    let (k, v) = (spread(k, band.keys, h), spread(v, band.keys, h));
    let mask = outside_band::<B>(&q.device(), n, band)
        .unsqueeze::<4>()
        .expand([b, h, n, band.keys]);
    let scores = q
        .swap_dims(1, 2)
        .matmul(k.swap_dims(2, 3))
        .mul_scalar(1.0 / (d as f64).sqrt());
    let p = burn::tensor::activation::softmax(scores.mask_fill(mask, f32::MIN), 3);
    counter::add_macs(2 * b * h * n * band.keys * d);
    (p.clone().matmul(v).swap_dims(1, 2), p)
}

fn reference_backward<B: AttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    p: Tensor<B, 4>,
    gradient: Tensor<B, 4>,
    band: Band,
) -> [Tensor<B, 4>; 3] {
    let [b, n, h, d] = q.dims();
    let [_, allocated, g, _] = k.dims();
    let (k, v) = (spread(k, band.keys, h), spread(v, band.keys, h));
    let (q, gradient) = (q.swap_dims(1, 2), gradient.swap_dims(1, 2));
    let dv = p.clone().swap_dims(2, 3).matmul(gradient.clone());
    let dp = gradient.matmul(v.swap_dims(2, 3));
    let ds = p.clone() * (dp.clone() - (dp * p).sum_dim(3)) / (d as f64).sqrt();
    let dq = ds.clone().matmul(k).swap_dims(1, 2);
    let dk = ds.swap_dims(2, 3).matmul(q);
    counter::add_macs(4 * b * h * n * band.keys * d);
    let gather = |x: Tensor<B, 4>| {
        let x = x
            .reshape([b, g, h / g, band.keys, d])
            .sum_dim(2)
            .squeeze_dim::<4>(2)
            .swap_dims(1, 2);
        let padding = Tensor::zeros([b, allocated - band.keys, g, d], &x.device());
        if allocated > band.keys {
            Tensor::cat(vec![x, padding], 1)
        } else {
            x
        }
    };
    [dq, gather(dk), gather(dv)]
}

/// Sizes of one call, and where the rows of one head lie.
#[derive(Clone, Copy)]
struct Sizes {
    queries: usize,
    heads: usize,
    groups: usize,
    depth: usize,
    band: Band,
}

impl Sizes {
    fn of(q: &FlexTensor, k: &FlexTensor, band: Band) -> (usize, Sizes) {
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
                queries: q[1],
                heads: q[2],
                groups: k[2],
                depth: q[3],
                band,
            },
        )
    }

    fn share(&self) -> usize {
        self.heads / self.groups
    }

    fn query_stride(&self) -> usize {
        self.heads * self.depth
    }

    fn key_stride(&self) -> usize {
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
        let (q, k, v) = (contiguous(q), contiguous(k), contiguous(v));
        let (batch, sizes) = Sizes::of(&q, &k, band);
        let pairs = band.pairs(sizes.queries);
        let mut out = vec![0.0f32; q.shape().num_elements()];
        let mut saved = vec![0.0f32; batch * sizes.heads * pairs];
        let (qs, ks, vs) = (values(&q), values(&k), values(&v));
        let (q_len, k_len) = (sizes.queries * sizes.query_stride(), ks.len() / batch);
        // one task for each sequence and key/value head: its output columns are interleaved with other heads', so
        // each task returns its own and they are put in place afterwards
        let parts: Vec<Vec<f32>> = saved
            .par_chunks_mut(sizes.share() * pairs)
            .enumerate()
            .map(|(task, p)| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                let mut part = vec![0.0f32; sizes.queries * sizes.share() * sizes.depth];
                forward_group(
                    &qs[b * q_len..][..q_len],
                    &ks[b * k_len..][..k_len],
                    &vs[b * k_len..][..k_len],
                    g,
                    sizes,
                    p,
                    &mut part,
                );
                part
            })
            .collect();
        interleave(&parts, &mut out, sizes.groups, sizes.share() * sizes.depth);
        counter::add_macs(2 * batch * sizes.heads * pairs * sizes.depth);
        (
            cpu_tensor(out, &q.shape()),
            cpu_tensor(saved, &[batch, sizes.heads, pairs]),
        )
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
        let pairs = band.pairs(sizes.queries);
        let (qs, ks, vs, gs) = (values(&q), values(&k), values(&v), values(&gradient));
        let (q_len, k_len) = (sizes.queries * sizes.query_stride(), ks.len() / batch);
        let parts: Vec<[Vec<f32>; 3]> = values(&saved)
            .par_chunks(sizes.share() * pairs)
            .enumerate()
            .map(|(task, p)| {
                let (b, g) = (task / sizes.groups, task % sizes.groups);
                backward_group(
                    &qs[b * q_len..][..q_len],
                    &ks[b * k_len..][..k_len],
                    &vs[b * k_len..][..k_len],
                    &gs[b * q_len..][..q_len],
                    g,
                    sizes,
                    p,
                )
            })
            .collect();
        counter::add_macs(4 * batch * sizes.heads * pairs * sizes.depth);
        let join = |which: usize, shape: &[usize], width: usize| {
            let mut out = vec![0.0f32; shape.iter().product()];
            let parts: Vec<&[f32]> = parts.iter().map(|p| p[which].as_slice()).collect();
            interleave(&parts, &mut out, sizes.groups, width);
            cpu_tensor(out, shape)
        };
        [
            join(0, &q.shape(), sizes.share() * sizes.depth),
            join(1, &k.shape(), sizes.depth),
            join(2, &k.shape(), sizes.depth),
        ]
    }
}

/// Puts the columns of each group back between those of the other groups.
fn interleave<P: AsRef<[f32]> + Sync>(parts: &[P], out: &mut [f32], groups: usize, width: usize) {
    let rows = parts[0].as_ref().len() / width;
    out.par_chunks_mut(rows * groups * width)
        .zip(parts.par_chunks(groups))
        .for_each(|(sequence, parts)| {
            for (g, part) in parts.iter().enumerate() {
                for (r, row) in part.as_ref().chunks_exact(width).enumerate() {
                    sequence[(r * groups + g) * width..][..width].copy_from_slice(row);
                }
            }
        });
}

/// The query heads of one key/value head in one sequence. `p` receives the probabilities, row after row.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_group(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    group: usize,
    sizes: Sizes,
    p: &mut [f32],
    out: &mut [f32],
) {
    let Sizes {
        queries, depth, band, ..
    } = sizes;
    let (share, stride) = (sizes.share(), sizes.key_stride());
    let (k, v) = (&k[group * depth..], &v[group * depth..]);
    let scale = 1.0 / (depth as f32).sqrt();
    // with many queries the keys are turned once, so that scores are sums of rows instead of many short dot products
    let turned = (queries >= 4).then(|| {
        let mut turned = vec![0.0f32; depth * band.keys];
        simd::transpose(k, stride, band.keys, depth, &mut turned);
        turned
    });
    let mut scaled = vec![0.0f32; depth];
    let mut at = 0;
    for h in 0..share {
        for i in 0..queries {
            let row = band.row(i);
            let scores = &mut p[at..at + row.len()];
            at += row.len();
            let q_row = &q[i * sizes.query_stride() + (group * share + h) * depth..][..depth];
            for (s, x) in scaled.iter_mut().zip(q_row) {
                *s = x * scale;
            }
            match &turned {
                Some(turned) => simd::add_weighted_rows(scores, &scaled, &turned[row.start..], band.keys),
                None => {
                    for (s, j) in scores.iter_mut().zip(row.clone()) {
                        *s = simd::dot(&scaled, &k[j * stride..j * stride + depth]);
                    }
                }
            }
            let max = simd::max(scores);
            for s in scores.iter_mut() {
                *s = simd::exp(*s - max);
            }
            let inverse = 1.0 / simd::sum(scores);
            for s in scores.iter_mut() {
                *s *= inverse;
            }
            let o = &mut out[(i * share + h) * depth..][..depth];
            simd::add_weighted_rows(o, scores, &v[row.start * stride..], stride);
        }
    }
}

/// Gradients of the query heads of one key/value head, and of that head, in one sequence.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_group(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    gradient: &[f32],
    group: usize,
    sizes: Sizes,
    p: &[f32],
) -> [Vec<f32>; 3] {
    let Sizes {
        queries, depth, band, ..
    } = sizes;
    let (share, stride) = (sizes.share(), sizes.key_stride());
    let (k, v) = (&k[group * depth..], &v[group * depth..]);
    let scale = 1.0 / (depth as f32).sqrt();
    let allocated = k.len().div_ceil(stride);
    let mut v_turned = vec![0.0f32; depth * band.keys];
    simd::transpose(v, stride, band.keys, depth, &mut v_turned);
    let mut dq = vec![0.0f32; queries * share * depth];
    // turned as well: row c holds the gradient of component c for all keys
    let mut dk_turned = vec![0.0f32; depth * band.keys];
    let mut dv_turned = vec![0.0f32; depth * band.keys];
    let mut ds = vec![0.0f32; band.keys];
    let mut at = 0;
    for h in 0..share {
        for i in 0..queries {
            let row = band.row(i);
            let p_row = &p[at..at + row.len()];
            at += row.len();
            let column = i * sizes.query_stride() + (group * share + h) * depth;
            let (q_row, g_row) = (&q[column..][..depth], &gradient[column..][..depth]);
            let ds = &mut ds[..row.len()];
            ds.fill(0.0);
            simd::add_weighted_rows(ds, g_row, &v_turned[row.start..], band.keys);
            let mean = simd::dot(ds, p_row);
            for (s, p) in ds.iter_mut().zip(p_row) {
                *s = p * (*s - mean) * scale;
            }
            let dq_row = &mut dq[(i * share + h) * depth..][..depth];
            simd::add_weighted_rows(dq_row, ds, &k[row.start * stride..], stride);
            for c in 0..depth {
                let line = c * band.keys + row.start..c * band.keys + row.end;
                simd::add_scaled(&mut dk_turned[line.clone()], q_row[c], ds);
                simd::add_scaled(&mut dv_turned[line], g_row[c], p_row);
            }
        }
    }
    let mut dk = vec![0.0f32; allocated * depth];
    let mut dv = vec![0.0f32; allocated * depth];
    simd::transpose(
        &dk_turned,
        band.keys,
        depth,
        band.keys,
        &mut dk[..band.keys * depth],
    );
    simd::transpose(
        &dv_turned,
        band.keys,
        depth,
        band.keys,
        &mut dv[..band.keys * depth],
    );
    [dq, dk, dv]
}

impl<B: AttentionOp, C: CheckpointStrategy> AttentionOp for Autodiff<B, C> {
    fn attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        band: Band,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct Attention;
        impl<B: AttentionOp> Backward<B, 3> for Attention {
            type State = (
                FloatTensor<B>,
                FloatTensor<B>,
                FloatTensor<B>,
                FloatTensor<B>,
                Band,
            );

            fn backward(self, ops: Step<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (q, k, v, saved, band) = ops.state;
                for (node, gradient) in ops
                    .parents
                    .into_iter()
                    .zip(B::attention_backward(q, k, v, saved, g, band))
                {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }
        let nodes = [q.node.clone(), k.node.clone(), v.node.clone()];
        let (q, k, v) = (q.primitive, k.primitive, v.primitive);
        let (o, saved) = B::attention_forward(q.clone(), k.clone(), v.clone(), band);
        let kept = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(saved.clone());
        let o = match Attention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((q, k, v, saved, band), o),
            OpsKind::UnTracked(prep) => prep.finish(o),
        };
        (o, kept)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, TensorData};

    use super::*;

    type A = Autodiff<Flex>;

    fn close(a: TensorData, b: TensorData) {
        a.assert_approx_eq::<f32>(&b, burn::tensor::Tolerance::rel_abs(1e-3, 1e-4));
    }

    fn inputs(n: usize, keys: usize, h: usize, g: usize) -> [Tensor<Flex, 4>; 3] {
        let device = Default::default();
        let random = |shape: [usize; 4]| Tensor::random(shape, Distribution::Normal(0.0, 1.5), &device);
        [
            random([2, n, h, 8]),
            random([2, keys, g, 8]),
            random([2, keys, g, 8]),
        ]
    }

    #[test]
    fn the_kernel_and_its_gradients_equal_the_definition() {
        let window = |window, n| Band {
            offset: 0,
            keys: n,
            window,
        };
        let cases = [
            (1, 1, Band::causal(1)),
            (7, 7, Band::causal(7)),
            (33, 33, Band::causal(33)),
            (33, 33, window(1, 33)),
            (33, 33, window(5, 33)),
            (33, 33, window(64, 33)),
            (
                3,
                20,
                Band {
                    offset: 9,
                    keys: 12,
                    window: usize::MAX,
                },
            ),
            (
                6,
                20,
                Band {
                    offset: 9,
                    keys: 15,
                    window: 4,
                },
            ),
        ];
        for (n, keys, band) in cases {
            for (h, g) in [(4, 4), (4, 2), (4, 1)] {
                let [q, k, v] = inputs(n, keys, h, g);
                let (o, saved) =
                    Flex::attention_forward(unwrap(q.clone()), unwrap(k.clone()), unwrap(v.clone()), band);
                let (expected, p) = reference_forward(q.clone(), k.clone(), v.clone(), band);
                close(wrap::<Flex, 4>(o).into_data(), expected.clone().into_data());
                let gradient = expected.clone() * 0.5 + 0.1;
                let got = Flex::attention_backward(
                    unwrap(q.clone()),
                    unwrap(k.clone()),
                    unwrap(v.clone()),
                    saved,
                    unwrap(gradient.clone()),
                    band,
                );
                let expected = reference_backward(q, k, v, p, gradient, band);
                for (got, expected) in got.into_iter().zip(expected) {
                    close(wrap::<Flex, 4>(got).into_data(), expected.into_data());
                }
            }
        }
    }

    #[test]
    fn autodiff_agrees_with_burns_own_gradients() {
        let [q, k, v] = inputs(9, 9, 4, 2).map(|t| Tensor::<A, 4>::from_inner(t).require_grad());
        let o = attention(q.clone(), k.clone(), v.clone(), Band::causal(9));
        let grads = (o.clone() * o).sum().backward();
        let ours = [&q, &k, &v].map(|t| t.grad(&grads).unwrap().into_data());
        // the definition, differentiated by burn itself
        let (ks, vs) = (spread(k.clone(), 9, 4), spread(v.clone(), 9, 4));
        let mask = outside_band::<A>(&q.device(), 9, Band::causal(9))
            .unsqueeze::<4>()
            .expand([2, 4, 9, 9]);
        let scores = q
            .clone()
            .swap_dims(1, 2)
            .matmul(ks.swap_dims(2, 3))
            .div_scalar(8f32.sqrt());
        let p = burn::tensor::activation::softmax(scores.mask_fill(mask, f32::MIN), 3);
        let o = p.matmul(vs);
        let grads = (o.clone() * o).sum().backward();
        for (ours, t) in ours.into_iter().zip([&q, &k, &v]) {
            close(ours, t.grad(&grads).unwrap().into_data());
        }
    }

    #[test]
    fn only_the_band_is_computed() {
        let [q, k, v] = inputs(64, 64, 4, 2);
        let causal = counter::count_macs(|| attention(q.clone(), k.clone(), v.clone(), Band::causal(64))).1;
        assert_eq!(causal, 2 * 2 * 4 * 8 * (64 * 65 / 2));
        let band = Band {
            offset: 0,
            keys: 64,
            window: 4,
        };
        let windowed = counter::count_macs(|| attention(q, k, v, band)).1;
        assert_eq!(windowed, 2 * 2 * 4 * 8 * (1 + 2 + 3 + 61 * 4));
    }

    #[test]
    fn later_tokens_never_change_earlier_outputs_and_huge_scores_stay_finite() {
        let [q, k, v] = inputs(16, 16, 2, 2);
        let before = attention(q.clone(), k.clone(), v.clone(), Band::causal(16));
        let change = Tensor::<Flex, 4>::full([2, 6, 2, 8], 1e4, &q.device());
        let (k2, v2) = (
            k.slice_assign([0..2, 10..16, 0..2, 0..8], change.clone()),
            v.slice_assign([0..2, 10..16, 0..2, 0..8], change),
        );
        let after = attention(q.clone() * 50.0, k2.clone(), v2.clone(), Band::causal(16));
        assert!(after.into_data().iter::<f32>().all(f32::is_finite));
        let after = attention(q, k2, v2, Band::causal(16));
        let head = |t: Tensor<Flex, 4>| t.slice([0..2, 0..10]).into_data();
        assert_eq!(head(before), head(after));
    }
}
