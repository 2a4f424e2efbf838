//! How the outputs of a text's tokens become one vector: their mean, or the output of a token of its own before them.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use spaces::ParameterInfo;

use super::{KindWeight, Matrix, Model, ModelPlan};
use crate::{
    ops::{Lengths, Ops},
    parameter::{Declared, Values, choice},
};

/// How tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pooling {
    /// The mean over the tokens that are there.
    Mean,
    /// What stands in the place of a trained token before the text (1810.04805).
    Cls,
}

pub(super) fn parameter() -> ParameterInfo {
    choice(
        "pooling",
        "how a text becomes one vector: the mean of its tokens, or a token of its own before them (1810.04805)",
        &["mean", "cls"],
    )
    .when("kind in ['encoder', 'dual_encoder']")
}

impl Pooling {
    pub(super) fn read(values: Values) -> Self {
        match values.text("pooling") {
            "cls" => Pooling::Cls,
            _ => Pooling::Mean,
        }
    }

    /// Tokens before each text.
    pub(super) fn leading(self) -> usize {
        usize::from(self == Pooling::Cls)
    }

    /// The token before each text, where there is one; the last of the kind's weights.
    pub(super) fn weight(self, plan: &ModelPlan) -> Option<KindWeight> {
        (self == Pooling::Cls).then_some(KindWeight {
            name: "model.cls_token",
            shape: [1, plan.width],
            small: true,
        })
    }

    /// Puts that token before rows `x [rows, n, width]`.
    pub(super) fn enter<B: Ops>(self, own: &[Matrix<B>], x: Tensor<B, 3>) -> Tensor<B, 3> {
        let token = own.last().and_then(Matrix::as_dense);
        match (self, token) {
            (Pooling::Cls, Some(token)) => {
                let [rows, _, width] = x.dims();
                let token = token.unsqueeze::<3>().expand([rows, 1, width]);
                Tensor::cat(vec![token, x], 1)
            }
            _ => x,
        }
    }

    /// One normalised vector for each row of `x [rows, n, width]`: `[rows, width]`.
    pub(super) fn pool<B: Ops>(
        self,
        model: &Model<B>,
        x: Tensor<B, 3>,
        lengths: Option<&Lengths>,
    ) -> Tensor<B, 2> {
        let [rows, n, width] = x.dims();
        let pooled = match (self, lengths) {
            (Pooling::Cls, _) => x.slice([0..rows, 0..1, 0..width]),
            (Pooling::Mean, None) => x.mean_dim(1),
            (Pooling::Mean, Some(lengths)) => {
                let there = lengths.present::<B>(n, &x.device());
                let share = there.clone() / there.sum_dim(1);
                (x * share.unsqueeze_dim::<3>(2)).sum_dim(1)
            }
        };
        model.normal(pooled).squeeze_dim::<2>(1)
    }
}
