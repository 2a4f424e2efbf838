//! The GPU's own energy counter, or its power where there is no counter (NVML).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper::Device;
use spaces::Evidence;

use super::Source;

/// Between two readings of the power.
const POLL: Duration = Duration::from_millis(50);

/// Energy of one GPU, and of no other.
pub struct Nvml {
    nvml: nvml_wrapper::Nvml,
    uuid: String,
    reading: Kind,
}

enum Kind {
    /// Millijoules since the driver was loaded (Volta and later).
    Counter { start_mj: u64 },
    /// Power integrated by the trapezoid rule.
    Power {
        joules: Arc<Mutex<f64>>,
        _stop: Sender<()>,
    },
}

impl Nvml {
    /// Opens the counter of the GPU of that UUID.
    ///
    /// # Errors
    /// A sentence: no driver, no such GPU, or neither counter nor power can be read.
    pub fn open(uuid: &str) -> Result<Nvml, String> {
        let nvml = nvml_wrapper::Nvml::init().map_err(|e| format!("NVML cannot be used: {e}"))?;
        let device = nvml
            .device_by_uuid(uuid)
            .map_err(|e| format!("NVML knows no GPU {uuid}: {e}"))?;
        let reading = match device.total_energy_consumption() {
            Ok(start_mj) => Kind::Counter { start_mj },
            Err(_) => {
                device
                    .power_usage()
                    .map_err(|e| format!("GPU {uuid} tells neither energy nor power: {e}"))?;
                integrate(uuid.to_owned())?
            }
        };
        Ok(Nvml {
            nvml,
            uuid: uuid.to_owned(),
            reading,
        })
    }

    /// Name and UUID of every GPU; empty without a driver.
    pub fn devices() -> Vec<(String, String)> {
        let Ok(nvml) = nvml_wrapper::Nvml::init() else {
            return vec![];
        };
        let describe = |device: Device| Some((device.name().ok()?, device.uuid().ok()?));
        (0..nvml.device_count().unwrap_or(0))
            .filter_map(|i| describe(nvml.device_by_index(i).ok()?))
            .collect()
    }

    /// Bytes of GPU memory that this process holds; `None` where the driver does not tell.
    pub fn process_bytes(&self) -> Option<u64> {
        let device = self.nvml.device_by_uuid(self.uuid.as_str()).ok()?;
        let own = device
            .running_compute_processes()
            .ok()?
            .into_iter()
            .find(|p| p.pid == std::process::id())?;
        match own.used_gpu_memory {
            nvml_wrapper::enums::device::UsedGpuMemory::Used(bytes) => Some(bytes),
            nvml_wrapper::enums::device::UsedGpuMemory::Unavailable => None,
        }
    }
}

fn integrate(uuid: String) -> Result<Kind, String> {
    let joules = Arc::new(Mutex::new(0.0));
    let (stop, stopped) = channel::<()>();
    let sum = Arc::clone(&joules);
    let nvml = nvml_wrapper::Nvml::init().map_err(|e| format!("NVML cannot be used: {e}"))?;
    thread::spawn(move || {
        let watts = || Some(f64::from(nvml.device_by_uuid(uuid.as_str()).ok()?.power_usage().ok()?) * 1e-3);
        let mut last = (Instant::now(), watts().unwrap_or(0.0));
        while stopped.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
            if let Some(power) = watts() {
                let now = Instant::now();
                let step = trapezoid(last.1, power, (now - last.0).as_secs_f64());
                *sum.lock().unwrap_or_else(PoisonError::into_inner) += step;
                last = (now, power);
            }
        }
    });
    Ok(Kind::Power { joules, _stop: stop })
}

fn trapezoid(watts_before: f64, watts_after: f64, seconds: f64) -> f64 {
    0.5 * (watts_before + watts_after) * seconds
}

impl Source for Nvml {
    fn name(&self) -> String {
        match self.reading {
            Kind::Counter { .. } => "nvml_counter".into(),
            Kind::Power { .. } => "nvml_power".into(),
        }
    }

    fn evidence(&self) -> Evidence {
        Evidence::Measured
    }

    fn joules(&mut self) -> Result<f64, String> {
        match &self.reading {
            Kind::Counter { start_mj } => {
                let device = self
                    .nvml
                    .device_by_uuid(self.uuid.as_str())
                    .map_err(|e| e.to_string())?;
                let now = device.total_energy_consumption().map_err(|e| e.to_string())?;
                Ok((now - start_mj) as f64 * 1e-3)
            }
            Kind::Power { joules, .. } => Ok(*joules.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn shortest_window(&self) -> Duration {
        // the counter is refreshed every some tens of milliseconds
        Duration::from_secs(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_integrated_by_the_trapezoid_rule() {
        // 100 W, 200 W, 100 W at 0, 1 and 2 seconds
        assert_eq!(trapezoid(100.0, 200.0, 1.0) + trapezoid(200.0, 100.0, 1.0), 300.0);
    }

    #[test]
    fn a_machine_without_a_gpu_gives_a_sentence() {
        if Nvml::devices().is_empty() {
            assert!(Nvml::open("GPU-0").is_err());
        }
    }
}
