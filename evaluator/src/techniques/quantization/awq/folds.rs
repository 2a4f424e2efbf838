//! Where the input of matrices can be scaled channel by channel, because what makes it can be scaled the other way.

use crate::{
    model::{AttentionPlan, ModelPlan, Projection},
    techniques::{attention::Core, feed_forward::FeedForwardPlan},
};

/// A matrix `[out, input]` that is given the scaled input.
#[derive(Debug, PartialEq)]
pub(super) struct Reader {
    pub(super) path: String,
    pub(super) out: usize,
    pub(super) input: usize,
}

/// What makes the input, and is scaled the other way.
#[derive(Debug, PartialEq)]
pub(super) enum Maker {
    /// A norm.
    Norm(String),
    /// The rows of a matrix whose outputs, to this power, the input is proportional to.
    Rows(String, f32),
}

/// Matrices that share an input, and what makes it.
#[derive(Debug, PartialEq)]
pub(super) struct Fold {
    pub(super) readers: Vec<Reader>,
    /// Matrices that are given the same input and have no say: routers, which are not rounded, and adapters.
    pub(super) exact: Vec<String>,
    pub(super) maker: Maker,
}

/// Every place of a model where scales fold away exactly.
///
/// Keys and values of an attention to another half have none: all blocks are given one and the same input. Neither has an
/// output projection whose query heads share values, for heads would ask for different scales of one channel, nor one
/// behind an attention whose choice of tokens depends on the size of values.
pub(super) fn folds(model: &ModelPlan) -> Vec<Fold> {
    let mut folds = vec![];
    for (i, layer) in model.layers.iter().enumerate() {
        let path = model.kind.path(i);
        let norm = |name: &str| Maker::Norm(format!("{path}.{name}"));
        let of_attention = |part: &str, plan: &AttentionPlan, wanted: &dyn Fn(&Projection) -> bool| {
            let all = plan.projections(model.width).into_iter();
            let readers = all.filter(|p| wanted(p)).map(|p| Reader {
                path: format!("{path}.{part}.{}", p.name),
                out: p.out,
                input: p.input,
            });
            readers.collect::<Vec<_>>()
        };
        let mut attention =
            |part: &str, plan: &AttentionPlan, norm, is_reader: &dyn Fn(&Projection) -> bool| {
                folds.push(Fold {
                    readers: of_attention(part, plan, is_reader),
                    exact: vec![],
                    maker: norm,
                });
                if plan.heads == plan.kv_heads && !matches!(plan.core, Core::Kde(_)) {
                    folds.push(Fold {
                        readers: of_attention(part, plan, &|p| p.name == OUTPUT),
                        exact: vec![],
                        maker: Maker::Rows(format!("{path}.{part}.v_proj"), 1.0),
                    });
                }
            };
        attention("self_attn", &layer.attention, norm("input_layernorm"), &|p| {
            p.name != OUTPUT
        });
        if let Some(cross) = &layer.cross {
            attention("encoder_attn", cross, norm("encoder_attn_layer_norm"), &|p| {
                p.name == "q_proj"
            });
        }
        let (width, hidden) = (model.width, layer.feed_forward.hidden());
        let reader = |path: String, out, input| Reader { path, out, input };
        let into_hidden = |path: &str, name: &str| reader(format!("{path}.{name}"), hidden, width);
        let out_of = |from: String, power, to: String| Fold {
            readers: vec![reader(to, width, hidden)],
            exact: vec![],
            maker: Maker::Rows(from, power),
        };
        let norm = norm("post_attention_layernorm");
        let mut readers = vec![];
        let beside = layer.adapters.and_then(|adapters| adapters.beside());
        let mut exact: Vec<_> = beside.map(|name| format!("{path}.{name}")).into_iter().collect();
        match &layer.feed_forward {
            FeedForwardPlan::Dense { .. } => {
                let path = format!("{path}.mlp");
                readers.extend(["gate_proj", "up_proj"].map(|name| into_hidden(&path, name)));
                folds.push(out_of(
                    format!("{path}.up_proj"),
                    1.0,
                    format!("{path}.down_proj"),
                ));
            }
            // neurons are chosen of 32-bit weights alone
            FeedForwardPlan::Contextual(_) => {}
            FeedForwardPlan::ChannelMix { .. } => {
                let path = format!("{path}.mlp");
                readers.extend([
                    reader(format!("{path}.r_proj"), width, width),
                    into_hidden(&path, "k_proj"),
                ]);
                // values are given squares of rectified keys
                folds.push(out_of(format!("{path}.k_proj"), 0.5, format!("{path}.v_proj")));
            }
            FeedForwardPlan::Moe(moe) => {
                let path = format!("{path}.block_sparse_moe");
                let routers = ["gate", "noise"].into_iter().take(moe.router_matrices());
                exact.extend(routers.map(|name| format!("{path}.{name}")));
                for e in 0..moe.experts {
                    let path = format!("{path}.experts.{e}");
                    readers.extend(["w1", "w3"].map(|name| into_hidden(&path, name)));
                    folds.push(out_of(format!("{path}.w3"), 1.0, format!("{path}.w2")));
                }
            }
        }
        folds.push(Fold {
            readers,
            exact,
            maker: norm,
        });
    }
    folds
}

const OUTPUT: &str = "o_proj";
