//! Fisher information of single weights, by its diagonal: `F_i = mean (∂ log p(y|x) / ∂w_i)²` over examples (2111.09839).

use std::collections::BTreeMap;

use burn::tensor::{Tensor, backend::AutodiffBackend};

use crate::model::{Parts, TensorMut, each_tensor};

/// The information of every weight on `samples` examples, by tensor; `gradients` gives those of one example's loss.
///
/// The loss is the mean over what is scored of an example: over rows of one length the order of weights is that of
/// `log p` of the whole. A tensor that no example reached has none.
pub fn fisher_information<A: AutodiffBackend, P: Parts<A>>(
    model: &mut P,
    samples: u64,
    mut gradients: impl FnMut(&P, u64) -> A::Gradients,
) -> BTreeMap<String, Vec<f32>> {
    let mut sums: BTreeMap<String, Tensor<A::InnerBackend, 1>> = BTreeMap::new();
    for sample in 0..samples {
        let mut gradients = gradients(model, sample);
        each_tensor(model, &mut |name, tensor| {
            let gradient = match tensor {
                TensorMut::Matrix(param) => {
                    let gradient = param.val().grad_remove(&mut gradients);
                    gradient.map(|g| g.flatten::<1>(0, 1))
                }
                TensorMut::Vector(param) => param.val().grad_remove(&mut gradients),
            };
            let Some(square) = gradient.map(Tensor::square) else {
                return;
            };
            let sum = match sums.remove(&name) {
                Some(sum) => sum + square,
                None => square,
            };
            sums.insert(name, sum);
        });
    }
    let mut information = BTreeMap::new();
    each_tensor(model, &mut |name, tensor| {
        let weights = match tensor {
            TensorMut::Matrix(param) => param.shape().num_elements(),
            TensorMut::Vector(param) => param.shape().num_elements(),
        };
        let mean = match sums.remove(&name) {
            Some(sum) => sum
                .into_data()
                .iter::<f32>()
                .map(|sum| sum / samples as f32)
                .collect(),
            None => vec![0.0; weights],
        };
        information.insert(name, mean);
    });
    information
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::{Autodiff, Flex},
        module::Param,
        tensor::{TensorData, activation::log_sigmoid},
    };

    use super::*;
    use crate::model::Part;

    type A = Autodiff<Flex>;

    /// `p(1|x) = σ(w · x)`.
    struct Logistic(Param<Tensor<A, 1>>);

    impl Parts<A> for Logistic {
        fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, A>)) {
            visitor(path, Part::Vector(&mut self.0));
        }
    }

    #[test]
    fn it_is_the_closed_form_of_a_logistic_regression() {
        let w = [0.3f32, -1.2, 0.5];
        let examples = [
            ([1.0f32, 2.0, -1.0], 1.0f32),
            ([-0.5, 0.1, 3.0], 0.0),
            ([2.0, -1.0, 0.2], 1.0),
            ([0.4, 0.6, -0.7], 0.0),
        ];
        let vector =
            |values: [f32; 3]| Tensor::<A, 1>::from_data(TensorData::from(values), &Default::default());
        let mut model = Logistic(Param::from_tensor(vector(w)));
        let found = fisher_information(&mut model, examples.len() as u64, |model, sample| {
            let (x, y) = examples[sample as usize];
            let z = (model.0.val() * vector(x)).sum();
            let log_p = log_sigmoid(if y > 0.5 { z } else { -z });
            (-log_p).backward()
        });
        for (i, found) in found["weight"].iter().enumerate() {
            let squares = examples.map(|(x, y)| {
                let z: f32 = w.iter().zip(x).map(|(w, x)| w * x).sum();
                let sigma = 1.0 / (1.0 + (-z).exp());
                ((sigma - y) * x[i]).powi(2)
            });
            let expected = squares.iter().sum::<f32>() / examples.len() as f32;
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}
