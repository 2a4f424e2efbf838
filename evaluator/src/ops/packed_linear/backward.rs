//! The way back through a packed matrix (2305.14314): its input gets a gradient, and it has none itself.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
    },
    tensor::{DType, Int, Tensor, TensorData, backend::Backend, ops::FloatTensor},
};

use super::{Levels, PackedLinearOp, PackedMatrixParts, Parts};
use crate::{
    counter,
    ops::{unwrap, wrap},
};

/// Weights that are unpacked at once.
const WEIGHTS_AT_ONCE: usize = 32 * 1024;

/// `g w` for `g [n, rows]` and the packed `w [rows, columns]`: a few rows are unpacked at a time, and gone after use.
pub(super) fn input_gradient<B: PackedLinearOp>(g: FloatTensor<B>, w: &Parts<B>) -> FloatTensor<B> {
    let g = wrap::<B, 2>(g);
    let ([n, rows], device) = (g.dims(), g.device());
    let at_once = (WEIGHTS_AT_ONCE / w.columns).max(1);
    let mut sum = Tensor::<B, 2>::zeros([n, w.columns], &device);
    for from in (0..rows).step_by(at_once) {
        let count = at_once.min(rows - from);
        let numbers: Vec<i32> = (from..from + count).map(|row| row as i32).collect();
        let numbers =
            Tensor::<B, 1, Int>::from_data(TensorData::new(numbers, [count]), (&device, DType::I32));
        let pick = |words: &burn::tensor::ops::IntTensor<B>| {
            let words = Tensor::<B, 2, Int>::from_primitive(words.clone());
            words.select(0, numbers.clone()).into_primitive()
        };
        let some = PackedMatrixParts {
            words: pick(&w.words),
            scales: unwrap(wrap::<B, 2>(w.scales.clone()).select(0, numbers.clone())),
            levels: match &w.levels {
                Levels::Even(zeros) => Levels::Even(pick(zeros)),
                Levels::Book(levels) => Levels::Book(*levels),
            },
            ..*w
        };
        let unpacked = wrap::<B, 2>(B::packed_rows(some));
        sum = sum + g.clone().narrow(1, from, count).matmul(unpacked);
    }
    counter::add_macs(n * rows * w.columns);
    unwrap(sum)
}

impl<B: PackedLinearOp, C: CheckpointStrategy> PackedLinearOp for Autodiff<B, C> {
    fn packed_linear_forward(x: FloatTensor<Self>, w: Parts<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct PackedLinear;
        impl<B: PackedLinearOp> Backward<B, 1> for PackedLinear {
            type State = Parts<B>;

            fn backward(self, ops: Step<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let [node] = ops.parents;
                if let Some(node) = node {
                    grads.register::<B>(node.id, input_gradient::<B>(g, &ops.state));
                }
            }
        }
        let w = inner::<B, C>(w);
        match PackedLinear
            .prepare::<C>([x.node.clone()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(w.clone(), B::packed_linear_forward(x.primitive, w)),
            OpsKind::UnTracked(prep) => prep.finish(B::packed_linear_forward(x.primitive, w)),
        }
    }

    fn packed_rows(w: Parts<Self>) -> FloatTensor<Self> {
        <Self as burn::tensor::backend::AutodiffBackend>::from_inner(B::packed_rows(inner::<B, C>(w)))
    }
}

fn inner<B: Backend, C: CheckpointStrategy>(w: Parts<Autodiff<B, C>>) -> Parts<B> {
    PackedMatrixParts {
        words: w.words,
        scales: w.scales.primitive,
        levels: w.levels,
        bits: w.bits,
        group: w.group,
        columns: w.columns,
        integer: w.integer,
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::Flex,
        tensor::{Distribution, Tolerance},
    };

    use super::*;
    use crate::{
        model::{Matrix, Part},
        ops::linear,
        techniques::quantization::{Method, QuantizationPlan, quantize_unseen},
    };

    type A = Autodiff<Flex>;

    /// One matrix.
    struct One(Matrix<A>);

    impl crate::model::Parts<A> for One {
        fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, A>)) {
            visitor(path, Part::Matrix(&mut self.0));
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_unpacked_weights_and_no_copy_of_them_is_made() {
        let device = Default::default();
        let even = [2, 3, 4, 5, 6, 8].map(|bits| (bits, Method::Rtn));
        for (bits, method) in even.into_iter().chain([(4, Method::Nf4)]) {
            let [rows, columns] = if bits == 8 { [33, 64] } else { [2800, 200] };
            let weight = Tensor::<A, 2>::random([rows, columns], Distribution::Default, &device);
            let mut one = One(Matrix::dense(weight));
            let plan = QuantizationPlan {
                bits,
                group: 64,
                method,
                calibration_batches: 0,
                activation_bits: 32,
                layers: Default::default(),
            };
            quantize_unseen(&mut one, plan);
            let Matrix::Packed(packed) = &one.0 else {
                panic!("it is packed")
            };
            let x = Tensor::<A, 2>::random([5, columns], Distribution::Default, &device).require_grad();
            let y = one.0.apply(x.clone());
            let ((ours, macs), peak) = crate::memory::peak_bytes(|| {
                counter::count_macs(|| x.grad(&(y.clone() * y).sum().backward()).unwrap())
            });
            assert_eq!(macs, (5 * rows * columns) as u64);
            let y = linear(x.clone(), packed.all_rows());
            let plain = x.grad(&(y.clone() * y).sum().backward()).unwrap();
            ours.into_data()
                .assert_approx_eq::<f32>(&plain.into_data(), Tolerance::rel_abs(1e-3, 1e-3));
            // what a product needs beside it differs between processors, and is far less than these weights
            if rows * columns > WEIGHTS_AT_ONCE {
                assert!(peak < 4 * (rows * columns) as u64, "{peak}");
            }
        }
    }
}
