//! Who goes on from prompts.

use serde::{Deserialize, Serialize};

/// What a teacher wrote after a prompt.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) text: String,
    /// Tokens of the prompt and of the text, as the teacher counts them.
    pub(super) prompt_tokens: u64,
    pub(super) tokens: u64,
}

/// Who writes, for the corpus's note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Teacher {
    /// An exported model.
    Bundle { bundle: String, weights: String },
    /// A model of a server.
    Server { url: String, model: String },
}

/// A teacher seen from outside. It gives text and nothing else: no probability, logit or hidden state passes through this
/// trait, so what learns from it learns from a closed model alike.
pub(super) trait Writer {
    /// Who it is.
    fn teacher(&self) -> Teacher;

    /// Goes on from a prompt.
    ///
    /// # Errors
    /// Where it cannot, with the reason.
    async fn go_on(&self, prompt: &str, seed: u64) -> anyhow::Result<Written>;
}
