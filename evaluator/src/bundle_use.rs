//! Using an exported model: measuring it again, writing text with it.

use std::{collections::BTreeMap, path::Path, time::Instant};

use spaces::{Value, protocol::Evaluation};

use crate::{
    EvaluationError, bundle, counter,
    data::{DataAccess, Dataset, Tokenizer},
    decoding::{
        Choice, Draft, DraftSource, FirstLayers, Ngram, Reader, SmallModel, Speculation, Written, write_on,
    },
    device::Device,
    energy,
    fill::fill,
    meters::{Subject, measure},
    model::{Model, ModelPlan},
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
    if let Some(packing) = &plan.quantization {
        packing.check_device(device).map_err(EvaluationError::Invalid)?;
    }
    plan.served
        .check_choice(device)
        .map_err(EvaluationError::Invalid)?;
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

/// Continues a prompt or fills its gaps, handing over each piece of text as it is written, the prompt's own included; says
/// what it took where text was continued.
pub(crate) fn generate<B: Ops>(
    dir: &Path,
    prompt: &str,
    sampling: Sampling,
    speculation: Option<&Speculation>,
    backend: &B::Device,
    write: &mut dyn FnMut(&str),
) -> Result<Written, EvaluationError> {
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
        if speculation.is_some() {
            return Err(EvaluationError::Invalid(format!(
                "'{}' fills gaps, and a draft guesses how a text goes on; leave the draft out, or use a decoder",
                dir.display()
            )));
        }
        fill((&model, &served.model), &tokenizer, prompt, sampling, write)?;
        return Ok(Written::default());
    }
    let mut ids = tokenizer.encode(prompt)?;
    if ids.is_empty() {
        return Err(EvaluationError::Invalid(
            "the prompt is empty; give at least one character".into(),
        ));
    }
    // a model brings the draft that it was measured with, unless another one is asked for
    let own = served.model.draft.map(Speculation::from);
    let speculation = speculation.or(own.as_ref());
    let speculation = speculation.filter(|s| s.source != DraftSource::Nothing);
    if speculation.is_some() && model.exits.is_some() {
        return Err(EvaluationError::Invalid(format!(
            "'{}' has each token leave early by itself, and a draft has all layers score several in one call, so the text would be another; leave the draft out",
            dir.display()
        )));
    }
    let small = match speculation.map(|s| &s.source) {
        Some(DraftSource::Model(small)) => Some(read_draft::<B>(small, &tokenizer, backend)?),
        _ => None,
    };
    let mut draft: Option<Box<dyn Draft<B> + '_>> = match speculation.map(|s| &s.source) {
        None | Some(DraftSource::Nothing) => None,
        Some(DraftSource::Ngram) => Some(Box::new(Ngram)),
        Some(DraftSource::FirstLayers(layers)) => {
            let exit = FirstLayers::of(*layers, &served.model).map_err(EvaluationError::Invalid)?;
            Some(Box::new(exit))
        }
        Some(DraftSource::Model(_)) => small
            .as_ref()
            .map(|(model, plan)| Box::new(SmallModel::new(model, plan, ids.len())) as Box<dyn Draft<B>>),
    };
    let mut shown = tokenizer.decode(&ids)?;
    write(prompt);
    let mut reader = Reader::new(&model, &served.model, ids.len());
    // a character may span several tokens, so the text is decoded whole and only its new part is shown
    let mut grown = |ids: &[u32]| {
        let text = tokenizer.decode(ids)?;
        if let Some(new) = text
            .strip_prefix(shown.as_str())
            .filter(|new| !new.ends_with('\u{fffd}'))
        {
            write(new);
            shown = text;
        }
        Ok(())
    };
    let drafting = match (&mut draft, speculation) {
        (Some(draft), Some(speculation)) => Some((draft.as_mut() as &mut dyn Draft<B>, speculation.guesses)),
        _ => None,
    };
    write_on(
        &mut reader,
        &mut ids,
        sampling.tokens,
        drafting,
        &mut Choice::new(sampling.temperature, sampling.seed),
        &mut grown,
    )
}

/// A draft's model, where its tokens are those of `tokenizer`.
fn read_draft<B: Ops>(
    dir: &Path,
    tokenizer: &Tokenizer,
    backend: &B::Device,
) -> Result<(Model<B>, ModelPlan), EvaluationError> {
    let (model, served) = bundle::read_model::<B>(dir, backend)?;
    let kind = served.model.kind;
    if !kind.writes() || kind.reading() > 0 {
        return Err(EvaluationError::Invalid(format!(
            "the draft '{}' is of kind '{}', which does not go on from a text; use a decoder",
            dir.display(),
            kind.name()
        )));
    }
    if bundle::read_tokenizer(dir)?.to_json() != tokenizer.to_json() {
        return Err(EvaluationError::Invalid(format!(
            "the draft '{}' has another tokenizer than the model; train it with data.tokenizer = \"file:MODEL/tokenizer.json\"",
            dir.display()
        )));
    }
    Ok((model, served.model))
}
