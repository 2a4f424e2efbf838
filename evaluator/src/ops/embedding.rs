//! Rows of a table by their numbers, and the gradient of the table: each of its rows gets the gradients of all its uses,
//! added in their order.

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops as Step, OpsKind},
        },
    },
    tensor::{
        IndexingUpdateOp, Int, Tensor, TensorMetadata,
        backend::Backend,
        ops::{FloatTensor, IntTensor},
    },
};

use super::{unwrap, wrap};

/// Lookups in `table [rows, width]`.
pub trait EmbeddingOp: Backend {
    /// The rows of these numbers, `[n, width]`.
    fn embedding_rows(table: FloatTensor<Self>, numbers: IntTensor<Self>) -> FloatTensor<Self> {
        Self::float_select(table, 0, numbers)
    }

    /// The gradient of a table of `rows` rows, from that of the rows taken, `[n, width]`.
    fn table_gradient(
        rows: usize,
        numbers: IntTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let gradient = wrap::<Self, 2>(gradient);
        let zeros = Tensor::zeros([rows, gradient.dims()[1]], &gradient.device());
        let numbers = Tensor::<Self, 1, Int>::from_primitive(numbers);
        unwrap(zeros.select_assign(0, numbers, gradient, IndexingUpdateOp::Add))
    }
}

/// The rows of `table [rows, width]` with these numbers, `[n, width]`.
pub fn embedding<B: EmbeddingOp>(table: Tensor<B, 2>, numbers: Tensor<B, 1, Int>) -> Tensor<B, 2> {
    wrap(B::embedding_rows(unwrap(table), numbers.into_primitive()))
}

impl EmbeddingOp for Flex {}

impl<B: EmbeddingOp, C: CheckpointStrategy> EmbeddingOp for Autodiff<B, C> {
    fn embedding_rows(table: FloatTensor<Self>, numbers: IntTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Embedding;
        impl<B: EmbeddingOp> Backward<B, 1> for Embedding {
            type State = (usize, IntTensor<B>);

            fn backward(self, ops: Step<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (rows, numbers) = ops.state;
                let [node] = ops.parents;
                if let Some(node) = node {
                    grads.register::<B>(node.id, B::table_gradient(rows, numbers, g));
                }
            }
        }
        let (node, table) = (table.node.clone(), table.primitive);
        let rows = table.shape()[0];
        match Embedding.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((rows, numbers.clone()), B::embedding_rows(table, numbers)),
            OpsKind::UnTracked(prep) => prep.finish(B::embedding_rows(table, numbers)),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    #[test]
    fn rows_and_gradients_equal_burns_own() {
        type A = Autodiff<Flex>;
        let device = Default::default();
        let table = Tensor::<A, 2>::random([5, 3], Distribution::Default, &device).require_grad();
        let numbers = Tensor::<A, 1, Int>::from_data([4, 0, 4, 4, 1], &device);
        let y = embedding(table.clone(), numbers.clone());
        let ours = table.grad(&(y.clone() * y.clone()).sum().backward()).unwrap();
        let plain = table.clone().select(0, numbers);
        assert_eq!(y.into_data(), plain.to_data());
        let theirs = table.grad(&(plain.clone() * plain).sum().backward()).unwrap();
        ours.into_data()
            .assert_approx_eq::<f32>(&theirs.into_data(), Default::default());
    }
}
