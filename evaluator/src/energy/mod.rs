//! Energy, from the best instrument at hand; each reading says which one it was.
//!
//! A source is one file and one line in [`open`].

mod nvml;
mod power_model;
mod rapl;

use std::time::{Duration, Instant};

use spaces::Evidence;

pub use self::{nvml::Nvml, power_model::WATTS_PER_THREAD, rapl::Rapl};

/// A counter of energy.
pub trait Source: Send {
    /// The instrument, as stored with each value.
    fn name(&self) -> String;

    /// Whether it counts or models.
    fn evidence(&self) -> Evidence;

    /// Joules since the source was opened.
    ///
    /// # Errors
    /// A sentence where the counter cannot be read any more.
    fn joules(&mut self) -> Result<f64, String>;

    /// The shortest window that the counter resolves.
    fn shortest_window(&self) -> Duration;
}

/// Energy of one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Energy in joules.
    pub joules: f64,
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Whether it was counted or modelled.
    pub evidence: Evidence,
    /// The instrument.
    pub source: String,
}

/// The best source for a device: the GPU's counter, the processor's counter, or a model.
///
/// `gpu` is the UUID of the GPU that computes, if one does: a processor's counter would not see its energy.
pub fn open(gpu: Option<&str>) -> Box<dyn Source> {
    if let Some(uuid) = gpu {
        return match Nvml::open(uuid) {
            Ok(nvml) => Box::new(nvml),
            Err(reason) => {
                tracing::warn!(%reason, "the GPU's energy is estimated");
                Box::new(power_model::PowerModel::with_gpu())
            }
        };
    }
    match Rapl::open("/sys/class/powercap".as_ref()) {
        Ok(rapl) => Box::new(rapl),
        Err(_) => Box::new(power_model::PowerModel::new()),
    }
}

/// Energy and time of `work`.
///
/// # Errors
/// A sentence where the counter cannot be read.
pub fn measure<T>(source: &mut dyn Source, work: impl FnOnce() -> T) -> Result<(T, Reading), String> {
    let before = source.joules()?;
    let started = Instant::now();
    let result = work();
    let seconds = started.elapsed().as_secs_f64();
    let joules = source.joules()? - before;
    Ok((
        result,
        Reading {
            joules,
            seconds,
            evidence: source.evidence(),
            source: source.name(),
        },
    ))
}
