//! `y = x wᵀ` and batched products, with every multiply-add counted in both directions.

mod cpu;
mod product;

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
    },
    tensor::{Shape, Tensor, TensorMetadata, backend::Backend, ops::FloatTensor},
};

pub(super) use self::product::product;
use super::{unwrap, wrap};
use crate::counter;

/// Counted matrix products.
pub trait LinearOp: Backend {
    /// Product of the last two dimensions, `[.., n, k] x [.., k, m]`.
    fn counted_matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        count(&a.shape(), &b.shape());
        Self::float_matmul(a, b)
    }

    /// Whether a matrix is the transposed view of one that lies row after row, as the weights of a linear layer are.
    fn is_turned(x: &FloatTensor<Self>) -> bool;

    /// Whether a gradient of it, or of something that it was computed from, is wanted.
    fn is_tracked(_x: &FloatTensor<Self>) -> bool {
        false
    }

    /// An operand as it is kept for the way back: its device may multiply it in fewer bits.
    fn kept(x: FloatTensor<Self>) -> FloatTensor<Self> {
        x
    }
}

pub(super) fn count(left: &Shape, right: &Shape) {
    counter::add_macs(left.num_elements() * right[right.num_dims() - 1]);
}

impl<B: LinearOp, C: CheckpointStrategy> LinearOp for Autodiff<B, C> {
    fn is_turned(x: &FloatTensor<Self>) -> bool {
        B::is_turned(&x.primitive)
    }

    fn is_tracked(x: &FloatTensor<Self>) -> bool {
        x.is_tracked()
    }

    fn counted_matmul(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Matmul;
        impl<B: LinearOp> Backward<B, 2> for Matmul {
            // each operand, where the other one's gradient is wanted, and whether the right one is a transposed view
            type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>, bool);

            fn backward(self, ops: Step<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let [a_node, b_node] = ops.parents;
                let g = B::kept(grads.consume::<B>(&ops.node));
                let last = g.shape().num_dims() - 1;
                let turn = |x| B::float_swap_dims(x, last - 1, last);
                let (a, b, is_turned) = ops.state;
                if let (Some(node), Some(b)) = (a_node, b) {
                    grads.register::<B>(node.id, B::counted_matmul(g.clone(), turn(b)));
                }
                if let (Some(node), Some(a)) = (b_node, a) {
                    // of weights seen transposed the gradient is made as they lie, so that nobody has to turn it
                    let gradient = if is_turned {
                        turn(B::counted_matmul(turn(g), a))
                    } else {
                        B::counted_matmul(turn(a), g)
                    };
                    grads.register::<B>(node.id, gradient);
                }
            }
        }
        let nodes = [a.node.clone(), b.node.clone()];
        let (needs_a, needs_b) = (b.is_tracked(), a.is_tracked());
        let (a, b) = (a.primitive, b.primitive);
        let is_turned = B::is_turned(&b);
        let (a, b) = (
            if needs_a { B::kept(a) } else { a },
            if needs_b { B::kept(b) } else { b },
        );
        let state = (needs_a.then(|| a.clone()), needs_b.then(|| b.clone()), is_turned);
        match Matmul.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state, B::counted_matmul(a, b)),
            OpsKind::UnTracked(prep) => prep.finish(B::counted_matmul(a, b)),
        }
    }
}

/// `x wᵀ` for `x: [.., in]` and `w: [out, in]`.
pub fn linear<B: LinearOp, const D: usize>(x: Tensor<B, D>, w: Tensor<B, 2>) -> Tensor<B, D> {
    let mut shape = x.dims();
    let width = shape[D - 1];
    let rows = shape[..D - 1].iter().product::<usize>();
    shape[D - 1] = w.dims()[0];
    matmul(x.reshape([rows, width]), w.transpose()).reshape(shape)
}

/// Whether something goes back through `x`.
pub fn tracks<B: LinearOp, const D: usize>(x: &Tensor<B, D>) -> bool {
    B::is_tracked(&unwrap(x.clone()))
}

/// Product of the last two dimensions, counted.
pub fn matmul<B: LinearOp, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> Tensor<B, D> {
    wrap(B::counted_matmul(unwrap(a), unwrap(b)))
}

#[cfg(test)]
mod tests {
    use burn::{backend::Flex, tensor::Distribution};

    use super::*;

    type A = Autodiff<Flex>;

    #[test]
    fn gradients_equal_burns_own_and_all_work_is_counted() {
        let device = Default::default();
        let x = Tensor::<A, 3>::random([2, 5, 6], Distribution::Default, &device).require_grad();
        let w = Tensor::<A, 2>::random([7, 6], Distribution::Default, &device).require_grad();
        let (y, forward) = counter::count_macs(|| linear(x.clone(), w.clone()));
        let loss = (y.clone() * y).sum();
        let (grads, backward) = counter::count_macs(|| loss.backward());
        assert_eq!((forward, backward), (2 * 5 * 6 * 7, 2 * 2 * 5 * 6 * 7));
        let (gx, gw) = (x.grad(&grads).unwrap(), w.grad(&grads).unwrap());

        let y = x.clone().reshape([10, 6]).matmul(w.clone().transpose());
        let grads = (y.clone() * y).sum().backward();
        gx.into_data()
            .assert_approx_eq::<f32>(&x.grad(&grads).unwrap().into_data(), Default::default());
        gw.into_data()
            .assert_approx_eq::<f32>(&w.grad(&grads).unwrap().into_data(), Default::default());
    }

    #[test]
    fn a_frozen_weight_costs_no_gradient_work() {
        let device = Default::default();
        let x = Tensor::<A, 2>::random([5, 6], Distribution::Default, &device).require_grad();
        let w = Tensor::<A, 2>::random([7, 6], Distribution::Default, &device);
        let loss = linear(x, w).sum();
        let (_, backward) = counter::count_macs(|| loss.backward());
        assert_eq!(backward, 5 * 6 * 7);
    }

    #[test]
    fn one_row_agrees_with_many() {
        let device = Default::default();
        for (m, k) in [(1, 1), (7, 5), (8, 16), (40, 33), (1030, 200)] {
            let x = Tensor::<Flex, 2>::random([2, k], Distribution::Default, &device);
            let w = Tensor::<Flex, 2>::random([m, k], Distribution::Default, &device);
            let many = linear(x.clone(), w.clone()).slice([0..1, 0..m]);
            let (one, macs) = counter::count_macs(|| linear(x.slice([0..1, 0..k]), w));
            assert_eq!(macs, (m * k) as u64);
            one.into_data()
                .assert_approx_eq::<f32>(&many.into_data(), burn::tensor::Tolerance::rel_abs(1e-4, 1e-4));
        }
    }
}
