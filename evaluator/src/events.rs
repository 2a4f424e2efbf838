//! What an evaluation says while it runs.

use spaces::{Measurement, protocol::Progress};

/// Listens to an evaluation and may end it.
pub trait Events: Send {
    /// How far it is.
    fn progress(&mut self, progress: Progress);

    /// Values along the way.
    fn report(&mut self, measurements: Vec<Measurement>);

    /// Whether it shall stop.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Listens to nothing.
pub struct Silent;

impl Events for Silent {
    fn progress(&mut self, _: Progress) {}

    fn report(&mut self, _: Vec<Measurement>) {}
}
