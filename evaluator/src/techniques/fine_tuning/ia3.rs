//! (IA)³ (2205.05638): learned vectors `l` multiply keys, values and the hidden neurons of feed-forward parts.
//!
//! `l ⊙ (W x)` for keys and values, `W (l ⊙ h)` for the matrix that reads the hidden neurons. All are 1 at the start.
//! Merged for serving: rows or columns of `W` are multiplied once.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend},
};

use super::{About, freeze_but, frozen};
use crate::{
    counter,
    model::{Matrix, Part, Parts, make_trainable},
    ops::{Ops, linear},
};

pub(super) const ABOUT: About = About {
    name: "ia3",
    doc: "the base is frozen and vectors that multiply keys, values and hidden neurons are trained, merged on export",
    paper: "2205.05638",
};

/// The counter of matrices that have a vector.
pub(super) const ACTIVITY: &str = "ia3_vectors";

/// Frozen weights whose rows or columns are multiplied by a trained vector.
#[derive(Module, Debug)]
pub struct Scaled<B: Backend> {
    /// The frozen weights, `[out, in]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[out]`, or `[in]` where it multiplies inputs.
    pub scale: Param<Tensor<B, 1>>,
    of_inputs: bool,
}

impl<B: Ops> Scaled<B> {
    pub(crate) fn apply<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let scale = self.scale.val().unsqueeze::<D>();
        if self.of_inputs {
            linear(x * scale, self.weight.val())
        } else {
            linear(x, self.weight.val()) * scale
        }
    }
}

impl<B: Backend> Scaled<B> {
    fn merged(&self) -> Tensor<B, 2> {
        let dim = if self.of_inputs { 0 } else { 1 };
        self.weight.val() * self.scale.val().unsqueeze_dim::<2>(dim)
    }
}

/// Which side of a matrix gets a vector: `true` for its inputs; `None` where it gets none.
fn side(path: &str) -> Option<bool> {
    let attends = path.contains("self_attn.") || path.contains("encoder_attn.");
    if attends && (path.ends_with("k_proj") || path.ends_with("v_proj")) {
        return Some(false);
    }
    // of gated networks, experts, and channel mixing
    let reads_hidden = ["mlp.down_proj", "mlp.v_proj", ".w2"];
    reads_hidden
        .iter()
        .any(|name| path.ends_with(name))
        .then_some(true)
}

/// Freezes the model and gives each target a vector of ones.
pub fn attach<B: Ops>(model: &mut impl Parts<B>) {
    freeze_but(model, |_, _| false);
    model.each_part("", &mut |path, part| {
        if let Part::Matrix(matrix) = part
            && let Some(of_inputs) = side(path)
            && let Some(weight) = matrix.as_dense()
        {
            let [out, input] = weight.dims();
            let ones = Tensor::ones([if of_inputs { input } else { out }], &weight.device());
            *matrix = Matrix::Scaled(Scaled {
                weight: frozen(&Param::from_tensor(weight)),
                scale: Param::from_tensor(ones),
                of_inputs,
            });
            counter::add_activity(ACTIVITY, 1);
        }
    });
}

/// Multiplies the vectors into the weights and lets everything be trained again.
pub fn merge<B: Backend>(model: &mut impl Parts<B>) {
    model.each_part("", &mut |_, part| {
        if let Part::Matrix(matrix) = part
            && let Matrix::Scaled(scaled) = matrix
        {
            *matrix = Matrix::dense(scaled.merged().detach());
        }
    });
    make_trainable(model);
}
