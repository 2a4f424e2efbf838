//! What methods of fine-tuning hold in memory, counted by the allocator.

use std::collections::BTreeMap;

use burn::{backend::Flex, tensor::Tensor};
use evaluator::{
    data::{DataAccess, Dataset},
    energy,
    memory::{live_bytes, peak_bytes},
    model::{Model, TensorMut, each_tensor},
    training::{Optimizer, Stretch, gradients_of, train},
};

use crate::{
    fine_tuning::base_plan,
    support::{A, config, plan_for, recall, stretch},
};

const WIDE: &str = "width = 256\nlayers = 2\ncontext = 16";

/// The most bytes that were live in two steps of a training, its weights included, and the bytes of the base in 32 bits.
fn training_bytes(tuning: &str) -> (f64, f64) {
    training_bytes_in(2, tuning)
}

/// The same in so many steps.
fn training_bytes_in(steps: usize, tuning: &str) -> (f64, f64) {
    let data = Dataset::load(&config(recall(), "").data, &DataAccess::anywhere()).unwrap();
    let fixed = format!("{WIDE}\n{tuning}\nbatch = 1\ntokens = {}", 16 * steps);
    let plan = plan_for(data.vocab, &fixed).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let before = live_bytes();
    let mut model = Model::<A>::new(&base_plan(&plan), 1, &Default::default());
    plan.fine_tuning.unwrap().attach(&mut model, &plan.model, 1);
    let stretch = Stretch {
        checkpoint_every: std::time::Duration::MAX,
        ..stretch(&plan, &data, dir.path())
    };
    let held = live_bytes() - before;
    let (trained, peak) = peak_bytes(|| {
        train(
            model,
            &stretch,
            None,
            None,
            energy::open(None).as_mut(),
            &mut evaluator::Silent,
        )
    });
    drop(trained.unwrap());
    ((held + peak) as f64, 4.0 * base_plan(&plan).parameters() as f64)
}

#[test]
fn trainings_take_as_much_as_each_method_says() {
    // once before, so that what is allocated once is there
    training_bytes("fine_tune = 'ia3'");
    let (adamw, weights) = training_bytes("fine_tune = 'full'");
    let (sgd, _) = training_bytes("fine_tune = 'full'\noptimizer = 'sgd'");
    let (lomo, _) = training_bytes("fine_tune = 'full'\noptimizer = 'lomo'");
    let (badam, _) = training_bytes("fine_tune = 'full'\noptimizer = 'badam'");
    let (mezo, _) = training_bytes("fine_tune = 'full'\noptimizer = 'mezo'");
    let (lora, _) = training_bytes("fine_tune = 'lora'\nlora_rank = 4");
    let eight = training_bytes("fine_tune = 'lora'\nlora_rank = 4\nbase_bits = 8").0;
    let four = training_bytes("fine_tune = 'lora'\nlora_rank = 4\nbase_bits = 4").0;
    let all = format!("{weights} bytes: {adamw} {badam} {sgd} {lomo} {mezo} {lora} {eight} {four}");
    // weights, gradients, two means
    assert!(adamw > 4.0 * weights && adamw < 5.0 * weights, "{all}");
    assert!(sgd > 2.0 * weights && sgd < 3.0 * weights, "{all}");
    // gradients and means of one block of two
    assert!(badam < 0.65 * adamw, "{all}");
    // one block's gradients of two, and the table's
    assert!(lomo > 1.4 * weights && lomo < 0.9 * sgd, "{all}");
    assert!(mezo < 1.8 * weights, "{all}");
    assert!(lora < 1.8 * weights && lora < 0.5 * adamw, "{all}");
    assert!(eight < 0.6 * lora && four < 0.8 * eight, "{all}");
}

#[test]
fn a_training_without_gradients_takes_no_more_the_longer_it_is() {
    let tuning = "fine_tune = 'full'\noptimizer = 'mezo'";
    training_bytes(tuning);
    let [short, long] = [2, 30].map(|steps| training_bytes_in(steps, tuning).0);
    assert!(long < 1.02 * short, "{short} {long}");
}

/// Bytes that an optimizer holds after a step, where it changes `each` weights of every tensor or all of them.
fn optimizer_bytes(each: Option<usize>) -> (u64, u64) {
    let data = Dataset::load(&config(recall(), "").data, &DataAccess::anywhere()).unwrap();
    let plan = plan_for(data.vocab, WIDE).unwrap();
    let mut model = Model::<A>::new(&plan.model, 1, &Default::default());
    let (mut kept, mut trained) = (BTreeMap::new(), 0);
    each_tensor(&mut model, &mut |name, tensor| {
        let weights = match tensor {
            TensorMut::Matrix(p) => p.shape().num_elements(),
            TensorMut::Vector(p) => p.shape().num_elements(),
        };
        let n = each.map_or(weights, |each| each.min(weights));
        trained += n as u64;
        if each.is_some() {
            kept.insert(name, (0..n as i32).collect());
        }
    });
    let batch = || data.train_batch(1, 0, 1, plan.training.rows);
    drop(gradients_of(&model, batch()));
    let before = live_bytes();
    let mut optimizer = Optimizer::<Flex>::new(kept.clone(), &Default::default());
    let mut gradients = gradients_of(&model, batch()).1;
    optimizer.step(&mut model, &mut gradients, 1e-3, &plan.training);
    drop(gradients);
    let held = live_bytes() - before;
    // both live until here
    drop((optimizer, kept));
    (held, trained)
}

#[test]
fn an_optimizer_holds_what_its_weights_need() {
    optimizer_bytes(None);
    let (all_bytes, all) = optimizer_bytes(None);
    let (few_bytes, few) = optimizer_bytes(Some(500));
    let (more_bytes, more) = optimizer_bytes(Some(8_000));
    // whole tensors need no numbers
    let of_all = all_bytes as f64 / all as f64;
    assert!((of_all - 8.0).abs() < 0.2, "{of_all}");
    let of_each = (more_bytes - few_bytes) as f64 / (more - few) as f64;
    assert!((of_each - 12.0).abs() < 0.2, "{of_each}");
}

#[test]
fn a_step_of_gradient_descent_is_its_formula() {
    let data = Dataset::load(&config(recall(), "").data, &DataAccess::anywhere()).unwrap();
    let plan = plan_for(
        data.vocab,
        "optimizer = 'sgd'\nweight_decay = 0.2\ngradient_clip = 0.05",
    )
    .unwrap();
    let mut model = Model::<A>::new(&plan.model, 1, &Default::default());
    let batch = data.train_batch(1, 0, 4, plan.training.rows);
    let mut gradients = gradients_of(&model, batch).1;
    let mut expected = BTreeMap::new();
    let mut squares = 0.0;
    each_tensor(&mut model, &mut |name, tensor| {
        let flat = |t: Tensor<Flex, 1>| t.into_data().iter::<f64>().collect::<Vec<_>>();
        let (w, g, decay) = match tensor {
            TensorMut::Matrix(p) => {
                let n = p.shape().num_elements();
                let g = p.val().grad(&gradients).unwrap().reshape([n]);
                (flat(p.val().inner().reshape([n])), flat(g), 0.2)
            }
            TensorMut::Vector(p) => (
                flat(p.val().inner()),
                flat(p.val().grad(&gradients).unwrap()),
                0.0,
            ),
        };
        squares += g.iter().map(|g| g * g).sum::<f64>();
        expected.insert(name, (w, g, decay));
    });
    let (rate, scale) = (0.3, 0.05 / squares.sqrt());
    assert!(scale < 1.0, "it is clipped");
    Optimizer::default().step(&mut model, &mut gradients, rate, &plan.training);
    each_tensor(&mut model, &mut |name, tensor| {
        let now: Vec<f64> = match tensor {
            TensorMut::Matrix(p) => p.val().into_data().iter().collect(),
            TensorMut::Vector(p) => p.val().into_data().iter().collect(),
        };
        let (w, g, decay) = &expected[&name];
        for ((now, w), g) in now.iter().zip(w).zip(g) {
            let formula = (1.0 - rate * decay) * w - rate * scale * g;
            assert!((now - formula).abs() < 1e-6, "{name}: {now} {formula}");
        }
    });
}
