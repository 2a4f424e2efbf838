//! One token for each byte; the id is the byte.

use serde_json::{Map, Value as Json, json};

use super::file;

/// All 256 bytes.
#[derive(Clone, Debug)]
pub(super) struct Bytes;

impl Bytes {
    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().map(|id| *id as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A byte-pair model without pairs: the form in which other tools know single bytes.
    pub(super) fn to_json(&self) -> Json {
        let vocab: Map<String, Json> = letters()
            .map(String::from)
            .zip((0u32..).map(Json::from))
            .collect();
        file(
            json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false }),
            json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true }),
            json!({
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": false,
                "vocab": vocab,
                "merges": [],
            }),
        )
    }
}

/// The visible letter for each byte that byte-level vocabularies are written in, introduced with GPT-2.
fn letters() -> impl Iterator<Item = char> {
    let mut hidden = 256u32..;
    (0u8..=255).map(move |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => hidden
            .next()
            .and_then(char::from_u32)
            .expect("68 code points from 256 on are letters"),
    })
}
