//! How long a token takes models of other shapes, served as a plan says: with random weights, packed and sparse as its own.

use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    counter,
    meters::{median_and_spread, next_token},
    model::{Model, ModelPlan},
    ops::Ops,
    plan::Plan,
    pool::awake,
    techniques::{quantization::quantize_unseen, sparsity::sparsify_by},
};

/// Rounds that are thrown away.
const WARM_UP: usize = 1;
/// Rounds that count.
const ROUNDS: usize = 7;
/// Tokens that are decoded in one, at most.
const DECODED: usize = 16;
const SEED: u64 = 0;

/// Times models beside the unpruned one.
pub(crate) struct Stopwatch<'a, B: Ops> {
    plan: &'a Plan,
    whole: Model<B>,
}

impl<'a, B: Ops> Stopwatch<'a, B> {
    /// A stopwatch for models that are served as `plan` says, whose sizes are not found yet.
    pub(crate) fn new(plan: &'a Plan, device: &B::Device) -> Self {
        Stopwatch {
            plan,
            whole: served(plan, &plan.served, device),
        }
    }

    /// Milliseconds for a token of the unpruned model, and of one of this shape: of further tokens after half a context where
    /// something is written, and of an example that is read in one pass where not. Medians of rounds that take turns, so that
    /// a machine which becomes slower meanwhile is slower for both.
    pub(crate) fn time(&self, shape: &ModelPlan) -> [f64; 2] {
        counter::without_activity(|| {
            let other: Model<B> = served(self.plan, shape, &self.whole.device());
            let (mut of_whole, mut of_other) = (vec![], vec![]);
            awake(|| {
                for round in 0..WARM_UP + ROUNDS {
                    let times = [once(&self.whole, &self.plan.served), once(&other, shape)];
                    if round >= WARM_UP {
                        let [whole, other] = times;
                        of_whole.extend(whole);
                        of_other.extend(other);
                    }
                }
            });
            [of_whole, of_other].map(|mut times| median_and_spread(&mut times).0)
        })
    }
}

/// A model of this shape with random weights, stored as the plan says.
fn served<B: Ops>(plan: &Plan, shape: &ModelPlan, device: &B::Device) -> Model<B> {
    counter::without_activity(|| {
        let mut model = Model::new(shape, SEED, device);
        if let Some(sparsity) = &plan.sparsity {
            sparsify_by(&mut model, sparsity, &Default::default());
        }
        if let Some(packing) = plan.quantization {
            quantize_unseen(&mut model, packing);
        }
        model
    })
}

/// Milliseconds for each token of one round.
fn once<B: Ops>(model: &Model<B>, shape: &ModelPlan) -> Vec<f64> {
    let device = model.device();
    let form = shape.kind.form();
    if !shape.kind.writes() {
        let example = random::<B>(shape, [form.texts(), form.read(shape.context)], &device);
        let started = Instant::now();
        drop(model.forward(example).logits.into_data());
        return vec![started.elapsed().as_secs_f64() * 1e3 / shape.served_tokens() as f64];
    }
    let capacity = shape.capacity();
    let mut memory = model.memory(shape, 1, capacity);
    let mut token = random::<B>(shape, [1, 1], &device);
    if capacity > 1 {
        let prompt = random::<B>(shape, [1, capacity / 2], &device);
        token = next_token(model, prompt, &mut memory);
    }
    let decoded = DECODED.min(capacity - memory.position());
    let mut times = Vec::with_capacity(decoded);
    for _ in 0..decoded {
        let started = Instant::now();
        token = next_token(model, token, &mut memory);
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times
}

fn random<B: Ops>(shape: &ModelPlan, [rows, n]: [usize; 2], device: &B::Device) -> Tensor<B, 2, Int> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let tokens = (0..rows * n).map(|_| rng.random_range(0..shape.vocabulary as i32));
    Tensor::from_data(TensorData::new(tokens.collect::<Vec<i32>>(), [rows, n]), device)
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use spaces::study::config_from_toml;

    use super::*;

    #[test]
    fn models_of_every_kind_and_store_are_timed_and_leave_no_trace() {
        for more in [
            "kv_heads = 2",
            "context = 1",
            "bits = 4",
            "sparsity = 0.5",
            "kind = 'encoder'",
            "kind = 'dual_encoder'",
        ] {
            let data = if more.contains("encoder") {
                "listops"
            } else {
                "markov"
            };
            let context = if more.contains("context") {
                ""
            } else {
                "context = 16\n"
            };
            let text = format!(
                "[data]\ncorpus = '{data}'\n[fixed]\n{context}layers = 1\nwidth = 32\nprune_latency = 0.5\n{more}"
            );
            let config = config_from_toml(&text, &crate::catalog()).unwrap();
            let symbols = crate::data::Symbols {
                classes: Some(10),
                pairs: more.contains("dual"),
                ..crate::data::Symbols::from(17)
            };
            let plan = Plan::read(&config, symbols, None).unwrap();
            let before = counter::activity();
            let watch = Stopwatch::<Flex>::new(&plan, &Default::default());
            let times = watch.time(&plan.served);
            assert!(times.iter().all(|ms| *ms > 0.0), "{more}: {times:?}");
            assert_eq!(counter::activity(), before, "{more}");
        }
    }
}
