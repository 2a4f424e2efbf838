//! Byte-pair encoding and foreign files, through the `tokenizers` crate.
//!
//! Byte-level pairs: <https://arxiv.org/abs/1508.07909>, on bytes as in GPT-2.

use std::fmt;

use rayon::prelude::*;
use tokenizers::{
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainerBuilder},
    },
    pre_tokenizers::byte_level::ByteLevel,
};

use super::DataError;

/// Bytes of a piece of text that is encoded in one call.
const PIECE: usize = 1 << 14;

/// Bytes from which pairs are learnt; more of the same text hardly changes them, but takes seconds for each trial.
const LEARNT: usize = 8 << 20;

/// A tokenizer of the `tokenizers` crate.
#[derive(Clone)]
pub(super) struct Library {
    inner: tokenizers::Tokenizer,
    vocab: usize,
    /// Whether cutting the text between lines changes nothing.
    cuttable: bool,
}

impl Library {
    /// Learns `entries` byte-level entries from a text; fewer if the text has fewer distinct pairs.
    ///
    /// Of a text beyond 8 MiB only pieces that are spread evenly over it are used.
    pub(super) fn train(text: &str, entries: usize) -> Result<Self, DataError> {
        let byte_level = ByteLevel::new(false, true, true);
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        inner
            .with_pre_tokenizer(Some(byte_level))
            .with_decoder(Some(byte_level));
        let trainer = BpeTrainerBuilder::new()
            .vocab_size(entries)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .show_progress(false)
            .build();
        let mut trainer = TrainerWrapper::from(trainer);
        let pieces = pieces(text);
        let used = pieces.len().min(LEARNT / PIECE);
        let spread = (0..used).map(|i| pieces[i * pieces.len() / used]);
        inner.train(&mut trainer, spread).map_err(says)?;
        Ok(Library::new(inner, true))
    }

    /// Reads a `tokenizer.json`.
    pub(super) fn from_json(text: &str) -> Result<Self, DataError> {
        let mut inner = tokenizers::Tokenizer::from_bytes(text).map_err(says)?;
        // a window of training is cut by us, never by the file's own wish
        inner.with_truncation(None).map_err(says)?;
        inner.with_padding(None);
        Ok(Library::new(inner, false))
    }

    fn new(inner: tokenizers::Tokenizer, cuttable: bool) -> Self {
        let vocab = inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |id| *id as usize + 1);
        Library {
            inner,
            vocab,
            cuttable,
        }
    }

    pub(super) fn vocab(&self) -> usize {
        self.vocab
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let pieces = if self.cuttable { pieces(text) } else { vec![text] };
        let parts: Vec<_> = pieces
            .par_iter()
            .map(|piece| self.inner.encode_fast(*piece, false))
            .collect::<Result<_, _>>()
            .map_err(says)?;
        Ok(parts.iter().flat_map(|part| part.get_ids()).copied().collect())
    }

    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        self.inner.decode(ids, false).map_err(says)
    }

    pub(super) fn to_json(&self) -> String {
        self.inner
            .to_string(false)
            .expect("a tokenizer always serialises")
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Library({} entries)", self.vocab)
    }
}

fn says(e: tokenizers::Error) -> DataError {
    DataError::Tokenizer(format!(
        "the tokenizer does not work ({e}); use another tokenizer.json"
    ))
}

/// Cuts a text before line feeds between visible characters, where no word of a byte-level tokenizer crosses.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = vec![];
    let mut rest = text;
    while rest.len() > PIECE {
        let visible = |c: Option<char>| c.is_some_and(|c| !c.is_whitespace());
        let cut = rest
            .match_indices('\n')
            .map(|(at, _)| at)
            .skip_while(|at| *at < PIECE)
            .find(|at| visible(rest[..*at].chars().next_back()) && visible(rest[at + 1..].chars().next()));
        let Some(cut) = cut else { break };
        let (piece, tail) = rest.split_at(cut);
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text with words, numbers, blank runs and empty lines, a few pieces long.
    fn text() -> String {
        (0..4_000u32)
            .map(|i| {
                let word = ["thou", "'tis", "naïve", "x1"][i as usize % 4];
                format!(
                    "{word} {}{}",
                    i * 7919 % 1000,
                    ["\n", " \n", "\n\n", ", "][(i / 5) as usize % 4]
                )
            })
            .collect()
    }

    #[test]
    fn cutting_changes_no_token() {
        let text = text();
        assert!(pieces(&text).len() > 2, "{}", pieces(&text).len());
        assert_eq!(pieces(&text).concat(), text);
        let tokenizer = Library::train(&text, 400).unwrap();
        let whole = tokenizer.inner.encode_fast(text.as_str(), false).unwrap();
        assert_eq!(tokenizer.encode(&text).unwrap(), whole.get_ids());
    }

    #[test]
    fn training_is_deterministic() {
        let text = text();
        let first = Library::train(&text, 600).unwrap();
        for _ in 0..8 {
            assert_eq!(Library::train(&text, 600).unwrap().to_json(), first.to_json());
        }
        assert!(first.vocab() <= 600);
        assert_eq!(Library::train("ab", 600).unwrap().vocab(), 257);
    }
}
