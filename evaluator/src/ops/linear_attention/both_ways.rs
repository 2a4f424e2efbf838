//! Linear attention in both directions: `o_i = φ(q_i) Σ_j φ(k_j) v_jᵀ / φ(q_i)·Σ_j φ(k_j)`, the sums over all tokens.
//!
//! Two products of counted matrices with one state `[f, d]` between them; pairs of tokens are never formed.

use burn::tensor::Tensor;

use super::{
    super::{Lengths, linear::LinearOp, matmul},
    FeatureMap,
};

/// Linear attention over whole sequences, of which padding takes no part. Shapes are those of
/// [`super::LinearAttentionOp`].
pub fn linear_attention_both_ways<B: LinearOp>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    map: FeatureMap,
    lengths: Option<&Lengths>,
) -> Tensor<B, 4> {
    let ([b, n, h, f], [_, _, g, d]) = (q.dims(), v.dims());
    let mut k = map.of_tensor(k.swap_dims(1, 2));
    if let Some(lengths) = lengths {
        k = k * lengths.present::<B>(n, &q.device()).reshape([b, 1, n, 1]);
    }
    // the query heads of one key/value head read one state
    let q = map.of_tensor(q.swap_dims(1, 2)).reshape([b, g, h / g * n, f]);
    let sum = matmul(k.clone().swap_dims(2, 3), v.swap_dims(1, 2));
    let den = (q.clone() * k.sum_dim(2)).sum_dim(3) + map.epsilon();
    let o = matmul(q, sum) / den;
    o.reshape([b, h, n, d]).swap_dims(1, 2)
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::{Autodiff, Flex},
        tensor::{Distribution, TensorData, Tolerance},
    };

    use super::*;
    use crate::counter;

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

    /// All pairs of features, row-normalised: quadratic.
    fn quadratic([q, k, v]: [Tensor<A, 4>; 3], map: FeatureMap, lengths: &Lengths) -> Tensor<A, 4> {
        let ([b, n, h, d], g) = (q.dims(), k.dims()[2]);
        let spread = |x: Tensor<A, 4>| {
            let x = x.swap_dims(1, 2).unsqueeze_dim::<5>(2);
            x.expand([b, g, h / g, n, d]).reshape([b, h, n, d])
        };
        let phi = |x: Tensor<A, 4>| map.of_tensor(x);
        let present = lengths.present::<A>(n, &q.device()).reshape([b, 1, 1, n]);
        let a = phi(q.swap_dims(1, 2)).matmul(phi(spread(k)).swap_dims(2, 3)) * present;
        (a.clone().matmul(spread(v)) / (a.sum_dim(3) + map.epsilon())).swap_dims(1, 2)
    }

    #[test]
    fn the_sums_equal_the_quadratic_form_with_gradients_and_their_work_is_linear() {
        for (n, h, g, map, lengths) in [
            (1, 2, 2, FeatureMap::Elu1, vec![1, 1]),
            (13, 4, 2, FeatureMap::Relu, vec![13, 13]),
            (21, 4, 1, FeatureMap::Elu1, vec![5, 21]),
        ] {
            let (x, lengths) = (inputs(n, h, g), Lengths::new(lengths));
            let expected = quadratic(x.clone(), map, &lengths);
            let grads = (expected.clone() * expected.clone().sin()).sum().backward();
            let expected_grads = x.each_ref().map(|t| t.grad(&grads).unwrap().into_data());
            let [q, k, v] = x.clone();
            let (o, forward) =
                counter::count_macs(|| linear_attention_both_ways(q, k, v, map, Some(&lengths)));
            close(o.to_data(), expected.to_data());
            let loss = (o.clone() * o.sin()).sum();
            let (grads, backward) = counter::count_macs(|| loss.backward());
            for (t, expected) in x.iter().zip(expected_grads) {
                close(t.grad(&grads).unwrap().into_data(), expected);
            }
            let once = (2 * n * (h + g) * 8 * 8) as u64;
            assert_eq!((forward, backward), (once, 2 * once));
        }
    }
}
