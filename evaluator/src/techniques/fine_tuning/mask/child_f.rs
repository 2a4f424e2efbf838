//! Gradient masks of child-tuning-F (2109.05687), drawn on the host so that one seed gives one training on every device.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Keeps each gradient of a step with a probability, divided by it, and sets the others to zero; gives how many are kept.
pub fn mask_gradients<B: Backend>(
    gradients: &mut BTreeMap<String, Tensor<B, 1>>,
    probability: f64,
    seed: u64,
    step: u64,
) -> usize {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(step);
    let mut kept = 0;
    for gradient in gradients.values_mut() {
        let [n] = gradient.dims();
        let factors: Vec<f32> = (0..n)
            .map(|_| {
                let keeps = random.random_bool(probability);
                kept += usize::from(keeps);
                if keeps { (1.0 / probability) as f32 } else { 0.0 }
            })
            .collect();
        let factors = Tensor::from_data(TensorData::new(factors, [n]), &gradient.device());
        *gradient = gradient.clone() * factors;
    }
    kept
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    #[test]
    fn the_mean_of_masked_gradients_is_the_gradient() {
        let values = [1.0f32, -2.0, 0.5, 3.0];
        let gradient = || Tensor::<Flex, 1>::from_data(TensorData::from(values), &Default::default());
        let (steps, probability) = (4000, 0.3);
        let mut sums = [0.0f64; 4];
        let mut kept = 0;
        for step in 0..steps {
            let mut gradients = BTreeMap::from([("a".to_owned(), gradient())]);
            kept += mask_gradients(&mut gradients, probability, 5, step);
            for (sum, x) in sums.iter_mut().zip(gradients["a"].to_data().iter::<f64>()) {
                *sum += x / steps as f64;
            }
        }
        let share = kept as f64 / (4 * steps) as f64;
        assert!((share - probability).abs() < 0.02, "{share}");
        // the deviation of a mean is |g| √((1-p)/p / steps), 2.4 % of it; four of them
        for (mean, value) in sums.iter().zip(values.map(f64::from)) {
            assert!((mean - value).abs() < 0.1 * value.abs(), "{mean} {value}");
        }
    }
}
