//! The gated weighted sum of RWKV-4 (2305.13048), for each channel by itself:
//! `o_t = σ(r_t) · (Σ_{i<t} e^{-(t-1-i)w + k_i} v_i + e^{u + k_t} v_t) / (Σ_{i<t} e^{-(t-1-i)w + k_i} + e^{u + k_t})`.
//!
//! `w = e^decay` is above 0, and `u` is the bonus of the token itself. The sums are a recurrence on three numbers for
//! each channel, numerator `a`, denominator `b` and the exponent `p` that both are scaled by, so nothing overflows
//! whatever `k` is. Training and decoding run the same scan: linear in time, without chunks, at once over sequences
//! and channels. Both passes are elementwise and count no multiply-adds.

mod cpu;
mod reference;

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

/// The exponent of an empty sum: below every other one, with room to subtract decays from it.
const EMPTY: f32 = -1e38;

/// Decays above this overflow 32 bits when raised; what is forgotten does not change any more long before.
const MAX_DECAY: f32 = 88.0;

/// The scan. Inputs are `r`, `k` and `v` `[b, n, c]`, `decay` and `bonus` `[1, c]`.
pub trait WkvOp: Backend {
    /// The output `[b, n, c]` and the state `a`, `b`, `p`, each `[b, c]`, after the state of the tokens before.
    fn wkv_scan(
        inputs: [FloatTensor<Self>; 5],
        state: [FloatTensor<Self>; 3],
    ) -> (FloatTensor<Self>, [FloatTensor<Self>; 3]) {
        let [r, k, v, decay, bonus] = inputs;
        let rows = [wrap(r), wrap(k), wrap(v)];
        let (o, state) = reference::scan::<Self>(rows, [wrap(decay), wrap(bonus)], state.map(wrap));
        (unwrap(o), state.map(unwrap))
    }

    /// The output `[b, n, c]` where nothing came before.
    fn wkv_forward(inputs: [FloatTensor<Self>; 5]) -> FloatTensor<Self> {
        let r: Tensor<Self, 3> = wrap(inputs[0].clone());
        let state = empty_state::<Self>(r.dims()[0], r.dims()[2], &r.device());
        Self::wkv_scan(inputs, state.map(unwrap)).0
    }

    /// Gradients of the inputs of [`WkvOp::wkv_forward`], from the output's gradient.
    fn wkv_backward(inputs: [FloatTensor<Self>; 5], gradient: FloatTensor<Self>) -> [FloatTensor<Self>; 5] {
        let [r, k, v, decay, bonus] = inputs;
        let rows = [wrap(r), wrap(k), wrap(v)];
        let (rows, [decay, bonus]) =
            reference::backward::<Self>(rows, [wrap(decay), wrap(bonus)], wrap(gradient));
        let [r, k, v] = rows.map(unwrap);
        [r, k, v, unwrap(decay), unwrap(bonus)]
    }
}

/// What decoding remembers: numerator, denominator and exponent, each `[b, c]`.
pub type WkvState<B> = [Tensor<B, 2>; 3];

/// The state before the first token.
pub fn empty_state<B: Backend>(batch: usize, channels: usize, device: &B::Device) -> WkvState<B> {
    let filled = |value: f32| Tensor::full([batch, channels], value, device);
    [filled(0.0), filled(0.0), filled(EMPTY)]
}

/// Whole sequences; see [`WkvOp`].
pub fn wkv<B: WkvOp>([r, k, v]: [Tensor<B, 3>; 3], [decay, bonus]: [Tensor<B, 2>; 2]) -> Tensor<B, 3> {
    wrap(B::wkv_forward([
        unwrap(r),
        unwrap(k),
        unwrap(v),
        unwrap(decay),
        unwrap(bonus),
    ]))
}

/// The tokens after those of a state, and the state after them; see [`WkvOp`].
pub fn wkv_extend<B: WkvOp>(
    [r, k, v]: [Tensor<B, 3>; 3],
    [decay, bonus]: [Tensor<B, 2>; 2],
    state: WkvState<B>,
) -> (Tensor<B, 3>, WkvState<B>) {
    let inputs = [unwrap(r), unwrap(k), unwrap(v), unwrap(decay), unwrap(bonus)];
    let (o, state) = B::wkv_scan(inputs, state.map(unwrap));
    (wrap(o), state.map(wrap))
}

#[cfg(feature = "cuda")]
impl WkvOp for burn::backend::Cuda {}

impl<B: WkvOp, C: CheckpointStrategy> WkvOp for Autodiff<B, C> {
    fn wkv_forward(inputs: [FloatTensor<Self>; 5]) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Wkv;
        impl<B: WkvOp> Backward<B, 5> for Wkv {
            type State = [FloatTensor<B>; 5];

            fn backward(self, ops: Step<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let gradients = B::wkv_backward(ops.state, g);
                pass_on!(B, ops.parents, gradients, grads);
            }
        }
        let nodes = inputs.each_ref().map(|x| x.node.clone());
        let inputs = inputs.map(|x| x.primitive);
        let o = B::wkv_forward(inputs.clone());
        match Wkv.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(inputs, o),
            OpsKind::UnTracked(prep) => prep.finish(o),
        }
    }
}

#[cfg(test)]
mod tests;
