//! What an evaluation says while it runs.

use std::path::Path;

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

    /// The result of a stage is not here: `file` is where it is looked for next, should another have it.
    fn stage_wanted(&mut self, _key: &str, _file: &Path) {}

    /// The result of a stage was made, for others to have.
    fn stage_made(&mut self, _key: &str, _file: &Path) {}
}

/// Listens to nothing.
pub struct Silent;

impl Events for Silent {
    fn progress(&mut self, _: Progress) {}

    fn report(&mut self, _: Vec<Measurement>) {}
}
