//! What a search learns from: finishes in their order, and curves.

use std::collections::BTreeMap;

use serde::Serialize;
use spaces::{Candidate, Evidence, Measurement, protocol::TrialState};
use sqlx::{FromRow, Row, postgres::PgRow};

use crate::{Result, Snapshot, Store, StoreError, row};

/// A trial's end, or its rest at a part of its training. One that was tried again after it failed has several ends; the
/// last counts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finish {
    /// Place in the study's order of finishes, dense from 0.
    pub order: u32,
    /// The trial's id.
    pub trial: i64,
    /// The trial's number.
    pub number: u32,
    /// The attempt that ended.
    pub attempt: u32,
    /// How it ended.
    pub state: TrialState,
    /// The part of the full training that its values are of, where it rests.
    pub fidelity: f64,
    /// The point it tried.
    pub candidate: Candidate,
    /// Metrics computed before training.
    pub known: BTreeMap<String, f64>,
    /// Final values. Of a trial that was stopped on its way, the last point of each curve.
    pub measurements: Vec<Measurement>,
    /// Wall time in seconds, if it was done.
    pub wall_s: Option<f64>,
}

impl FromRow<'_, PgRow> for Finish {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Finish {
            order: row::number(row, "finish_order")?,
            trial: row.try_get("trial_id")?,
            number: row::number(row, "number")?,
            attempt: row::number(row, "attempt")?,
            state: row::state(row)?,
            fidelity: row.try_get("fidelity")?,
            candidate: row::json(row, "candidate")?,
            known: row::json(row, "known")?,
            measurements: row::json_or_null(row, "measurements")?.unwrap_or_default(),
            wall_s: row.try_get("wall_s")?,
        })
    }
}

/// The curve of one trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrialCurve {
    /// The trial's id.
    pub trial: i64,
    /// The trial's number.
    pub number: u32,
    /// Its state.
    pub state: TrialState,
    /// Points of its last attempt, by step.
    pub points: Vec<Measurement>,
}

impl FromRow<'_, PgRow> for TrialCurve {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(TrialCurve {
            trial: row.try_get("id")?,
            number: row::number(row, "number")?,
            state: row::state(row)?,
            points: row::json(row, "points")?,
        })
    }
}

/// A row of `measurements`.
struct Point(Measurement);

impl FromRow<'_, PgRow> for Point {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Point(Measurement {
            metric: row.try_get("metric")?,
            step: row.try_get::<i64, _>("step")?.unsigned_abs(),
            value: row.try_get("value")?,
            spread: row.try_get("spread")?,
            evidence: row::label(row, "evidence", Evidence::from_label)?,
            source: row.try_get("source")?,
        }))
    }
}

impl Store {
    /// Finishes of a study from the order `from` on, in order: pass [`Finish::order`] + 1 of the last one known.
    ///
    /// The first n of them never change, so they name the history a proposal was derived from.
    ///
    /// # Errors
    /// [`StoreError::Database`]; an unknown study has none.
    pub async fn history(&self, study: i64, from: u32) -> Result<Vec<Finish>> {
        // a trial without final values was stopped on its way: the last point of each curve is what is known of it
        Ok(sqlx::query_as(
            "select f.finish_order, f.trial_id, f.attempt, f.state, f.fidelity, t.number, t.candidate, t.known,
                case when f.state = 'done' then t.wall_s end as wall_s,
                (
                    select json_agg(json_build_object(
                        'metric', m.metric, 'step', m.step, 'value', m.value,
                        'spread', m.spread, 'evidence', m.evidence, 'source', m.source
                    ) order by m.metric)
                    from (
                        select distinct on (metric) * from measurements
                        where trial_id = f.trial_id and attempt = f.attempt and is_final = (f.state in ('done', 'paused'))
                        order by metric, step desc
                    ) m
                ) as measurements
            from finishes f join trials t on t.id = f.trial_id
            where f.study_id = $1 and f.finish_order >= $2
            order by f.finish_order",
        )
        .bind(study)
        .bind(i64::from(from))
        .fetch_all(&self.pool)
        .await?)
    }

    /// What each proposal of a study was drawn from, by number.
    ///
    /// # Errors
    /// [`StoreError::Database`]; an unknown study has none.
    pub async fn snapshots(&self, study: i64) -> Result<Vec<Snapshot>> {
        let rows = sqlx::query("select snapshot from trials where study_id = $1 order by number")
            .bind(study)
            .fetch_all(&self.pool)
            .await?;
        let snapshots: sqlx::Result<_> = rows.iter().map(|r| row::json(r, "snapshot")).collect();
        Ok(snapshots?)
    }

    /// The curves of a trial's last attempt, and of those at whose end it rested, by metric and step; no metric named means
    /// all of them.
    ///
    /// # Errors
    /// [`StoreError::Database`]; an unknown trial has none.
    pub async fn curve(&self, trial: i64, metrics: &[&str]) -> Result<Vec<Measurement>> {
        let points: Vec<Point> = sqlx::query_as(
            "select m.metric, m.step, m.value, m.spread, m.evidence, m.source
            from measurements m
            where m.trial_id = $1 and not m.is_final and (cardinality($2::text[]) = 0 or m.metric = any($2))
                and m.attempt in (
                    select attempt from trials where id = $1
                    union select attempt from finishes where trial_id = $1 and state = 'paused'
                )
            order by m.metric, m.step",
        )
        .bind(trial)
        .bind(metrics)
        .fetch_all(&self.pool)
        .await?;
        Ok(points.into_iter().map(|Point(m)| m).collect())
    }

    /// One metric's curve of every trial of a study that has one, by number: what an early stop compares.
    ///
    /// # Errors
    /// [`StoreError::Database`]; an unknown study has none.
    pub async fn curves(&self, study: i64, metric: &str) -> Result<Vec<TrialCurve>> {
        Ok(sqlx::query_as(
            "select t.id, t.number, t.state, json_agg(json_build_object(
                'metric', m.metric, 'step', m.step, 'value', m.value,
                'spread', m.spread, 'evidence', m.evidence, 'source', m.source
            ) order by m.step) as points
            from trials t join measurements m on m.trial_id = t.id and m.attempt = t.attempt
            where t.study_id = $1 and not m.is_final and m.metric = $2
            group by t.id
            order by t.number",
        )
        .bind(study)
        .bind(row::clean(metric))
        .fetch_all(&self.pool)
        .await?)
    }
}

/// Refuses values by metric that JSON cannot carry.
pub(crate) fn check_finite(values: &BTreeMap<String, f64>) -> Result<()> {
    match values.iter().find(|(_, value)| !value.is_finite()) {
        Some((metric, value)) => Err(StoreError::Invalid(format!(
            "the value {value} of '{metric}' is not a finite number; leave the metric out or mend its formula"
        ))),
        None => Ok(()),
    }
}
