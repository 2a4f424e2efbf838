//! The decoder language model: each token is foretold from those before it, by a head tied to the embedding.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    About, Form, KindWeight, Lengths, Model, ModelKind, ModelPlan, Ops, Pass, Symbols, Trainable, Values,
};

/// Foretells the next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoder {}

impl ModelKind for Decoder {
    const ABOUT: About = About {
        name: "decoder",
        doc: "foretells each token from those before it, and so writes text",
        paper: "1706.03762",
    };

    const BOTH_WAYS: bool = false;

    const WRITES: bool = true;

    fn read(_: Values, _: Symbols) -> Result<Self, String> {
        Ok(Decoder {})
    }

    fn check(&self, _: Symbols, _: usize) -> Result<(), String> {
        Ok(())
    }

    fn form(&self) -> Form {
        Form::NextToken
    }

    fn weights(&self, plan: &ModelPlan) -> Vec<KindWeight> {
        plan.tied_head_weights()
    }

    // padding stands behind all that is scored, and no token sees what is behind it
    fn logits<B: Ops>(&self, model: &Model<B>, x: Tensor<B, 3>, _: Option<&Lengths>) -> Tensor<B, 3> {
        model.tied_logits(x)
    }

    fn head_pass(&self, plan: &ModelPlan, examples: usize, n: usize, trainable: Trainable) -> Pass {
        plan.tied_head_pass(examples * n, trainable)
    }
}
