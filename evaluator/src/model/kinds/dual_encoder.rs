//! The dual encoder of retrieval (2011.04006): one encoder reads two texts apart, and a small network compares their
//! vectors by `[e1; e2; e1 ∘ e2; e1 − e2]`.

use burn::tensor::{Tensor, activation::relu};
use serde::{Deserialize, Serialize};

use super::{
    About, Form, KindWeight, Lengths, Matrix, Model, ModelKind, ModelPlan, Ops, Pass, Symbols, Trainable,
    Values, check_classes, pooling::Pooling,
};
use crate::model::matrix_pass;

/// Features that two vectors are compared by, each as wide as a vector.
const FEATURES: usize = 4;

/// Names the class of two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DualEncoder {
    classes: usize,
    pooling: Pooling,
}

fn no_pairs() -> String {
    "kind 'dual_encoder' compares two texts, and the examples of this data are one; use corpus = \"retrieval\", or kind = 'encoder' or 'decoder'".into()
}

impl ModelKind for DualEncoder {
    const ABOUT: About = About {
        name: "dual_encoder",
        doc: "reads two texts apart, each in both directions, and tells whether they belong together",
        paper: "2011.04006",
    };

    const BOTH_WAYS: bool = true;

    fn read(values: Values, data: Symbols) -> Result<Self, String> {
        let classes = data.classes.filter(|_| data.pairs).ok_or_else(no_pairs)?;
        Ok(DualEncoder {
            classes,
            pooling: Pooling::read(values),
        })
    }

    fn check(&self, data: Symbols, _: usize) -> Result<(), String> {
        if !data.pairs {
            return Err(no_pairs());
        }
        check_classes(self.classes, data, Self::ABOUT.name)
    }

    fn form(&self) -> Form {
        Form::Pair
    }

    fn leading(&self) -> usize {
        self.pooling.leading()
    }

    fn weights(&self, plan: &ModelPlan) -> Vec<KindWeight> {
        let matrix = |name, rows, columns| KindWeight {
            name,
            shape: [rows, columns],
            small: false,
        };
        let network = [
            matrix("comparison.dense", plan.width, FEATURES * plan.width),
            matrix("comparison.score", self.classes, plan.width),
        ];
        network.into_iter().chain(self.pooling.weight(plan)).collect()
    }

    fn enter<B: Ops>(&self, own: &[Matrix<B>], x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.pooling.enter(own, x)
    }

    fn logits<B: Ops>(&self, model: &Model<B>, x: Tensor<B, 3>, lengths: Option<&Lengths>) -> Tensor<B, 3> {
        let texts = self.pooling.pool(model, x, lengths);
        let [rows, width] = texts.dims();
        // the two texts of a pair are rows that follow one another
        let both = texts.reshape([rows / 2, 2, width]);
        let [left, right] = [0, 1].map(|side| both.clone().narrow(1, side, 1));
        let features = vec![
            left.clone(),
            right.clone(),
            left.clone() * right.clone(),
            left - right,
        ];
        let hidden = relu(model.own[0].apply(Tensor::cat(features, 2)));
        model.own[1].apply(hidden)
    }

    fn head_pass(&self, plan: &ModelPlan, examples: usize, _: usize, trainable: Trainable) -> Pass {
        let (rows, width, form) = (examples as u64, plan.width as u64, trainable.head());
        matrix_pass(
            rows,
            FEATURES as u64 * width,
            width,
            trainable != Trainable::Head,
            form,
        ) + matrix_pass(rows, width, self.classes as u64, true, form)
    }
}
