//! Where the input of matrices can be scaled channel by channel, because what makes it can be scaled the other way.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use burn::{
    module::Param,
    tensor::{Tensor, TensorData, backend::Backend},
};

use crate::{
    model::{AttentionPlan, Matrix, Model, ModelPlan, Part, Parts, Projection},
    ops::Ops,
    techniques::{attention::Core, feed_forward::FeedForwardPlan},
};

/// The dense matrices of a model, by path.
pub(super) type Matrices<B> = BTreeMap<String, Tensor<B, 2>>;

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

/// Scales the model wherever `scales` gives some for an input, so that it is what it was before rounding.
pub(super) fn scale<B: Ops>(
    model: &mut Model<B>,
    served: &ModelPlan,
    scales: impl Fn(&Fold, &Matrices<B>) -> Option<Vec<f32>>,
) {
    let device = model.device();
    let (mut matrices, mut norms) = (Matrices::new(), BTreeMap::new());
    model.each_part("", &mut |path, part| match part {
        Part::Matrix(matrix) | Part::Small(matrix) => {
            matrices.extend(matrix.as_dense().map(|weight| (path.to_owned(), weight)));
        }
        Part::Vector(norm) => {
            norms.insert(path.to_owned(), norm.val());
        }
    });
    for fold in folds(served) {
        if let Some(scales) = scales(&fold, &matrices) {
            let n = scales.len();
            let scales = Tensor::<B, 1>::from_data(TensorData::new(scales, [n]), &device);
            fold.apply(&scales, &mut matrices, &mut norms);
        }
    }
    model.each_part("", &mut |path, part| match part {
        Part::Matrix(matrix) | Part::Small(matrix) => {
            if let Some(weight) = matrices.remove(path) {
                *matrix = Matrix::dense(weight);
            }
        }
        Part::Vector(norm) => {
            if let Some(values) = norms.remove(path) {
                *norm = Param::from_tensor(values);
            }
        }
    });
}

impl Fold {
    /// Multiplies the readers' columns by `scales [input]`, and divides what makes the input.
    fn apply<B: Backend>(
        &self,
        scales: &Tensor<B, 1>,
        matrices: &mut Matrices<B>,
        norms: &mut BTreeMap<String, Tensor<B, 1>>,
    ) {
        let readers = self.readers.iter().map(|reader| &reader.path);
        for path in readers.chain(&self.exact) {
            if let Some(weight) = matrices.get_mut(path) {
                *weight = weight.clone() * scales.clone().unsqueeze_dim::<2>(0);
            }
        }
        match &self.maker {
            Maker::Norm(path) => {
                if let Some(norm) = norms.get_mut(path) {
                    *norm = norm.clone() / scales.clone();
                }
            }
            Maker::Rows(path, power) => {
                if let Some(weight) = matrices.get_mut(path) {
                    *weight = weight.clone() / scales.clone().powf_scalar(*power).unsqueeze_dim::<2>(1);
                }
            }
        }
    }
}
