//! Low-rank adaptation (2106.09685): `y = W x + (α/r) B (A x)` with `W` frozen, `A` normal and `B` zero at the start.
//!
//! Merged for serving: `W' = W + (α/r) B A`, at no cost for each token.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo};

use super::About;
use crate::{
    counter,
    model::{Initial, Matrix, Part, Parts, Trainable, make_trainable},
    ops::{Ops, linear},
    parameter::{Declared, Values, choice, float, int},
};

pub(super) const ABOUT: About = About {
    name: "lora",
    doc: "the base is frozen and low-rank additions are trained, merged on export",
    paper: "2106.09685",
};

/// Settings of the method.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraPlan {
    /// Rank of the additions.
    pub rank: usize,
    /// Their scale is `alpha / rank`.
    pub alpha: f64,
    /// On the feed-forward matrices too.
    pub feed_forward: bool,
}

pub(super) fn parameters() -> Vec<ParameterInfo> {
    let lora = "fine_tune == 'lora'";
    vec![
        int("lora_rank", "rank of the additions", 1, 1024, 8)
            .when(lora)
            .search(Domain::int(1, 32, true, 1).expect("not empty")),
        float(
            "lora_alpha",
            "the additions are scaled by alpha over rank",
            0.01,
            1024.0,
            16.0,
        )
        .when(lora)
        .search(Domain::float(4.0, 64.0, true, None).expect("not empty")),
        choice(
            "lora_targets",
            "matrices that get an addition",
            &["attention", "all"],
        )
        .when(lora),
    ]
}

impl LoraPlan {
    pub(super) fn read(values: Values) -> Self {
        LoraPlan {
            rank: values.int("lora_rank"),
            alpha: values.float("lora_alpha"),
            feed_forward: values.text("lora_targets") == "all",
        }
    }

    pub(super) fn trainable(&self) -> Trainable {
        Trainable::LowRank {
            rank: self.rank as u64,
            feed_forward: self.feed_forward,
        }
    }
}

/// Frozen weights with a trained low-rank addition.
#[derive(Module, Debug)]
pub struct LowRank<B: Backend> {
    /// The frozen weights, `[out, in]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[rank, in]`
    pub a: Param<Tensor<B, 2>>,
    /// `[out, rank]`
    pub b: Param<Tensor<B, 2>>,
    scale: f64,
}

impl<B: Ops> LowRank<B> {
    pub(crate) fn apply<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let addition = linear(linear(x.clone(), self.a.val()), self.b.val());
        linear(x, self.weight.val()) + addition * self.scale
    }
}

impl<B: Backend> LowRank<B> {
    fn merged(&self) -> Tensor<B, 2> {
        self.weight.val() + self.b.val().matmul(self.a.val()) * self.scale
    }
}

/// Freezes the model and puts an addition on each target.
pub fn attach<B: Ops>(model: &mut impl Parts<B>, plan: LoraPlan, initial: &mut Initial<B>) {
    model.each_part("", &mut |path, part| match part {
        Part::Matrix(matrix) if is_target(path, plan) => {
            let Some(weight) = matrix.as_dense() else { return };
            let [out, input] = weight.dims();
            let a = initial.normal(plan.rank, input, 1.0 / (input as f32).sqrt());
            let b = Tensor::zeros([out, plan.rank], initial.device());
            *matrix = Matrix::LowRank(LowRank {
                weight: Param::from_tensor(weight.detach()).set_require_grad(false),
                a: Param::from_tensor(a),
                b: Param::from_tensor(b),
                scale: plan.alpha / plan.rank as f64,
            });
            counter::add_activity("lora_matrices", 1);
        }
        Part::Matrix(Matrix::Dense(dense)) | Part::Small(Matrix::Dense(dense)) => {
            dense.weight = frozen(&dense.weight);
        }
        Part::Matrix(_) | Part::Small(_) => {}
        Part::Vector(scale) => *scale = frozen(scale),
    });
}

/// Adds the additions to the weights and lets everything be trained again.
pub fn merge<B: Ops>(model: &mut impl Parts<B>) {
    model.each_part("", &mut |_, part| {
        if let Part::Matrix(matrix) = part
            && let Matrix::LowRank(low_rank) = matrix
        {
            *matrix = Matrix::dense(low_rank.merged().detach());
        }
    });
    make_trainable(model);
}

fn is_target(path: &str, plan: LoraPlan) -> bool {
    path.contains("self_attn.")
        || path.contains("encoder_attn.")
        || (plan.feed_forward && (path.contains(".mlp.") || path.contains(".experts.")))
}

fn frozen<B: Backend, const D: usize>(param: &Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
    Param::from_tensor(param.val().detach()).set_require_grad(false)
}
