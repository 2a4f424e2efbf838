//! Finding CUDA without touching it: every call into a missing driver would panic.

#![expect(unsafe_code, reason = "asks whether a library is there")]

use std::{
    path::PathBuf,
    sync::{Once, OnceLock},
};

use cubecl_runtime::config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig};
use cudarc::driver::sys::CUdevice_attribute;

use crate::device::Device;

/// Compute capability that 16-bit floats and asynchronous copies need.
const OLDEST: i32 = 8;

/// Keeps compiled kernels in the user's cache folder from now on: each trial is a process of its own, and compiling
/// costs it a minute or more. Without a home folder nothing is kept.
fn keep_kernels() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Some(dirs) = directories::ProjectDirs::from("", "", "parsimony") {
            // CUBECL_DEBUG_LOG and CUBECL_DEBUG_OPTION tell what each kernel takes
            let mut config = CubeClRuntimeConfig::default().override_from_env();
            config.compilation.cache = Some(CacheConfig::File(dirs.cache_dir().join("kernels")));
            CubeClRuntimeConfig::set(config);
        }
    });
}

/// The GPUs, in the driver's order.
///
/// # Errors
/// One sentence on what is missing.
pub(crate) fn gpus() -> Result<Vec<Device>, String> {
    // SAFETY: both only try to open a shared library and look up no symbol
    let (driver, compiler) = unsafe {
        (
            cudarc::driver::sys::is_culib_present(),
            cudarc::nvrtc::sys::is_culib_present(),
        )
    };
    if !driver {
        return Err("no NVIDIA driver (libcuda) on this machine".into());
    }
    if !compiler {
        return Err("the CUDA run-time compiler (libnvrtc) is missing; install nvidia-cuda-nvrtc".into());
    }
    let home = cuda_home().ok_or("the CUDA headers are missing; set CUDA_PATH to a CUDA folder")?;
    for header in ["cuda_runtime.h", "crt/mma.h"] {
        if !home.join("include").join(header).exists() {
            return Err(format!(
                "'{}/include/{header}' is missing; install nvidia-cuda-runtime and nvidia-cuda-crt",
                home.display()
            ));
        }
    }
    keep_kernels();
    let count = cudarc::driver::CudaContext::device_count()
        .map_err(|e| format!("the NVIDIA driver does not answer: {e}"))?;
    if count <= 0 {
        return Err("the NVIDIA driver reports no GPU".into());
    }
    let gpus: Vec<usize> = (0..count as usize)
        .filter(|index| major(*index) >= OLDEST)
        .collect();
    if gpus.is_empty() {
        return Err(format!(
            "the GPUs here are of compute capability {}.x at most; kernels need {OLDEST}.0",
            (0..count as usize).map(major).max().unwrap_or(0)
        ));
    }
    gpus.into_iter()
        .map(|index| {
            Ok(Device::Cuda {
                index,
                uuid: uuid(index)?,
            })
        })
        .collect()
}

/// Whether a GPU has the matrix unit that reads both operands from shared memory (compute capability 9.x alone).
pub(crate) fn has_wide_products(index: usize) -> bool {
    major(index) == 9
}

/// First number of a GPU's compute capability; 0 where it does not tell.
fn major(index: usize) -> i32 {
    static ALL: OnceLock<Vec<i32>> = OnceLock::new();
    let ask = |index: usize| {
        let context = cudarc::driver::CudaContext::new(index)?;
        context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
    };
    let all = ALL.get_or_init(|| {
        let count = cudarc::driver::CudaContext::device_count().unwrap_or(0);
        (0..count as usize).map(|index| ask(index).unwrap_or(0)).collect()
    });
    all.get(index).copied().unwrap_or(0)
}

fn uuid(index: usize) -> Result<String, String> {
    let context =
        cudarc::driver::CudaContext::new(index).map_err(|e| format!("GPU {index} cannot be opened: {e}"))?;
    let uuid = context
        .uuid()
        .map_err(|e| format!("GPU {index} tells no UUID: {e}"))?;
    let hex: String = uuid.bytes.iter().map(|b| format!("{:02x}", *b as u8)).collect();
    Ok(format!(
        "GPU-{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    ))
}

fn cuda_home() -> Option<PathBuf> {
    let given = std::env::var_os("CUDA_PATH").map(PathBuf::from);
    let known = ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from);
    let system = PathBuf::from("/usr/bin/nvcc")
        .exists()
        .then(|| PathBuf::from("/usr"));
    given
        .into_iter()
        .chain(known)
        .chain(system)
        .find(|p| p.join("include").exists())
}
