//! Text to token ids and back, and the Hugging Face `tokenizer.json` of each kind.
//!
//! Characters, bytes and fixed words are looked up in tables of our own, because a study loads its text again in every
//! trial; byte-pair encoding and foreign files go through the `tokenizers` crate. Both write the same file format, and
//! the tests hold our tables against what that crate makes of the file.

mod bytes;
mod chars;
mod library;
mod words;

use serde_json::Value as Json;

use self::{bytes::Bytes, chars::Chars, library::Library, words::Words};
use super::{DataAccess, DataError};

/// What stands in a study's `tokenizer = "..."`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSpec {
    /// `char`: one token for each distinct character of the text.
    Char,
    /// `byte`: one token for each of the 256 bytes.
    Byte,
    /// `bpe:N`: byte-level byte-pair encoding with `N` entries, trained on the training part.
    Bpe(usize),
    /// `file:PATH`: a `tokenizer.json`.
    File(String),
}

impl TokenizerSpec {
    /// Reads the text of a study.
    ///
    /// # Errors
    /// [`DataError::Option`] with the forms that are known.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        let wrong = |message: String| DataError::Option {
            name: "tokenizer".into(),
            message,
        };
        match text.split_once(':') {
            None if text == "char" => Ok(TokenizerSpec::Char),
            None if text == "byte" => Ok(TokenizerSpec::Byte),
            Some(("bpe", n)) => match n.replace('_', "").parse() {
                Ok(n) if (257..=65_536).contains(&n) => Ok(TokenizerSpec::Bpe(n)),
                _ => Err(wrong(format!(
                    "'{text}' needs a vocabulary of 257 to 65536 entries, such as bpe:1024"
                ))),
            },
            Some(("file", path)) if !path.is_empty() => Ok(TokenizerSpec::File(path.into())),
            _ => Err(wrong(format!(
                "unknown tokenizer '{text}'; use char, byte, bpe:1024 or file:tokenizer.json"
            ))),
        }
    }
}

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Chars(Chars),
    Bytes(Bytes),
    Words(Words),
    Library(Box<Library>),
}

impl Tokenizer {
    /// The tokenizer that a study names, for a text in two parts.
    ///
    /// # Errors
    /// [`DataError`] where a named file may not be read or is no tokenizer.
    pub(super) fn build(
        spec: &TokenizerSpec,
        train: &str,
        valid: &str,
        access: &DataAccess,
    ) -> Result<Self, DataError> {
        Ok(Tokenizer(match spec {
            TokenizerSpec::Char => Kind::Chars(Chars::of_text([train, valid])),
            TokenizerSpec::Byte => Kind::Bytes(Bytes),
            TokenizerSpec::Bpe(n) => Kind::Library(Box::new(Library::train(train, *n)?)),
            TokenizerSpec::File(path) => {
                let real = access.resolve(path)?;
                let json = std::fs::read_to_string(&real).map_err(|source| DataError::Io {
                    path: path.into(),
                    source,
                })?;
                return Tokenizer::from_json(&json)
                    .map_err(|e| DataError::Tokenizer(format!("'{path}': {e}")));
            }
        }))
    }

    /// One token for each word of a fixed list, words set apart by white space.
    pub(super) fn of_words(words: Vec<String>) -> Self {
        Tokenizer(Kind::Words(Words::new(words)))
    }

    /// Reads a `tokenizer.json`, our own or any that the library understands.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] with the reason why it cannot be read.
    pub fn from_json(text: &str) -> Result<Self, DataError> {
        let json: Json = serde_json::from_str(text).map_err(|e| {
            DataError::Tokenizer(format!(
                "not the JSON of a tokenizer ({e}); name a tokenizer.json"
            ))
        })?;
        // a file of our own making gets its fast table back; equality of the whole file proves that it is one
        if json == Bytes.to_json() {
            return Ok(Tokenizer(Kind::Bytes(Bytes)));
        }
        if let Some(tokens) = tokens_in_order(&json) {
            if let Some(chars) = Chars::of_tokens(&tokens).filter(|c| c.to_json() == json) {
                return Ok(Tokenizer(Kind::Chars(chars)));
            }
            let words = Words::new(tokens);
            if words.to_json() == json {
                return Ok(Tokenizer(Kind::Words(words)));
            }
        }
        Ok(Tokenizer(Kind::Library(Box::new(Library::from_json(text)?))))
    }

    /// The Hugging Face `tokenizer.json` that gives the same tokens in other tools.
    pub fn to_json(&self) -> String {
        match &self.0 {
            Kind::Chars(t) => t.to_json().to_string(),
            Kind::Bytes(t) => t.to_json().to_string(),
            Kind::Words(t) => t.to_json().to_string(),
            Kind::Library(t) => t.to_json(),
        }
    }

    /// Number of token ids: the largest id plus one.
    pub fn vocab(&self) -> usize {
        match &self.0 {
            Kind::Chars(t) => t.vocab(),
            Kind::Bytes(_) => 256,
            Kind::Words(t) => t.vocab(),
            Kind::Library(t) => t.vocab(),
        }
    }

    /// Token ids of a text, without added start or end markers.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] naming the character or word that has no token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        match &self.0 {
            Kind::Chars(t) => t.encode(text),
            Kind::Bytes(_) => Ok(text.bytes().map(u32::from).collect()),
            Kind::Words(t) => t.encode(text),
            Kind::Library(t) => t.encode(text),
        }
    }

    /// The text of token ids.
    ///
    /// Bytes that are not UTF-8 become the replacement character.
    ///
    /// # Errors
    /// [`DataError::Tokenizer`] naming the id that is outside of the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        let vocab = self.vocab();
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            return Err(DataError::Tokenizer(format!(
                "token {id} is outside of the vocabulary; ids run from 0 to {}",
                vocab - 1
            )));
        }
        match &self.0 {
            Kind::Chars(t) => Ok(t.decode(ids)),
            Kind::Bytes(t) => Ok(t.decode(ids)),
            Kind::Words(t) => Ok(t.decode(ids)),
            Kind::Library(t) => t.decode(ids),
        }
    }
}

/// The words of a word-level model, if its ids run from 0 without a gap.
fn tokens_in_order(json: &Json) -> Option<Vec<String>> {
    let model = json.get("model")?;
    if model.get("type")?.as_str()? != "WordLevel" {
        return None;
    }
    let vocab = model.get("vocab")?.as_object()?;
    let mut tokens = vec![None; vocab.len()];
    for (token, id) in vocab {
        *tokens.get_mut(usize::try_from(id.as_u64()?).ok()?)? = Some(token.clone());
    }
    tokens.into_iter().collect()
}

/// The parts that every `tokenizer.json` has, around those that differ.
fn file(pre_tokenizer: Json, decoder: Json, model: Json) -> Json {
    serde_json::json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": decoder,
        "model": model,
    })
}

/// A word-level model that has no token for what it does not know, so that unknown text is an error everywhere.
fn word_level<'a>(tokens: impl Iterator<Item = &'a str>) -> Json {
    let vocab: serde_json::Map<String, Json> = tokens
        .zip(0u32..)
        .map(|(t, id)| (t.to_owned(), id.into()))
        .collect();
    serde_json::json!({ "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the `tokenizers` crate itself makes of our file.
    fn reference(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
        tokenizers::Tokenizer::from_bytes(tokenizer.to_json()).unwrap()
    }

    fn check_round_trip(tokenizer: &Tokenizer, text: &str) {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        let reference = reference(tokenizer);
        assert_eq!(reference.encode(text, false).unwrap().get_ids(), ids, "{text:?}");
        assert_eq!(reference.decode(&ids, false).unwrap(), text);
        let again = Tokenizer::from_json(&tokenizer.to_json()).unwrap();
        assert_eq!(again.vocab(), tokenizer.vocab());
        assert_eq!(again.to_json(), tokenizer.to_json());
        assert_eq!(again.encode(text).unwrap(), ids);
        assert_eq!(
            std::mem::discriminant(&again.0),
            std::mem::discriminant(&tokenizer.0)
        );
    }

    fn build(spec: &str, text: &str) -> Tokenizer {
        let spec = TokenizerSpec::parse(spec).unwrap();
        Tokenizer::build(&spec, text, "", &DataAccess::anywhere()).unwrap()
    }

    const AWKWARD: &str = "  To be,\tor not\r\n\n  to be? naïve \u{4f60}\u{597d} \u{1F600}\u{0} 'tis  \n";

    proptest! {
        #[test]
        fn every_text_comes_back(text in "[\\s\\S]{1,60}") {
            for spec in ["char", "byte"] {
                check_round_trip(&build(spec, &text), &text);
            }
        }

        #[test]
        fn every_text_comes_back_through_byte_pairs(text in "([a-c \n]|[\\s\\S]){1,60}") {
            let tokenizer = build("bpe:280", AWKWARD);
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }

    #[test]
    fn fast_tables_agree_with_the_library() {
        for spec in ["char", "byte", "bpe:300"] {
            check_round_trip(&build(spec, AWKWARD), AWKWARD);
        }
        let words = Tokenizer::of_words(["<pad>", "[MAX", "1", "]"].map(String::from).to_vec());
        check_round_trip(&words, "[MAX 1 1 ]");
    }

    #[test]
    fn a_file_of_a_foreign_tool_is_read_and_written_back() {
        let text = "low lower lowest";
        let json = build("bpe:260", text).to_json();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), &json).unwrap();
        let access = DataAccess::only(vec![folder.path().to_owned()]);
        let spec = TokenizerSpec::File("tokenizer.json".into());
        let tokenizer = Tokenizer::build(&spec, "", "", &access).unwrap();
        assert_eq!(tokenizer.to_json(), json);
        let spec = TokenizerSpec::File("/etc/hostname".into());
        assert!(Tokenizer::build(&spec, "", "", &access).is_err());
    }

    #[test]
    fn what_has_no_token_is_named() {
        let tokenizer = build("char", "abc");
        let message = tokenizer.encode("abé").unwrap_err().to_string();
        assert!(message.contains("'é'") && message.contains("byte"), "{message}");
        let message = tokenizer.decode(&[0, 3]).unwrap_err().to_string();
        assert!(message.contains("token 3"), "{message}");
        let words = Tokenizer::of_words(vec!["a".into()]);
        assert!(words.encode("a b").unwrap_err().to_string().contains("'b'"));
        for text in ["bpe:100", "bpe", "bpe:many", "word", "file:", ""] {
            let message = TokenizerSpec::parse(text).unwrap_err().to_string();
            assert!(message.contains(&format!("'{text}'")), "{message}");
        }
        for text in ["no json", "{}", "[]"] {
            assert!(Tokenizer::from_json(text).is_err(), "{text}");
        }
    }
}
