//! Rows as CSV: a column for each parameter and metric that any row has.

use std::collections::BTreeSet;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{FrontTrial, TrialRow};

/// Trials as CSV, with their state and times.
pub fn trials_csv(rows: &[TrialRow]) -> String {
    let parameters: BTreeSet<&str> = rows
        .iter()
        .flat_map(|r| r.config.keys())
        .map(String::as_str)
        .collect();
    let metrics: BTreeSet<&str> = rows
        .iter()
        .flat_map(|r| r.metrics.keys())
        .map(String::as_str)
        .collect();
    let lead = [
        "number",
        "id",
        "repeats",
        "state",
        "trainings",
        "attempt",
        "worker",
        "feasible",
    ];
    let tail = ["trained", "wall_s", "started_at", "finished_at", "failure"];
    let mut table = Table::new(
        lead.into_iter()
            .chain(parameters.clone())
            .chain(metrics.clone())
            .chain(tail),
    );
    for row in rows {
        table.cell(row.number);
        table.cell(row.id);
        table.cell_or_empty(row.repeats);
        table.cell(row.state.label());
        table.cell(row.trainings);
        table.cell(row.attempt);
        table.cell(row.worker.as_deref().unwrap_or_default());
        table.cell_or_empty(row.feasible);
        for name in &parameters {
            table.cell_or_empty(row.config.get(*name));
        }
        for name in &metrics {
            table.cell_or_empty(row.metrics.get(*name).map(|m| m.value));
        }
        table.cell(row.trained);
        table.cell_or_empty(row.wall_s);
        table.cell_or_empty(row.started_at.map(timestamp));
        table.cell_or_empty(row.finished_at.map(timestamp));
        table.cell(row.failure.as_ref().map_or("", |f| f.message.as_str()));
        table.end_row();
    }
    table.finish()
}

/// The trials of a front as CSV.
pub fn front_csv(trials: &[FrontTrial]) -> String {
    let parameters: BTreeSet<&str> = trials
        .iter()
        .flat_map(|t| t.config.keys())
        .map(String::as_str)
        .collect();
    let metrics: BTreeSet<&str> = trials
        .iter()
        .flat_map(|t| t.metrics.keys())
        .map(String::as_str)
        .collect();
    let mut table = Table::new(
        ["number", "id"]
            .into_iter()
            .chain(parameters.clone())
            .chain(metrics.clone()),
    );
    for trial in trials {
        table.cell(trial.number);
        table.cell(trial.id);
        for name in &parameters {
            table.cell_or_empty(trial.config.get(*name));
        }
        for name in &metrics {
            table.cell_or_empty(trial.metrics.get(*name).map(|m| m.value));
        }
        table.end_row();
    }
    table.finish()
}

struct Table {
    writer: csv::Writer<Vec<u8>>,
}

const IN_MEMORY: &str = "writing into memory cannot fail";

impl Table {
    fn new<'a>(header: impl Iterator<Item = &'a str>) -> Table {
        let mut writer = csv::Writer::from_writer(vec![]);
        writer.write_record(header).expect(IN_MEMORY);
        Table { writer }
    }

    fn cell(&mut self, value: impl ToString) {
        self.writer.write_field(value.to_string()).expect(IN_MEMORY);
    }

    fn cell_or_empty(&mut self, value: Option<impl ToString>) {
        self.cell(value.map_or_else(String::new, |v| v.to_string()));
    }

    fn end_row(&mut self) {
        self.writer.write_record(None::<&[u8]>).expect(IN_MEMORY);
    }

    fn finish(self) -> String {
        let bytes = self.writer.into_inner().expect(IN_MEMORY);
        String::from_utf8(bytes).expect("every field was text")
    }
}

fn timestamp(at: OffsetDateTime) -> String {
    at.format(&Rfc3339)
        .expect("times of the database have a year of four digits")
}
