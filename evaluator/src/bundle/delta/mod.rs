//! A model as what it differs in from its base: a small file where a training changed few weights.
//!
//! The file is safetensors. A tensor of 32-bit elements of which few are others has its places (`places/NAME`, u32, rising)
//! and what stands there (`values/NAME`): 8 bytes an element. One that this would make no smaller, one of other elements and
//! one that the base does not have lie there as they are (`whole/NAME`). What the base has too is not in the file. Texts of
//! the folder that are not the base's (`config.json`, `parsimony.json`, ..) lie beside them (`file/NAME`, bytes).
//!
//! Applied to the base it gives the tuned model to the bit. The head names the base by a fingerprint of its weights and the
//! result by one of all its files: another base is refused, and so is a result that is not the one that was compared.

mod apply;
mod make;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fs, io, path::Path};

use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::{
    apply::apply_delta,
    make::{Differences, write_delta},
};
use super::{
    BundleError, FILES, WEIGHTS,
    tensors::{Incoming, as_floats},
};

/// The word in the file's head that holds [`Head`].
const KEY: &str = "parsimony_delta";

/// What a delta file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    /// Fingerprint of the base's weights.
    base: String,
    /// Fingerprint of the result: its weights and texts.
    result: String,
    /// Texts of the result that are the base's.
    same_files: BTreeSet<String>,
    /// Tensors of the base that the result does not have.
    removed: BTreeSet<String>,
    /// Tensors of the base of 16-bit floats that are 32-bit ones in the result.
    widened: BTreeSet<String>,
}

/// Names of what lies in the file.
fn entry(kind: &str, name: &str) -> String {
    format!("{kind}/{name}")
}

/// The texts of a folder.
fn texts() -> impl Iterator<Item = &'static str> {
    FILES.into_iter().filter(|name| *name != WEIGHTS)
}

/// A text of a folder, which need not have it.
fn read_text(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, BundleError> {
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(BundleError::file(&path)(e)),
    }
}

/// Whether a tensor's 16-bit floats can stand for 32-bit ones.
fn is_half(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16)
}

/// The bytes of 32-bit floats for 16-bit ones.
fn widen(dtype: Dtype, bytes: &[u8]) -> Vec<u8> {
    as_floats(dtype, bytes)
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect()
}

/// Fingerprint of weights: their names, types, shapes and bits, however their file is laid out.
fn weights_fingerprint(weights: &mut Incoming) -> Result<String, BundleError> {
    let mut hash = Sha256::new();
    add_weights(weights, &mut hash)?;
    Ok(hex(hash))
}

/// Fingerprint of a model's folder: weights and texts.
fn folder_fingerprint(dir: &Path) -> Result<String, BundleError> {
    let mut hash = Sha256::new();
    add_weights(&mut Incoming::open(&dir.join(WEIGHTS))?, &mut hash)?;
    for name in texts() {
        if let Some(bytes) = read_text(dir, name)? {
            add_named(&mut hash, &(name, bytes.len()), &bytes);
        }
    }
    Ok(hex(hash))
}

fn add_weights(weights: &mut Incoming, hash: &mut Sha256) -> Result<(), BundleError> {
    let names: Vec<String> = weights.tensors.keys().cloned().collect();
    for name in names {
        let tensor = weights.tensor(&name)?;
        add_named(hash, &(name, tensor.dtype, tensor.shape), &tensor.bytes);
    }
    Ok(())
}

/// Adds bytes below words that tell how many they are, so that no two folders add up to the same.
fn add_named(hash: &mut Sha256, words: &impl Serialize, bytes: &[u8]) {
    hash.update(serde_json::to_vec(words).expect("plain data serialises"));
    hash.update(bytes);
}

fn hex(hash: Sha256) -> String {
    let digest: [u8; 32] = hash.finalize().into();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
