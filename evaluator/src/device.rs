//! What there is to compute on.

use std::fmt;

/// A device as the user names it: `auto`, `cpu`, `cuda:0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU where there is one that this build can use, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of that number.
    Cuda(usize),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(DeviceChoice::Auto),
            None if text == "cpu" => Ok(DeviceChoice::Cpu),
            None if text == "cuda" => Ok(DeviceChoice::Cuda(0)),
            Some(("cuda", number)) if number.parse::<usize>().is_ok() => {
                Ok(DeviceChoice::Cuda(number.parse().unwrap_or_default()))
            }
            _ => Err(format!("'{text}' is not a device; use auto, cpu or cuda:N")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => write!(f, "auto"),
            DeviceChoice::Cpu => write!(f, "cpu"),
            DeviceChoice::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// A device that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A GPU.
    Cuda {
        /// Its number.
        index: usize,
        /// Its UUID as NVML writes it.
        uuid: String,
    },
}

impl DeviceChoice {
    /// The device that is meant.
    ///
    /// # Errors
    /// A sentence where a GPU is asked for and cannot be used.
    pub fn find(self) -> Result<Device, String> {
        match (self, gpus()) {
            (DeviceChoice::Cpu, _) | (DeviceChoice::Auto, Err(_)) => Ok(Device::Cpu),
            (DeviceChoice::Auto, Ok(gpus)) => Ok(gpus.into_iter().next().unwrap_or(Device::Cpu)),
            (DeviceChoice::Cuda(_), Err(reason)) => {
                Err(format!("{self} cannot be used: {reason}; use --device cpu"))
            }
            (DeviceChoice::Cuda(n), Ok(gpus)) => {
                let count = gpus.len();
                // one that is too old is left out, and the others keep their numbers
                let found = gpus
                    .into_iter()
                    .find(|gpu| matches!(gpu, Device::Cuda { index, .. } if *index == n));
                found.ok_or_else(|| {
                    format!("{self} is not there: this machine has {count} GPU(s); use a lower number")
                })
            }
        }
    }
}

impl Device {
    /// What it is, with its threads where it is the processor.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu => format!("cpu: {}, {} threads", processor(), rayon::current_num_threads()),
            Device::Cuda { index, uuid } => {
                let names = crate::energy::Nvml::devices();
                let name = names
                    .into_iter()
                    .find(|(_, u)| u == uuid)
                    .map_or("GPU".to_owned(), |(name, _)| name);
                format!("cuda:{index}: {name}")
            }
        }
    }

    /// The UUID of the GPU, if it is one.
    pub fn gpu_uuid(&self) -> Option<&str> {
        match self {
            Device::Cpu => None,
            Device::Cuda { uuid, .. } => Some(uuid),
        }
    }
}

/// The processor's name.
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|l| {
        l.strip_prefix("model name")?
            .split_once(':')
            .map(|(_, n)| n.trim().to_owned())
    });
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The GPUs that this build can use.
///
/// # Errors
/// One sentence on why there is none.
#[cfg(not(feature = "cuda"))]
pub fn gpus() -> Result<Vec<Device>, String> {
    Err("this build has no CUDA support (build with --features cuda)".into())
}

/// The GPUs that this build can use.
///
/// # Errors
/// One sentence on why there is none.
#[cfg(feature = "cuda")]
pub fn gpus() -> Result<Vec<Device>, String> {
    crate::cuda::gpus()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_wrong_ones_named() {
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        assert!(
            "gpu"
                .parse::<DeviceChoice>()
                .unwrap_err()
                .contains("'gpu' is not a device")
        );
        assert!(DeviceChoice::Cpu.find().is_ok());
        assert!(Device::Cpu.describe().contains("threads"));
    }
}
