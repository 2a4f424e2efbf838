//! Distillation of attention (`TinyBERT`, 1909.10351; `MiniLM`, 2002.10957): with `A = softmax(Q Kᵀ / √d)` of the last layer,
//! over the tokens that its attention sees, the mean over heads and tokens of `KL(A_T ‖ A_S)`.
//!
//! A head's row is a distribution, whatever its depth. Where both have as many query heads, each is compared with its own;
//! otherwise there is nobody to compare one with, and the means over the heads of each are, which are distributions too.
//! Queries and keys are projected once more from what the last block is given, and turned by their positions, so that no other
//! pass has to keep them. All pairs are formed, those that nobody sees included: `n²` numbers for each head.

use burn::tensor::{Tensor, activation::log_softmax, backend::Backend};

use super::{
    About,
    streams::{self, mean_of_present},
};
use crate::{
    model::{Form, Model, ModelPlan, Pass, matrix_pass},
    ops::{Band, Lengths, Ops, matmul, outside, spread},
};

pub(super) const ABOUT: About = About {
    name: "attention",
    doc: "what tokens look at in a teacher's last layer, where its attention and the student's are softmax over the same tokens",
    paper: "1909.10351, 2002.10957",
};

/// The score of what is not seen: its share is exactly 0, and the logarithm of that a number.
const NEVER: f32 = -1e9;

/// Multiply-adds of a step on rows of `n` tokens, `rows` of them.
pub(super) fn macs(student: &ModelPlan, teacher: &ModelPlan, rows: usize, n: usize) -> u64 {
    let last = |plan: &ModelPlan| {
        let layer = plan.layers.len() - 1;
        let (attention, seen) = (plan.layers[layer].attention, plan.seen(layer, n));
        let out = (attention.heads + attention.kv_heads) * attention.depth;
        let tokens = (rows * seen) as u64;
        let scores = tokens * (seen * attention.heads * attention.depth) as u64;
        let scores = Pass {
            forward: scores,
            backward: 2 * scores,
        };
        matrix_pass(tokens, plan.width as u64, out as u64, true, Form::Trained) + scores
    };
    last(student).total() + last(teacher).forward
}

/// Logarithms of the rows of a model's last block in the pass that is done, `[b, heads, n, n]`, and how long its rows are.
pub(super) fn rows<B: Ops>(model: &Model<B>) -> (Tensor<B, 4>, Option<Lengths>) {
    let last = model.blocks.last().expect("a model has blocks");
    let around = streams::taken(last);
    let angles = model.last_angles(around.before.dims()[1], around.lengths.clone());
    let ([q, k], band) = last
        .looks(around.before, &angles)
        .expect("only softmax attention is asked for its rows");
    (log_rows(q, k, &band), around.lengths)
}

/// Logarithms of the rows of queries `[b, n, heads, depth]` over keys `[b, n, kv_heads, depth]`, `[b, heads, n, n]`.
fn log_rows<B: Ops>(q: Tensor<B, 4>, k: Tensor<B, 4>, band: &Band) -> Tensor<B, 4> {
    let [b, n, heads, depth] = q.dims();
    let k = spread(k, n, heads);
    let scores = matmul(q.swap_dims(1, 2), k.swap_dims(2, 3)) / (depth as f64).sqrt();
    let unseen = outside::<B>(&scores.device(), [b, heads], [0, n], band);
    log_softmax(scores.mask_fill(unseen, NEVER), 3)
}

/// Logarithms of the mean over heads of rows whose logarithms are `[b, heads, n, n]`, `[b, 1, n, n]`.
fn mean_of_heads<B: Backend>(rows: Tensor<B, 4>) -> Tensor<B, 4> {
    // beside the largest, so that shares of 0 have a logarithm
    let largest = rows.clone().detach().max_dim(1);
    (rows - largest.clone()).exp().mean_dim(1).log() + largest
}

/// The mean over heads and tokens that are no padding, `[1]`, of logarithms of rows, `[b, heads, n, n]`. The teacher's are
/// constants.
pub(super) fn loss<B: Ops>(
    student: Tensor<B, 4>,
    teacher: Tensor<B, 4>,
    lengths: Option<&Lengths>,
) -> Tensor<B, 1> {
    let (student, teacher) = if student.dims()[1] == teacher.dims()[1] {
        (student, teacher)
    } else {
        (mean_of_heads(student), mean_of_heads(teacher))
    };
    let apart = teacher.clone().exp() * (teacher - student);
    let apart = apart.sum_dim(3).squeeze_dim::<3>(3);
    mean_of_present(apart.mean_dim(1).squeeze_dim::<2>(1), lengths)
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::Flex,
        tensor::{TensorData, Tolerance},
    };

    use super::*;
    use crate::{ops::attention, training::IntoF32};

    fn heads(values: &[f32], shape: [usize; 4]) -> Tensor<Flex, 4> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Default::default())
    }

    /// Numbers without a pattern.
    fn some(shape: [usize; 4], salt: f32) -> Tensor<Flex, 4> {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|i: usize| 2.0 * (i as f32 * 1.7 + salt).sin())
            .collect();
        heads(&values, shape)
    }

    fn near(found: Tensor<Flex, 1>, expected: f64) {
        let found = f64::from(found.into_scalar_f32());
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    /// The share of the first of two scores.
    fn first(above: f64) -> f64 {
        1.0 / (1.0 + (-above).exp())
    }

    fn divergence(p: f64, q: f64) -> f64 {
        p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln()
    }

    /// Rows of two tokens that look at the first one with a score this much above that of the second, in each head.
    fn two_tokens(above: &[f32], band: &Band) -> Tensor<Flex, 4> {
        let n = above.len();
        let k = [above, &vec![0.0; n]].concat();
        log_rows(
            heads(&vec![1.0; 2 * n], [1, 2, n, 1]),
            heads(&k, [1, 2, n, 1]),
            band,
        )
    }

    #[test]
    fn it_is_the_divergence_of_rows_and_the_first_token_sees_itself_alone() {
        let expected = divergence(first(1.0), first(-2.0));
        let apart = |band: Band| loss(two_tokens(&[-2.0], &band), two_tokens(&[1.0], &band), None);
        near(apart(Band::causal(2)), expected / 2.0);
        near(apart(Band::whole(2, None)), expected);
    }

    #[test]
    fn where_heads_differ_their_means_are_compared() {
        let band = Band::causal(2);
        let teacher = two_tokens(&[1.0, -3.0], &band);
        let p = f64::midpoint(first(1.0), first(-3.0));
        let told = loss(two_tokens(&[0.5], &band), teacher.clone(), None);
        near(told, divergence(p, first(0.5)) / 2.0);
        // as many heads: each is compared with its own
        let own = divergence(first(1.0), first(0.5)) + divergence(first(-3.0), first(0.5));
        let told = loss(two_tokens(&[0.5, 0.5], &band), teacher, None);
        near(told, own / 4.0);
        // a head that is there twice says nothing new
        near(
            loss(two_tokens(&[0.7, 0.7], &band), two_tokens(&[0.7], &band), None),
            0.0,
        );
    }

    #[test]
    fn who_agrees_has_nothing_to_learn_and_padding_teaches_nothing() {
        let lengths = Lengths::new(vec![3, 2]);
        let band = Band::whole(3, Some(lengths.clone()));
        let (q, k) = (some([2, 3, 2, 4], 0.0), some([2, 3, 2, 4], 9.0));
        let teacher = log_rows(some([2, 3, 4, 8], 1.0), some([2, 3, 2, 8], 5.0), &band);
        let rows = log_rows(q.clone(), k.clone(), &band);
        near(loss(rows.clone(), rows.clone(), Some(&lengths)), 0.0);
        let told = loss(rows, teacher.clone(), Some(&lengths)).into_scalar_f32();
        assert!(told > 1e-3, "{told}");
        // the last token of the second row is padding
        let change = |x: Tensor<Flex, 4>| {
            let other = x.clone().slice([1..2, 2..3]) * -3.0 + 1.0;
            x.slice_assign([1..2, 2..3, 0..2, 0..4], other)
        };
        let rows = log_rows(change(q), change(k), &band);
        near(loss(rows, teacher, Some(&lengths)), f64::from(told));
    }

    #[test]
    fn a_later_token_changes_no_row_before_it() {
        let band = Band::causal(4);
        let (q, k) = (some([1, 4, 2, 4], 0.0), some([1, 4, 1, 4], 9.0));
        let other = k
            .clone()
            .slice_assign([0..1, 3..4, 0..1, 0..4], some([1, 1, 1, 4], 3.0));
        let teacher = log_rows(some([1, 4, 2, 4], 1.0), some([1, 4, 2, 4], 5.0), &band);
        let of = |k: Tensor<Flex, 4>, at: usize, n: usize| {
            let rows = log_rows(q.clone(), k, &band).narrow(2, at, n);
            loss(rows, teacher.clone().narrow(2, at, n), None).into_scalar_f32()
        };
        assert_eq!(of(k.clone(), 0, 3).to_bits(), of(other.clone(), 0, 3).to_bits());
        assert!((of(k, 3, 1) - of(other, 3, 1)).abs() > 1e-3);
    }

    #[test]
    fn rows_are_those_that_the_attention_takes_its_values_by() {
        let window = Band {
            window: 2,
            ..Band::causal(5)
        };
        for band in [
            Band::causal(5),
            window,
            Band::whole(5, None),
            Band::whole(5, Some(Lengths::new(vec![5, 3]))),
        ] {
            let (q, k, v) = (
                some([2, 5, 4, 8], 0.0),
                some([2, 5, 2, 8], 9.0),
                some([2, 5, 2, 8], 5.0),
            );
            let taken = log_rows(q.clone(), k.clone(), &band)
                .exp()
                .matmul(spread(v.clone(), 5, 4));
            let expected = attention(q, k, v, band.clone());
            // what is said of padding counts nowhere
            let there = match &band.lengths {
                None => Tensor::ones([2, 5], &Default::default()),
                Some(lengths) => lengths.present::<Flex>(5, &Default::default()),
            };
            let there = there.reshape([2, 5, 1, 1]);
            let (taken, expected) = (taken.swap_dims(1, 2) * there.clone(), expected * there);
            let close = Tolerance::rel_abs(1e-3, 1e-4);
            taken
                .into_data()
                .assert_approx_eq::<f32>(&expected.into_data(), close);
        }
    }
}
