//! What is known of a data set beside its tokens.

use serde::{Deserialize, Serialize};

/// Where data comes from; a score never stands without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Files of a published benchmark.
    Official,
    /// Made by a generator.
    Generated,
    /// Text that lies on this machine.
    LocalReal,
}

/// What is reached on the held-out part without looking at the context.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Loss in nats for each scored token.
    pub loss: f64,
    /// Share of scored tokens that are right.
    pub accuracy: f64,
}

/// What is known of a data set beside its tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Name of the corpus.
    pub corpus: String,
    /// Number of token ids.
    pub vocab: usize,
    /// Tokens to train on.
    pub train_tokens: usize,
    /// Tokens held out.
    pub valid_tokens: usize,
    /// Hash of both parts and the tokenizer.
    pub fingerprint: String,
    /// Bytes for each token of the held-out part; `None` where bytes have no meaning.
    pub bytes_per_token: Option<f64>,
    /// Where the data comes from.
    pub origin: Origin,
    /// Whether only answers are scored, so that accuracy is the metric to look at.
    pub answer_only: bool,
    /// Classes that an example's one answer can be; `None` where there are no classes to tell apart.
    #[serde(default)]
    pub classes: Option<usize>,
    /// Whether an example is two texts.
    #[serde(default)]
    pub pairs: bool,
    /// What the trivial answer reaches.
    pub baseline: Baseline,
    /// Smallest expected loss of any model in nats per token, where it is known.
    pub loss_floor: Option<f64>,
    /// Size of `tokenizer.json` in bytes.
    pub tokenizer_bytes: usize,
    /// What the user should know, such as skipped files.
    pub notes: Vec<String>,
}

/// What there is to read and to foretell, which decides which kinds of model have a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbols {
    /// Number of token ids.
    pub vocabulary: usize,
    /// As in [`DataFacts`].
    pub classes: Option<usize>,
    /// As in [`DataFacts`].
    pub pairs: bool,
    /// As in [`DataFacts`].
    pub answer_only: bool,
}

impl From<usize> for Symbols {
    /// So many tokens and nothing else.
    fn from(vocabulary: usize) -> Self {
        Symbols {
            vocabulary,
            classes: None,
            pairs: false,
            answer_only: false,
        }
    }
}

impl From<&DataFacts> for Symbols {
    fn from(facts: &DataFacts) -> Self {
        Symbols {
            vocabulary: facts.vocab,
            classes: facts.classes,
            pairs: facts.pairs,
            answer_only: facts.answer_only,
        }
    }
}

impl Baseline {
    /// Foretells every token by how often it was seen in training, each counted once more than it was.
    pub(super) fn frequencies(
        vocab: usize,
        train: impl Iterator<Item = u32>,
        valid: impl Iterator<Item = u32>,
    ) -> Self {
        let mut seen = vec![1u64; vocab];
        train.for_each(|token| seen[token as usize] += 1);
        let mut held_out = vec![0u64; vocab];
        valid.for_each(|token| held_out[token as usize] += 1);
        let (all_seen, all_held) = (
            seen.iter().sum::<u64>() as f64,
            held_out.iter().sum::<u64>() as f64,
        );
        let loss = |(s, h): (&u64, &u64)| *h as f64 * (all_seen / *s as f64).ln();
        let most = (0..vocab).max_by_key(|i| (seen[*i], vocab - i)).unwrap_or(0);
        Baseline {
            loss: seen.iter().zip(&held_out).map(loss).sum::<f64>() / all_held,
            accuracy: held_out.get(most).map_or(0.0, |h| *h as f64 / all_held),
        }
    }

    /// The same for `noise` tokens in `spans` spans and their sentinels, each foretold by how often it is to be written.
    pub(super) fn of_spans(self, noise: usize, spans: usize) -> Self {
        let (noise, sentinels) = (noise as f64, spans as f64 + 1.0);
        let all = noise + sentinels;
        // a token of the text is one of all that are written in `noise / all` of them, a given sentinel in `1 / all`
        let loss = noise * (self.loss + (all / noise).ln()) + sentinels * all.ln();
        Baseline {
            loss: loss / all,
            accuracy: (noise * self.accuracy).max(1.0) / all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trivial_answer_of_spans_is_the_frequency_of_what_is_written() {
        let text = Baseline {
            loss: (4.0f64).ln(),
            accuracy: 0.25,
        };
        // four tokens, equally frequent: 8 of noise and 3 sentinels, so that each is written in 2 or in 1 of 11 places
        let spans = text.of_spans(8, 2);
        let expected = (8.0 * (11.0f64 / 2.0).ln() + 3.0 * 11.0f64.ln()) / 11.0;
        assert!((spans.loss - expected).abs() < 1e-12);
        assert!((spans.accuracy - 2.0 / 11.0).abs() < 1e-12);
        // one sentinel is more frequent than any token
        assert_eq!(text.of_spans(2, 1).accuracy, 1.0 / 4.0);
    }

    #[test]
    fn the_trivial_answer_is_the_frequency() {
        // seen 3 + 1 and 1 + 1 times, held out once each
        let baseline = Baseline::frequencies(2, [0, 0, 0, 1].into_iter(), [0, 1].into_iter());
        let expected = -((4.0f64 / 6.0).ln() + (2.0f64 / 6.0).ln()) / 2.0;
        assert!((baseline.loss - expected).abs() < 1e-12);
        assert_eq!(baseline.accuracy, 0.5);
    }
}
