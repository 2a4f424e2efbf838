//! The encoder-decoder (T5, 1910.10683): a half that reads a corrupted text in both directions, and a half that writes what
//! was taken out of it, token after token, looking at all that was read.
//!
//! Both halves have the same blocks, as many as `layers` says; those of the writing half look back only and have a cross
//! attention between the two parts of a block. Embedding and, transposed, head are one matrix. Unlike T5's, positions are
//! rotary, norms and networks are those of the other kinds.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use spaces::ParameterInfo;

use super::{
    About, Form, KindWeight, Lengths, Model, ModelKind, ModelPlan, Ops, Pass, Symbols, Trainable, Values,
};
use crate::{
    data::Corruption,
    parameter::{Declared, float},
};

/// Writes the spans that were taken out of a text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncoderDecoder {
    /// Blocks of the half that reads.
    reading: usize,
    /// Ids that stand for spans, beside the one that writing begins with.
    sentinels: usize,
    corruption: Corruption,
}

const CONDITION: &str = "kind == 'encoder_decoder'";

pub(super) fn parameters() -> [ParameterInfo; 2] {
    let rate =
        "share of a text's tokens that are taken out, to be written; losses of other shares do not compare";
    let span = "mean tokens of a span that is taken out; losses of other lengths do not compare";
    [
        float("corruption_rate", rate, 0.1, 0.8, 0.15).when(CONDITION),
        float("mean_span", span, 1.0, 8.0, 3.0)
            .unit("tokens")
            .when(CONDITION),
    ]
}

impl ModelKind for EncoderDecoder {
    const ABOUT: About = About {
        name: "encoder_decoder",
        doc: "reads a text with gaps in both directions and writes what belongs there (span corruption)",
        paper: "1910.10683",
    };

    const BOTH_WAYS: bool = true;

    const WRITES: bool = true;

    fn read(values: Values, data: Symbols) -> Result<Self, String> {
        let corruption = Corruption {
            rate: values.float("corruption_rate"),
            mean_span: values.float("mean_span"),
            start: data.vocabulary as u32,
        };
        let context = values.int("context");
        let kind = EncoderDecoder {
            reading: values.int("layers"),
            // a text of one token has no spans, which `check` says
            sentinels: corruption.sentinels(context.max(2)),
            corruption,
        };
        kind.check(data, context)?;
        Ok(kind)
    }

    fn check(&self, data: Symbols, context: usize) -> Result<(), String> {
        let name = Self::ABOUT.name;
        if data.answer_only {
            return Err(format!(
                "kind '{name}' fills gaps in a text, and this data is examples with answers; use a corpus of text, or another kind"
            ));
        }
        if context < 2 {
            return Err(format!(
                "context {context} leaves kind '{name}' no token to read beside one to write; use at least 2"
            ));
        }
        let needed = self.corruption.sentinels(context);
        if needed > self.sentinels {
            return Err(format!(
                "context {context} has gaps for {needed} sentinels and the model has {}; use a smaller context, or train a model of its own",
                self.sentinels
            ));
        }
        Ok(())
    }

    fn form(&self) -> Form {
        Form::Spans(self.corruption)
    }

    fn reading(&self) -> usize {
        self.reading
    }

    fn with_reading(self, blocks: usize) -> Self {
        EncoderDecoder {
            reading: blocks,
            ..self
        }
    }

    fn more_tokens(&self) -> usize {
        1 + self.sentinels
    }

    fn weights(&self, plan: &ModelPlan) -> Vec<KindWeight> {
        plan.tied_head_weights()
    }

    // padding stands behind all that is scored, and no token sees what is behind it
    fn logits<B: Ops>(&self, model: &Model<B>, x: Tensor<B, 3>, _: Option<&Lengths>) -> Tensor<B, 3> {
        model.tied_logits(x)
    }

    fn head_pass(&self, plan: &ModelPlan, examples: usize, n: usize, trainable: Trainable) -> Pass {
        plan.tied_head_pass(examples * self.corruption.written(n), trainable)
    }
}
