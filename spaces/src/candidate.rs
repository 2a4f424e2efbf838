//! One point of a space.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Value;

/// The active parameters of one point, by name. Sorted, so equal points are equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Candidate {
    /// Value by parameter name.
    pub values: BTreeMap<String, Value>,
}

impl Candidate {
    /// A parameter's value; `None` if it is not active here.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The first 128 bits of SHA-256 over the canonical JSON: the identity of the point.
    pub fn key(&self) -> u128 {
        key(&serde_json::to_vec(self).expect("scalars always serialise"))
    }

    /// [`Candidate::key`] in hex.
    pub fn hash(&self) -> String {
        hex(self.key())
    }
}

/// Hex of the first 128 bits of SHA-256.
pub fn fingerprint(bytes: &[u8]) -> String {
    hex(key(bytes))
}

fn key(bytes: &[u8]) -> u128 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let (first, _) = digest.split_first_chunk().expect("32 bytes begin with 16");
    u128::from_be_bytes(*first)
}

fn hex(key: u128) -> String {
    format!("{key:032x}")
}

impl FromIterator<(String, Value)> for Candidate {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(iter: I) -> Self {
        Candidate {
            values: iter.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_the_point_alone() {
        let a: Candidate = [("b".into(), Value::Int(1)), ("a".into(), Value::Float(0.5))]
            .into_iter()
            .collect();
        let b: Candidate = [("a".into(), Value::Float(0.5)), ("b".into(), Value::Int(1))]
            .into_iter()
            .collect();
        assert_eq!(a.hash(), b.hash());
        assert_eq!(a.hash().len(), 32);
        let back: Candidate = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
        assert_eq!(back.hash(), a.hash());
        let c: Candidate = [("a".into(), Value::Float(0.25)), ("b".into(), Value::Int(1))]
            .into_iter()
            .collect();
        assert_ne!(a.hash(), c.hash());
    }
}
