//! Known answers.

use burn::{backend::Flex, tensor::Tensor};

use super::*;
use crate::techniques::quantization::fixture::Fixture;

#[test]
fn the_error_on_outlier_channels_is_the_known_one_and_never_above_that_of_rounding() {
    let fixture = Fixture::new();
    for (bits, golden) in [(8, 0.0032), (4, 0.055), (3, 0.116), (2, 0.267)] {
        let shape = fixture.shape(bits);
        let data = TensorData::new(fixture.weights.clone(), [shape.rows, shape.columns]);
        let weight = Tensor::<Flex, 2>::from_data(data, &Default::default());
        let judged = Judged::new(&weight, &fixture.inputs, shape);
        let mean = mean([&fixture.inputs].into_iter()).unwrap();
        let ((scales, power), macs) = counter::count_macs(|| search(&mean, |scales| judged.lost(scales)));
        assert_eq!(macs, (GRID * shape.rows * shape.columns * shape.columns) as u64);
        assert!(power > 0.0);
        let rounded = |scales: &[f32]| -> Vec<f32> {
            let scales = || scales.iter().cycle();
            let mut w: Vec<f32> = fixture.weights.iter().zip(scales()).map(|(w, s)| w * s).collect();
            rtn::round(&mut w, shape);
            w.iter().zip(scales()).map(|(w, s)| w / s).collect()
        };
        let error = fixture.error(&rounded(&scales));
        fixture.assert_error(&rounded(&scales), golden, bits);
        assert!(
            error <= fixture.error(&rounded(&vec![1.0; scales.len()])),
            "{bits} bits"
        );
        // what the second moments tell is what the inputs give
        let whole = f64::from(
            matmul(weight.clone(), judged.second_moment.clone())
                .mul(weight)
                .sum()
                .into_scalar(),
        );
        assert!((error - (judged.lost(&scales) / whole).sqrt()).abs() < 0.01 * error);
    }
}
