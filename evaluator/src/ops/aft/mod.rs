//! The weighted mean of values of the Attention-Free Transformer (2105.14103), causal, for each channel alone:
//! `s_t = Σ_{j≤t} exp(k_j + w_tj) v_j / Σ_{j≤t} exp(k_j + w_tj)`.
//!
//! The biases `w` are zero, a product of two tables, or a table of distances. Pairs without a bias are a running sum;
//! only the others are visited one by one. The two are kept apart instead of adding a correction of `exp(w) - 1`, so
//! that no sum has terms of both signs.

mod biases;
mod both_ways;
mod cpu;
mod recall;
mod reference;
mod sequence;
#[cfg(test)]
mod tests;

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
    },
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
        ops::FloatTensor,
    },
};

pub use self::both_ways::aft_both_ways;
use super::{unwrap, wrap};

/// Which pairs of positions have a bias, and the tables it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AftBias {
    /// None has; no tables.
    None,
    /// All have `w_tj = u_t · v_j`; tables `u` and `v` `[context, rank]`.
    Full,
    /// The same for `t - j` below this window, and 0 for the others.
    Local(usize),
    /// `w_tj` is the table's `[h, window]` value of the head at `t - j`, and 0 beyond this window.
    Conv(usize),
}

impl AftBias {
    /// Distances below this one have a bias.
    pub fn window(self) -> usize {
        match self {
            AftBias::None => 0,
            AftBias::Full => usize::MAX,
            AftBias::Local(window) | AftBias::Conv(window) => window,
        }
    }
}

/// The mean of AFT. Shapes: `k` and `v` `[b, n, h, d]`; tables as [`AftBias`] says.
pub trait AftOp: Backend {
    /// The means `[b, n, h, d]` and the logarithms of their denominators `[b, n, h, d]`.
    fn aft_forward(
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        tables: Vec<FloatTensor<Self>>,
        bias: AftBias,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let tables: Vec<Tensor<Self, 2>> = tables.into_iter().map(wrap).collect();
        let (s, log_den) = reference::forward(wrap(k), wrap(v), &tables, bias);
        (unwrap(s), unwrap(log_den))
    }

    /// Gradients of `k`, `v` and the tables, from `[k, v]`, the two results of the forward pass and the gradient of
    /// the means.
    fn aft_backward(
        inputs: [FloatTensor<Self>; 2],
        tables: Vec<FloatTensor<Self>>,
        bias: AftBias,
        results: [FloatTensor<Self>; 2],
        gradient: FloatTensor<Self>,
    ) -> Vec<FloatTensor<Self>> {
        let tables: Vec<Tensor<Self, 2>> = tables.into_iter().map(wrap).collect();
        let ([dk, dv], of_tables) =
            reference::backward::<Self>(inputs.map(wrap), &tables, bias, results.map(wrap), wrap(gradient));
        let of_tables = of_tables.into_iter().map(unwrap);
        [unwrap(dk), unwrap(dv)].into_iter().chain(of_tables).collect()
    }

    /// The mean `[b, 1, h, d]` of the token at `position`, from the ring of the latest keys and values
    /// `[b, rows, h, d]`, that token's among them, and the sums `[b, 3, h, d]` over older ones where there can be any;
    /// not differentiable.
    fn aft_recall(
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        older: Option<FloatTensor<Self>>,
        tables: Vec<FloatTensor<Self>>,
        bias: AftBias,
        position: usize,
    ) -> FloatTensor<Self> {
        let tables: Vec<Tensor<Self, 2>> = tables.into_iter().map(wrap).collect();
        unwrap(reference::recall::<Self>(
            wrap(k),
            wrap(v),
            older.map(wrap),
            &tables,
            bias,
            position,
        ))
    }
}

/// The means of whole sequences; see [`AftOp::aft_forward`].
pub fn aft<B: AftOp>(
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    tables: &[Tensor<B, 2>],
    bias: AftBias,
) -> Tensor<B, 4> {
    let tables = tables.iter().cloned().map(unwrap).collect();
    wrap(B::aft_forward(unwrap(k), unwrap(v), tables, bias).0)
}

/// The mean of one position; see [`AftOp::aft_recall`].
pub fn aft_recall<B: AftOp>(
    [k, v]: [Tensor<B, 4>; 2],
    older: Option<Tensor<B, 4>>,
    tables: &[Tensor<B, 2>],
    bias: AftBias,
    position: usize,
) -> Tensor<B, 4> {
    let tables = tables.iter().cloned().map(unwrap).collect();
    wrap(B::aft_recall(
        unwrap(k),
        unwrap(v),
        older.map(unwrap),
        tables,
        bias,
        position,
    ))
}

/// Sums over no position, `[b, 3, h, d]`: the largest key, then `Σ exp(k - largest)` and `Σ exp(k - largest) v`.
pub fn aft_no_sums<B: Backend>([b, h, d]: [usize; 3], device: &B::Device) -> Tensor<B, 4> {
    let largest = Tensor::full([b, 1, h, d], reference::NEVER, device);
    Tensor::cat(vec![largest, Tensor::zeros([b, 2, h, d], device)], 1)
}

/// Adds the positions of `k` and `v` `[b, n, h, d]` to the sums of [`aft_no_sums`].
pub fn aft_add_to_sums<B: Backend>(sums: Tensor<B, 4>, k: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 4> {
    let [largest, den, num] = reference::rows(sums);
    let new = largest.clone().max_pair(k.clone().max_dim(1));
    let scale = (largest - new.clone()).exp();
    let e = (k - new.clone()).exp();
    let den = den * scale.clone() + e.clone().sum_dim(1);
    let num = num * scale + (e * v).sum_dim(1);
    Tensor::cat(vec![new, den, num], 1)
}

/// The means over all positions in the sums of [`aft_no_sums`], `[b, 1, h, d]`.
pub fn aft_mean_of_sums<B: Backend>(sums: Tensor<B, 4>) -> Tensor<B, 4> {
    let [_, den, num] = reference::rows(sums);
    num / den
}

#[cfg(feature = "cuda")]
impl AftOp for burn::backend::Cuda {}

/// Means and logarithms of denominators.
type Results<B> = (FloatTensor<B>, FloatTensor<B>);

#[derive(Debug)]
struct Aft;

/// Inputs, tables last, the bias, and the two results.
type Kept<B> = (Vec<FloatTensor<B>>, AftBias, [FloatTensor<B>; 2]);

impl<B: AftOp, const N: usize> Backward<B, N> for Aft {
    type State = Kept<B>;

    fn backward(self, ops: Step<Kept<B>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let g = grads.consume::<B>(&ops.node);
        let (mut inputs, bias, results) = ops.state;
        let tables = inputs.split_off(2);
        let inputs = [inputs[0].clone(), inputs[1].clone()];
        let gradients = B::aft_backward(inputs, tables, bias, results, g);
        pass_on!(B, ops.parents, gradients, grads);
    }
}

impl<B: AftOp, C: CheckpointStrategy> AftOp for Autodiff<B, C> {
    fn aft_forward(
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        tables: Vec<FloatTensor<Self>>,
        bias: AftBias,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let inputs: Vec<_> = [k, v].into_iter().chain(tables).collect();
        match inputs.len() {
            2 => tracked::<B, C, 2>(inputs, bias),
            3 => tracked::<B, C, 3>(inputs, bias),
            _ => tracked::<B, C, 4>(inputs, bias),
        }
    }
}

fn tracked<B: AftOp, C: CheckpointStrategy, const N: usize>(
    inputs: Vec<FloatTensor<Autodiff<B, C>>>,
    bias: AftBias,
) -> Results<Autodiff<B, C>> {
    let nodes = std::array::from_fn::<_, N, _>(|i| inputs[i].node.clone());
    let kept: Vec<FloatTensor<B>> = inputs.into_iter().map(|x| x.primitive).collect();
    let (s, log_den) = B::aft_forward(kept[0].clone(), kept[1].clone(), kept[2..].to_vec(), bias);
    let second = Autodiff::<B, C>::from_inner(log_den.clone());
    let s = match Aft.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((kept, bias, [s.clone(), log_den]), s),
        OpsKind::UnTracked(prep) => prep.finish(s),
    };
    (s, second)
}
