//! Causal linear attention (2006.16236): `o_i = Σ_{j≤i} (φ(q_i)·φ(k_j)) v_j / Σ_{j≤i} φ(q_i)·φ(k_j)`, `φ(x) = elu(x) + 1`.
//!
//! Training goes chunk by chunk: pairs within a chunk directly, everything before through the running state
//! `S = Σ φ(k_j) v_jᵀ`, `z = Σ φ(k_j)`. Decoding is the recurrence on that state. Key/value heads may be shared.

mod backward;
mod both_ways;
mod cpu;
mod reference;

pub use self::both_ways::linear_attention_both_ways;
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

/// Keeps the division finite where every feature is near zero.
const EPSILON: f32 = 1e-6;

/// Causal linear attention. Shapes: `q [b, n, h, d]`, `k` and `v` `[b, n, g, d]` with `g` dividing `h`.
pub trait LinearAttentionOp: Backend {
    /// The output `[b, n, h, d]` and the denominators `[b, n, h]`.
    fn linear_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        chunk: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (o, den) = reference::forward::<Self>(wrap(q), wrap(k), wrap(v), chunk);
        (unwrap(o), unwrap(den))
    }

    /// Gradients of `q`, `k` and `v`, from the output, the denominators and the output's gradient.
    fn linear_attention_backward(
        inputs: [FloatTensor<Self>; 3],
        o: FloatTensor<Self>,
        den: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        chunk: usize,
    ) -> [FloatTensor<Self>; 3] {
        let [q, k, v] = inputs;
        reference::backward::<Self>(
            [wrap(q), wrap(k), wrap(v)],
            wrap(o),
            wrap(den),
            wrap(gradient),
            chunk,
        )
        .map(unwrap)
    }

    /// One position: adds `k`, `v` `[b, 1, g, d]` to the state `s [b, g, d, d]`, `z [b, g, d]` and reads it with
    /// `q [b, 1, h, d]`. Gives the output `[b, 1, h, d]` and the new state.
    fn linear_attention_recurrent(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        state: [FloatTensor<Self>; 2],
    ) -> (FloatTensor<Self>, [FloatTensor<Self>; 2]) {
        let [s, z] = state;
        let (o, s, z) = reference::step::<Self>(wrap(q), wrap(k), wrap(v), wrap(s), wrap(z));
        (unwrap(o), [unwrap(s), unwrap(z)])
    }
}

/// Causal linear attention over a whole sequence; see [`LinearAttentionOp::linear_attention_forward`].
pub fn linear_attention<B: LinearAttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    chunk: usize,
) -> Tensor<B, 4> {
    wrap(B::linear_attention_forward(unwrap(q), unwrap(k), unwrap(v), chunk).0)
}

/// One decoding step; see [`LinearAttentionOp::linear_attention_recurrent`].
pub fn linear_attention_step<B: LinearAttentionOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    (s, z): (Tensor<B, 4>, Tensor<B, 3>),
) -> (Tensor<B, 4>, (Tensor<B, 4>, Tensor<B, 3>)) {
    let (o, [s, z]) = B::linear_attention_recurrent(unwrap(q), unwrap(k), unwrap(v), [unwrap(s), unwrap(z)]);
    (wrap(o), (wrap(s), wrap(z)))
}

#[cfg(feature = "cuda")]
impl LinearAttentionOp for burn::backend::Cuda {}

impl<B: LinearAttentionOp, C: CheckpointStrategy> LinearAttentionOp for Autodiff<B, C> {
    fn linear_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        chunk: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct LinearAttention;
        impl<B: LinearAttentionOp> Backward<B, 3> for LinearAttention {
            type State = ([FloatTensor<B>; 3], FloatTensor<B>, FloatTensor<B>, usize);

            fn backward(self, ops: Step<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (inputs, o, den, chunk) = ops.state;
                let gradients = B::linear_attention_backward(inputs, o, den, g, chunk);
                pass_on!(B, ops.parents, gradients, grads);
            }
        }
        let nodes = [q.node.clone(), k.node.clone(), v.node.clone()];
        let inputs = [q.primitive, k.primitive, v.primitive];
        let [q, k, v] = inputs.clone();
        let (o, den) = B::linear_attention_forward(q, k, v, chunk);
        let kept = <Self as burn::tensor::backend::AutodiffBackend>::from_inner(den.clone());
        let o = match LinearAttention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((inputs, o.clone(), den, chunk), o),
            OpsKind::UnTracked(prep) => prep.finish(o),
        };
        (o, kept)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, TensorData, Tolerance};

    use burn::backend::Flex;

    use super::*;

    type A = Autodiff<Flex>;

    fn close(a: TensorData, b: TensorData) {
        a.assert_approx_eq::<f32>(&b, Tolerance::rel_abs(1e-3, 1e-4));
    }

    fn inputs(n: usize, h: usize, g: usize) -> [Tensor<A, 4>; 3] {
        let device = Default::default();
        let random =
            |heads| Tensor::<A, 4>::random([2, n, heads, 8], Distribution::Normal(0.0, 1.0), &device);
        [random(h), random(g), random(g)].map(Tensor::require_grad)
    }

    /// The row-normalised, masked product of all features: quadratic, and differentiated by burn itself.
    fn quadratic([q, k, v]: [Tensor<A, 4>; 3]) -> Tensor<A, 4> {
        let [b, n, h, d] = q.dims();
        let g = k.dims()[2];
        let phi = |x: Tensor<A, 4>| x.clone().clamp_max(0.0).exp() + x.clamp_min(0.0);
        let spread = |x: Tensor<A, 4>| {
            x.swap_dims(1, 2)
                .unsqueeze_dim::<5>(2)
                .expand([b, g, h / g, n, d])
                .reshape([b, h, n, d])
        };
        let a = phi(q.swap_dims(1, 2))
            .matmul(phi(spread(k)).swap_dims(2, 3))
            .tril(0);
        let o = a.clone().matmul(spread(v)) / (a.sum_dim(3) + EPSILON);
        o.swap_dims(1, 2)
    }

    #[test]
    fn every_chunk_size_equals_the_quadratic_form_with_gradients() {
        for (n, h, g) in [(1, 2, 2), (13, 2, 2), (13, 4, 1), (32, 4, 2)] {
            let x = inputs(n, h, g);
            let expected = quadratic(x.clone());
            let grads = (expected.clone() * expected.clone().sin()).sum().backward();
            let expected_grads = x.each_ref().map(|t| t.grad(&grads).unwrap().into_data());
            for chunk in [1, 4, 8, 64] {
                let [q, k, v] = x.clone();
                let o = linear_attention(q, k, v, chunk);
                close(o.to_data(), expected.to_data());
                let grads = (o.clone() * o.sin()).sum().backward();
                for (t, expected) in x.iter().zip(&expected_grads) {
                    close(t.grad(&grads).unwrap().into_data(), expected.clone());
                }
            }
        }
    }

    #[test]
    fn the_reference_body_agrees_with_the_kernel() {
        let [q, k, v] = inputs(13, 4, 2).map(Tensor::inner);
        let (o, den) = reference::forward(q.clone(), k.clone(), v.clone(), 4);
        let (o2, den2) =
            Flex::linear_attention_forward(unwrap(q.clone()), unwrap(k.clone()), unwrap(v.clone()), 4);
        close(wrap::<Flex, 4>(o2).into_data(), o.clone().into_data());
        close(wrap::<Flex, 3>(den2).into_data(), den.clone().into_data());
        let gradient = o.clone() + 0.3;
        let plain = reference::backward(
            [q.clone(), k.clone(), v.clone()],
            o.clone(),
            den.clone(),
            gradient.clone(),
            4,
        );
        let ours = Flex::linear_attention_backward(
            [unwrap(q), unwrap(k), unwrap(v)],
            unwrap(o),
            unwrap(den),
            unwrap(gradient),
            4,
        );
        for (ours, plain) in ours.into_iter().zip(plain) {
            close(wrap::<Flex, 4>(ours).into_data(), plain.into_data());
        }
    }

    #[test]
    fn decoding_equals_training_and_the_state_does_not_grow() {
        let [q, k, v] = inputs(11, 4, 2).map(Tensor::inner);
        let whole = linear_attention(q.clone(), k.clone(), v.clone(), 4);
        let device = q.device();
        let mut state = (
            Tensor::<Flex, 4>::zeros([2, 2, 8, 8], &device),
            Tensor::<Flex, 3>::zeros([2, 2, 8], &device),
        );
        let mut plain = state.clone();
        for t in 0..11 {
            let at = |x: &Tensor<Flex, 4>| x.clone().slice([0..2, t..t + 1]);
            let (o, next) = linear_attention_step(at(&q), at(&k), at(&v), state);
            state = next;
            close(o.clone().into_data(), at(&whole).into_data());
            let (o2, s, z) = reference::step(at(&q), at(&k), at(&v), plain.0, plain.1);
            plain = (s, z);
            close(o2.into_data(), o.into_data());
        }
        assert_eq!(state.0.dims(), [2, 2, 8, 8]);
    }
}
