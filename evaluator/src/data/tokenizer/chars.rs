//! One token for each distinct character.

use std::{collections::BTreeSet, fmt};

use serde_json::{Value as Json, json};

use super::{DataError, file, word_level};

const NONE: u32 = u32::MAX;

/// Characters in code point order and the table that finds them.
#[derive(Clone)]
pub(super) struct Chars {
    chars: Vec<char>,
    /// Token id by code point, up to the largest character.
    ids: Vec<u32>,
}

impl Chars {
    /// The sorted set of the characters of all parts.
    pub(super) fn of_text<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ascii = [false; 128];
        let mut others = BTreeSet::new();
        for c in parts.into_iter().flat_map(str::chars) {
            if c.is_ascii() {
                ascii[c as usize] = true;
            } else {
                others.insert(c);
            }
        }
        let ascii = (0u8..128).filter(|b| ascii[usize::from(*b)]).map(char::from);
        Chars::new(ascii.chain(others).collect())
    }

    /// The characters of a file of ours; `None` if a token is not one character.
    pub(super) fn of_tokens(tokens: &[String]) -> Option<Self> {
        let single = |token: &String| {
            let mut chars = token.chars();
            chars.next().filter(|_| chars.next().is_none())
        };
        tokens.iter().map(single).collect::<Option<_>>().map(Chars::new)
    }

    fn new(chars: Vec<char>) -> Self {
        let len = chars.iter().max().map_or(0, |c| *c as usize + 1);
        let mut ids = vec![NONE; len];
        for (c, id) in chars.iter().zip(0..) {
            ids[*c as usize] = id;
        }
        Chars { chars, ids }
    }

    pub(super) fn vocab(&self) -> usize {
        self.chars.len()
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let mut ids = Vec::with_capacity(text.len());
        for c in text.chars() {
            match self.ids.get(c as usize) {
                Some(id) if *id != NONE => ids.push(*id),
                _ => {
                    return Err(DataError::Tokenizer(format!(
                        "character '{c}' (U+{:04X}) is not among the {} characters of the training text; \
                         leave it out or train with tokenizer = \"byte\"",
                        c as u32,
                        self.chars.len()
                    )));
                }
            }
        }
        Ok(ids)
    }

    pub(super) fn decode(&self, ids: &[u32]) -> String {
        ids.iter().map(|id| self.chars[*id as usize]).collect()
    }

    pub(super) fn to_json(&self) -> Json {
        let tokens: Vec<String> = self.chars.iter().map(char::to_string).collect();
        file(
            // "." does not match a line feed, and the flag that changes this differs between regex engines
            json!({ "type": "Split", "pattern": { "Regex": "[\\s\\S]" }, "behavior": "Isolated", "invert": false }),
            json!({ "type": "Fuse" }),
            word_level(tokens.iter().map(String::as_str)),
        )
    }
}

impl fmt::Debug for Chars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chars({:?})", self.chars.iter().collect::<String>())
    }
}
