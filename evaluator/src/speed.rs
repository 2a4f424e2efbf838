//! How fast a configuration trains, reads and writes, for `parsimony bench`: random tokens, no data, no measuring beside it.

use std::time::Instant;

use burn::{
    module::AutodiffModule,
    tensor::{Distribution, Tensor, backend::AutodiffBackend},
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use spaces::Config;

use crate::{
    EvaluationError, counter,
    data::{Batch, Form, Rows},
    device::Device,
    energy::{self, Reading, Source},
    memory::peak_bytes,
    meters::{Prompt, next_token},
    model::{Inputs, Model, ModelPlan, Trainable},
    ops::{Ops, matmul},
    plan::{Plan, TrainingPlan},
    pool::awake,
    techniques::{
        calibration::Statistics,
        dynamic::context_keep::choose_unseen,
        quantization::{observe_integers, quantize, quantize_unseen},
        sparsity::sparsify_by,
    },
    training::{Optimizer, Rule, gradients_of, to_device},
};

/// Tokens before the first one that is decoded.
const PROMPT: usize = 16;
/// Side of the matrices whose product is the yardstick: large enough that memory does not matter.
const GEMM: usize = 1024;
const SEED: u64 = 0;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Whole optimizer steps.
    Train,
    /// Logits of a batch, without gradients.
    Forward,
    /// One sequence, token by token, with what the model remembers.
    Decode,
}

/// How often, and how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounds {
    /// Rounds that count; one more comes first and does not.
    pub rounds: usize,
    /// Least time of a round in seconds.
    pub seconds: f64,
}

/// How fast it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Speed {
    /// Of each round.
    pub tokens_per_s: Vec<f64>,
    /// Executed matrix work of a token, in FLOPs; of every round the same but for decoding, where it is the mean.
    pub flops_per_token: f64,
    /// The same by formula; of decoding the mean over all positions.
    pub formula_flops_per_token: f64,
    /// What decoding remembers of a full-length sequence, by formula.
    pub state_bytes: u64,
    /// Of a token.
    pub energy: Reading,
    /// Weights of the model.
    pub parameters: usize,
    /// The most bytes that were live on the host's heap at once in one step, batch or token, beyond those live before it:
    /// weights, the optimizer's memory, what decoding remembers.
    pub peak_bytes: u64,
}

pub(crate) fn time<A>(
    config: &Config,
    vocabulary: usize,
    work: Work,
    rounds: Rounds,
    energy: &mut dyn Source,
    (device, handle): (&Device, &A::Device),
) -> Result<Speed, EvaluationError>
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let plan = Plan::read(config, vocabulary, None).map_err(EvaluationError::Invalid)?;
    plan.prepare(device).map_err(EvaluationError::Invalid)?;
    let other = match plan.training.rule {
        Rule::Lomo => Some("'lomo' changes weights on the way back"),
        Rule::Badam { .. } => Some("'badam' trains one block at a time"),
        Rule::AdamW | Rule::Sgd | Rule::Mezo { .. } => None,
    };
    if let Some(other) = other {
        return Err(EvaluationError::Invalid(format!(
            "optimizer = {other}, and what is timed here is a step of the gradients of all; use optimizer = 'sgd' or 'adamw'"
        )));
    }
    let mut model = Model::<A>::new(&plan.model, SEED, handle);
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let TrainingPlan { batch, rows, .. } = plan.training;
    let batch = random_batch(vocabulary, batch, rows, &mut random);
    let tokens = plan.training.step_tokens();
    let parameters = plan.model.parameters() as usize;
    let pass = plan
        .model
        .training_pass(batch.batch, rows.context, Trainable::All);
    let timed_model = plan.contextual.map(|keep| keep.given(&plan.model));
    let timed_model = ModelPlan {
        sparsity: plan.served.sparsity,
        ..timed_model.unwrap_or_else(|| plan.model.clone())
    };
    if work != Work::Train
        && let Some(sparsity) = &plan.sparsity
    {
        sparsity
            .form
            .check_matrices(&plan.model)
            .map_err(EvaluationError::Invalid)?;
    }
    let sync = || A::sync(handle).map_err(EvaluationError::device);
    let mut timed = |work: &mut dyn FnMut() -> usize| timed(rounds, energy, sync, work);
    let timing = match work {
        Work::Train => {
            let mut optimizer = Optimizer::default();
            timed(&mut || {
                let (_, mut gradients) = gradients_of(&model, batch.clone());
                optimizer.step(
                    &mut model,
                    &mut gradients,
                    plan.training.learning_rate,
                    &plan.training,
                );
                tokens
            })?
        }
        Work::Forward => {
            let model = served(&model, &plan, &batch);
            timed(&mut || {
                let (inputs, _) = to_device::<A::InnerBackend>(batch.clone(), handle);
                drop(model.forward(inputs));
                tokens
            })?
        }
        Work::Decode => {
            let (model, capacity) = (served(&model, &plan, &batch), plan.model.capacity());
            let prompt = random_prompt::<A::InnerBackend>(vocabulary, rows, &mut random, handle);
            let fresh = || {
                let mut memory = model.memory(&plan.model, 1, capacity);
                let token = prompt.first_token(&model, &mut memory);
                (memory, token)
            };
            let (mut memory, mut token) = fresh();
            awake(|| {
                timed(&mut || {
                    if memory.position() >= capacity {
                        (memory, token) = fresh();
                    }
                    token = next_token(&model, token.clone(), &mut memory);
                    1
                })
            })?
        }
    };
    let formula_macs_per_token = match work {
        Work::Train => pass.total() as f64 / tokens as f64,
        Work::Forward => {
            let left_out = timed_model.left_out_of_reading(batch.batch, rows.context);
            (pass.forward - left_out) as f64 / tokens as f64
        }
        Work::Decode => 0.5 * timed_model.inference_flops_per_token(),
    };
    Ok(Speed {
        tokens_per_s: timing.tokens_per_s,
        flops_per_token: timing.flops_per_token,
        formula_flops_per_token: 2.0 * formula_macs_per_token,
        state_bytes: plan.model.state_bytes(),
        energy: timing.energy,
        parameters,
        peak_bytes: timing.peak_bytes,
    })
}

/// The model as it reads and writes: sparse and packed where the plan says so, by the weights alone, and neurons chosen by chance, for
/// nothing is known of what random weights are given; whole numbers alone have steps by the tokens that are timed.
fn served<A>(model: &Model<A>, plan: &Plan, batch: &Batch) -> Model<A::InnerBackend>
where
    A: AutodiffBackend + Ops,
    A::InnerBackend: Ops,
{
    let mut model = model.valid();
    if let Some(sparsity) = &plan.sparsity {
        sparsify_by(&mut model, sparsity, &Statistics::new());
    }
    match plan.quantization {
        Some(packing) if packing.is_integer_only() => {
            let seen = observe_integers(&mut model, [batch.clone()]);
            quantize(&mut model, &plan.model, packing, &seen);
        }
        Some(packing) => quantize_unseen(&mut model, packing),
        None => {}
    }
    if let Some(keep) = plan.contextual {
        choose_unseen(&mut model, &keep.given(&plan.model));
    }
    model
}

/// FLOPs a second of a large product of 32-bit matrices, the best of some.
pub(crate) fn gemm<B: Ops>(seconds: f64, device: &B::Device) -> Result<f64, EvaluationError> {
    let random = || Tensor::<B, 2>::random([GEMM, GEMM], Distribution::Default, device);
    let (a, b) = (random(), random());
    let flops = 2.0 * (GEMM as f64).powi(3);
    let (mut best, begun) = (f64::INFINITY, Instant::now());
    while begun.elapsed().as_secs_f64() < seconds {
        let started = Instant::now();
        drop(matmul(a.clone(), b.clone()));
        B::sync(device).map_err(EvaluationError::device)?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(flops / best)
}

/// What is decoded from: some tokens of a text, or a whole one with gaps.
fn random_prompt<B: Ops>(
    vocabulary: usize,
    rows: Rows,
    random: &mut impl Rng,
    device: &B::Device,
) -> Prompt<B> {
    let short = Rows {
        context: PROMPT.min(rows.context - 1),
        ..rows
    };
    let is_read = matches!(rows.form, Form::Spans(_));
    let batch = random_batch(vocabulary, 1, if is_read { rows } else { short }, random);
    let (Inputs { tokens, written, .. }, _) = to_device::<B>(batch, device);
    match written {
        Some(written) => Prompt {
            read: Some(tokens),
            tokens: written.narrow(1, 0, 1),
        },
        None => Prompt { read: None, tokens },
    }
}

fn random_batch(
    vocabulary: usize,
    batch: usize,
    Rows { context, form }: Rows,
    random: &mut impl Rng,
) -> Batch {
    if let Form::Spans(corruption) = form {
        let texts = (0..batch).map(|_| {
            let text = (0..context).map(|_| random.random_range(0..vocabulary as u32));
            let text: Vec<u32> = text.collect();
            corruption.corrupt(&text, random)
        });
        return Batch::of_spans(&texts.collect::<Vec<_>>(), context, corruption);
    }
    let n = batch * context;
    Batch {
        batch,
        context,
        inputs: (0..n)
            .map(|_| random.random_range(0..vocabulary as u32))
            .collect(),
        lengths: vec![context; batch],
        written: vec![],
        targets: (0..n)
            .map(|_| random.random_range(0..vocabulary as i32))
            .collect(),
    }
}

/// What was measured of some work.
struct Timing {
    tokens_per_s: Vec<f64>,
    flops_per_token: f64,
    energy: Reading,
    peak_bytes: u64,
}

/// Tokens a second of each round but the first, the executed FLOPs and the energy of a token, and the peak of one more
/// `work`, which says how many tokens it did.
fn timed(
    rounds: Rounds,
    energy: &mut dyn Source,
    sync: impl Fn() -> Result<(), EvaluationError>,
    work: &mut dyn FnMut() -> usize,
) -> Result<Timing, EvaluationError> {
    let mut round = |speeds: &mut Vec<f64>| {
        let (started, mut done) = (Instant::now(), 0);
        while started.elapsed().as_secs_f64() < rounds.seconds {
            done += work();
        }
        sync()?;
        speeds.push(done as f64 / started.elapsed().as_secs_f64());
        Ok::<_, EvaluationError>(done)
    };
    sync()?;
    round(&mut vec![])?;
    let (mut tokens_per_s, mut tokens) = (vec![], 0);
    let all = || {
        for _ in 0..rounds.rounds {
            tokens += round(&mut tokens_per_s)?;
        }
        Ok::<_, EvaluationError>(())
    };
    let ((result, macs), mut reading) =
        energy::measure(energy, || counter::count_macs(all)).map_err(EvaluationError::Device)?;
    result?;
    reading.joules /= tokens as f64;
    let (result, peak_bytes) = peak_bytes(|| {
        work();
        sync()
    });
    result?;
    Ok(Timing {
        tokens_per_s,
        flops_per_token: 2.0 * macs as f64 / tokens as f64,
        energy: reading,
        peak_bytes,
    })
}
