//! Where tensors end and whole numbers begin: tokens go in, logits come out.

#![expect(
    clippy::float_arithmetic,
    reason = "logits become floats here, after all that is computed"
)]

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use super::{IntegerModel, KeysAndValues, LOGIT_BITS, Steps};
use crate::{
    counter,
    model::{Inputs, Memory, Model, ModelPlan},
    ops::Ops,
    pool::on_pool,
    techniques::quantization::cache::ACTIVITY as CACHE_ACTIVITY,
};

/// A model in whole numbers, and the steps that it was made with.
#[derive(Debug)]
pub(crate) struct InIntegers {
    model: IntegerModel,
    steps: Steps,
}

impl InIntegers {
    /// Logits of whole rows, as [`Model::forward`] gives them.
    pub(in crate::model) fn forward<B: Backend>(
        &self,
        inputs: &Inputs<B>,
        device: &B::Device,
    ) -> Tensor<B, 3> {
        let [rows, n] = inputs.tokens.dims();
        let lengths = match &inputs.lengths {
            Some(lengths) => lengths.iter().collect(),
            None => vec![n; rows],
        };
        let tokens = ids(&inputs.tokens);
        let logits = on_pool(|| self.model.logits(&tokens, n, &lengths));
        self.as_floats(logits, rows, device)
    }

    /// Logits of the last `scored` of `tokens [rows, n]` after others, as [`Model::extend_scored`] gives them.
    pub(in crate::model) fn extend<B: Backend>(
        &self,
        tokens: &Tensor<B, 2, Int>,
        scored: usize,
        memory: &mut Memory<B>,
        device: &B::Device,
    ) -> Tensor<B, 3> {
        let [rows, n] = tokens.dims();
        let sizes = [n, scored, memory.position];
        let tokens = ids(tokens);
        let states = memory.states.iter_mut().map(|state| {
            state.attention.taken += n;
            state.attention.whole.as_mut()
        });
        let parts: Vec<&mut KeysAndValues> = states.flatten().collect();
        counter::add_activity(CACHE_ACTIVITY, 2 * n * parts.len());
        let logits = on_pool(|| self.model.extend(&tokens, sizes, parts.into_iter()));
        memory.position += n;
        self.as_floats(logits, rows, device)
    }

    /// What a block remembers of `batch` sequences of up to `capacity` tokens.
    pub(in crate::model) fn memory(&self, block: usize, batch: usize, capacity: usize) -> KeysAndValues {
        self.model.memory(block, batch, capacity)
    }

    /// `[rows, scored, outputs]`
    fn as_floats<B: Backend>(&self, logits: Vec<i32>, rows: usize, device: &B::Device) -> Tensor<B, 3> {
        let step = 1.0 / (1u32 << LOGIT_BITS) as f32;
        let values: Vec<f32> = logits.into_iter().map(|logit| logit as f32 * step).collect();
        let outputs = self.model.outputs();
        let shape = [rows, values.len() / (rows * outputs), outputs];
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

impl<B: Ops> Model<B> {
    /// Has whole numbers serve from now on; every matrix is packed for them.
    pub(crate) fn serve_in_integers(&mut self, plan: &ModelPlan, steps: Steps) {
        let model = IntegerModel::build(self, plan, &steps);
        self.integers = Some(Arc::new(InIntegers { model, steps }));
    }

    /// The steps of the model in whole numbers, where it is one.
    pub(crate) fn integer_steps(&self) -> Option<&Steps> {
        self.integers.as_ref().map(|integers| &integers.steps)
    }
}

fn ids<B: Backend>(tokens: &Tensor<B, 2, Int>) -> Vec<usize> {
    tokens
        .to_data()
        .iter::<i64>()
        .map(|token| token as usize)
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::{
        ops::integer::Whole,
        plan::Plan,
        techniques::quantization::{observe_integers, quantize},
    };

    fn model(fixed: &str) -> (Model<Flex>, ModelPlan) {
        let text = format!(
            "[data]\ncorpus = 'markov'\n[fixed]\ncontext = 24\nwidth = 32\nheads = 4\nbits = 8\nactivation_bits = 8\nquant_method = 'integer_only'\n{fixed}\n"
        );
        let config = spaces::study::config_from_toml(&text, &crate::catalog()).unwrap();
        let plan = Plan::read(&config, 19, None).unwrap();
        let mut model = Model::<Flex>::new(&plan.served, 3, &Default::default());
        let batch = crate::data::Batch {
            batch: 2,
            context: 24,
            inputs: (0..48).map(|i| i * i % 19).collect(),
            lengths: vec![24; 2],
            written: vec![],
            targets: vec![0; 48],
        };
        let seen = observe_integers(&mut model, [batch]);
        quantize(&mut model, &plan.served, plan.quantization.unwrap(), &seen);
        (model, plan.served)
    }

    /// Takes nothing that has a float in it; structs on the way are declared by a macro that asks the same of every field.
    fn of_whole_numbers<T: Whole + ?Sized>(x: &T) -> &T {
        x
    }

    #[test]
    fn from_embedding_to_logits_there_is_no_float() {
        let (model, _) = model("kv_heads = 2");
        let integers = model.integers.unwrap();
        let tokens = of_whole_numbers(&vec![1usize, 2, 3]).clone();
        let logits = of_whole_numbers(&integers.model).logits(&tokens, 3, &[3]);
        assert_eq!(of_whole_numbers(&logits).len(), 3 * 19);
    }

    #[test]
    fn what_is_remembered_takes_the_foretold_bytes() {
        for fixed in ["kv_heads = 2", "kv_heads = 1\nlayers = 3"] {
            let (model, plan) = model(fixed);
            let memory = model.memory(&plan, 1, plan.capacity());
            let bytes = memory.states.iter().map(|state| {
                let state = &state.attention;
                assert!(
                    state.parts.is_empty() && state.packed.is_none(),
                    "no float beside"
                );
                state.whole.as_ref().unwrap().bytes()
            });
            assert_eq!(bytes.sum::<usize>() as u64, plan.state_bytes(), "{fixed}");
        }
    }

    #[test]
    fn the_model_and_its_parts_share_one_copy_of_the_weights() {
        use crate::model::{Matrix, Part, Parts};
        let (mut model, _) = model("");
        model.each_part("", &mut |path, part| {
            if let Part::Matrix(Matrix::Integer(matrix)) | Part::Small(Matrix::Integer(matrix)) = part {
                // the embedding is looked up and is the head
                let users = if path == "model.embed_tokens" { 3 } else { 2 };
                assert_eq!(Arc::strong_count(&matrix.codes), users, "{path}");
            } else {
                assert!(matches!(part, Part::Vector(_)), "{path} has floats");
            }
        });
    }
}
