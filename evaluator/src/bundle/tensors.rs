//! Files of tensors (safetensors): written whole or not at all, read back one tensor at a time.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use safetensors::{Dtype, View, tensor::TensorInfo};

use super::BundleError;

/// One tensor on its way to a file, or as it was read from one.
pub(super) struct Outgoing {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl View for &Outgoing {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes tensors, and words in the file's head; the file appears whole or not at all.
///
/// # Errors
/// [`BundleError::File`].
pub(super) fn write(
    path: &Path,
    tensors: &[(String, Outgoing)],
    head: Option<HashMap<String, String>>,
) -> Result<(), BundleError> {
    let views = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    safetensors::serialize_to_file(views, head, path).map_err(|e| {
        let source = match e {
            safetensors::SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other.to_string()),
        };
        BundleError::File {
            path: path.display().to_string(),
            source,
        }
    })?;
    // the format's writer makes files that only their owner can read
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
            .map_err(BundleError::file(path))?;
    }
    Ok(())
}

/// A file that is read tensor by tensor, so that no second copy of it is ever in memory.
pub(super) struct Incoming {
    file: File,
    pub(super) path: PathBuf,
    data_start: u64,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
    /// The words in its head.
    pub(super) head: HashMap<String, String>,
}

impl Incoming {
    pub(super) fn open(path: &Path) -> Result<Self, BundleError> {
        let mut file = File::open(path).map_err(BundleError::file(path))?;
        let size = file.metadata().map_err(BundleError::file(path))?.len();
        let mut length = [0u8; 8];
        file.read_exact(&mut length).map_err(BundleError::file(path))?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > size.saturating_sub(8) {
            return Err(BundleError::content(path, "its header is longer than the file"));
        }
        let mut header = vec![0u8; header_bytes as usize];
        file.read_exact(&mut header).map_err(BundleError::file(path))?;
        let metadata: safetensors::tensor::Metadata =
            serde_json::from_slice(&header).map_err(|e| BundleError::content(path, e))?;
        let tensors: BTreeMap<String, TensorInfo> = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name, info.clone()))
            .collect();
        let data_start = 8 + header_bytes;
        if size.checked_sub(data_start) != Some(metadata.data_len() as u64) {
            return Err(BundleError::content(path, "it is cut short or too long"));
        }
        Ok(Incoming {
            file,
            path: path.to_owned(),
            data_start,
            tensors,
            head: metadata.metadata().clone().unwrap_or_default(),
        })
    }

    /// A tensor as it lies in the file.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Outgoing, BundleError> {
        let missing = || BundleError::content(&self.path, format!("tensor '{name}' is missing"));
        let TensorInfo {
            dtype,
            shape,
            data_offsets: (begin, end),
        } = self.tensors.get(name).ok_or_else(missing)?.clone();
        let mut bytes = vec![0u8; end - begin];
        self.file
            .seek(SeekFrom::Start(self.data_start + begin as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(BundleError::file(&self.path))?;
        Ok(Outgoing { dtype, shape, bytes })
    }

    /// The bytes of a tensor of one of these types and this shape.
    pub(super) fn bytes(
        &mut self,
        name: &str,
        dtypes: &[Dtype],
        shape: &[usize],
    ) -> Result<(Dtype, Vec<u8>), BundleError> {
        if let Some(info) = self.tensors.get(name)
            && (!dtypes.contains(&info.dtype) || info.shape != shape)
        {
            let found = format!(
                "tensor '{name}' is {:?} {:?}, expected {:?} {shape:?}",
                info.dtype, info.shape, dtypes[0]
            );
            return Err(BundleError::content(&self.path, found));
        }
        let tensor = self.tensor(name)?;
        Ok((tensor.dtype, tensor.bytes))
    }

    /// A tensor of floats, those of 16 bits as 32-bit ones.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, BundleError> {
        let (dtype, bytes) = self.bytes(name, &[Dtype::F32, Dtype::F16, Dtype::BF16], shape)?;
        Ok(as_floats(dtype, &bytes))
    }
}

/// Floats of 32 or 16 bits as 32-bit ones, which are the same numbers.
pub(super) fn as_floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let halves = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        Dtype::F16 => halves().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => halves().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => {
            let words = bytes.as_chunks::<4>().0.iter();
            words.map(|b| f32::from_le_bytes(*b)).collect()
        }
    }
}
