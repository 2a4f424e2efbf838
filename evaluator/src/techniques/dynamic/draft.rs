//! Speculative decoding as a choice of a configuration (2211.17192, 2404.16710): a draft guesses tokens ahead, and the model
//! scores them in one call.
//!
//! The text is that of plain decoding. What changes is its price: fewer calls and less time where guesses are kept, more
//! multiply-adds always. So latency, throughput, energy and work of a token are those of writing with the draft, and none
//! of them is known before there is a model. How text is written stands in `decoding/`.

use serde::{Deserialize, Serialize};
use spaces::{Domain, ParameterInfo, Value};

use crate::{
    decoding::{Draft, DraftSource, FirstLayers, Ngram, Speculation},
    model::{Kind, ModelPlan},
    ops::Ops,
    parameter::{Declared, Values, choice, int},
    techniques::About,
};

/// The counters of calls of the model, of what they wrote, and of guesses that they scored and kept.
pub(crate) const ACTIVITY: [&str; 4] = [
    "draft_calls",
    "draft_tokens_written",
    "draft_guesses_scored",
    "draft_guesses_kept",
];

/// The draft of a served model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftPlan {
    /// Where guesses come from.
    pub source: OwnDraft,
    /// Guesses for each call of the model, at most.
    pub tokens: usize,
}

/// What guesses without a model of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnDraft {
    /// The text itself, where it has said the same before.
    Ngram,
    /// The first so many layers of the model.
    FirstLayers(usize),
}

impl DraftPlan {
    /// Reads the parameters for a model as it is served; `None` where nothing guesses.
    ///
    /// # Errors
    /// A sentence about a model that writes no text, has tokens leave early, or has no layers to spare.
    pub(crate) fn read(values: Values, model: &ModelPlan) -> Result<Option<Self>, String> {
        let (name, layers) = (values.text("draft"), values.int("draft_layers"));
        let source = match name {
            "ngram" => OwnDraft::Ngram,
            "first_layers" => OwnDraft::FirstLayers(layers),
            _ => return Ok(None),
        };
        if !matches!(model.kind, Kind::Decoder(_)) {
            return Err(format!(
                "draft = '{name}' guesses how a text goes on, and kind '{}' does not go on from one; use draft = 'none', or kind = 'decoder'",
                model.kind.name()
            ));
        }
        if model.early_exit.is_some() {
            return Err(format!(
                "draft = '{name}' has all layers score several tokens in one call, and with early_exit each token leaves by itself, so the text would be another; use draft = 'none', or early_exit = 'none'"
            ));
        }
        if model.context < 2 {
            return Err(format!(
                "draft = '{name}' writes on from a token, and a context of {} has no place for a second one; use draft = 'none', or a larger context",
                model.context
            ));
        }
        let all = model.layers.len();
        if source == OwnDraft::FirstLayers(layers) && layers >= all {
            return Err(match all {
                1 => "draft = 'first_layers' guesses with fewer layers than the model has, which is one; use draft = 'ngram'".into(),
                _ => format!(
                    "draft_layers = {layers} of {all} layers saves nothing; use at most {}, or draft = 'ngram'",
                    all - 1
                ),
            });
        }
        Ok(Some(DraftPlan {
            source,
            tokens: values.int("draft_tokens"),
        }))
    }

    /// The draft at work.
    ///
    /// # Errors
    /// A sentence where the model has too few layers.
    pub(crate) fn open<B: Ops>(self, model: &ModelPlan) -> Result<Box<dyn Draft<B>>, String> {
        let draft: Box<dyn Draft<B>> = match self.source {
            OwnDraft::Ngram => Box::new(Ngram),
            OwnDraft::FirstLayers(layers) => Box::new(FirstLayers::of(layers, model)?),
        };
        Ok(draft)
    }

    /// What it is, for people.
    pub(crate) fn words(self) -> String {
        match self.source {
            OwnDraft::Ngram => format!("up to {} guesses from the text itself", self.tokens),
            OwnDraft::FirstLayers(layers) => {
                format!("up to {} guesses of the first {layers} layers", self.tokens)
            }
        }
    }
}

impl From<DraftPlan> for Speculation {
    fn from(plan: DraftPlan) -> Self {
        Speculation {
            source: match plan.source {
                OwnDraft::Ngram => DraftSource::Ngram,
                OwnDraft::FirstLayers(layers) => DraftSource::FirstLayers(layers),
            },
            guesses: plan.tokens,
        }
    }
}

/// What it says of itself.
pub(crate) fn about() -> Vec<About> {
    vec![
        About {
            name: "ngram",
            doc: "what followed the same words before is guessed, and scored in one call of the model",
            paper: "2304.04487, 2211.17192",
        },
        About {
            name: "first_layers",
            doc: "the first layers of the model guess ahead, and all of them score that in one call",
            paper: "2404.16710, 2211.17192",
        },
    ]
}

/// The parameters of the family.
pub(crate) fn parameters() -> Vec<ParameterInfo> {
    let lengths = [1, 2, 4, 6, 8].map(Value::Int).to_vec();
    vec![
        choice(
            "draft",
            "what guesses ahead where text is written, for the model to score in one call: nothing, the text itself, or the model's first layers",
            &["none", "ngram", "first_layers"],
        ),
        int(
            "draft_tokens",
            "guesses for each call of the model, at most",
            1,
            64,
            4,
        )
        .unit("tokens")
        .when("draft in ['ngram', 'first_layers']")
        .search(Domain::categorical(lengths).expect("not empty")),
        int("draft_layers", "layers that guess", 1, 255, 1)
            .when("draft == 'first_layers'")
            .search(Domain::int(1, 3, false, 1).expect("not empty")),
    ]
}
