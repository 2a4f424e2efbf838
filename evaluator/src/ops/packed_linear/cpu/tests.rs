//! The kernel against the definition.

use burn::tensor::{DType, Distribution, Int, Tensor, TensorData, Tolerance};

use half::f16;

use super::{
    super::{Levels, ZEROS_PER_WORD, words_per_row},
    *,
};
use crate::ops::{packed_linear, unwrap, wrap};

pub(super) fn matrix(
    rows: usize,
    columns: usize,
    bits: usize,
    group: usize,
    book: bool,
) -> PackedMatrixParts<FlexTensor, FlexTensor> {
    let device = Default::default();
    let words = |per_row: usize, seed: u32| {
        let random = (0..(rows * per_row) as u32).map(|i| (i + seed).wrapping_mul(2_654_435_761) as i32);
        let data = TensorData::new(random.collect::<Vec<_>>(), [rows, per_row]);
        Tensor::<Flex, 2, Int>::from_data(data, (&device, DType::I32)).into_primitive()
    };
    let groups = columns.div_ceil(group);
    let scales: Vec<f16> = (0..rows * groups)
        .map(|i| f16::from_f32(0.01 + i as f32 % 7.0 * 0.003))
        .collect();
    let scales = TensorData::new(scales, [rows, groups]);
    PackedMatrixParts {
        words: words(words_per_row(columns, bits), 1),
        scales: unwrap(Tensor::<Flex, 2>::from_data(scales, (&device, DType::F16))),
        levels: if book {
            Levels::Book(std::array::from_fn(|i| (i as f32 * 0.7).sin()))
        } else {
            Levels::Even(words(groups.div_ceil(ZEROS_PER_WORD), 99))
        },
        bits,
        group,
        columns,
        integer: false,
    }
}

#[test]
fn the_kernels_equal_the_definition() {
    let device = Default::default();
    for (bits, book) in [2, 3, 4, 5, 6, 8]
        .map(|bits| (bits, false))
        .into_iter()
        .chain([(4, true)])
    {
        for group in [32, 64, 128] {
            for columns in [32, 64, 100, 128, 160, 330] {
                let w = matrix(19, columns, bits, group, book);
                let dense = super::super::reference::<Flex>(w.clone());
                let unpacked: Tensor<Flex, 2> = wrap(Flex::packed_rows(w.clone()));
                unpacked
                    .into_data()
                    .assert_approx_eq::<f32>(&dense.to_data(), Tolerance::absolute(1e-5));
                for n in [1, 3, 4, 9] {
                    let x = Tensor::<Flex, 2>::random([n, columns], Distribution::Normal(0.0, 1.0), &device);
                    let (y, macs) = counter::count_macs(|| packed_linear::<Flex, 2>(x.clone(), w.clone()));
                    assert_eq!(macs, (n * 19 * columns) as u64);
                    let expected = x.matmul(dense.clone().transpose());
                    let close = Tolerance::rel_abs(1e-3, 2e-3);
                    y.into_data()
                        .assert_approx_eq::<f32>(&expected.into_data(), close);
                }
            }
        }
    }
}

#[test]
fn inputs_in_whole_numbers_give_what_their_rounded_values_give() {
    for bits in [4, 8] {
        for (group, columns) in [(32, 64), (64, 100), (128, 330)] {
            let w = PackedMatrixParts {
                integer: true,
                ..matrix(19, columns, bits, group, false)
            };
            let dense = super::super::reference::<Flex>(w.clone());
            for n in [1, 3, 9] {
                let device = Default::default();
                let x = Tensor::<Flex, 2>::random([n, columns], Distribution::Normal(0.0, 1.0), &device);
                let (y, macs) = counter::count_macs(|| packed_linear::<Flex, 2>(x.clone(), w.clone()));
                assert_eq!(macs, (n * 19 * columns) as u64);
                let expected = super::super::rounded(x, group).matmul(dense.clone().transpose());
                let close = Tolerance::rel_abs(1e-3, 2e-3);
                y.into_data()
                    .assert_approx_eq::<f32>(&expected.into_data(), close);
            }
        }
    }
}
