//! Kinds of model: what the same blocks are put to.
//!
//! A kind is one file with a type that implements `ModelKind`, and one line in the list below. It says what a batch asks
//! ([`Form`]), whether tokens see later ones, which weights it has beside embedding, blocks and norm, how the last block's
//! outputs become logits, and what that costs. Everything else is the same for all of them.

mod decoder;
mod dual_encoder;
mod encoder;
mod encoder_decoder;
mod pooling;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use super::{Matrix, Model, ModelPlan, Pass, Trainable};
use crate::{
    data::{Form, Symbols},
    ops::{Lengths, Ops},
    parameter::{Values, choice},
    techniques::About,
};

/// What blocks are put to.
trait ModelKind: Copy {
    /// What it says of itself.
    const ABOUT: About;

    /// Whether tokens that are read see later ones.
    const BOTH_WAYS: bool;

    /// Whether it writes token after token; a kind that does not reads an example in one pass.
    const WRITES: bool = false;

    /// Reads its own parameters, for data with these symbols.
    ///
    /// # Errors
    /// A sentence where the data has nothing that it could foretell.
    fn read(values: Values, data: Symbols) -> Result<Self, String>;

    /// Whether a model of this kind fits the data, cut into rows of `context` tokens.
    ///
    /// # Errors
    /// A sentence on what the data has and the model does not.
    fn check(&self, data: Symbols, context: usize) -> Result<(), String>;

    /// What a batch asks of it.
    fn form(&self) -> Form;

    /// Blocks of a half that only reads, before those that write and look at what it has read; 0 where there are no halves.
    fn reading(&self) -> usize {
        0
    }

    /// The same with so many blocks in the half that reads, where there is one.
    fn with_reading(self, _blocks: usize) -> Self {
        self
    }

    /// Token ids of its own, beyond those of the text.
    fn more_tokens(&self) -> usize {
        0
    }

    /// Tokens of its own before each row.
    fn leading(&self) -> usize {
        0
    }

    /// Weights of its own.
    fn weights(&self, _plan: &ModelPlan) -> Vec<KindWeight> {
        vec![]
    }

    /// What the first block is given for embedded rows `x [rows, n, width]`.
    fn enter<B: Ops>(&self, _own: &[Matrix<B>], x: Tensor<B, 3>) -> Tensor<B, 3> {
        x
    }

    /// Logits `[examples, scored, outputs]` from the last block's outputs `x [rows, n, width]`.
    fn logits<B: Ops>(&self, model: &Model<B>, x: Tensor<B, 3>, lengths: Option<&Lengths>) -> Tensor<B, 3>;

    /// Multiply-adds of [`ModelKind::logits`] for `examples` of `n` tokens a row.
    fn head_pass(&self, plan: &ModelPlan, examples: usize, n: usize, trainable: Trainable) -> Pass;
}

/// A weight of a kind's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindWeight {
    /// Its path in files.
    pub name: &'static str,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Whether it is one of those that are never packed.
    pub small: bool,
}

macro_rules! kinds {
    ($($module:ident :: $kind:ident),+ $(,)?) => {
        /// The chosen kind with its settings.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "name", rename_all = "snake_case")]
        pub enum Kind {
            $(
                #[doc = "See the module of that name."]
                $kind($module::$kind),
            )+
        }

        impl Kind {
            /// Reads a configuration, for data with these symbols.
            ///
            /// # Errors
            /// A sentence where the data has nothing that the kind could foretell.
            pub(crate) fn read(values: Values, data: Symbols) -> Result<Kind, String> {
                let name = values.text("kind");
                $(if name == $module::$kind::ABOUT.name {
                    return Ok(Kind::$kind($module::$kind::read(values, data)?));
                })+
                unreachable!("the catalogue allows only names of this list, not '{name}'")
            }

            /// Whether a model of this kind fits the data, cut into rows of `context` tokens.
            ///
            /// # Errors
            /// A sentence on what the data has and the model does not.
            pub(crate) fn check(&self, data: Symbols, context: usize) -> Result<(), String> {
                match self {
                    $(Kind::$kind(kind) => kind.check(data, context),)+
                }
            }

            /// The name that chooses this kind.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Kind::$kind(_) => $module::$kind::ABOUT.name,)+
                }
            }

            /// What a batch asks of it.
            pub fn form(&self) -> Form {
                match self {
                    $(Kind::$kind(kind) => kind.form(),)+
                }
            }

            /// Whether tokens that are read see later ones.
            pub fn sees_both_ways(&self) -> bool {
                match self {
                    $(Kind::$kind(_) => $module::$kind::BOTH_WAYS,)+
                }
            }

            /// Whether it writes token after token; a kind that does not reads an example in one pass.
            pub fn writes(&self) -> bool {
                match self {
                    $(Kind::$kind(_) => $module::$kind::WRITES,)+
                }
            }

            /// Blocks of a half that only reads, before those that write; 0 where there are no halves.
            pub fn reading(&self) -> usize {
                match self {
                    $(Kind::$kind(kind) => kind.reading(),)+
                }
            }

            /// The same with so many blocks in the half that reads, where there is one.
            pub(crate) fn with_reading(self, blocks: usize) -> Kind {
                match self {
                    $(Kind::$kind(kind) => Kind::$kind(kind.with_reading(blocks)),)+
                }
            }

            /// Token ids of its own, beyond those of the text.
            pub fn more_tokens(&self) -> usize {
                match self {
                    $(Kind::$kind(kind) => kind.more_tokens(),)+
                }
            }

            /// Tokens of its own before each row.
            pub fn leading(&self) -> usize {
                match self {
                    $(Kind::$kind(kind) => kind.leading(),)+
                }
            }

            /// Weights of its own, beside embedding, blocks and norm.
            pub fn weights(&self, plan: &ModelPlan) -> Vec<KindWeight> {
                match self {
                    $(Kind::$kind(kind) => kind.weights(plan),)+
                }
            }

            pub(super) fn enter<B: Ops>(&self, own: &[Matrix<B>], x: Tensor<B, 3>) -> Tensor<B, 3> {
                match self {
                    $(Kind::$kind(kind) => kind.enter(own, x),)+
                }
            }

            pub(super) fn logits<B: Ops>(
                &self,
                model: &Model<B>,
                x: Tensor<B, 3>,
                lengths: Option<&Lengths>,
            ) -> Tensor<B, 3> {
                match self {
                    $(Kind::$kind(kind) => kind.logits(model, x, lengths),)+
                }
            }

            pub(super) fn head_pass(
                &self,
                plan: &ModelPlan,
                examples: usize,
                n: usize,
                trainable: Trainable,
            ) -> Pass {
                match self {
                    $(Kind::$kind(kind) => kind.head_pass(plan, examples, n, trainable),)+
                }
            }
        }

        /// What the kinds say of themselves.
        pub(crate) fn about() -> Vec<About> {
            vec![$($module::$kind::ABOUT),+]
        }

        /// The names of kinds that read whole texts and write none.
        pub(crate) fn that_only_read() -> Vec<&'static str> {
            [$((!$module::$kind::WRITES).then_some($module::$kind::ABOUT.name)),+]
                .into_iter()
                .flatten()
                .collect()
        }
    };
}

kinds! {
    decoder::Decoder,
    encoder::Encoder,
    dual_encoder::DualEncoder,
    encoder_decoder::EncoderDecoder,
}

impl Default for Kind {
    fn default() -> Self {
        Kind::Decoder(decoder::Decoder {})
    }
}

impl Kind {
    /// Whether it is what a plan is that says nothing of its kind.
    pub(super) fn is_default(&self) -> bool {
        *self == Kind::default()
    }

    /// The path of a block in files.
    pub(crate) fn path(&self, block: usize) -> String {
        match self.reading() {
            0 => format!("model.layers.{block}"),
            reading if block < reading => format!("model.encoder.layers.{block}"),
            reading => format!("model.decoder.layers.{}", block - reading),
        }
    }

    /// The name as words, for sentences.
    pub fn words(&self) -> String {
        self.name()
            .replace('_', if self.reading() > 0 { "-" } else { " " })
    }
}

/// The parameters of the family.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    let names: Vec<&str> = about().iter().map(|a| a.name).collect();
    let doc = "what the blocks are put to: foretelling text, naming the class of a text, comparing two, or filling gaps";
    let mut all = vec![choice("kind", doc, &names), pooling::parameter()];
    all.extend(encoder_decoder::parameters());
    all
}

/// Whether the loss of one value of a parameter is taken on something else than that of another one of `domain`.
pub(crate) fn changes_what_is_scored(parameter: &str, domain: &Domain) -> bool {
    let fills = Value::from(encoder_decoder::EncoderDecoder::ABOUT.name);
    match domain {
        Domain::Categorical { choices } if parameter == "kind" => choices.contains(&fills),
        _ => encoder_decoder::parameters().iter().any(|p| p.name == parameter),
    }
}

/// Whether a model that names one of `classes` fits the data.
fn check_classes(classes: usize, data: Symbols, kind: &str) -> Result<(), String> {
    match data.classes {
        Some(found) if found == classes => Ok(()),
        Some(found) => Err(format!(
            "the model names {classes} classes and the data has {found}; use data with {classes}, or train a model of its own"
        )),
        None => Err(no_classes(kind)),
    }
}

fn no_classes(kind: &str) -> String {
    format!(
        "kind '{kind}' names the class of a text, and this data has no classes; use a corpus with one answer for each example, such as listops, or kind = 'decoder'"
    )
}
