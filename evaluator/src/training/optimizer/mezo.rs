//! MeZO (2305.17333): the slope of the loss along a normal direction `z` is `(L(θ + εz) - L(θ - εz)) / 2ε`, and its
//! expected product with `z` is the gradient. `z` is drawn again from its seed wherever it is needed, one tensor at a time,
//! and weights are moved where they are: a training takes what serving takes, and the values of one tensor.

use burn::{
    module::Module,
    tensor::{Tensor, TensorData, backend::AutodiffBackend},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{change, rule::MEZO_ACTIVITY};
use crate::{
    counter,
    model::{Model, Parts, TensorMut, each_tensor},
    ops::Ops,
    plan::TrainingPlan,
    training::step::{IntoF32, Task},
};

/// A direction among all weights, drawn anew wherever it is gone along.
#[derive(Clone, Copy, Debug)]
pub(in crate::training) struct Direction {
    /// Of the training.
    pub(in crate::training) seed: u64,
    /// The step.
    pub(in crate::training) step: u64,
}

impl Direction {
    /// `θ ← (1 - decay) θ + amount z`, the decay for matrices alone.
    fn go<A: AutodiffBackend>(self, model: &mut impl Parts<A>, amount: f64, decay: f64) {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(self.step);
        each_tensor(model, &mut |_, tensor| {
            let keep = match &tensor {
                TensorMut::Matrix(_) => 1.0 - decay as f32,
                TensorMut::Vector(_) => 1.0,
            };
            change(tensor, |w| {
                let [n] = w.dims();
                let z: Vec<f32> = StandardNormal.sample_iter(&mut random).take(n).collect();
                let z = Tensor::from_data(TensorData::new(z, [n]), &w.device()) * amount as f32;
                let w = if keep == 1.0 { w } else { w * keep };
                w + z
            });
        });
    }

    /// The losses ahead and behind, `ε` along the direction; the weights are then what they were, but for rounding.
    fn probe<A: AutodiffBackend, P: Parts<A>>(
        self,
        model: &mut P,
        epsilon: f64,
        mut loss: impl FnMut(&P) -> f64,
    ) -> [f64; 2] {
        self.go(model, epsilon, 0.0);
        let ahead = loss(model);
        self.go(model, -2.0 * epsilon, 0.0);
        let behind = loss(model);
        self.go(model, epsilon, 0.0);
        [ahead, behind]
    }
}

/// One step; gives the mean of its two losses, `[1]`. The slope is not clipped: along one of `N` directions it is that of
/// an estimate `√N` times as long as the gradient.
pub(in crate::training) fn step<A>(
    model: &mut Model<A>,
    task: &Task<A>,
    direction: Direction,
    (rate, epsilon): (f64, f64),
    plan: &TrainingPlan,
) -> Tensor<A::InnerBackend, 1>
where
    A: AutodiffBackend + Ops,
{
    let [ahead, behind] = direction.probe(model, epsilon, |model: &Model<A>| {
        counter::add_activity(MEZO_ACTIVITY, 1);
        let model = model.clone().no_grad();
        let loss = counter::without_backward(|| task.loss(&model));
        f64::from(loss.into_scalar_f32())
    });
    forget::<A>(&model.device());
    let slope = (ahead - behind) / (2.0 * epsilon);
    direction.go(model, -rate * slope, rate * plan.weight_decay);
    Tensor::from_data(
        TensorData::from([((ahead + behind) / 2.0) as f32]),
        &model.device(),
    )
}

/// Operations that need no gradient are noted too, and forgotten with the next gradient: here of a number alone.
fn forget<A: AutodiffBackend>(device: &A::Device) {
    let alone = Tensor::<A, 1>::zeros([1], device).require_grad();
    drop(alone.backward());
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::{Autodiff, Flex},
        module::Param,
    };

    use super::*;
    use crate::model::Part;

    type A = Autodiff<Flex>;

    /// `Σ c_i (w_i - t_i)²`.
    struct Quadratic(Param<Tensor<A, 1>>);

    const C: [f64; 3] = [1.0, 0.5, 2.0];
    const T: [f64; 3] = [0.3, -1.0, 0.0];

    impl Parts<A> for Quadratic {
        fn each_part(&mut self, path: &str, visitor: &mut dyn FnMut(&str, Part<'_, A>)) {
            visitor(path, Part::Vector(&mut self.0));
        }
    }

    impl Quadratic {
        fn new(w: [f32; 3]) -> Self {
            Quadratic(Param::from_tensor(Tensor::from_data(
                TensorData::from(w),
                &Default::default(),
            )))
        }

        fn weights(&self) -> Vec<f64> {
            self.0.val().into_data().iter::<f64>().collect()
        }

        fn loss(&self) -> f64 {
            let parts = self.weights().into_iter().zip(C.iter().zip(T));
            parts.map(|(w, (c, t))| c * (w - t).powi(2)).sum()
        }
    }

    #[test]
    fn probes_leave_the_weights_and_their_mean_is_the_gradient() {
        let start = [1.0f32, 0.2, -0.7];
        let (draws, epsilon) = (20_000, 1e-3);
        let mut sums = [0.0f64; 3];
        for step in 0..draws {
            let mut model = Quadratic::new(start);
            let direction = Direction { seed: 3, step };
            let [ahead, behind] = direction.probe(&mut model, epsilon, Quadratic::loss);
            for (w, start) in model.weights().iter().zip(start) {
                assert!((w - f64::from(start)).abs() <= 1e-6, "{w} {start}");
            }
            // going along the direction from zero shows it
            let mut z = Quadratic::new([0.0; 3]);
            direction.go(&mut z, 1.0, 0.0);
            let slope = (ahead - behind) / (2.0 * epsilon);
            for (sum, z) in sums.iter_mut().zip(z.weights()) {
                *sum += slope * z / draws as f64;
            }
        }
        let gradient: Vec<f64> = (0..3)
            .map(|i| 2.0 * C[i] * (f64::from(start[i]) - T[i]))
            .collect();
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        for (mean, g) in sums.iter().zip(&gradient) {
            // the deviation of one draw is at most √2 |∇|; five of the mean's
            assert!(
                (mean - g).abs() < 5.0 * 1.42 * norm / (draws as f64).sqrt(),
                "{mean} {g}"
            );
        }
    }
}
