//! Using an exported model: measuring it again, writing text with it.

use std::{collections::BTreeMap, path::Path, time::Instant};

use burn::tensor::{Int, Tensor, TensorData, activation::softmax};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use spaces::{Value, protocol::Evaluation};

use crate::{
    EvaluationError, bundle, counter,
    data::{DataAccess, Dataset},
    device::Device,
    energy,
    fill::fill,
    meters::{Subject, measure},
    ops::{Ops, set_precision},
    plan::Plan,
};

/// How text is written.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Tokens to write.
    pub tokens: usize,
    /// 0 for the most likely token each time; 1 for the model's own distribution.
    pub temperature: f64,
    /// Seed of the choice.
    pub seed: u64,
}

/// Measures a bundle again; what its training cost is not measured but stays in its `parsimony.json`.
pub(crate) fn remeasure<B: Ops>(
    dir: &Path,
    access: &DataAccess,
    device: &Device,
    backend: &B::Device,
) -> Result<Evaluation, EvaluationError> {
    let started = Instant::now();
    let origin = bundle::read_provenance(dir)?;
    let (model, served) = bundle::read_model::<B>(dir, backend)?;
    let mut spec = origin.config.data.clone();
    let takes_tokenizer = crate::data::catalog()
        .iter()
        .any(|c| c.name == spec.corpus && c.takes_tokenizer);
    if takes_tokenizer {
        let file = format!("file:{}", dir.join("tokenizer.json").display());
        spec.options.insert("tokenizer".into(), Value::Text(file));
    }
    let data = Dataset::load(&spec, access)?;
    let expected = origin.provenance.get("data_fingerprint");
    if expected.is_some_and(|f| *f != data.fingerprint) {
        return Err(EvaluationError::OtherData {
            found: data.fingerprint.clone(),
            expected: expected.cloned().unwrap_or_default(),
        });
    }
    let plan = Plan::of_bundle(&origin.config, &served, origin.trained);
    set_precision(plan.precision);
    let mut source = energy::open(device.gpu_uuid());
    let mut subject = Subject {
        model: &model,
        plan: &plan,
        data: &data,
        bundle: dir,
        device,
        training: None,
        energy: source.as_mut(),
        step: 0,
    };
    let measurements = measure(&mut subject)?;
    let mut provenance: BTreeMap<String, String> = origin.provenance;
    provenance.insert("device".into(), device.describe());
    Ok(Evaluation {
        measurements,
        activity: counter::activity(),
        provenance,
        wall_s: started.elapsed().as_secs_f64(),
        artifacts: vec![],
    })
}

/// Continues a prompt or fills its gaps, handing over each piece of text as it is written, the prompt's own included.
pub(crate) fn generate<B: Ops>(
    dir: &Path,
    prompt: &str,
    sampling: Sampling,
    backend: &B::Device,
    write: &mut dyn FnMut(&str),
) -> Result<(), EvaluationError> {
    let kind = bundle::read_served(dir)?.model.kind;
    if !kind.writes() {
        return Err(EvaluationError::Invalid(format!(
            "'{}' is of kind '{}', which reads whole texts and writes none; use parsimony evaluate, or generate with a decoder",
            dir.display(),
            kind.name()
        )));
    }
    let (model, served) = bundle::read_model::<B>(dir, backend)?;
    let tokenizer = bundle::read_tokenizer(dir)?;
    if kind.reading() > 0 {
        return fill((&model, &served.model), &tokenizer, prompt, sampling, write);
    }
    let mut ids = tokenizer.encode(prompt)?;
    if ids.is_empty() {
        return Err(EvaluationError::Invalid(
            "the prompt is empty; give at least one character".into(),
        ));
    }
    let context = served.model.context;
    let mut rng = ChaCha8Rng::seed_from_u64(sampling.seed);
    let mut memory = model.memory(&served.model, 1, context);
    // the model reads what fits its context; when it is full it goes on from the later half
    let mut unread = ids.len().saturating_sub(context);
    let mut shown = tokenizer.decode(&ids)?;
    write(prompt);
    for _ in 0..sampling.tokens {
        if memory.position() + (ids.len() - unread) > context {
            memory = model.memory(&served.model, 1, context);
            unread = ids.len() - context.div_ceil(2);
        }
        let input: Vec<i32> = ids[unread..].iter().map(|t| *t as i32).collect();
        let n = input.len();
        let logits = model.extend(
            Tensor::<B, 2, Int>::from_data(TensorData::new(input, [1, n]), backend),
            &mut memory,
        );
        unread = ids.len();
        ids.push(choose(logits, sampling.temperature, &mut rng));
        // a character may span several tokens, so the text is decoded whole and only its new part is shown
        let text = tokenizer.decode(&ids)?;
        if let Some(new) = text
            .strip_prefix(shown.as_str())
            .filter(|new| !new.ends_with('\u{fffd}'))
        {
            write(new);
            shown = text;
        }
    }
    Ok(())
}

/// The number of a column of `logits [1, n]`, as the temperature says.
pub(crate) fn choose<B: Ops>(logits: Tensor<B, 2>, temperature: f64, rng: &mut ChaCha8Rng) -> u32 {
    if temperature <= 0.0 {
        return logits.argmax(1).into_data().iter::<i64>().next().unwrap_or(0) as u32;
    }
    let p: Vec<f32> = softmax(logits / temperature, 1).into_data().iter().collect();
    let mut left: f32 = rng.random::<f32>() * p.iter().sum::<f32>();
    for (id, p) in p.iter().enumerate() {
        left -= p;
        if left <= 0.0 {
            return id as u32;
        }
    }
    p.len() as u32 - 1
}
