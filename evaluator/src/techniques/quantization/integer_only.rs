//! Inference in whole numbers alone (I-BERT, 2101.01321): matrices, norms, softmax, gates and what is remembered.
//!
//! Weights are rounded to 8 bits around zero with a scale for each row. What everything else is worth is found on calibration
//! text: the largest number of each tensor is the largest of its whole numbers. The model itself is `model/integer/`.

use burn::tensor::{Tensor, backend::Backend};
use half::f16;

use super::{About, LayerBits, packed::PackedWeights};
use crate::{
    data::Batch,
    model::{BlockSteps, Entered, Kind, Model, ModelPlan, Steps, Stream, is_block_matrix},
    ops::{Ops, integer::MOST_COLUMNS},
    parameter::Values,
    techniques::{
        attention::Core,
        calibration::{InputStatistics, Statistics, watch},
        feed_forward::FeedForwardPlan,
    },
    training::to_device,
};

pub(super) const ABOUT: About = About {
    name: "integer_only",
    doc: "whole numbers alone between embedding and logits: 8-bit weights and activations, and norms, softmax and gates without floats",
    paper: "2101.01321",
};

/// The largest whole number of 8 bits.
const HIGHEST: f32 = 127.0;
/// What the largest number of the stream becomes.
const HIGHEST_OF_STREAM: f32 = (1u32 << 20) as f32;

/// Refuses what has no form in whole numbers.
///
/// # Errors
/// A sentence on the value that has none, and what to use instead.
pub(super) fn check(values: Values, model: &ModelPlan, layers: LayerBits) -> Result<(), String> {
    let refused = |why: String, instead: &str| {
        Err(format!(
            "quant_method = '{}' computes in whole numbers alone, and {why}; use {instead}, or another quant_method",
            ABOUT.name
        ))
    };
    let bits = values.int("bits");
    if let Some(other) = std::iter::once(bits)
        .chain(layers.asked())
        .find(|bits| *bits != 8)
    {
        return refused(
            format!("its weights have 8 bits everywhere, not {other}"),
            "bits = 8 and none for single layers",
        );
    }
    let activation_bits = values.int("activation_bits");
    if activation_bits != 8 {
        return refused(
            format!("activation_bits = {activation_bits} leaves floats between matrices"),
            "activation_bits = 8",
        );
    }
    if !matches!(model.kind, Kind::Decoder(_) | Kind::Encoder(_)) {
        let kind = model.kind.name();
        return refused(
            format!("kind '{kind}' has no such form yet"),
            "kind = 'decoder' or 'encoder'",
        );
    }
    for layer in &model.layers {
        let core = &layer.attention.core;
        if !matches!(core, Core::Full(_)) {
            let why = format!("attention '{}' has no such form yet", core.name());
            return refused(why, "attention = 'full' in every layer");
        }
        let FeedForwardPlan::Dense { hidden } = layer.feed_forward else {
            let why = "only one gated network after each attention has such a form yet".into();
            return refused(why, "feed_forward = 'gated' with experts = 1");
        };
        if hidden > MOST_COLUMNS {
            let why = format!("sums over {hidden} neurons may exceed 32 bits");
            return refused(why, &format!("at most {MOST_COLUMNS} neurons"));
        }
        if layer.adapters.is_some() {
            return refused(
                "adapters stay beside the blocks in floats".into(),
                "another fine_tune",
            );
        }
    }
    if model.reversible.is_some() {
        return refused(
            "two residual streams have no such form yet".into(),
            "reversible = false",
        );
    }
    if model.rotated {
        let why = "a turned residual stream has a matrix of floats before its head".into();
        return refused(why, "width_prune_ratio = 0");
    }
    if model.early_exit.is_some() {
        let why = "texts that leave early are judged by floats between layers".into();
        return refused(why, "a model without early exits");
    }
    if model.tokens.is_some() {
        let why = "tokens are passed on by floats between layers".into();
        return refused(why, "a model that passes on all tokens");
    }
    let cache_bits = values.int("cache_bits");
    if (1..32).contains(&cache_bits) {
        let why = format!("remembers keys and values in 8 bits with or without cache_bits = {cache_bits}");
        return refused(why, "cache_bits = 32");
    }
    Ok(())
}

/// Rounds weights `[rows, columns]` to bytes around zero.
pub(super) fn pack(weights: &[f32], dims: [usize; 2]) -> PackedWeights {
    let rows = || weights.chunks_exact(dims[1]);
    let scales = rows().map(|row| {
        let largest = row.iter().fold(0.0f32, |most, w| most.max(w.abs()));
        let scale = (largest / HIGHEST).clamp(f16::MIN_POSITIVE.to_f32(), f16::MAX.to_f32());
        f16::from_f32(scale)
    });
    let scales: Vec<f16> = scales.collect();
    // codes are chosen for the scales that are read back
    let code = |w: f32, scale: f16| {
        let whole = (w / scale.to_f32()).round().clamp(-HIGHEST, HIGHEST);
        whole as i8 as u8 ^ 0x80
    };
    let codes = |row: usize| {
        let (weights, scale) = (&weights[row * dims[1]..][..dims[1]], scales[row]);
        weights.iter().map(move |w| code(*w, scale))
    };
    PackedWeights::of_bytes(dims, codes, scales.clone())
}

/// What all tensors hold that become whole numbers, on these batches: inputs of matrices by path, and what is no input by a path
/// of its own.
pub(crate) fn observe<B: Ops>(model: &mut Model<B>, batches: impl IntoIterator<Item = Batch>) -> Statistics {
    let head = if model.kind().sees_both_ways() {
        SCORE
    } else {
        EMBEDDING
    };
    let mut own = Statistics::new();
    let mut statistics = watch(
        model,
        |path| is_block_matrix(path) || path == head,
        |model| {
            for batch in batches {
                see(model, batch, &mut own);
            }
        },
    );
    statistics.append(&mut own);
    statistics
}

const EMBEDDING: &str = "model.embed_tokens";
const SCORE: &str = "score";
const STREAM: &str = "stream";

/// Has the model read a batch, block by block.
fn see<B: Ops>(model: &Model<B>, batch: Batch, own: &mut Statistics) {
    let inputs = to_device::<B>(batch, &model.device()).0;
    let Entered {
        mut x,
        angles,
        lengths,
    } = model.enter(inputs);
    note(own, STREAM.into(), &x);
    for (i, block) in model.blocks.iter().enumerate() {
        let looks = block.looks(x.clone(), &angles);
        let ([queries, keys], _) = looks.expect("full attention is a softmax");
        let path = |name: &str| format!("{}.{name}", model.block_path(i));
        note(own, path("queries"), &queries);
        note(own, path("keys"), &keys);
        note(own, path("values"), &block.values(x.clone()));
        x = Stream::One(x).through(block, angles.clone(), None).0.end();
        note(own, STREAM.into(), &x);
    }
    drop(model.logits(x, lengths.as_ref()));
}

/// Keeps the largest number of a tensor.
fn note<B: Backend, const D: usize>(own: &mut Statistics, path: String, x: &Tensor<B, D>) {
    let largest = x.clone().abs().max().into_data();
    let largest = largest.iter::<f32>().next().unwrap_or(0.0);
    let seen: &mut InputStatistics = own.entry(path).or_default();
    seen.rows += 1;
    seen.largest.resize(1, 0.0);
    seen.largest[0] = seen.largest[0].max(largest);
}

/// Multiply-adds of [`observe`] on batches of `batch` examples of `n` tokens a row: those of reading, and once more those of queries,
/// keys and values.
pub(super) fn macs(model: &ModelPlan, batch: usize, n: usize) -> u64 {
    let rows = batch * model.kind.form().texts();
    let again = model.layers.iter().enumerate().map(|(i, layer)| {
        let projections = layer.attention.projections(model.width).into_iter();
        let before = projections.filter(|projection| projection.name != "o_proj");
        let elements: usize = before.map(|projection| projection.input * projection.out).sum();
        (rows * model.seen(i, n) * elements) as u64
    });
    model.forward_macs(batch, n) + again.sum::<u64>()
}

/// What one is worth in each tensor, by what was seen of it.
pub(super) fn steps<B: Ops>(model: &Model<B>, seen: &Statistics) -> Steps {
    let largest = |path: &str| {
        let seen = seen.get(path).into_iter().flat_map(|seen| &seen.largest);
        // of a tensor of zeros any step will do
        seen.fold(f32::MIN_POSITIVE.sqrt(), |most, x| most.max(*x))
    };
    let head = if model.kind().sees_both_ways() {
        SCORE
    } else {
        EMBEDDING
    };
    let block = |i: usize| {
        let step = |name: &str| largest(&format!("{}.{name}", model.block_path(i))) / HIGHEST;
        BlockSteps {
            attention: step("self_attn.q_proj"),
            queries: step("queries"),
            keys: step("keys"),
            values: step("values"),
            attended: step("self_attn.o_proj"),
            feed_forward: step("mlp.gate_proj"),
            neurons: step("mlp.down_proj"),
        }
    };
    Steps {
        stream: largest(STREAM) / HIGHEST_OF_STREAM,
        head: largest(head) / HIGHEST,
        blocks: (0..model.blocks.len()).map(block).collect(),
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::{model::Integer, techniques::quantization::fixture::normal};

    #[test]
    fn each_weight_is_within_half_a_step_and_comes_back() {
        for columns in [1, 7, 64, 101] {
            let mut weights = normal(5 * columns, 1);
            // a row of zeros
            weights[..columns].fill(0.0);
            let packed = pack(&weights, [5, columns]);
            assert_eq!(packed.shape.bytes(), 5 * (columns.div_ceil(4) * 4 + 2));
            let matrix = Integer::<Flex>::of(&packed);
            assert_eq!(matrix.dims(), [5, columns]);
            assert_eq!(matrix.to_host(), packed, "to whole numbers and back");
            for (r, row) in weights.chunks(columns).enumerate() {
                let scale = packed.scales[r].to_f32();
                for (c, w) in row.iter().enumerate() {
                    let word = packed.words[r * columns.div_ceil(4) + c / 4];
                    let code = (word >> (8 * (c % 4))) & 255;
                    let back = scale * (code - 128) as f32;
                    // the largest may be cut off, where its scale is rounded down to 16 bits
                    assert!((w - back).abs() <= 0.57 * scale, "{w} {back}");
                }
            }
        }
    }
}
