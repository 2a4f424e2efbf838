//! Causal linear attention (2006.16236): `o_i = Σ_{j≤i} (φ(q_i)·φ(k_j)) v_j / Σ_{j≤i} φ(q_i)·φ(k_j)` with a [`FeatureMap`] φ.
//!
//! Training goes chunk by chunk: pairs within a chunk directly, everything before through the running state
//! `S = Σ φ(k_j) v_jᵀ`, `z = Σ φ(k_j)`. Decoding is the recurrence on that state. Key/value heads may be shared.

mod backward;
mod both_ways;
mod cpu;
mod map;
mod reference;
#[cfg(test)]
mod tests;

pub use self::{both_ways::linear_attention_both_ways, map::FeatureMap};
use super::{unwrap, wrap};
use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
    },
    tensor::{Tensor, backend::Backend, ops::FloatTensor},
};

/// Causal linear attention. Shapes: `q [b, n, h, f]`, `k [b, n, g, f]`, `v [b, n, g, d]` with `g` dividing `h`.
pub trait LinearAttentionOp: Backend {
    /// The output `[b, n, h, d]` and the denominators `[b, n, h]`.
    fn linear_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        map: FeatureMap,
        chunk: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (o, den) = reference::forward::<Self>(wrap(q), wrap(k), wrap(v), map, chunk);
        (unwrap(o), unwrap(den))
    }

    /// Gradients of `q`, `k` and `v`, from the output, the denominators and the output's gradient.
    fn linear_attention_backward(
        inputs: [FloatTensor<Self>; 3],
        o: FloatTensor<Self>,
        den: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        map: FeatureMap,
        chunk: usize,
    ) -> [FloatTensor<Self>; 3] {
        let [q, k, v] = inputs;
        reference::backward::<Self>(
            [wrap(q), wrap(k), wrap(v)],
            wrap(o),
            wrap(den),
            wrap(gradient),
            map,
            chunk,
        )
        .map(unwrap)
    }

    /// One position: adds `k [b, 1, g, f]`, `v [b, 1, g, d]` to the state `s [b, g, f, d]`, `z [b, g, f]` and reads it
    /// with `q [b, 1, h, f]`. Gives the output `[b, 1, h, d]` and the new state.
    fn linear_attention_recurrent(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        state: [FloatTensor<Self>; 2],
        map: FeatureMap,
    ) -> (FloatTensor<Self>, [FloatTensor<Self>; 2]) {
        let [s, z] = state;
        let (o, s, z) = reference::step::<Self>(wrap(q), wrap(k), wrap(v), wrap(s), wrap(z), map);
        (unwrap(o), [unwrap(s), unwrap(z)])
    }
}

/// Causal linear attention over a whole sequence; see [`LinearAttentionOp::linear_attention_forward`].
pub fn linear_attention<B: LinearAttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    map: FeatureMap,
    chunk: usize,
) -> Tensor<B, 4> {
    wrap(B::linear_attention_forward(unwrap(q), unwrap(k), unwrap(v), map, chunk).0)
}

/// One decoding step; see [`LinearAttentionOp::linear_attention_recurrent`].
pub fn linear_attention_step<B: LinearAttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    (s, z): (Tensor<B, 4>, Tensor<B, 3>),
    map: FeatureMap,
) -> (Tensor<B, 4>, (Tensor<B, 4>, Tensor<B, 3>)) {
    let state = [unwrap(s), unwrap(z)];
    let (o, [s, z]) = B::linear_attention_recurrent(unwrap(q), unwrap(k), unwrap(v), state, map);
    (wrap(o), (wrap(s), wrap(z)))
}

#[cfg(feature = "cuda")]
impl LinearAttentionOp for burn::backend::Cuda {}

impl<B: LinearAttentionOp, C: CheckpointStrategy> LinearAttentionOp for Autodiff<B, C> {
    fn linear_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        map: FeatureMap,
        chunk: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct LinearAttention;
        impl<B: LinearAttentionOp> Backward<B, 3> for LinearAttention {
            type State = (
                [FloatTensor<B>; 3],
                FloatTensor<B>,
                FloatTensor<B>,
                FeatureMap,
                usize,
            );

            fn backward(self, ops: Step<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (inputs, o, den, map, chunk) = ops.state;
                let gradients = B::linear_attention_backward(inputs, o, den, g, map, chunk);
                pass_on!(B, ops.parents, gradients, grads);
            }
        }
        let nodes = [q.node.clone(), k.node.clone(), v.node.clone()];
        let inputs = [q.primitive, k.primitive, v.primitive];
        let [q, k, v] = inputs.clone();
        let (o, den) = B::linear_attention_forward(q, k, v, map, chunk);
        let kept = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(den.clone());
        let o = match LinearAttention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, o.clone(), den, map, chunk), o),
            OpsKind::UnTracked(prep) => prep.finish(o),
        };
        (o, kept)
    }
}
