//! A base and what another model differs in made into that model again.

use std::{fs, path::Path};

use safetensors::Dtype;

use super::{Head, KEY, entry, folder_fingerprint, is_half, texts, weights_fingerprint, widen};
use crate::bundle::{
    BundleError, WEIGHTS,
    tensors::{Incoming, Outgoing, write},
};

/// Writes the files of the model that a delta was made from into a folder that is there, and checks that they are its own.
///
/// # Errors
/// [`BundleError::OtherBase`] where the delta is of another base, [`BundleError::Delta`] where it is damaged. What is in the
/// folder then is no model.
pub fn apply_delta(base: &Path, file: &Path, dir: &Path) -> Result<(), BundleError> {
    let damaged = |reason: String| BundleError::Delta {
        path: file.display().to_string(),
        reason,
    };
    let mut delta = Incoming::open(file).map_err(|e| match e {
        BundleError::Content { reason, .. } => damaged(reason),
        other => other,
    })?;
    let words = delta.head.get(KEY);
    let words = words.ok_or_else(|| damaged(format!("its head has no '{KEY}'")))?;
    let head: Head =
        serde_json::from_str(words).map_err(|e| damaged(format!("its head is unreadable ({e})")))?;

    let mut of_base = Incoming::open(&base.join(WEIGHTS))?;
    let found = weights_fingerprint(&mut of_base)?;
    if found != head.base {
        return Err(BundleError::OtherBase {
            base: base.display().to_string(),
            delta: file.display().to_string(),
            found,
            expected: head.base,
        });
    }
    let mut tensors = vec![];
    let names: Vec<String> = of_base.tensors.keys().cloned().collect();
    for name in names {
        let is_stored = delta.tensors.contains_key(&entry("whole", &name));
        if is_stored || head.removed.contains(&name) {
            continue;
        }
        let mut tensor = of_base.tensor(&name)?;
        if head.widened.contains(&name) && is_half(tensor.dtype) {
            tensor.bytes = widen(tensor.dtype, &tensor.bytes);
            tensor.dtype = Dtype::F32;
        }
        let places = entry("places", &name);
        if delta.tensors.contains_key(&places) {
            let [places, values] = [delta.tensor(&places)?, delta.tensor(&entry("values", &name))?];
            put(&mut tensor, &places, &values).map_err(|reason| damaged(format!("of '{name}' {reason}")))?;
        }
        tensors.push((name, tensor));
    }
    let stored: Vec<String> = delta.tensors.keys().cloned().collect();
    for entry in stored {
        if let Some(name) = entry.strip_prefix("whole/") {
            tensors.push((name.to_owned(), delta.tensor(&entry)?));
        }
    }
    write(&dir.join(WEIGHTS), &tensors, None)?;
    // names are those that a model's folder has: a file from elsewhere writes no others
    for name in texts() {
        let (place, stored) = (dir.join(name), entry("file", name));
        if delta.tensors.contains_key(&stored) {
            let text = delta.tensor(&stored)?.bytes;
            fs::write(&place, text).map_err(BundleError::file(&place))?;
        } else if head.same_files.contains(name) {
            let text = base.join(name);
            fs::copy(&text, &place).map_err(BundleError::file(&text))?;
        }
    }
    let found = folder_fingerprint(dir)?;
    if found != head.result {
        return Err(damaged(format!(
            "with '{}' it makes a model of fingerprint {found} and not {}, so one of the two has changed since",
            base.display(),
            head.result
        )));
    }
    Ok(())
}

/// Puts single elements into a tensor.
///
/// # Errors
/// What is wrong with the numbers of places or what stands there.
fn put(tensor: &mut Outgoing, places: &Outgoing, values: &Outgoing) -> Result<(), String> {
    let whole = tensor.bytes.as_chunks_mut::<4>().0;
    if places.dtype != Dtype::U32 || values.dtype != tensor.dtype || tensor.dtype.bitsize() != 32 {
        return Err(format!(
            "places are {:?} and values {:?}, for a tensor of {:?}",
            places.dtype, values.dtype, tensor.dtype
        ));
    }
    let (places, values) = (places.bytes.as_chunks::<4>().0, values.bytes.as_chunks::<4>().0);
    if places.len() != values.len() {
        return Err(format!(
            "there are {} places and {} values",
            places.len(),
            values.len()
        ));
    }
    let n = whole.len();
    for (place, value) in places.iter().zip(values) {
        let place = u32::from_le_bytes(*place);
        let element = whole.get_mut(place as usize);
        *element.ok_or_else(|| format!("place {place} is beyond its {n} elements"))? = *value;
    }
    Ok(())
}
