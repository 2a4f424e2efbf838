//! Packing of what is left of a matrix from which single weights were removed (techniques in this order: 2301.00774, 3.5).
//!
//! Levels are those of the nonzeros of a group of columns, and codes are theirs alone: what is removed has none and stays zero.

use burn::tensor::backend::Backend;
use rayon::prelude::*;

use super::{Method, QuantizationPlan, gptq, levels::EvenLevels, note_unjudged};
use crate::{
    counter,
    techniques::{
        calibration::Statistics,
        sparsity::{
            coded::NonzeroCodes,
            sparse::{HostNonzeros, Sparse, SparseWeights},
        },
    },
};

/// The counter of nonzeros that were packed.
pub(crate) const ACTIVITY: &str = "packed_nonzeros";

/// Packs the nonzeros of the matrix of this path, where they are floats.
pub(super) fn pack<B: Backend>(
    sparse: &mut Sparse<B>,
    path: &str,
    plan: QuantizationPlan,
    inputs: &Statistics,
) {
    let (weights, device) = (sparse.to_host(), sparse.device());
    let HostNonzeros::Floats(floats) = &weights.values else {
        return;
    };
    let shape = weights.shape();
    for name in [super::PACKED, ACTIVITY] {
        counter::add_activity(name, shape.nonzeros());
    }
    let judged = match plan.method {
        Method::Gptq => {
            let factor = inputs
                .get(path)
                .and_then(|inputs| gptq::factor(inputs, shape.columns));
            if factor.is_none() {
                note_unjudged(path, plan.shape(shape.rows, shape.columns));
            }
            factor
        }
        _ => None,
    };
    let codes = match judged {
        Some(factor) => by_gptq(&weights, floats, plan, &factor),
        None => nearest(&weights, floats, plan),
    };
    *sparse = weights.with_codes(codes).into_module(&device);
}

/// Codes of the levels nearest to nonzeros `floats`.
fn nearest(weights: &SparseWeights, floats: &[f32], plan: QuantizationPlan) -> NonzeroCodes {
    let shape = weights.shape();
    let mut codes = NonzeroCodes::new(shape, plan.of_nonzeros());
    let mut number = 0;
    for row in 0..shape.rows {
        let columns = weights.columns_of(row);
        for (g, first) in (0..shape.columns).step_by(plan.group).enumerate() {
            let before = |column: usize| columns.partition_point(|c| *c < column);
            let n = before(first + plan.group) - before(first);
            let group = &floats[number..number + n];
            let levels = EvenLevels::of(group, plan.bits);
            codes.set_levels(row, g, levels.scale, levels.zero);
            for (number, w) in (number..).zip(group) {
                codes.set_code(number, levels.code(*w));
            }
            number += n;
        }
    }
    codes
}

/// Codes of nonzeros `floats`, of which later columns make up for earlier ones, as `factor [columns, columns]` says.
fn by_gptq(weights: &SparseWeights, floats: &[f32], plan: QuantizationPlan, factor: &[f32]) -> NonzeroCodes {
    let shape = weights.shape();
    let dense = plan.shape(shape.rows, shape.columns);
    let mut codes = NonzeroCodes::new(shape, plan.of_nonzeros());
    let (mut tasks, mut number) = (vec![], 0);
    for first in (0..shape.rows).step_by(gptq::ROWS_PER_TASK) {
        let rows = first..(first + gptq::ROWS_PER_TASK).min(shape.rows);
        let columns: Vec<Vec<usize>> = rows.map(|row| weights.columns_of(row)).collect();
        let begin = number;
        number += columns.iter().map(Vec::len).sum::<usize>();
        tasks.push((first, columns, &floats[begin..number]));
    }
    let rounded: Vec<_> = tasks
        .par_iter()
        .map(|(_, columns, floats)| {
            let mut w = vec![0.0; columns.len() * shape.columns];
            let mut kept = vec![false; w.len()];
            let places = places(columns, shape.columns);
            for (place, float) in places.zip(*floats) {
                (w[place], kept[place]) = (*float, true);
            }
            gptq::round(w, Some(&kept), factor, dense)
        })
        .collect();
    let mut number = 0;
    for ((first, columns, _), (levels, of_weights)) in tasks.iter().zip(rounded) {
        for (i, levels) in levels.iter().enumerate() {
            let (row, group) = (first + i / dense.groups(), i % dense.groups());
            codes.set_levels(row, group, levels.scale, levels.zero);
        }
        for place in places(columns, shape.columns) {
            codes.set_code(number, of_weights[place].into());
            number += 1;
        }
    }
    counter::add_activity(gptq::ACTIVITY, shape.nonzeros());
    codes
}

/// Where the nonzeros of some rows stand in these rows, `[rows, columns]`.
fn places(columns_of_rows: &[Vec<usize>], columns: usize) -> impl Iterator<Item = usize> + '_ {
    let rows = columns_of_rows.iter().enumerate();
    rows.flat_map(move |(row, kept)| kept.iter().map(move |c| row * columns + c))
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::Flex,
        tensor::{Distribution, Tensor, TensorData, Tolerance},
    };

    use super::{
        super::{
            fixture::{Fixture, INPUT, normal},
            rtn,
        },
        *,
    };
    use crate::{
        model::Matrix,
        techniques::sparsity::{Pattern, SparseForm, of_smallest},
    };

    const PATTERNS: [(Pattern, f64); 4] = [
        (Pattern::Free, 0.5),
        (Pattern::Free, 0.9),
        (Pattern::TwoOfFour, 0.5),
        (Pattern::FourOfEight, 0.5),
    ];
    const PATH: &str = "model.layers.0.mlp.up_proj";

    fn plan(bits: usize, group: usize, method: Method) -> QuantizationPlan {
        QuantizationPlan {
            bits,
            group,
            method,
            calibration_batches: 0,
            activation_bits: 32,
            layers: Default::default(),
        }
    }

    /// Without its smallest weights.
    fn sparse(weights: Vec<f32>, columns: usize, pattern: Pattern, share: f64) -> Sparse<Flex> {
        let data = TensorData::new(weights.clone(), [weights.len() / columns, columns]);
        let form = SparseForm {
            share,
            pattern,
            ..SparseForm::default()
        };
        of_smallest(Tensor::from_data(data, &Default::default()), form)
    }

    fn packed(sparse: &Sparse<Flex>, plan: QuantizationPlan, inputs: &Statistics) -> Sparse<Flex> {
        let mut packed = sparse.clone();
        pack(&mut packed, PATH, plan, inputs);
        packed
    }

    fn dense(sparse: &Sparse<Flex>) -> Vec<f32> {
        sparse.with_zeros().into_data().to_vec().unwrap()
    }

    fn unseen() -> Statistics {
        Statistics::new()
    }

    #[test]
    fn what_is_kept_is_rounded_on_levels_of_its_own_and_the_rest_stays_zero() {
        for (pattern, share) in PATTERNS {
            for (rows, columns, bits, group) in [
                (1, 8, 4, 32),
                (13, 40, 4, 32),
                (5, 200, 8, 64),
                (7, 136, 3, 128),
                (3, 72, 5, 32),
            ] {
                let floats = sparse(normal(rows * columns, 7), columns, pattern, share);
                let packed = packed(&floats, plan(bits, group, Method::Rtn), &unseen());
                let (before, after) = (dense(&floats), dense(&packed));
                let what = format!("{pattern:?} {share} {rows} {columns} {bits} {group}");
                for (before, after) in before.chunks(columns).zip(after.chunks(columns)) {
                    for (before, after) in before.chunks(group).zip(after.chunks(group)) {
                        let kept = before.iter().copied().filter(|w| *w != 0.0);
                        let levels = EvenLevels::of_each(kept, bits);
                        for (w, stored) in before.iter().zip(after) {
                            let expected = if *w == 0.0 {
                                0.0
                            } else {
                                levels.value(levels.code(*w))
                            };
                            assert_eq!(stored.to_bits(), expected.to_bits(), "{what}");
                        }
                    }
                }
                if let Some(of) = [(Pattern::TwoOfFour, 4), (Pattern::FourOfEight, 8)]
                    .into_iter()
                    .find_map(|(p, of)| (p == pattern).then_some(of))
                {
                    let few = |group: &[f32]| group.iter().filter(|w| **w != 0.0).count() <= of / 2;
                    assert!(after.chunks(of).all(few), "{what}");
                }
                // places and codes come back, and codes are not codes of floats once more
                let host = packed.to_host();
                assert_eq!(host.places, floats.to_host().places, "{what}");
                assert_eq!(
                    host.clone().into_module::<Flex>(&Default::default()).to_host(),
                    host
                );
                let mut again = packed.clone();
                pack(&mut again, PATH, plan(2, 32, Method::Rtn), &unseen());
                assert_eq!(again.to_host(), host, "{what}");
            }
        }
    }

    #[test]
    fn groups_of_one_nonzero_and_of_none_are_what_they_were() {
        let (columns, mut weights) = (128, vec![1e-3f32; 3 * 128]);
        // 13 of 128 stay for each row, in one row a single one in its second group and none in its last two
        for (i, w) in weights[..12].iter_mut().enumerate() {
            *w = 1.0 + i as f32;
        }
        weights[40] = -0.7;
        for (i, w) in weights[columns..]
            .iter_mut()
            .enumerate()
            .filter(|(i, _)| i % 10 == 0)
        {
            *w = 2.0 - i as f32;
        }
        let floats = sparse(weights, columns, Pattern::Free, 0.9);
        let packed = packed(&floats, plan(4, 32, Method::Rtn), &unseen());
        let back = dense(&packed);
        assert!((back[40] + 0.7).abs() < 1e-3, "{}", back[40]);
        assert!(back[64..columns].iter().all(|w| *w == 0.0));
        let x = Tensor::<Flex, 2>::random([1, columns], Distribution::Default, &Default::default());
        let expected = x.clone().matmul(packed.with_zeros().transpose());
        let y = Matrix::Sparse(packed).apply(x);
        y.into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::rel_abs(1e-5, 1e-4));
    }

    #[test]
    fn bytes_are_those_of_the_formula_and_fewer_than_of_either_form() {
        for (pattern, share) in PATTERNS {
            for bits in [3, 4, 8] {
                let (rows, columns, plan) = (96, 256, plan(bits, 64, Method::Rtn));
                let floats = sparse(normal(rows * columns, 2), columns, pattern, share);
                let host = packed(&floats, plan, &unseen()).to_host();
                let HostNonzeros::Codes(codes) = &host.values else {
                    panic!("they are codes")
                };
                let held =
                    4 * (host.places.len() + codes.words.len() + codes.zeros.len()) + 2 * codes.scales.len();
                assert_eq!(held, host.shape().bytes());
                // a bit for each place, b for each code, and for each group a scale of 16 bits and a zero of 8
                let nonzeros = host.shape().nonzeros();
                assert_eq!(
                    held * 8,
                    rows * columns + nonzeros * bits + rows * 4 * 24,
                    "{pattern:?} {bits}"
                );
                assert!(held < floats.to_host().shape().bytes());
                // smaller than packed without removing once a share of 1 / bits is removed
                assert!(
                    held < plan.shape(rows, columns).bytes(),
                    "{pattern:?} {share} {bits}"
                );
            }
        }
    }

    /// Errors over outputs of the pruned matrix, as a program of its own has them (`numpy`, other random numbers).
    #[test]
    fn gptq_keeps_zeros_and_loses_less_than_rounding() {
        let whole = Fixture::new();
        let statistics = Statistics::from([(PATH.to_owned(), whole.inputs.clone())]);
        for (pattern, golden) in [
            (
                Pattern::TwoOfFour,
                [(8, 0.0040, 0.0035), (4, 0.0673, 0.0599), (3, 0.1369, 0.1232)],
            ),
            (
                Pattern::Free,
                [(8, 0.0039, 0.0033), (4, 0.0675, 0.0578), (3, 0.1369, 0.1235)],
            ),
        ] {
            let floats = sparse(whole.weights.clone(), INPUT, pattern, 0.5);
            let fixture = Fixture {
                weights: dense(&floats),
                x: whole.x.clone(),
                inputs: whole.inputs.clone(),
            };
            for (bits, of_rounding, of_gptq) in golden {
                let plain = dense(&packed(&floats, plan(bits, 64, Method::Rtn), &unseen()));
                let (judged, macs) =
                    counter::count_macs(|| packed(&floats, plan(bits, 64, Method::Gptq), &statistics));
                let [rows, columns] = judged.dims();
                assert_eq!(macs, gptq::macs(rows as u64, columns as u64));
                let judged = dense(&judged);
                fixture.assert_error(&plain, of_rounding, bits);
                fixture.assert_error(&judged, of_gptq, bits);
                assert!(
                    fixture.error(&judged) < fixture.error(&plain),
                    "{pattern:?} {bits}"
                );
                for (w, stored) in fixture.weights.iter().zip(&judged) {
                    assert!(*w != 0.0 || stored.to_bits() == 0, "no zero comes back");
                }
            }
        }
    }

    #[test]
    fn nothing_removed_is_packed_as_a_dense_matrix_is() {
        let fixture = Fixture::new();
        let statistics = Statistics::from([(PATH.to_owned(), fixture.inputs.clone())]);
        let floats = sparse(fixture.weights.clone(), INPUT, Pattern::Free, 0.0);
        let shape = fixture.shape(4);
        for (method, whole) in [
            (Method::Rtn, rtn::pack(&fixture.weights, shape)),
            (
                Method::Gptq,
                gptq::pack(&fixture.weights, shape, &fixture.inputs).unwrap(),
            ),
        ] {
            let whole = whole.into_module::<Flex>(&Default::default()).all_rows();
            let whole: Vec<f32> = whole.into_data().to_vec().unwrap();
            assert_eq!(
                dense(&packed(&floats, plan(4, 64, method), &statistics)),
                whole,
                "{method:?}"
            );
        }
    }
}
