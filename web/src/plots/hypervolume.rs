//! The hypervolume by trial: how fast a search gets somewhere, and whether it still does.

use plotters::prelude::DrawingBackend;
use spaces::quantity;

use super::{
    PlotError, Scale,
    canvas::{ACCENT, Anchor, Canvas, Font, HEIGHT, INK, MUTED, WIDTH, png, svg},
    front::Frame,
};
use crate::views::{HypervolumeCurve, Resolved, unit};

/// A picture of a hypervolume by trial.
#[derive(Clone, Debug)]
pub struct HypervolumePlot {
    /// What is shown.
    pub title: String,
    /// What must be known to read it.
    pub note: String,
    /// Number of results, and the hypervolume from there on.
    pub points: Vec<(f64, f64)>,
    /// Number of results now.
    pub results: f64,
}

impl HypervolumePlot {
    /// The picture of a study's curve.
    pub fn new(study: &Resolved, curve: &HypervolumeCurve) -> HypervolumePlot {
        let reference = curve.reference(&study.objectives).unwrap_or_default();
        let reference: Vec<String> = reference
            .iter()
            .map(|(name, value)| format!("{name} {}", quantity::format(*value, unit(name))))
            .collect();
        let note = match (reference.is_empty(), study.row.reference.is_some()) {
            (true, _) => "no result yet".to_owned(),
            (false, true) => format!("up to the reference point {}", reference.join(", ")),
            (false, false) => format!(
                "up to the reference point {}, which is not fixed yet",
                reference.join(", ")
            ),
        };
        HypervolumePlot {
            title: format!("{}: hypervolume by trial", study.row.name),
            note,
            points: curve
                .points()
                .iter()
                .map(|p| (f64::from(p.results), p.value))
                .collect(),
            results: f64::from(curve.results()),
        }
    }

    /// As SVG text.
    ///
    /// # Errors
    /// [`PlotError::Drawing`].
    pub fn svg(&self) -> Result<String, PlotError> {
        svg(|canvas| self.draw(canvas))
    }

    /// As PNG bytes.
    ///
    /// # Errors
    /// [`PlotError::Drawing`].
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        png(|canvas| self.draw(canvas))
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Result<(), PlotError> {
        let font = |size, color, bold| Font { size, color, bold };
        let title = font(17.0, INK, true);
        canvas.text(
            &canvas.shorten(&self.title, title, WIDTH - 112.0),
            (84.0, 30.0),
            title,
            Anchor::Left,
        )?;
        canvas.text(&self.note, (84.0, 62.0), font(12.0, MUTED, false), Anchor::Left)?;
        let highest = self.points.last().map_or(0.0, |p| p.1);
        let frame = Frame {
            x: Scale::from_zero("trials with a result", self.results),
            y: Scale::from_zero("hypervolume (more is better)", highest),
            bottom: HEIGHT - 64.0,
        };
        frame.draw(canvas)?;
        let mut line = vec![(0.0, 0.0)];
        for (results, value) in &self.points {
            let before = line.last().map_or(0.0, |p| p.1);
            line.push((*results, before));
            line.push((*results, *value));
        }
        line.push((self.results, highest));
        let line: Vec<(f64, f64)> = line.into_iter().map(|p| frame.at(p)).collect();
        canvas.line(&line, ACCENT, 1.0, 2.0)?;
        if self.points.is_empty() {
            let middle = (WIDTH / 2.0, HEIGHT / 2.0);
            canvas.text(
                "no trial keeps the limits yet",
                middle,
                font(12.0, INK, false),
                Anchor::Center,
            )?;
        }
        Ok(())
    }
}
