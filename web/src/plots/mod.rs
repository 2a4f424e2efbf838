//! Pictures of results, from plain data: as SVG text or PNG bytes.
//!
//! Each plot is one file and one line below. All are drawn by the same code on a fine grid of pixels, which the SVG
//! keeps as its coordinates and the PNG averages down.

mod canvas;
mod front;
mod hypervolume;
mod lines;
mod scale;

pub use self::{
    front::{FrontPlot, PlotPoint, Standing},
    hypervolume::HypervolumePlot,
    lines::{Line, LinesPlot},
    scale::Scale,
};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// A front of one objective is a single value.
    #[error("a picture of a front needs two objectives, but there is only one; name two metrics")]
    OneAxis,
    /// The drawing library failed.
    #[error("the picture cannot be drawn: {0}")]
    Drawing(String),
}
