//! The exported model: a folder in the layout of Hugging Face, with what it takes to trust and repeat it.
//!
//! `config.json`, `model.safetensors` and `tokenizer.json` serve the model; `parsimony.json` and `README.md` tell
//! where it comes from. Where the architecture is a standard one, `transformers` loads the folder as it stands.

mod config;
mod delta;
mod layout;
mod provenance;
mod tensors;
mod weights;

use std::{fs, io, path::Path};

pub use self::{
    config::{Served, served_from_json},
    delta::{Differences, apply_delta, write_delta},
    layout::served_bytes,
    provenance::{Provenance, read_provenance},
    weights::{load, save},
};
use crate::{
    data::{DataError, Tokenizer},
    model::Model,
    ops::Ops,
};

/// The file of a bundle's weights.
const WEIGHTS: &str = "model.safetensors";

/// Files of a bundle, in the order in which they are written.
pub const FILES: [&str; 6] = [
    "config.json",
    WEIGHTS,
    "tokenizer.json",
    "tokenizer_config.json",
    "parsimony.json",
    "README.md",
];

/// The files without which the model cannot be served; their bytes are its size.
pub const SERVING_FILES: [&str; 3] = ["config.json", WEIGHTS, "tokenizer.json"];

/// Why a bundle cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be written or read.
    #[error("'{path}' cannot be used: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A folder that is no bundle.
    #[error("'{0}' is not there; name the folder of an exported model")]
    Missing(String),
    /// A file that does not hold what it should.
    #[error("'{path}' is not what a bundle holds: {reason}; export the model again or name another folder")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A delta for another base.
    #[error(
        "'{delta}' was made from a base whose weights have fingerprint {expected}, but those of '{base}' have {found}; name the folder of that base"
    )]
    OtherBase {
        /// The folder that was named.
        base: String,
        /// The delta file.
        delta: String,
        /// Fingerprint of the weights in that folder.
        found: String,
        /// Fingerprint of the base's.
        expected: String,
    },
    /// A delta file that does not give the model that it was made from.
    #[error(
        "'{path}' cannot be applied: {reason}; get it again, or make it again with 'parsimony delta --tuned'"
    )]
    Delta {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] DataError),
}

impl BundleError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> BundleError + use<> {
        let path = path.display().to_string();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => BundleError::Missing(path),
            _ => BundleError::File { path, source },
        }
    }

    fn content(path: &Path, reason: impl ToString) -> BundleError {
        BundleError::Content {
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }
}

/// Writes all but `parsimony.json` and `README.md`, which hold the measurements made on these files.
///
/// # Errors
/// [`BundleError::File`], for example where the disk is full; a half-written file has a temporary name.
pub fn write_model<B: Ops>(
    model: &mut Model<B>,
    served: &Served,
    tokenizer: &Tokenizer,
    dir: &Path,
) -> Result<(), BundleError> {
    fs::create_dir_all(dir).map_err(BundleError::file(dir))?;
    write(dir, "config.json", &config::to_json(served))?;
    write(dir, "tokenizer.json", &tokenizer.to_json())?;
    write(
        dir,
        "tokenizer_config.json",
        "{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}\n",
    )?;
    weights::save(model, &dir.join(WEIGHTS))
}

/// Writes `parsimony.json` and `README.md`.
///
/// # Errors
/// [`BundleError::File`].
pub fn write_provenance(provenance: &Provenance, dir: &Path) -> Result<(), BundleError> {
    let json = serde_json::to_string_pretty(provenance).expect("plain data serialises");
    write(dir, "parsimony.json", &json)?;
    write(dir, "README.md", &provenance::readme(provenance))
}

/// Reads the shape of a bundle's model.
///
/// # Errors
/// [`BundleError`] where the folder holds no model that can be read.
pub fn read_served(dir: &Path) -> Result<Served, BundleError> {
    let path = dir.join("config.json");
    let text = fs::read_to_string(&path).map_err(BundleError::file(&path))?;
    served_from_json(&text).map_err(|reason| BundleError::content(&path, reason))
}

/// Reads a bundle's tokenizer.
///
/// # Errors
/// [`BundleError`].
pub fn read_tokenizer(dir: &Path) -> Result<Tokenizer, BundleError> {
    let path = dir.join("tokenizer.json");
    let text = fs::read_to_string(&path).map_err(BundleError::file(&path))?;
    Ok(Tokenizer::from_json(&text)?)
}

/// Reads a bundle's model onto a device, one tensor at a time.
///
/// # Errors
/// [`BundleError`].
pub fn read_model<B: Ops>(dir: &Path, device: &B::Device) -> Result<(Model<B>, Served), BundleError> {
    let served = read_served(dir)?;
    let model = weights::load(&served, &dir.join(WEIGHTS), device)?;
    Ok((model, served))
}

/// Bytes of the files that serve the model.
///
/// # Errors
/// [`BundleError::File`].
pub fn measured_bytes(dir: &Path) -> Result<u64, BundleError> {
    let mut total = 0;
    for name in SERVING_FILES {
        let path = dir.join(name);
        total += fs::metadata(&path).map_err(BundleError::file(&path))?.len();
    }
    Ok(total)
}

/// Writes a file whole or not at all.
fn write(dir: &Path, name: &str, text: &str) -> Result<(), BundleError> {
    let (path, part) = (dir.join(name), dir.join(format!(".{name}.part")));
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, &path))
        .map_err(BundleError::file(&path))
}
