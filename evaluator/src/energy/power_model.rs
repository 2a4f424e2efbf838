//! Energy by a model: each busy thread draws a constant power. An estimate, and labelled so.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use spaces::Evidence;

use super::Source;

/// Power of a busy hardware thread, the default of `CodeCarbon` where nothing is known of the processor.
pub const WATTS_PER_THREAD: f64 = 4.0;

/// Power of a GPU whose own instruments cannot be read: the board power of common datacentre cards.
const WATTS_OF_A_GPU: f64 = 300.0;

/// Processor time of this process times a constant power, and where a GPU computes the time times another.
pub(super) struct PowerModel {
    start_s: f64,
    gpu_since: Option<Instant>,
}

impl PowerModel {
    pub(super) fn new() -> Self {
        PowerModel {
            start_s: processor_seconds(),
            gpu_since: None,
        }
    }

    pub(super) fn with_gpu() -> Self {
        PowerModel {
            gpu_since: Some(Instant::now()),
            ..PowerModel::new()
        }
    }
}

fn processor_seconds() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return 0.0;
    };
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|t| t.tv_sec() as f64 + t.tv_usec() as f64 * 1e-6)
        .sum()
}

impl Source for PowerModel {
    fn name(&self) -> String {
        let gpu = match self.gpu_since {
            Some(_) => format!(", {WATTS_OF_A_GPU} W for the GPU"),
            None => String::new(),
        };
        format!("power_model: {WATTS_PER_THREAD} W for each busy thread{gpu}")
    }

    fn evidence(&self) -> Evidence {
        Evidence::Estimated
    }

    fn joules(&mut self) -> Result<f64, String> {
        let gpu_s = self.gpu_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        Ok((processor_seconds() - self.start_s) * WATTS_PER_THREAD + gpu_s * WATTS_OF_A_GPU)
    }

    fn shortest_window(&self) -> Duration {
        Duration::from_millis(200)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::measure;

    #[test]
    fn it_follows_processor_time_and_says_that_it_is_an_estimate() {
        let mut model = PowerModel::new();
        let (_, reading) = measure(&mut model, || {
            let mut x = 1.0f64;
            while processor_seconds() - model_start() < 0.05 {
                x = (x * 1.000_1).sin();
            }
            x
        })
        .unwrap();
        assert_eq!(reading.evidence, Evidence::Estimated);
        assert!(reading.source.starts_with("power_model"));
        assert!(reading.joules > 0.0);
        let (_, idle) = measure(&mut model, || std::thread::sleep(Duration::from_millis(50))).unwrap();
        assert!(idle.joules < reading.joules, "sleeping costs less than working");
        let mut gpu = PowerModel::with_gpu();
        let (_, waiting) = measure(&mut gpu, || std::thread::sleep(Duration::from_millis(50))).unwrap();
        assert!(waiting.joules >= 0.05 * WATTS_OF_A_GPU && waiting.source.contains("GPU"));
        assert_eq!(waiting.evidence, Evidence::Estimated);
    }

    fn model_start() -> f64 {
        use std::sync::OnceLock;
        static START: OnceLock<f64> = OnceLock::new();
        *START.get_or_init(processor_seconds)
    }
}
