//! Tables for people.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::NOTHING};
use spaces::{
    Measurement, metric,
    quantity::{self, Scale},
};
use store::StudySummary;
use web::views::{Front, FrontTrial, MetricValue, TrialRow};

/// A table with this head.
pub(crate) fn table<S: ToString>(header: impl IntoIterator<Item = S>) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.into_iter().map(|s| s.to_string()));
    table
}

/// Numbers read best when their ends are below one another.
pub(crate) fn right(table: &mut Table, columns: std::ops::Range<usize>) {
    for i in columns {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

type Metrics = BTreeMap<String, MetricValue>;

/// A metric's column: one unit for all its numbers, said once in its head.
struct Column {
    metric: String,
    scale: Scale,
}

impl Column {
    fn new<'a>(metric: &str, rows: impl Iterator<Item = &'a Metrics>) -> Column {
        let mut values: Vec<&MetricValue> = rows.filter_map(|m| m.get(metric)).collect();
        values.sort_by(|a, b| a.value.total_cmp(&b.value));
        let scale = values
            .get(values.len() / 2)
            .map_or_else(|| Scale::of(0.0, ""), |v| Scale::of(v.value, v.unit));
        Column {
            metric: metric.to_owned(),
            scale,
        }
    }

    fn head(&self) -> String {
        match self.scale.unit.as_str() {
            "" => self.metric.clone(),
            unit => format!("{}\n{unit}", self.metric),
        }
    }

    fn cell(&self, metrics: &Metrics) -> String {
        metrics
            .get(&self.metric)
            .map_or_else(String::new, |v| self.scale.number(v.value))
    }
}

/// The front: objectives first, then the searched parameters in which its trials differ.
pub(crate) fn front_table(front: &Front, searched: &[String], recommended: Option<i64>) -> String {
    let varied = varied(&front.trials, searched);
    let columns: Vec<Column> = front
        .objectives
        .iter()
        .map(|o| Column::new(&o.metric, front.trials.iter().map(|t| &t.metrics)))
        .collect();
    let names = columns.iter().map(Column::head).chain(varied.clone());
    let mut table = table(["", "trial"].map(String::from).into_iter().chain(names));
    for trial in &front.trials {
        let mark = if recommended == Some(trial.id) { "*" } else { "" };
        let mut row = vec![mark.to_owned(), trial.id.to_string()];
        row.extend(columns.iter().map(|c| c.cell(&trial.metrics)));
        row.extend(
            varied
                .iter()
                .map(|p| trial.config.get(p).map_or_else(|| "-".into(), short)),
        );
        table.add_row(row);
    }
    right(&mut table, 1..2 + front.objectives.len());
    let mut text = table.to_string();
    let volume = front
        .hypervolume
        .map_or_else(String::new, |v| format!(", hypervolume {v:.6e}"));
    text += &format!(
        "\n{} on the front of {} results{volume}",
        front.trials.len(),
        front.results
    );
    if let Some(note) = &front.note {
        text += &format!("\n{note}");
    }
    text
}

fn short(value: &spaces::Value) -> String {
    match value {
        spaces::Value::Float(x) => {
            let rounded = format!("{x:.4}");
            let plain = rounded.trim_end_matches('0').trim_end_matches('.');
            if x.abs() >= 1e-3 || *x == 0.0 {
                plain.to_owned()
            } else {
                format!("{x:.2e}")
            }
        }
        other => other.to_string(),
    }
}

/// Searched parameters that are not the same in all the trials.
fn varied(trials: &[FrontTrial], searched: &[String]) -> Vec<String> {
    let differs = |name: &&String| {
        trials
            .windows(2)
            .any(|w| w[0].config.get(*name) != w[1].config.get(*name))
    };
    searched.iter().filter(differs).cloned().collect()
}

/// Every metric with its unit, spread, evidence and source.
pub(crate) fn metrics_table(measurements: &[Measurement]) -> String {
    let mut table = table(["metric", "value", "spread", "evidence", "source"]);
    for m in measurements {
        let unit = metric(&m.metric).map_or("", |known| known.unit);
        let spread = m
            .spread
            .map_or_else(String::new, |s| format!("± {}", quantity::format(s, unit)));
        table.add_row([
            m.metric.clone(),
            quantity::format(m.value, unit),
            spread,
            m.evidence.label().into(),
            m.source.clone(),
        ]);
    }
    right(&mut table, 1..3);
    table.to_string()
}

/// Studies with their progress.
pub(crate) fn studies_table(studies: &[StudySummary]) -> String {
    let mut table = table([
        "id",
        "name",
        "state",
        "done",
        "running",
        "paused",
        "queued",
        "failed",
        "of",
        "last change",
    ]);
    for s in studies {
        let c = s.counts;
        let changed = s.study.changed_at;
        let date = format!(
            "{} {:02}:{:02} UTC",
            changed.date(),
            changed.hour(),
            changed.minute()
        );
        let row: [String; 10] = [
            s.study.id.to_string(),
            s.study.name.clone(),
            s.study.state.label().into(),
            c.done.to_string(),
            c.running.to_string(),
            c.paused.to_string(),
            c.queued.to_string(),
            c.failed.to_string(),
            s.study.spec.search.trials.to_string(),
            date,
        ];
        table.add_row(row);
    }
    right(&mut table, 3..9);
    table.to_string()
}

/// Trials with their objectives, or why they have none.
pub(crate) fn trials_table(rows: &[TrialRow], objectives: &[String]) -> String {
    let columns: Vec<Column> = objectives
        .iter()
        .map(|o| Column::new(o, rows.iter().map(|r| &r.metrics)))
        .collect();
    let in_parts = rows
        .iter()
        .any(|r| r.target < 1.0 || (r.trained > 0.0 && r.trained < 1.0));
    let mut fixed = vec!["trial", "number", "state", "attempt", "worker"];
    fixed.extend(in_parts.then_some("trained"));
    let (left, fixed) = (fixed.len(), fixed.into_iter().map(String::from));
    let names = columns.iter().map(Column::head);
    let mut table = table(fixed.chain(names).chain(["wall", "note"].map(String::from)));
    for row in rows {
        let mut cells = vec![
            row.id.to_string(),
            row.number.to_string(),
            row.state.label().to_owned(),
            row.attempt.to_string(),
            row.worker.clone().unwrap_or_default(),
        ];
        cells.extend(in_parts.then(|| format!("{:.0} %", 100.0 * row.trained)));
        cells.extend(columns.iter().map(|c| c.cell(&row.metrics)));
        cells.push(row.wall_s.map_or_else(String::new, |s| quantity::format(s, "s")));
        cells.push(match (&row.failure, row.repeats) {
            (Some(failure), _) => failure.message.clone(),
            (None, Some(first)) => format!("trains {first} again"),
            (None, None) if row.trainings > 1 => format!("means of {} trainings", row.trainings),
            (None, None) => String::new(),
        });
        table.add_row(cells);
    }
    right(&mut table, 0..2);
    right(&mut table, 5..left + 1 + objectives.len());
    table.to_string()
}
