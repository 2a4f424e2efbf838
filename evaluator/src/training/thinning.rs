//! Training in which single weights are removed in rounds: between steps what is to go is set to zero, and from then on the
//! optimizer knows the rest alone, so that neither gradients nor decay nor what it remembers bring anything back.

use std::collections::BTreeMap;

use burn::{
    module::AutodiffModule,
    tensor::{DType, Int, Tensor, TensorData, backend::AutodiffBackend},
};

use super::{Batches, Optimizer, Record, Stretch};
use crate::{
    EvaluationError, counter,
    energy::Source,
    model::{Model, Part, Parts, is_block_matrix, join},
    ops::Ops,
    techniques::sparsity::{Known, Method, SparsityPlan, movement, observe, recovery, remove},
};

/// Removes what a stretch removes before a step, from 0, of so many, and tells what that took.
pub(super) fn remove_before<A>(
    model: &mut Model<A>,
    optimizer: &mut Optimizer<A::InnerBackend>,
    stretch: &Stretch,
    (step, steps): (u64, u64),
    energy: &mut dyn Source,
) -> Result<Record, EvaluationError>
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let mut record = Record::default();
    let Some(plan) = &stretch.thinning else {
        return Ok(record);
    };
    for round in plan.rounds_before(step, steps) {
        // nothing goes back through a calibration
        let one = || counter::without_backward(|| one_round(model, optimizer, plan, round, &stretch.batches));
        let ((), more) = Record::of(energy, one)?;
        record = record.and(more);
    }
    Ok(record)
}

fn one_round<A>(
    model: &mut Model<A>,
    optimizer: &mut Optimizer<A::InnerBackend>,
    plan: &SparsityPlan,
    round: u64,
    batches: &Batches,
) where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let left = optimizer.kept.iter();
    let scores = optimizer.scores.iter();
    let known = Known {
        left: left.map(|(name, list)| (name.clone(), numbers(list))).collect(),
        scores: scores
            .map(|(name, scores)| (name.clone(), scores.to_data().iter().collect()))
            .collect(),
    };
    let statistics = observe(&mut model.valid(), plan, batches);
    let left = remove(model, plan, round, &statistics, &known);
    narrow(optimizer, left, &known.left, &model.device());
}

fn numbers<B: Ops>(list: &Tensor<B, 1, Int>) -> Vec<i32> {
    list.to_data().iter().collect()
}

/// From now on the optimizer changes of these tensors the weights that are left alone, of those `before`, with what it remembers of them.
fn narrow<B: Ops>(
    optimizer: &mut Optimizer<B>,
    left: BTreeMap<String, Vec<i32>>,
    before: &BTreeMap<String, Vec<i32>>,
    device: &B::Device,
) {
    let on_device = |list: Vec<i32>| {
        let n = list.len();
        Tensor::<B, 1, Int>::from_data(TensorData::new(list, [n]), (device, DType::I32))
    };
    for (name, left) in left {
        if let Some(moments) = optimizer.moments.get_mut(&name) {
            let places = match before.get(&name) {
                Some(before) => places(before, &left),
                None => left.clone(),
            };
            let places = on_device(places);
            for moment in moments {
                *moment = moment.clone().select(0, places.clone());
            }
        }
        optimizer.kept.insert(name, on_device(left));
    }
}

/// Where each of some rising numbers stands among others, of which they are a part.
fn places(among: &[i32], numbers: &[i32]) -> Vec<i32> {
    let mut at = (0..).zip(among);
    numbers
        .iter()
        .filter_map(|number| at.find(|(_, other)| *other == number))
        .map(|(place, _)| place)
        .collect()
}

/// Notes a step with these gradients, flat and by tensor: for movement they are added to the scores.
pub(super) fn note<A>(
    model: &mut impl Parts<A>,
    optimizer: &mut Optimizer<A::InnerBackend>,
    plan: &SparsityPlan,
    gradients: &BTreeMap<String, Tensor<A::InnerBackend, 1>>,
) where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    counter::add_activity(recovery::ACTIVITY, 1);
    if plan.method != Method::Movement {
        return;
    }
    counter::add_activity(movement::ACTIVITY, 1);
    model.each_part("", &mut |path, part| {
        let name = join(path, "weight");
        if let Part::Matrix(matrix) = part
            && is_block_matrix(path)
            && let Some(weight) = matrix.as_dense()
            && let Some(gradient) = gradients.get(&name)
        {
            let [n] = gradient.dims();
            let moved = weight.inner().reshape([n]) * gradient.clone();
            let sum = match optimizer.scores.remove(&name) {
                Some(sum) => sum - moved,
                None => -moved,
            };
            optimizer.scores.insert(name, sum);
        }
    });
}

#[cfg(test)]
mod tests {
    use burn::backend::{Autodiff, Flex};

    use super::{super::Rates, *};
    use crate::{
        model::Matrix,
        plan::{Budget, TrainingPlan},
        techniques::sparsity::{SparseForm, recovery::SparseRecovery},
        training::Rule,
    };

    type A = Autodiff<Flex>;

    /// One matrix `w`, of which each weight is drawn to a target of its own by `(w - t)² / 2`.
    struct Toy(Matrix<A>);

    impl Parts<A> for Toy {
        fn each_part(&mut self, _: &str, visitor: &mut dyn FnMut(&str, Part<'_, A>)) {
            visitor("model.layers.0.toy", Part::Matrix(&mut self.0));
        }
    }

    const NAME: &str = "model.layers.0.toy.weight";
    const START: [f32; 8] = [3.0, 0.2, -2.5, 0.1, -0.3, 4.0, 0.2, -3.5];
    const TARGETS: [f32; 8] = [1.0, 0.6, -1.0, 0.7, -0.9, 2.0, 0.5, -1.5];

    impl Toy {
        fn new() -> Self {
            let data = TensorData::new(START.to_vec(), [2, 4]);
            Toy(Matrix::dense(Tensor::from_data(data, &Default::default())))
        }

        fn weights(&self) -> Vec<f32> {
            self.0.as_dense().unwrap().into_data().iter().collect()
        }

        fn gradients(&self) -> BTreeMap<String, Tensor<Flex, 1>> {
            let differences = self.weights().into_iter().zip(TARGETS).map(|(w, t)| w - t);
            let data = TensorData::new(differences.collect::<Vec<f32>>(), [8]);
            BTreeMap::from([(NAME.to_owned(), Tensor::from_data(data, &Default::default()))])
        }
    }

    /// Half of the weights go after some steps, and more steps follow.
    fn trained(method: Method, weight_decay: f64) -> (Vec<i32>, Toy) {
        let plan = SparsityPlan {
            form: SparseForm {
                share: 0.5,
                ..SparseForm::default()
            },
            method,
            batches: 0,
            recovery: Some(SparseRecovery {
                share: 1.0,
                rounds: 1,
            }),
        };
        let training = TrainingPlan {
            budget: Budget::Steps(20),
            batch: 1,
            rows: 1.into(),
            learning_rate: 0.05,
            warmup: 0.0,
            final_rate: 1.0,
            weight_decay,
            layer_decay: 1.0,
            gradient_clip: 1e6,
            rule: Rule::AdamW,
        };
        let (mut toy, mut optimizer) = (Toy::new(), Optimizer::<Flex>::default());
        let mut left = BTreeMap::new();
        for step in 0..20 {
            if step == 5 {
                let scores = optimizer.scores.iter();
                let known = Known {
                    left: BTreeMap::new(),
                    scores: scores
                        .map(|(name, scores)| (name.clone(), scores.to_data().iter().collect()))
                        .collect(),
                };
                left = remove(&mut toy, &plan, 1, &BTreeMap::new(), &known);
                narrow(&mut optimizer, left.clone(), &known.left, &Default::default());
            }
            let gradients = toy.gradients();
            note(&mut toy, &mut optimizer, &plan, &gradients);
            optimizer.apply(&mut toy, gradients, &Rates::one(0.05), &training);
        }
        let [m, v] = &optimizer.moments[NAME];
        assert_eq!(
            (m.dims(), v.dims()),
            ([4], [4]),
            "nothing is remembered of what is gone"
        );
        (left.remove(NAME).unwrap(), toy)
    }

    #[test]
    fn movement_keeps_what_leaves_zero_and_size_what_is_large() {
        // the four large ones are drawn towards zero, and the small ones away from it
        let (small, large) = (vec![1, 3, 4, 6], vec![0, 2, 5, 7]);
        assert_eq!(trained(Method::Movement, 0.0).0, small);
        assert_eq!(trained(Method::Magnitude, 0.0).0, large);
    }

    #[test]
    fn what_is_gone_stays_zero_to_the_bit_and_the_rest_goes_on() {
        for method in [Method::Movement, Method::Magnitude] {
            let (left, toy) = trained(method, 0.3);
            for (i, w) in (0..).zip(toy.weights()) {
                // gradients draw what is gone to its target in every step
                assert_eq!(w.to_bits() != 0, left.contains(&i), "{method:?}: {i} {w}");
                if left.contains(&i) {
                    assert!((w - START[i as usize]).abs() > 0.1, "{method:?}: {i} {w}");
                }
            }
        }
    }

    #[test]
    fn what_is_remembered_stays_with_its_weight() {
        assert_eq!(places(&[0, 3, 4, 9, 12], &[3, 9, 12]), [1, 3, 4]);
        let flat = |values: Vec<f32>| {
            let n = values.len();
            Tensor::<Flex, 1>::from_data(TensorData::new(values, [n]), &Default::default())
        };
        let mut optimizer = Optimizer::<Flex>::default();
        let of = |moment: &Tensor<Flex, 1>| moment.to_data().iter::<f32>().collect::<Vec<f32>>();
        let moments = [0.0, 1.0].map(|more| flat((0..6).map(|i| i as f32 + more).collect()));
        optimizer.moments.insert("w".to_owned(), moments);
        let mut before = BTreeMap::new();
        for left in [vec![1, 2, 5], vec![1, 5]] {
            let next = BTreeMap::from([("w".to_owned(), left.clone())]);
            narrow(&mut optimizer, next.clone(), &before, &Default::default());
            let [m, v] = &optimizer.moments["w"];
            assert_eq!(of(m), left.iter().map(|i| *i as f32).collect::<Vec<_>>());
            assert_eq!(of(v), left.iter().map(|i| *i as f32 + 1.0).collect::<Vec<_>>());
            before = next;
        }
    }
}
