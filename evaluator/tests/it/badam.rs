//! Trainings of one block at a time.

use std::path::Path;

use evaluator::{
    EvaluationError, Silent,
    data::{DataAccess, Dataset},
    evaluate, inspect,
    model::{Model, TensorMut, each_tensor},
    training::Record,
};
use safetensors::SafeTensors;

use crate::{
    evaluation::values,
    resume::go_on,
    support::{A, config, job, plan_for, recall, stretch, text_data},
};

/// What a training gives.
type Outcome = Result<(Model<A>, Record), EvaluationError>;

/// Trains with this many questions before it is stopped, and gives the model before and after.
fn run(dir: &Path, fixed: &str, stop_after: u64) -> (Model<A>, Outcome) {
    let data = Dataset::load(&config(recall(), "").data, &DataAccess::anywhere()).unwrap();
    let plan = plan_for(data.vocab, fixed).unwrap();
    let model = Model::<A>::new(&plan.model, 1, &Default::default());
    let start = model.clone();
    (start, go_on(model, &stretch(&plan, &data, dir), stop_after))
}

/// Every tensor's values by name.
fn tensors(model: &mut Model<A>) -> Vec<(String, Vec<u32>)> {
    let mut all = vec![];
    each_tensor(model, &mut |name, tensor| {
        let data = match tensor {
            TensorMut::Matrix(param) => param.val().into_data(),
            TensorMut::Vector(param) => param.val().into_data(),
        };
        all.push((name, data.iter::<f32>().map(f32::to_bits).collect()));
    });
    all
}

/// The names of those that differ.
fn changed(before: &mut Model<A>, after: &mut Model<A>) -> Vec<String> {
    let both = tensors(before).into_iter().zip(tensors(after));
    both.filter(|((_, before), (_, after))| before != after)
        .map(|((name, _), _)| name)
        .collect()
}

const FIXED: &str = "layers = 3\noptimizer = 'badam'\nbadam_block_steps = 2";

#[test]
fn one_block_changes_at_a_time_and_in_the_end_all_have() {
    let dir = tempfile::tempdir().unwrap();
    // ten steps of two: three blocks, what is outside them, and the first block again
    let (mut start, end) = run(&dir.path().join("a"), FIXED, u64::MAX);
    let mut end = end.unwrap().0;
    assert_eq!(changed(&mut start, &mut end).len(), tensors(&mut start).len());
    for (steps, of) in [(2, "model.layers.0."), (1, "model.layers.0.")] {
        let fixed = format!("{FIXED}\ntokens = {}", steps * 64);
        let (mut start, end) = run(&dir.path().join(steps.to_string()), &fixed, u64::MAX);
        let names = changed(&mut start, &mut end.unwrap().0);
        assert!(
            !names.is_empty() && names.iter().all(|name| name.starts_with(of)),
            "{names:?}"
        );
    }
}

/// What a checkpoint holds of the optimizer is what is remembered: two numbers for each weight of one block.
#[test]
fn what_is_remembered_is_of_one_block_and_the_largest_is_the_most() {
    let dir = tempfile::tempdir().unwrap();
    let mut largest = 0;
    let mut sizes = [0usize; 4];
    for stop in 1..=9 {
        let folder = dir.path().join(stop.to_string());
        let (mut start, stopped) = run(&folder, FIXED, stop);
        assert!(matches!(stopped, Err(EvaluationError::Cancelled)));
        let bytes = std::fs::read(folder.join("state.safetensors")).unwrap();
        let state = SafeTensors::deserialize(&bytes).unwrap();
        let held = state
            .tensors()
            .into_iter()
            .filter(|(name, _)| !name.starts_with("w."));
        let held: usize = held.map(|(_, view)| view.data().len()).sum();
        each_tensor(&mut start, &mut |name, tensor| {
            let block = name
                .strip_prefix("model.layers.")
                .map_or(3, |rest| rest[..1].parse().unwrap());
            if stop == 1 {
                sizes[block] += match tensor {
                    TensorMut::Matrix(param) => param.dims().iter().product(),
                    TensorMut::Vector(param) => param.dims()[0],
                };
            }
        });
        let part = (stop as usize - 1) / 2 % 4;
        assert_eq!(held, 8 * sizes[part], "after {stop} steps");
        largest = largest.max(held);
    }
    assert_eq!(largest, 8 * sizes.iter().max().unwrap());
    assert!(largest < 8 * sizes.iter().sum::<usize>() / 2);
}

#[test]
fn a_stopped_training_goes_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (_, whole) = run(&dir.path().join("a"), FIXED, u64::MAX);
    let (mut whole, record) = whole.unwrap();
    // in the middle of a block, and at the end of one
    for stop in [3, 4] {
        assert!(run(&dir.path().join("b"), FIXED, stop).1.is_err());
    }
    let (mut parts, resumed) = run(&dir.path().join("b"), FIXED, u64::MAX).1.unwrap();
    assert_eq!((resumed.steps, resumed.macs), (record.steps, record.macs));
    assert_eq!(tensors(&mut parts), tensors(&mut whole));
}

/// Counted work is held against the formula wherever an evaluation succeeds.
#[test]
fn it_trains_every_kind_of_model_for_less_work() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 8000);
    for (i, more) in [
        "layers = 3",
        "kv_heads = 2\nbits = 3\nqat = 0.5",
        "experts = 4\nrouter = 'switch'\ncapacity_factor = 1.0\nprune_ratio = 0.5\nrecovery = 0.3",
        "attention = 'rwkv'\nfeed_forward = 'channel_mix'",
        "attention = 'aft'\naft_variant = 'full'\naft_rank = 8",
        "kind = 'encoder_decoder'\ncorruption_rate = 0.3",
    ]
    .into_iter()
    .enumerate()
    {
        let run = |rule: &str| {
            let fixed =
                format!("{more}\noptimizer = '{rule}'").replace("'badam'", "'badam'\nbadam_block_steps = 3");
            let config = config(&data, &fixed);
            let facts = inspect(&config.data, None, &DataAccess::anywhere(), 16).unwrap();
            let known = facts.known(&config).unwrap();
            let result = evaluate(&job(config, &dir.path().join(format!("{i}{rule}"))), &mut Silent);
            let result = result.unwrap_or_else(|e| panic!("{fixed}: {e}"));
            let flops = values(&result)["training_flops"];
            if let Some(formula) = known.get("training_flops") {
                assert_eq!(flops, *formula, "{fixed}");
            }
            (flops, result)
        };
        let (all, _) = run("adamw");
        let (blocks, result) = run("badam");
        assert!(blocks < all, "{more}: {blocks} {all}");
        assert!(result.activity["badam_blocks"] > 0);
    }
}

#[test]
fn it_learns() {
    let dir = tempfile::tempdir().unwrap();
    let data = text_data(dir.path(), 20_000);
    let loss = |rule: &str, tokens: usize| {
        let config = config(&data, &format!("tokens = {tokens}\n{rule}"));
        let work = dir.path().join(format!("{tokens}{}", rule.contains("badam")));
        values(&evaluate(&job(config, &work), &mut Silent).unwrap())["validation_loss"]
    };
    let all = loss("optimizer = 'adamw'", 12800);
    let blocks = loss("optimizer = 'badam'\nbadam_block_steps = 10", 12800);
    let start = loss("optimizer = 'adamw'", 64);
    println!("{start} at first, {all} of all weights, {blocks} block by block");
    assert!(blocks < 0.6 * start, "{start} {all} {blocks}");
}
