//! The front of two objectives: every result, which of them are on the front, where the knee is.

use std::collections::BTreeSet;

use plotters::prelude::DrawingBackend;
use spaces::{Direction, Objective, metric};
use store::Trial;

use super::{
    PlotError, Scale,
    canvas::{
        ACCENT, Anchor, Canvas, FADED, Font, GRID, HEIGHT, INK, MUTED, PAPER, WARNING, WIDTH, png, svg,
    },
};
use crate::views::{Front, FrontRequest, Resolved, plotted};

/// How a result stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It breaks a limit.
    Infeasible,
    /// Another one is better.
    Dominated,
    /// No other one is better.
    OnFront,
}

/// A result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlotPoint {
    /// Its value of the first objective.
    pub x: f64,
    /// Its value of the second objective.
    pub y: f64,
    /// The spreads of both, where they were repeated.
    pub spread: (Option<f64>, Option<f64>),
    /// How it stands.
    pub standing: Standing,
}

/// A picture of a front.
#[derive(Clone, Debug)]
pub struct FrontPlot {
    /// What is shown.
    pub title: String,
    /// What must be known to read it.
    pub notes: Vec<String>,
    /// The two objectives.
    pub axes: [Objective; 2],
    /// The results.
    pub points: Vec<PlotPoint>,
    /// The point at the knee, and its trial's number.
    pub knee: Option<(f64, f64, u32)>,
    /// Whether the front is one of these two objectives alone, so that a line can join it.
    pub joined: bool,
}

const LEFT: f64 = 84.0;
const RIGHT: f64 = WIDTH - 28.0;
const TOP: f64 = 92.0;
const LINE: f64 = 16.0;

const TITLE: Font = Font {
    size: 17.0,
    color: INK,
    bold: true,
};
const TEXT: Font = Font {
    size: 12.0,
    color: INK,
    bold: false,
};
const SMALL: Font = Font {
    size: 11.5,
    color: MUTED,
    bold: false,
};

impl FrontPlot {
    /// The picture of a front in its first two objectives.
    ///
    /// # Errors
    /// [`PlotError::OneAxis`].
    pub fn new<'t>(
        front: &Front,
        study: &Resolved,
        trials: impl IntoIterator<Item = &'t Trial>,
        request: &FrontRequest,
    ) -> Result<FrontPlot, PlotError> {
        let axes = front.objectives.iter().map(|a| Objective {
            metric: a.metric.clone(),
            direction: a.direction,
            known_before_training: metric(&a.metric).is_some_and(|m| m.known_before_training),
        });
        let axes: Vec<Objective> = axes.collect();
        let [x, y, rest @ ..] = axes.as_slice() else {
            return Err(PlotError::OneAxis);
        };
        let members: BTreeSet<i64> = front.trials.iter().map(|t| t.id).collect();
        let points = plotted(study, trials, request, &axes, |id| members.contains(&id));
        let knee = front
            .trials
            .iter()
            .find(|t| Some(t.id) == front.knee)
            .and_then(|t| {
                let at = |o: &Objective| t.metrics.get(&o.metric).map(|m| m.value);
                Some((at(x)?, at(y)?, t.number))
            });
        let mut notes = vec![];
        if !rest.is_empty() {
            let names: Vec<&str> = rest.iter().map(|o| o.metric.as_str()).collect();
            notes.push(format!("on the front also for {}", names.join(", ")));
        }
        let evidence = [x, y].map(|o| {
            let labels = front
                .evidence
                .get(&o.metric)
                .into_iter()
                .flatten()
                .map(|e| e.label());
            (&o.metric, labels.collect::<Vec<_>>().join(" and "))
        });
        let known = evidence.iter().filter(|(_, labels)| !labels.is_empty());
        let known: Vec<String> = known
            .map(|(name, labels)| format!("{name} is {labels}"))
            .collect();
        if !known.is_empty() {
            notes.push(known.join(", "));
        }
        notes.extend(front.note.clone());
        Ok(FrontPlot {
            title: format!(
                "{}: {} of {} results on the front",
                front.study,
                front.trials.len(),
                front.results
            ),
            notes,
            joined: rest.is_empty(),
            axes: [x.clone(), y.clone()],
            points,
            knee,
        })
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
        let title = canvas.shorten(&self.title, TITLE, RIGHT - LEFT);
        canvas.text(&title, (LEFT, 30.0), TITLE, Anchor::Left)?;
        self.legend(canvas)?;
        let lines: Vec<String> = self
            .notes
            .iter()
            .flat_map(|n| canvas.wrap(n, SMALL, RIGHT - LEFT))
            .collect();
        let bottom = HEIGHT - 60.0 - LINE * lines.len() as f64;
        for (i, line) in lines.iter().enumerate() {
            canvas.text(line, (LEFT, bottom + 58.0 + LINE * i as f64), SMALL, Anchor::Left)?;
        }
        let column = |pick: fn(&PlotPoint) -> f64| self.points.iter().map(pick).collect::<Vec<f64>>();
        let scales = [
            Scale::of_metric(&self.axes[0].metric, &column(|p| p.x)),
            Scale::of_metric(&self.axes[1].metric, &column(|p| p.y)),
        ];
        let [Some(x), Some(y)] = scales else {
            let middle = ((LEFT + RIGHT) / 2.0, (TOP + bottom) / 2.0);
            return canvas.text(
                "no trial has a value of both objectives yet",
                middle,
                TEXT,
                Anchor::Center,
            );
        };
        let frame = Frame { x, y, bottom };
        frame.draw(canvas)?;
        self.draw_points(canvas, &frame)
    }

    /// The key above the plot, each entry with how many there are.
    fn legend<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Result<(), PlotError> {
        let mut x = LEFT + 6.0;
        let y = 62.0;
        let count = |standing| self.points.iter().filter(|p| p.standing == standing).count();
        for (standing, label) in [
            (Standing::OnFront, "on the front"),
            (Standing::Dominated, "dominated"),
            (Standing::Infeasible, "breaks a limit"),
        ] {
            let n = count(standing);
            if n > 0 {
                mark(canvas, (x, y), standing)?;
                let text = format!("{label} ({n})");
                canvas.text(&text, (x + 12.0, y), TEXT, Anchor::Left)?;
                x += 12.0 + canvas.text_width(&text, TEXT) + 26.0;
            }
        }
        if let Some((.., number)) = self.knee {
            canvas.diamond((x, y), 6.0, INK)?;
            canvas.text(
                &format!("knee (trial {number})"),
                (x + 13.0, y),
                TEXT,
                Anchor::Left,
            )?;
        }
        Ok(())
    }

    fn draw_points<B: DrawingBackend>(&self, canvas: &Canvas<B>, frame: &Frame) -> Result<(), PlotError> {
        if self.joined {
            let line: Vec<(f64, f64)> = self.attained().into_iter().map(|p| frame.at(p)).collect();
            canvas.line(&line, ACCENT, 0.45, 1.4)?;
        }
        let mut points: Vec<&PlotPoint> = self.points.iter().collect();
        points.sort_by_key(|p| p.standing);
        let mut drawn = BTreeSet::new();
        for point in points {
            let at = frame.at((point.x, point.y));
            // of marks that hide each other one is enough: thousands make a large file
            if !drawn.insert((point.standing, at.0 as i32, at.1 as i32)) {
                continue;
            }
            if point.standing == Standing::OnFront {
                let (dx, dy) = point.spread;
                let bar = |from, to| canvas.line(&[frame.within(from), frame.within(to)], ACCENT, 0.7, 1.0);
                if let Some(d) = dx {
                    bar((point.x - d, point.y), (point.x + d, point.y))?;
                }
                if let Some(d) = dy {
                    bar((point.x, point.y - d), (point.x, point.y + d))?;
                }
            }
            mark(canvas, at, point.standing)?;
        }
        if let Some((x, y, number)) = self.knee {
            let at = frame.at((x, y));
            canvas.diamond(at, 7.0, INK)?;
            let label = format!("knee, trial {number}");
            // beside the point, on the side that has room, and away from the front
            let to_left = at.0 + 16.0 + canvas.text_width(&label, TEXT) > RIGHT;
            let (x, anchor) = if to_left {
                (at.0 - 13.0, Anchor::Right)
            } else {
                (at.0 + 13.0, Anchor::Left)
            };
            let up = self.axes[1].direction == Direction::Minimize && at.1 - 14.0 > TOP;
            canvas.text(&label, (x, at.1 + if up { -12.0 } else { 12.0 }), TEXT, anchor)?;
        }
        Ok(())
    }

    /// The border of what the front attains: steps, because nothing between two results is known.
    fn attained(&self) -> Vec<(f64, f64)> {
        let members = self.points.iter().filter(|p| p.standing == Standing::OnFront);
        let mut members: Vec<(f64, f64)> = members.map(|p| (p.x, p.y)).collect();
        members.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut line: Vec<(f64, f64)> = vec![];
        for point in members {
            if let Some(last) = line.last().copied() {
                line.push(match self.axes[0].direction {
                    Direction::Minimize => (point.0, last.1),
                    Direction::Maximize => (last.0, point.1),
                });
            }
            line.push(point);
        }
        line
    }
}

fn mark<B: DrawingBackend>(canvas: &Canvas<B>, at: (f64, f64), standing: Standing) -> Result<(), PlotError> {
    match standing {
        Standing::OnFront => {
            // a rim keeps neighbours apart
            canvas.dot(at, 5.4, PAPER, 1.0)?;
            canvas.dot(at, 4.6, ACCENT, 1.0)
        }
        Standing::Dominated => canvas.dot(at, 3.2, FADED, 0.65),
        Standing::Infeasible => canvas.cross(at, 3.4, WARNING, 0.8),
    }
}

/// The rectangle between the axes.
pub(super) struct Frame {
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) bottom: f64,
}

impl Frame {
    /// Where a pair of values lies on the sheet.
    pub(super) fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (
            LEFT + self.x.place(x) * (RIGHT - LEFT),
            self.bottom - self.y.place(y) * (self.bottom - TOP),
        )
    }

    /// The same, held inside the frame: a bar may reach beyond what a logarithm can show.
    fn within(&self, values: (f64, f64)) -> (f64, f64) {
        let (x, y) = self.at(values);
        let inside = |v: f64, low: f64, high: f64| if v.is_nan() { low } else { v.clamp(low, high) };
        (inside(x, LEFT, RIGHT), inside(y, TOP, self.bottom))
    }

    pub(super) fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Result<(), PlotError> {
        for (value, text) in self.x.ticks() {
            let x = LEFT + self.x.place(value) * (RIGHT - LEFT);
            canvas.line(&[(x, TOP), (x, self.bottom)], GRID, 1.0, 1.0)?;
            canvas.text(&text, (x, self.bottom + 14.0), SMALL, Anchor::Center)?;
        }
        for (value, text) in self.y.ticks() {
            let y = self.bottom - self.y.place(value) * (self.bottom - TOP);
            canvas.line(&[(LEFT, y), (RIGHT, y)], GRID, 1.0, 1.0)?;
            canvas.text(&text, (LEFT - 8.0, y), SMALL, Anchor::Right)?;
        }
        canvas.frame((LEFT, TOP), (RIGHT, self.bottom), MUTED)?;
        let x_title = ((LEFT + RIGHT) / 2.0, self.bottom + 35.0);
        canvas.text(&self.x.title, x_title, TEXT, Anchor::Center)?;
        canvas.text(
            &self.y.title,
            (22.0, (TOP + self.bottom) / 2.0),
            TEXT,
            Anchor::Upward,
        )
    }
}
