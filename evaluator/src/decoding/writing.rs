//! The loop that writes.

use super::{Choice, Draft, Laws, Reader, Verdict, verify};
use crate::{EvaluationError, ops::Ops};

/// What it took to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Tokens written.
    pub tokens: usize,
    /// Calls of the model, the one that reads the prompt included.
    pub calls: usize,
    /// Guesses that were scored.
    pub scored: usize,
    /// Guesses that were kept or not; those after the first that was not kept are neither.
    pub judged: usize,
    /// Guesses that were kept.
    pub accepted: usize,
}

impl Written {
    /// Tokens for each call of the model.
    pub fn tokens_per_call(&self) -> f64 {
        self.tokens as f64 / self.calls.max(1) as f64
    }

    /// The share of the judged guesses that was kept; `None` where there was no guess.
    pub fn acceptance(&self) -> Option<f64> {
        (self.judged > 0).then(|| self.accepted as f64 / self.judged as f64)
    }
}

/// Writes `tokens` more tokens after `text` and hands over the whole text each time that it has grown. With a draft, each
/// call of the model scores so many guesses at most; what is written follows the same law as without, and for the most
/// likely tokens is the same text.
///
/// # Errors
/// What `grown` says.
///
/// # Panics
/// If the text is empty.
pub fn write_on<B: Ops>(
    model: &mut Reader<B>,
    text: &mut Vec<u32>,
    tokens: usize,
    mut draft: Option<(&mut dyn Draft<B>, usize)>,
    choice: &mut Choice,
    grown: &mut dyn FnMut(&[u32]) -> Result<(), EvaluationError>,
) -> Result<Written, EvaluationError> {
    let mut written = Written::default();
    let mut input = vec![];
    while written.tokens < tokens {
        let unread = model.follow(text);
        // after a guess that was not kept, a memory that cannot be cut short has tokens to read again; once they are many
        // they are read before anything is guessed, so that none is read more often than a few times
        let guesses = match &mut draft {
            Some((draft, most)) if unread.len() <= *most => {
                let most = (*most).min(tokens - written.tokens - 1).min(model.room(text));
                draft.guess(text, unread, most, model, choice)
            }
            _ => vec![],
        };
        if !guesses.is_empty() {
            model.mark();
        }
        input.clear();
        input.extend(unread);
        input.extend(guesses.iter().map(|guess| guess.token));
        let logits = model.read(&input, guesses.len() + 1);
        let Verdict { accepted, next } = verify(
            &Laws::read(logits, choice.temperature),
            &guesses,
            &mut choice.random,
        );
        text.extend(guesses[..accepted].iter().map(|guess| guess.token));
        text.push(next);
        written.calls += 1;
        written.tokens += accepted + 1;
        written.scored += guesses.len();
        written.judged += guesses.len().min(accepted + 1);
        written.accepted += accepted;
        grown(text)?;
    }
    Ok(written)
}
