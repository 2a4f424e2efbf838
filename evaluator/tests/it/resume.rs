//! A training that is stopped anywhere goes on to the same bits.

use std::{cell::Cell, fs, path::Path};

use burn::{backend::Flex, tensor::Tensor};
use evaluator::{
    EvaluationError, Events,
    data::{DataAccess, Dataset},
    energy,
    model::Model,
    training::{Checkpoint, Record, Stretch, train},
};
use spaces::{Measurement, protocol::Progress};

use crate::support::{A, config, plan, stretch, tokens};

/// Stops the training when it has asked this many times.
struct StopAfter(Cell<u64>);

impl Events for StopAfter {
    fn progress(&mut self, _: Progress) {}

    fn report(&mut self, _: Vec<Measurement>) {}

    fn cancelled(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left == 0
    }
}

fn run(dir: &Path, fixed: &str, stop_after: u64) -> Result<(Model<A>, Record), EvaluationError> {
    let plan = plan(fixed);
    let spec = &config("[data]\ncorpus = \"markov\"", fixed).data;
    let data = Dataset::load(spec, &DataAccess::anywhere()).unwrap();
    let model_plan = evaluator::model::ModelPlan {
        vocabulary: data.vocab,
        ..plan.model.clone()
    };
    let model = Model::new(&model_plan, 1, &Default::default());
    go_on(model, &stretch(&plan, &data, dir), stop_after)
}

/// Trains from the last checkpoint on, if there is one.
pub(crate) fn go_on(
    model: Model<A>,
    stretch: &Stretch,
    stop_after: u64,
) -> Result<(Model<A>, Record), EvaluationError> {
    train(
        model,
        stretch,
        None,
        Checkpoint::find(stretch.checkpoints, &Default::default()),
        energy::open(None).as_mut(),
        &mut StopAfter(Cell::new(stop_after)),
    )
}

fn bits(model: &Model<A>) -> Vec<u32> {
    use burn::module::AutodiffModule;
    let vocabulary = model.embedding.dims()[0] as i32;
    let input = tokens::<Flex>(2, 16, 1).remainder_scalar(vocabulary);
    let logits: Tensor<Flex, 3> = model.valid().forward(input).logits;
    logits.into_data().iter::<f32>().map(f32::to_bits).collect()
}

#[test]
fn stopped_and_resumed_equals_never_stopped() {
    for fixed in [
        "attention = 'full'",
        "attention = 'linear'\nexperts = 2",
        "experts = 4\nrouter = 'switch'\nrouter_jitter = 0.1",
        "experts = 4\nrouter = 'gshard'",
        "experts = 4\nrouter = 'noisy_top_k'\ntop_k = 2",
        "reversible = true\nattention = 'lsh'\nlsh_chunk = 4\nff_chunks = 4",
        "reversible = true\nexperts = 4\nrouter = 'gshard'",
    ] {
        let (whole, part) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (model, record) = run(&whole.path().join("c"), fixed, u64::MAX).unwrap();
        assert_eq!(record.steps, 10);
        let expected = bits(&model);

        let dir = part.path().join("c");
        assert!(matches!(run(&dir, fixed, 3), Err(EvaluationError::Cancelled)));
        // a half-written later checkpoint is left over, as after a kill in the middle of writing
        fs::create_dir_all(part.path().join("c.part")).unwrap();
        fs::write(part.path().join("c.part/state.safetensors"), b"cut sho").unwrap();
        assert!(matches!(run(&dir, fixed, 4), Err(EvaluationError::Cancelled)));
        // a kill between the two renames
        fs::rename(&dir, part.path().join("c.old")).unwrap();
        let (model, record) = run(&dir, fixed, u64::MAX).unwrap();
        assert_eq!((record.steps, record.tokens), (10, 640));
        assert_eq!(bits(&model), expected, "{fixed}");
    }
}

#[test]
fn one_seed_gives_one_model_and_another_seed_another() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = run(&a.path().join("c"), "layers = 1", u64::MAX).unwrap().0;
    let second = run(&b.path().join("c"), "layers = 1", u64::MAX).unwrap().0;
    assert_eq!(bits(&first), bits(&second));
}
