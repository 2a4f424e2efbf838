//! What a model loses where one of its parts alone has fewer bits: measured once, it answers any budget without training.
//!
//! Losses are on batches of training text, so that held-out text stays untouched by the choice. That losses of parts add up is
//! an approximation, and what follows from it is an extrapolation until it is measured.

use std::path::Path;

use serde::{Deserialize, Serialize};
use spaces::{Config, protocol::Progress};

use crate::{
    EvaluationError, Events,
    bundle::{self, served_bytes},
    data::DataAccess,
    model::{Model, ModelPlan},
    named::load_data,
    ops::Ops,
    plan::Plan,
    techniques::quantization::{BITS, QuantizationPlan, layers, observe, quantize},
    training::{Batches, Beside, score_on},
};

/// Batches that losses are measured on.
const BATCHES: u64 = 16;

/// What each part of a model loses by fewer bits.
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
    /// Each number of bits.
    pub choices: Vec<BitsChoice>,
}

/// A part with so many bits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BitsChoice {
    /// Bits of a weight.
    pub bits: usize,
    /// Bytes that are saved.
    pub saved_bytes: u64,
    /// What the loss rises by where this part alone is packed.
    pub loss_increase: f64,
}

/// Measures a base of 32-bit weights, packed as its configuration says.
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
    let plan = Plan::read(config, data.facts(), named.base.as_ref().map(|s| &s.model))
        .map_err(EvaluationError::Invalid)?;
    let packing = plan.quantization.ok_or_else(|| {
        invalid("bits = 32 packs nothing; set bits = 8 or less, with the quant_method and quant_group that are meant")
    })?;
    if !packing.bytes_are_known() {
        return Err(invalid(
            "quant_method = 'int8_outlier' finds out on text how many bytes a part takes, and a sensitivity wants them before; use another quant_method",
        ));
    }
    data.check_context(plan.training.rows)?;
    let (mut model, _) = bundle::read_model::<B>(&access.resolve(&base.path)?, backend)?;
    let batches = Batches::new(&data, 0, &plan.training);
    let inputs = observe(&mut model, packing, &batches);
    let (loss, targets) = loss_of(&model, &batches);
    let bytes = |packing| served_bytes(&plan.model, packing, data.facts().tokenizer_bytes as u64);
    let whole = bytes(None);
    let parts = parts_of(&plan.model, packing);
    let total = (parts.len() * (BITS.len() - 1)) as u64;
    let mut done = 0;
    let mut measured = vec![];
    for (parameter, with) in parts {
        let mut choices = vec![];
        for bits in BITS.into_iter().filter(|bits| *bits < 32) {
            if events.cancelled() {
                return Err(EvaluationError::Cancelled);
            }
            let bits = bits as usize;
            let alone = with(bits);
            let mut packed = model.clone();
            quantize(&mut packed, &plan.model, alone, &inputs);
            choices.push(BitsChoice {
                bits,
                saved_bytes: whole.saturating_sub(bytes(Some(alone))),
                loss_increase: loss_of(&packed, &batches).0 - loss,
            });
            done += 1;
            events.progress(Progress {
                phase: "pack".into(),
                step: done,
                steps: total,
                ..Progress::default()
            });
        }
        measured.push(PartSensitivity { parameter, choices });
    }
    Ok(Sensitivity {
        loss,
        bytes: whole,
        targets,
        parts: measured,
    })
}

type With = Box<dyn Fn(usize) -> QuantizationPlan>;

/// The parameter of each part, and the packing of it alone.
fn parts_of(model: &ModelPlan, packing: QuantizationPlan) -> Vec<(String, With)> {
    let rest: With = Box::new(move |bits| packing.of_rest_alone(bits));
    let mut parts = vec![("bits".to_owned(), rest)];
    let layers = (0..model.layers.len()).map(|i| model.place(i).layer);
    let layers: std::collections::BTreeSet<usize> = layers.collect();
    for layer in layers.into_iter().filter(|layer| *layer < layers::CHOSEN_LAYERS) {
        let alone: With = Box::new(move |bits| packing.of_layer_alone(layer, bits));
        parts.push((layers::name(layer), alone));
    }
    parts
}

/// The mean loss, and of how many targets.
fn loss_of<B: Ops>(model: &Model<B>, batches: &Batches) -> (f64, u64) {
    let scores = score_on(model, batches.beside(Beside::Sensitivity, BATCHES));
    (scores.loss / scores.scored.max(1) as f64, scores.scored)
}
