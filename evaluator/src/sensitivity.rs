//! What a model loses where one of its parts alone has fewer bits, or fewer weights: measured once, it answers any budget without training.
//!
//! Losses are on batches of training text, so that held-out text stays untouched by the choice. That losses of parts add up is
//! an approximation, and what follows from it is an extrapolation until it is measured.

use std::path::Path;

use serde::{Deserialize, Serialize};
use spaces::{Config, Value, protocol::Progress};

use crate::{
    EvaluationError, Events,
    bundle::{self, served_bytes},
    data::DataAccess,
    model::{Model, ModelPlan},
    named::load_data,
    ops::Ops,
    plan::Plan,
    techniques::{
        quantization::{BITS, QuantizationPlan, layers, observe, quantize},
        sparsity::{self, Pattern, SparsityPlan, sparsify_by},
    },
    training::{Batches, Beside, score_on},
};

/// Batches that losses are measured on.
const BATCHES: u64 = 16;

/// Shares of a layer's weights that are tried.
const SHARES: [f64; 3] = [0.5, 0.75, 0.9];

/// What each part of a model loses by fewer bits, or fewer weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// The loss with 32-bit weights, in nats for each target.
    pub loss: f64,
    /// Bytes of the model's files with 32-bit weights.
    pub bytes: u64,
    /// Targets behind each loss.
    pub targets: u64,
    /// The parts.
    pub parts: Vec<PartSensitivity>,
}

/// What one part loses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartSensitivity {
    /// The parameter that chooses its bits: `bits` for the embedding and all that has no parameter of its own.
    pub parameter: String,
    /// The parameter that chooses the share of its weights that are removed, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity_parameter: Option<String>,
    /// Each number of bits, and each share.
    pub choices: Vec<PartChoice>,
}

/// A part with so many bits, or without so many weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartChoice {
    /// Bits of a weight.
    pub bits: usize,
    /// Share of its weights that are removed; only of 32-bit weights.
    #[serde(default, skip_serializing_if = "is_none")]
    pub sparsity: f64,
    /// Bytes that are saved.
    pub saved_bytes: u64,
    /// What the loss rises by where this part alone is stored so.
    pub loss_increase: f64,
}

fn is_none(share: &f64) -> bool {
    *share == 0.0
}

/// Measures a base of 32-bit weights, packed as its configuration says, and where it says how weights are removed, that too.
pub(crate) fn measure<B: Ops>(
    config: &Config,
    access: &DataAccess,
    backend: &B::Device,
    events: &mut dyn Events,
) -> Result<Sensitivity, EvaluationError> {
    let invalid = |message: &str| EvaluationError::Invalid(message.into());
    let base = config.base.as_ref().ok_or_else(|| {
        invalid("a sensitivity is that of a trained model; add [base] with path = \"FOLDER\"")
    })?;
    let named = load_data(&config.data, Some(Path::new(&base.path)), access)?;
    let data = named.data;
    let shape = named.base.as_ref().map(|s| &s.model);
    let read = |config: &Config| Plan::read(config, data.facts(), shape).map_err(EvaluationError::Invalid);
    // what is asked of packing and of removing is asked of parts one by one, and each is read for itself
    let plan = read(&with(config, "sparsity", Value::Float(0.0)))?;
    let removal = read(&with(config, "bits", Value::Int(32)))?.sparsity;
    if removal.is_some_and(|removal| removal.recovery.is_some()) {
        return Err(invalid(
            "sparsity_recovery above 0 trains, and a sensitivity trains nothing; use sparsity_recovery = 0",
        ));
    }
    if removal.is_some_and(|removal| removal.form.pattern != Pattern::Free) {
        return Err(invalid(
            "a sparsity_pattern other than 'free' has one share, and a sensitivity tries several of each layer; use sparsity_pattern = 'free'",
        ));
    }
    let packing = plan.quantization.ok_or_else(|| {
        invalid("bits = 32 packs nothing; set bits = 8 or less, with the quant_method and quant_group that are meant")
    })?;
    if packing.is_integer_only() {
        return Err(invalid(
            "quant_method = 'integer_only' leaves no float beside what it packs, and a sensitivity packs parts one by one; use another quant_method",
        ));
    }
    if !packing.bytes_are_known() {
        return Err(invalid(
            "quant_method = 'int8_outlier' finds out on text how many bytes a part takes, and a sensitivity wants them before; use another quant_method",
        ));
    }
    if removal.is_some() && packing.calibration_batches > 0 {
        return Err(invalid(
            "this quant_method chooses codes by what dense layers are given, and an answer may have sparse ones beside them; use quant_method = 'rtn' or 'nf4', or sparsity = 0",
        ));
    }
    data.check_context(plan.training.rows)?;
    let (mut model, _) = bundle::read_model::<B>(&access.resolve(&base.path)?, backend)?;
    let batches = Batches::new(&data, 0, &plan.training);
    let inputs = observe(&mut model, packing, &batches);
    let seen = removal.map(|removal| sparsity::observe(&mut model, &removal, &batches));
    let (loss, targets) = loss_of(&model, &batches);
    let tokenizer = data.facts().tokenizer_bytes as u64;
    let bytes = |packing| served_bytes(&plan.model, packing, tokenizer);
    let whole = bytes(None);
    let parts = parts_of(&plan.model, packing, removal)?;
    let shares = parts.iter().filter(|part| part.thinned.is_some()).count() * SHARES.len();
    let total = (parts.len() * (BITS.len() - 1) + shares) as u64;
    let mut done = 0;
    let mut say = |phase: &str| {
        if events.cancelled() {
            return Err(EvaluationError::Cancelled);
        }
        done += 1;
        events.progress(Progress {
            phase: phase.into(),
            step: done,
            steps: total,
            ..Progress::default()
        });
        Ok(())
    };
    let mut measured = vec![];
    for part in parts {
        let mut choices = vec![];
        for bits in BITS.into_iter().filter(|bits| *bits < 32) {
            let bits = bits as usize;
            let alone = (part.packed)(bits);
            let mut packed = model.clone();
            quantize(&mut packed, &plan.model, alone, &inputs);
            choices.push(PartChoice {
                bits,
                sparsity: 0.0,
                saved_bytes: whole.saturating_sub(bytes(Some(alone))),
                loss_increase: loss_of(&packed, &batches).0 - loss,
            });
            say("pack")?;
        }
        if let (Some((_, thinned)), Some(seen)) = (&part.thinned, &seen) {
            for share in SHARES {
                let alone = thinned(share);
                let mut sparse = model.clone();
                sparsify_by(&mut sparse, &alone, seen);
                let served = ModelPlan {
                    sparsity: Some(alone.form),
                    ..plan.model.clone()
                };
                choices.push(PartChoice {
                    bits: 32,
                    sparsity: share,
                    saved_bytes: whole.saturating_sub(served_bytes(&served, None, tokenizer)),
                    loss_increase: loss_of(&sparse, &batches).0 - loss,
                });
                say("sparsify")?;
            }
        }
        measured.push(PartSensitivity {
            parameter: part.parameter,
            sparsity_parameter: part.thinned.map(|(parameter, _)| parameter),
            choices,
        });
    }
    Ok(Sensitivity {
        loss,
        bytes: whole,
        targets,
        parts: measured,
    })
}

/// A configuration with another value.
fn with(config: &Config, name: &str, value: Value) -> Config {
    let mut config = config.clone();
    config.values.insert(name.to_owned(), value);
    config
}

type With<T, P> = Box<dyn Fn(T) -> P>;

/// One part, and what it is alone.
struct ModelPart {
    /// The parameter that chooses its bits.
    parameter: String,
    /// It alone packed to so many bits.
    packed: With<usize, QuantizationPlan>,
    /// The parameter that chooses its share, and it alone without such a share of its weights.
    thinned: Option<(String, With<f64, SparsityPlan>)>,
}

fn parts_of(
    model: &ModelPlan,
    packing: QuantizationPlan,
    removal: Option<SparsityPlan>,
) -> Result<Vec<ModelPart>, EvaluationError> {
    let mut parts = vec![ModelPart {
        parameter: "bits".to_owned(),
        packed: Box::new(move |bits| packing.of_rest_alone(bits)),
        thinned: None,
    }];
    let layers = (0..model.layers.len()).map(|i| model.place(i).layer);
    let layers: std::collections::BTreeSet<usize> = layers.collect();
    if removal.is_some() && layers.len() > sparsity::layers::CHOSEN_LAYERS {
        return Err(EvaluationError::Invalid(format!(
            "a model of {} layers has shares of its own for the first {}, and bits or shares are chosen for every layer; use sparsity = 0",
            layers.len(),
            sparsity::layers::CHOSEN_LAYERS
        )));
    }
    for layer in layers.into_iter().filter(|layer| *layer < layers::CHOSEN_LAYERS) {
        let thinned = removal.map(|removal| -> (String, With<f64, SparsityPlan>) {
            let alone = move |share| SparsityPlan {
                form: removal.form.of_layer_alone(layer, share),
                ..removal
            };
            (sparsity::layers::name(layer), Box::new(alone))
        });
        parts.push(ModelPart {
            parameter: layers::name(layer),
            packed: Box::new(move |bits| packing.of_layer_alone(layer, bits)),
            thinned,
        });
    }
    Ok(parts)
}

/// The mean loss, and of how many targets.
fn loss_of<B: Ops>(model: &Model<B>, batches: &Batches) -> (f64, u64) {
    let scores = score_on(model, batches.beside(Beside::Sensitivity, BATCHES));
    (scores.loss / scores.scored.max(1) as f64, scores.scored)
}
