//! Which tensors a served model has, and so how many bytes its files have, before it exists.

use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};

use super::{
    config::{Served, to_json},
    weights::INTEGER_STEPS,
};
use crate::{
    model::{KindWeight, ModelPlan, Projection, Steps},
    techniques::{feed_forward::FeedForwardPlan, quantization::QuantizationPlan},
};

/// A tensor of the weight file.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
}

/// Bytes of `config.json`, `model.safetensors` and `tokenizer.json`.
pub fn served_bytes(model: &ModelPlan, quantization: Option<QuantizationPlan>, tokenizer_bytes: u64) -> u64 {
    let served = Served {
        model: model.clone(),
        quantization,
    };
    to_json(&served).len() as u64 + file_bytes(entries(&served)) + tokenizer_bytes
}

/// Bytes of a weight file with these tensors.
fn file_bytes(mut entries: Vec<Entry>) -> u64 {
    // the order in which the format's own writer lays tensors out
    entries.sort_by(|a, b| b.dtype.cmp(&a.dtype).then(a.name.cmp(&b.name)));
    let mut offset = 0;
    let tensors = entries
        .into_iter()
        .map(|e| {
            let begin = offset;
            offset += e.shape.iter().product::<usize>() * e.dtype.bitsize() / 8;
            (
                e.name,
                TensorInfo {
                    dtype: e.dtype,
                    shape: e.shape,
                    data_offsets: (begin, offset),
                },
            )
        })
        .collect();
    let header = Metadata::new(None, tensors).expect("offsets follow one another");
    let header = serde_json::to_string(&header)
        .expect("plain data serialises")
        .len();
    8 + header.next_multiple_of(8) as u64 + offset as u64
}

/// The tensors of the weight file.
pub(super) fn entries(served: &Served) -> Vec<Entry> {
    let model = &served.model;
    let width = model.width;
    let mut entries = vec![];
    let matrix = |entries: &mut Vec<Entry>, path: &str, rows: usize, columns: usize, is_compressed: bool| {
        let mut add = |suffix: &str, dtype, shape| {
            entries.push(Entry {
                name: format!("{path}.{suffix}"),
                dtype,
                shape,
            });
        };
        let sparse = served.sparse_shape(path, rows, columns).filter(|_| is_compressed);
        if let Some(shape) = sparse {
            let n = shape.nonzeros();
            add("places", Dtype::I32, vec![rows, shape.words_per_row()]);
            match shape.codes {
                None => add("values", Dtype::F32, vec![n]),
                Some(form) => {
                    add("codes", Dtype::I32, vec![form.words(n)]);
                    add("scales", Dtype::F16, vec![rows, form.groups(columns)]);
                    add("zeros", Dtype::I32, vec![rows, form.zero_words(columns)]);
                }
            }
            return;
        }
        match served
            .quantization
            .and_then(|plan| plan.at(path))
            .filter(|_| is_compressed)
        {
            None => add("weight", Dtype::F32, vec![rows, columns]),
            Some(packing) => {
                let shape = packing.shape(rows, columns);
                add("codes", Dtype::I32, vec![rows, shape.words_per_row()]);
                add("scales", Dtype::F16, vec![rows, shape.groups()]);
                if shape.zero_words_per_row() > 0 {
                    add("zeros", Dtype::I32, vec![rows, shape.zero_words_per_row()]);
                }
            }
        }
    };
    let vector_of = |entries: &mut Vec<Entry>, path: &str, n: usize| {
        entries.push(Entry {
            name: format!("{path}.weight"),
            dtype: Dtype::F32,
            shape: vec![n],
        });
    };
    let vector = |entries: &mut Vec<Entry>, path: &str| vector_of(entries, path, width);
    matrix(&mut entries, "model.embed_tokens", model.vocabulary, width, true);
    for (i, layer) in model.layers.iter().enumerate() {
        let path = model.kind.path(i);
        vector(&mut entries, &format!("{path}.input_layernorm"));
        if layer.cross.is_some() {
            vector(&mut entries, &format!("{path}.encoder_attn_layer_norm"));
        }
        let attentions = [
            ("self_attn", Some(layer.attention)),
            ("encoder_attn", layer.cross),
        ];
        for (part, attention) in attentions
            .into_iter()
            .filter_map(|(part, plan)| Some((part, plan?)))
        {
            for Projection { name, input, out } in attention.projections(width) {
                matrix(&mut entries, &format!("{path}.{part}.{name}"), out, input, true);
            }
        }
        for own in layer.attention.own(model.place(i)) {
            let [rows, columns] = own.shape;
            let path = format!("{path}.self_attn.{}", own.name);
            matrix(&mut entries, &path, rows, columns, false);
        }
        for adapter in layer.adapters.iter().flat_map(|plan| plan.names()) {
            let (path, size) = (
                format!("{path}.{adapter}"),
                layer.adapters.map_or(0, |plan| plan.size),
            );
            matrix(&mut entries, &format!("{path}.down"), size, width, true);
            vector_of(&mut entries, &format!("{path}.down_bias"), size);
            matrix(&mut entries, &format!("{path}.up"), width, size, true);
            vector(&mut entries, &format!("{path}.up_bias"));
        }
        vector(&mut entries, &format!("{path}.post_attention_layernorm"));
        let hidden = layer.feed_forward.hidden();
        let mut network = |path: &str, [gate, up, down]: [&str; 3]| {
            matrix(&mut entries, &format!("{path}.{gate}"), hidden, width, true);
            matrix(&mut entries, &format!("{path}.{up}"), hidden, width, true);
            matrix(&mut entries, &format!("{path}.{down}"), width, hidden, true);
        };
        match &layer.feed_forward {
            FeedForwardPlan::Dense { .. } => {
                network(&format!("{path}.mlp"), ["gate_proj", "up_proj", "down_proj"])
            }
            FeedForwardPlan::Contextual(plan) => {
                let path = format!("{path}.mlp");
                for name in ["gate_proj", "up_proj", "down_rows"] {
                    matrix(&mut entries, &format!("{path}.{name}"), hidden, width, true);
                }
                matrix(
                    &mut entries,
                    &format!("{path}.predictor_in"),
                    plan.rank,
                    width,
                    false,
                );
                matrix(
                    &mut entries,
                    &format!("{path}.predictor_out"),
                    hidden,
                    plan.rank,
                    false,
                );
                vector_of(&mut entries, &format!("{path}.predictor_bias"), hidden);
            }
            FeedForwardPlan::ChannelMix { .. } => {
                for (name, rows, columns, is_compressed) in [
                    ("r_proj", width, width, true),
                    ("k_proj", hidden, width, true),
                    ("v_proj", width, hidden, true),
                    ("mix_r", 1, width, false),
                    ("mix_k", 1, width, false),
                ] {
                    matrix(
                        &mut entries,
                        &format!("{path}.mlp.{name}"),
                        rows,
                        columns,
                        is_compressed,
                    );
                }
            }
            FeedForwardPlan::Moe(moe) => {
                for e in 0..moe.experts {
                    network(
                        &format!("{path}.block_sparse_moe.experts.{e}"),
                        ["w1", "w3", "w2"],
                    );
                }
                let routers = ["gate", "noise"].into_iter().take(moe.router_matrices());
                for name in routers {
                    let path = format!("{path}.block_sparse_moe.{name}");
                    matrix(&mut entries, &path, moe.experts, width, false);
                }
            }
        }
    }
    if model.kind.reading() > 0 {
        vector(&mut entries, "model.encoder.norm");
    }
    vector(&mut entries, "model.norm");
    for KindWeight { name, shape, small } in model.kind.weights(model) {
        let [rows, columns] = shape;
        matrix(&mut entries, name, rows, columns, !small);
    }
    if served.quantization.is_some_and(|plan| plan.is_integer_only()) {
        entries.push(Entry {
            name: INTEGER_STEPS.into(),
            dtype: Dtype::F32,
            shape: vec![Steps::count(model.layers.len())],
        });
    }
    entries
}
