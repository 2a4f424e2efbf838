//! The results as pictures: volume by evaluations for each problem, cost of a proposal by length of history.

use web::plots::{Line, LinesPlot, Scale};

use super::{quality::Quality, speed::Speed};

/// One picture for each problem, with its file's name.
pub(super) fn qualities(rows: &[Quality], how: &str) -> Vec<(String, LinesPlot)> {
    let problems = rows.chunk_by(|a, b| a.problem == b.problem);
    problems
        .map(|rows| (format!("quality-{}", rows[0].problem), quality(rows, how)))
        .collect()
}

fn quality(rows: &[Quality], how: &str) -> LinesPlot {
    let trials = rows[0].curve.len();
    let ends: Vec<f64> = rows
        .iter()
        .flat_map(|r| &r.curve)
        .flat_map(|q| [q.lower, q.upper])
        .collect();
    let line = |row: &Quality| Line {
        name: row.method.to_owned(),
        points: row
            .curve
            .iter()
            .map(|q| (q.evaluations as f64, q.median))
            .collect(),
        band: row.curve.iter().map(|q| (q.lower, q.upper)).collect(),
    };
    LinesPlot {
        title: format!("{}: normalised hypervolume by evaluations", rows[0].problem),
        note: format!(
            "median and quartiles of {} seeds, {how}; 1 is the whole front",
            rows[0].seeds
        ),
        axes: [
            Scale::from_zero("evaluations", trials as f64),
            Scale::of_values("normalised hypervolume (more is better)", &ends, false),
        ],
        lines: rows.iter().map(line).collect(),
    }
}

/// The cost of a proposal by the number of finished trials, on logarithmic axes.
pub(super) fn proposals(speed: &Speed) -> LinesPlot {
    let rows = &speed.proposals;
    let mut lines: Vec<Line> = vec![];
    for row in rows {
        let point = (f64::from(row.trials), row.next.cpu_ms);
        match lines.iter_mut().find(|l| l.name == row.method) {
            Some(line) => line.points.push(point),
            None => lines.push(Line {
                name: row.method.to_owned(),
                points: vec![point],
                band: vec![],
            }),
        }
    }
    let column = |pick: fn(&(f64, f64)) -> f64| {
        lines
            .iter()
            .flat_map(|l| &l.points)
            .map(pick)
            .collect::<Vec<f64>>()
    };
    LinesPlot {
        title: "Cost of a proposal by length of the history".into(),
        note: "processor time; 20 mixed and conditional parameters, 4 objectives".into(),
        axes: [
            Scale::of_values("finished trials", &column(|p| p.0), true),
            Scale::of_values("CPU ms (less is better)", &column(|p| p.1), true),
        ],
        lines,
    }
}
