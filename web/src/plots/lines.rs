//! Lines by method or by kind, each with a band around it: how a quality grows, or a cost.

use plotters::{prelude::DrawingBackend, style::RGBColor};

use super::{
    PlotError, Scale,
    canvas::{Anchor, Canvas, Font, HEIGHT, INK, MUTED, WIDTH, png, svg},
    front::Frame,
};

/// Colours that people with any colour vision tell apart (Okabe and Ito 2008); later lines are dashed.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];
const LEFT: f64 = 84.0;
/// Height of the key's first row; there is room for two.
const KEY: f64 = 56.0;
/// So few points of a line are marked.
const FEW: usize = 12;

/// A picture of lines.
#[derive(Clone, Debug)]
pub struct LinesPlot {
    /// What is shown.
    pub title: String,
    /// What must be known to read it.
    pub note: String,
    /// The axes, which all the points fit.
    pub axes: [Scale; 2],
    /// The lines, in the order of their colours.
    pub lines: Vec<Line>,
}

/// One line of a [`LinesPlot`].
#[derive(Clone, Debug)]
pub struct Line {
    /// What the key calls it.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// The lower and the upper end of the band at each point; empty for none.
    pub band: Vec<(f64, f64)>,
}

impl LinesPlot {
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
        let (title, small) = (font(17.0, INK, true), font(12.0, MUTED, false));
        let shown = canvas.shorten(&self.title, title, WIDTH - 112.0);
        canvas.text(&shown, (LEFT, 30.0), title, Anchor::Left)?;
        let [x, y] = self.axes.clone();
        let frame = Frame {
            x,
            y,
            bottom: HEIGHT - 84.0,
        };
        frame.draw(canvas)?;
        canvas.text(&self.note, (LEFT, HEIGHT - 22.0), small, Anchor::Left)?;
        let color = |i: usize| COLORS[i % COLORS.len()];
        for (i, line) in self.lines.iter().enumerate() {
            let edge = |pick: fn(&(f64, f64)) -> f64| {
                line.points
                    .iter()
                    .zip(&line.band)
                    .map(move |(p, b)| (p.0, pick(b)))
            };
            let ring: Vec<(f64, f64)> = edge(|b| b.0)
                .chain(edge(|b| b.1).rev())
                .map(|p| frame.at(p))
                .collect();
            canvas.area(&ring, color(i), 0.14)?;
        }
        let text = font(12.0, INK, false);
        let mut key = (LEFT + 2.0, KEY);
        for (i, line) in self.lines.iter().enumerate() {
            let dashed = i >= COLORS.len();
            let points: Vec<(f64, f64)> = line.points.iter().map(|p| frame.at(*p)).collect();
            stroke(canvas, &points, color(i), dashed)?;
            if points.len() < FEW {
                for point in &points {
                    canvas.dot(*point, 3.4, color(i), 1.0)?;
                }
            }
            let width = 28.0 + canvas.text_width(&line.name, text);
            if key.0 + width > WIDTH - 28.0 {
                key = (LEFT + 2.0, key.1 + 18.0);
            }
            stroke(canvas, &[key, (key.0 + 22.0, key.1)], color(i), dashed)?;
            canvas.text(&line.name, (key.0 + 28.0, key.1), text, Anchor::Left)?;
            key.0 += width + 20.0;
        }
        Ok(())
    }
}

/// A line through the points, or dashes along it.
fn stroke<B: DrawingBackend>(
    canvas: &Canvas<B>,
    points: &[(f64, f64)],
    color: RGBColor,
    dashed: bool,
) -> Result<(), PlotError> {
    if !dashed {
        return canvas.line(points, color, 1.0, 2.0);
    }
    const DASH: f64 = 6.0;
    let mut walked = 0.0;
    for pair in points.windows(2) {
        let [(x, y), (to_x, to_y)] = [pair[0], pair[1]];
        let length = (to_x - x).hypot(to_y - y);
        let mut from = 0.0;
        while from < length {
            // up to the next end of a dash or of a gap
            let to = (from + DASH - walked % DASH).min(length);
            let on = |d: f64| (x + (to_x - x) * d / length, y + (to_y - y) * d / length);
            if (walked / DASH) as i64 % 2 == 0 {
                canvas.line(&[on(from), on(to)], color, 1.0, 2.0)?;
            }
            walked += (to - from).max(1e-9);
            from = to;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(log: bool) -> LinesPlot {
        let line = |i: usize| Line {
            name: format!("method {i}"),
            points: (1..=20)
                .map(|x| (f64::from(x), f64::from(x) * (i + 1) as f64))
                .collect(),
            band: match i {
                0 => (1..=20)
                    .map(|x| (f64::from(x) * 0.8, f64::from(x) * 1.2))
                    .collect(),
                _ => vec![],
            },
        };
        LinesPlot {
            title: "lines".into(),
            note: "quartiles of two seeds".into(),
            axes: [
                Scale::of_values("x", &[1.0, 20.0], log),
                Scale::of_values("y", &[0.5, 180.0], log),
            ],
            lines: (0..9).map(line).collect(),
        }
    }

    #[test]
    fn every_line_is_drawn_named_and_kept_apart() {
        for log in [false, true] {
            let svg = plot(log).svg().unwrap();
            assert!((0..9).all(|i| svg.contains(&format!("method {i}\n"))), "{svg}");
            assert_eq!(svg.matches("<polygon").count(), 1);
            // seven whole lines and their seven marks in the key; dashes are short
            let whole = svg.matches("<polyline").count();
            assert!(whole > 100, "{whole}");
            assert_eq!(plot(log).png().unwrap()[1..4], *b"PNG");
        }
    }
}
