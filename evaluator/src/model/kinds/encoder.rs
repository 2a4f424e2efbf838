//! The encoder classifier (1810.04805): every token sees the whole text, and one vector of it names the class.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    About, Form, KindWeight, Lengths, Matrix, Model, ModelKind, ModelPlan, Ops, Pass, Symbols, Trainable,
    Values, check_classes, no_classes, pooling::Pooling,
};
use crate::model::matrix_pass;

/// Names the class of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoder {
    classes: usize,
    pooling: Pooling,
}

impl ModelKind for Encoder {
    const ABOUT: About = About {
        name: "encoder",
        doc: "reads a whole text in both directions and names its class",
        paper: "1810.04805",
    };

    const BOTH_WAYS: bool = true;

    fn read(values: Values, data: Symbols) -> Result<Self, String> {
        Ok(Encoder {
            classes: data.classes.ok_or_else(|| no_classes(Self::ABOUT.name))?,
            pooling: Pooling::read(values),
        })
    }

    fn check(&self, data: Symbols, _: usize) -> Result<(), String> {
        check_classes(self.classes, data, Self::ABOUT.name)
    }

    fn form(&self) -> Form {
        Form::Class
    }

    fn leading(&self) -> usize {
        self.pooling.leading()
    }

    fn weights(&self, plan: &ModelPlan) -> Vec<KindWeight> {
        let score = KindWeight {
            name: "score",
            shape: [self.classes, plan.width],
            small: false,
        };
        [score].into_iter().chain(self.pooling.weight(plan)).collect()
    }

    fn enter<B: Ops>(&self, own: &[Matrix<B>], x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.pooling.enter(own, x)
    }

    fn logits<B: Ops>(&self, model: &Model<B>, x: Tensor<B, 3>, lengths: Option<&Lengths>) -> Tensor<B, 3> {
        let text = self.pooling.pool(model, x, lengths);
        model.own[0].apply(text).unsqueeze_dim::<3>(1)
    }

    fn head_pass(&self, plan: &ModelPlan, examples: usize, _: usize, trainable: Trainable) -> Pass {
        let (rows, width) = (examples as u64, plan.width as u64);
        matrix_pass(
            rows,
            width,
            self.classes as u64,
            trainable != Trainable::Head,
            trainable.head(),
        )
    }
}
