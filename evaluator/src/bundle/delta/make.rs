//! Two models compared, and what they differ in written.

use std::{collections::BTreeSet, fs, path::Path};

use safetensors::Dtype;
use serde::Serialize;

use super::{Head, KEY, entry, folder_fingerprint, is_half, read_text, texts, weights_fingerprint, widen};
use crate::bundle::{
    BundleError, WEIGHTS,
    tensors::{Incoming, Outgoing, write},
};

/// Bytes of an element that is stored alone: its place and what stands there.
const ELEMENT_BYTES: usize = 8;

/// What a model differs in from its base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Tensors that are the base's.
    pub same: usize,
    /// Tensors of which single weights are stored.
    pub sparse: usize,
    /// Single weights that are stored.
    pub weights: usize,
    /// Tensors that are stored whole, though the base has them too.
    pub whole: usize,
    /// Tensors that the base does not have.
    pub new: usize,
    /// Bytes of all that is stored of tensors.
    pub tensor_bytes: usize,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes what a model differs in from its base; the file appears whole or not at all.
///
/// # Errors
/// [`BundleError`] where a folder holds no model, or the file cannot be written.
pub fn write_delta(base: &Path, tuned: &Path, file: &Path) -> Result<Differences, BundleError> {
    let mut of_base = Incoming::open(&base.join(WEIGHTS))?;
    let mut of_tuned = Incoming::open(&tuned.join(WEIGHTS))?;
    let has = |weights: &Incoming, name: &String| weights.tensors.contains_key(name);
    let gone = of_base.tensors.keys().filter(|name| !has(&of_tuned, name));
    let removed = gone.cloned().collect();
    let mut head = Head {
        base: weights_fingerprint(&mut of_base)?,
        result: folder_fingerprint(tuned)?,
        same_files: BTreeSet::new(),
        removed,
        widened: BTreeSet::new(),
    };
    let (mut differences, mut stored) = (Differences::default(), vec![]);
    let names: Vec<String> = of_tuned.tensors.keys().cloned().collect();
    for name in names {
        let now = of_tuned.tensor(&name)?;
        if !has(&of_base, &name) {
            differences.new += 1;
            stored.push((entry("whole", &name), now));
            continue;
        }
        let mut before = of_base.tensor(&name)?;
        let widens = is_half(before.dtype) && now.dtype == Dtype::F32;
        if widens {
            before.bytes = widen(before.dtype, &before.bytes);
            before.dtype = Dtype::F32;
        }
        match places(&before, &now) {
            None => {
                differences.whole += 1;
                stored.push((entry("whole", &name), now));
                continue;
            }
            Some(places) if places.is_empty() => differences.same += 1,
            Some(places) => {
                differences.sparse += 1;
                differences.weights += places.len();
                stored.extend(sparse(&name, &now, &places));
            }
        }
        if widens {
            head.widened.insert(name);
        }
    }
    differences.tensor_bytes = stored.iter().map(|(_, tensor)| tensor.bytes.len()).sum();
    for name in texts() {
        let Some(bytes) = read_text(tuned, name)? else {
            continue;
        };
        if read_text(base, name)?.as_ref() == Some(&bytes) {
            head.same_files.insert(name.into());
            continue;
        }
        let text = Outgoing {
            dtype: Dtype::U8,
            shape: vec![bytes.len()],
            bytes,
        };
        stored.push((entry("file", name), text));
    }
    let head = serde_json::to_string(&head).expect("plain data serialises");
    write(file, &stored, Some([(KEY.to_owned(), head)].into()))?;
    differences.bytes = fs::metadata(file).map_err(BundleError::file(file))?.len();
    Ok(differences)
}

/// The places of elements whose bits are others; `None` where the tensor is better stored whole.
fn places(before: &Outgoing, now: &Outgoing) -> Option<Vec<u32>> {
    if (before.dtype, &before.shape) != (now.dtype, &now.shape) {
        return None;
    }
    if before.bytes == now.bytes {
        return Some(vec![]);
    }
    if now.dtype.bitsize() != 32 || now.bytes.len() / 4 > u32::MAX as usize {
        return None;
    }
    let (before, after) = (before.bytes.as_chunks::<4>().0, now.bytes.as_chunks::<4>().0);
    let most = (now.bytes.len() - 1) / ELEMENT_BYTES;
    let mut places = vec![];
    for (i, (before, after)) in before.iter().zip(after).enumerate() {
        if before == after {
            continue;
        }
        if places.len() == most {
            return None;
        }
        places.push(i as u32);
    }
    Some(places)
}

/// The two tensors that tell of few elements.
fn sparse(name: &str, now: &Outgoing, places: &[u32]) -> [(String, Outgoing); 2] {
    let elements = now.bytes.as_chunks::<4>().0;
    let values = places.iter().flat_map(|i| elements[*i as usize]).collect();
    let of = |kind: &str, dtype: Dtype, bytes: Vec<u8>| {
        let shape = vec![places.len()];
        (entry(kind, name), Outgoing { dtype, shape, bytes })
    };
    let numbers = places.iter().flat_map(|i| i.to_le_bytes()).collect();
    [of("places", Dtype::U32, numbers), of("values", now.dtype, values)]
}
