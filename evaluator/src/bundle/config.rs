//! `config.json`: the shape of the served model, in the words of the architecture that other tools know.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    model::{AttentionPlan, Kind, LayerPlan, ModelPlan, NORM_EPSILON, ROPE_THETA, is_block_matrix},
    techniques::{
        attention::Core, feed_forward::FeedForwardPlan, quantization::QuantizationPlan,
        sparsity::sparse::SparseShape,
    },
};

/// A served model: its shape, and how its weights are packed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// The shape.
    pub model: ModelPlan,
    /// The packing; `None` for 32-bit weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationPlan>,
}

impl Served {
    /// How the matrix `[rows, columns]` of this path is stored where it is stored as its nonzeros.
    pub(super) fn sparse_shape(&self, path: &str, rows: usize, columns: usize) -> Option<SparseShape> {
        let sparsity = self.model.sparsity.filter(|_| is_block_matrix(path));
        let shape = sparsity?.at(path)?.shape(rows, columns);
        Some(SparseShape {
            codes: self
                .quantization
                .and_then(|plan| plan.at(path))
                .map(|plan| plan.of_nonzeros()),
            ..shape
        })
    }

    /// The architecture of `transformers` that this model is one of, with its `model_type`.
    ///
    /// `None` for kinds other than decoders, for tokens that leave early, for packed and sparse weights, for neurons that are chosen, for adapters, for two residual streams and rotated ones, for attentions that no architecture there has, for layers
    /// that differ, and for every router but `top_k` above 1: the gate of one expert is not normalised, and others train in a way that Mixtral does not.
    pub fn standard_architecture(&self) -> Option<(&'static str, &'static str)> {
        let plain = self.model.reversible.is_none() && !self.model.rotated && self.model.early_exit.is_none();
        if self.model.kind != Kind::default() || !plain {
            return None;
        }
        let layer = self.model.layers.first()?;
        let uniform = self.model.layers.iter().all(|l| l == layer);
        if layer.adapters.is_some() {
            return None;
        }
        let windowed = match layer.attention.core {
            Core::Full(_) => false,
            Core::SlidingWindow(_) => true,
            _ => return None,
        };
        if !uniform || self.quantization.is_some() || self.model.sparsity.is_some() {
            return None;
        }
        match (&layer.feed_forward, windowed) {
            (FeedForwardPlan::Dense { .. }, false) => Some(("LlamaForCausalLM", "llama")),
            (FeedForwardPlan::Dense { .. }, true) => Some(("MistralForCausalLM", "mistral")),
            (FeedForwardPlan::Moe(moe), _) => moe.is_mixtral().then_some(("MixtralForCausalLM", "mixtral")),
            (FeedForwardPlan::ChannelMix { .. } | FeedForwardPlan::Contextual(_), _) => None,
        }
    }
}

/// The text of `config.json`.
pub(super) fn to_json(served: &Served) -> String {
    let model = &served.model;
    let mut config = Map::new();
    match served.standard_architecture() {
        Some((architecture, model_type)) => {
            config.insert("architectures".into(), json!([architecture]));
            config.insert("model_type".into(), json!(model_type));
        }
        None => {
            config.insert(
                "model_type".into(),
                json!(format!("parsimony_{}", model.kind.name())),
            );
        }
    }
    if let Some(layer) = model.layers.first() {
        let attention = layer.attention;
        let activation = match layer.feed_forward {
            FeedForwardPlan::ChannelMix { .. } => "relu2",
            _ => "silu",
        };
        let (writes, reading) = (model.kind.writes(), model.kind.reading());
        // what differs from layer to layer is a list
        let of_layers = |of: fn(&LayerPlan) -> usize| match model.layers.iter().all(|l| of(l) == of(layer)) {
            true => json!(of(layer)),
            false => json!(model.layers.iter().map(of).collect::<Vec<_>>()),
        };
        let common = json!({
            "vocab_size": model.vocabulary,
            "hidden_size": model.width,
            "intermediate_size": of_layers(|layer| layer.feed_forward.hidden()),
            "num_hidden_layers": model.layers.len() - reading,
            "num_attention_heads": of_layers(|layer| layer.attention.heads),
            "num_key_value_heads": of_layers(|layer| layer.attention.kv_heads),
            "head_dim": attention.depth,
            "hidden_act": activation,
            "max_position_embeddings": model.context,
            "rms_norm_eps": NORM_EPSILON,
            "rope_theta": ROPE_THETA,
            "attention_bias": false,
            "mlp_bias": false,
            "tie_word_embeddings": writes,
            "torch_dtype": "float32",
            "use_cache": writes,
            "bos_token_id": null,
            "eos_token_id": null,
        });
        config.extend(common.as_object().cloned().unwrap_or_default());
        if reading > 0 {
            config.insert("is_encoder_decoder".into(), json!(true));
            config.insert("encoder_layers".into(), json!(reading));
        }
        // Mixtral and Mistral read the window from the same key
        config.insert("sliding_window".into(), json!(attention.core.window()));
        // where only some layers are mixtures the first one need not be
        let mixture = model.layers.iter().find_map(|layer| layer.feed_forward.mixture());
        if let Some(moe) = mixture {
            config.insert("num_local_experts".into(), json!(moe.experts));
            if moe.top_k > 0 {
                config.insert("num_experts_per_tok".into(), json!(moe.top_k));
            }
        }
    }
    config.insert(
        "parsimony".into(),
        serde_json::to_value(served).expect("plain data serialises"),
    );
    let mut text = serde_json::to_string_pretty(&Value::Object(config)).expect("plain data serialises");
    text.push('\n');
    text
}

/// Reads `config.json` of a bundle of ours, or of a Llama or Mistral folder of Hugging Face.
///
/// # Errors
/// A sentence naming the key that is missing or cannot be served.
pub fn served_from_json(text: &str) -> Result<Served, String> {
    let config: Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON ({e})"))?;
    if let Some(own) = config.get("parsimony") {
        return serde_json::from_value(own.clone())
            .map_err(|e| format!("its key 'parsimony' cannot be read ({e})"));
    }
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("");
    if !matches!(model_type, "llama" | "mistral") {
        return Err(format!(
            "model_type '{model_type}' is not one of llama, mistral, or an exported bundle"
        ));
    }
    let number = |key: &str| {
        let n = config.get(key).and_then(Value::as_u64).map(|n| n as usize);
        n.ok_or_else(|| format!("its key '{key}' is missing or not a whole number"))
    };
    for (key, expected) in [
        ("tie_word_embeddings", true),
        ("attention_bias", false),
        ("mlp_bias", false),
    ] {
        let given = config.get(key).and_then(Value::as_bool).unwrap_or(false);
        if given != expected {
            return Err(format!("'{key}' is {given}, and only {expected} can be served"));
        }
    }
    let theta = config
        .get("rope_theta")
        .and_then(Value::as_f64)
        .unwrap_or(ROPE_THETA);
    if theta != ROPE_THETA || config.get("rope_scaling").is_some_and(|v| !v.is_null()) {
        return Err(format!(
            "rotary positions with rope_theta {theta} or scaling cannot be served, only {ROPE_THETA}"
        ));
    }
    let (width, heads) = (number("hidden_size")?, number("num_attention_heads")?);
    let core = match config.get("sliding_window").and_then(Value::as_u64) {
        Some(window) => Core::sliding_window(window as usize),
        None => Core::full(),
    };
    let attention = AttentionPlan {
        heads,
        kv_heads: number("num_key_value_heads").unwrap_or(heads),
        depth: number("head_dim").unwrap_or(width / heads.max(1)),
        core,
        cache: None,
    };
    let feed_forward = FeedForwardPlan::Dense {
        hidden: number("intermediate_size")?,
    };
    let model = ModelPlan {
        kind: Kind::default(),
        vocabulary: number("vocab_size")?,
        context: number("max_position_embeddings")?,
        width,
        layers: vec![
            LayerPlan {
                attention,
                cross: None,
                feed_forward,
                adapters: None,
            };
            number("num_hidden_layers")?
        ],
        reversible: None,
        sparsity: None,
        rotated: false,
        draft: None,
        early_exit: None,
        tokens: None,
    };
    Ok(Served {
        model,
        quantization: None,
    })
}
