//! Metrics and limits as a query names them.

use spaces::{Limit, METRICS, Objective, metric, suggest};

use crate::Problem;

/// Reads each `METRIC<=VALUE` or `METRIC>=VALUE`.
pub(super) fn limits(texts: &[String]) -> Result<Vec<Limit>, Problem> {
    let read = |text: &String| Limit::parse(text).map_err(|e| Problem::bad_request(format!("where: {e}")));
    texts.iter().map(read).collect()
}

/// Reads metrics as objectives, each in its own direction.
pub(super) fn objectives(names: &[String]) -> Result<Vec<Objective>, Problem> {
    let mut objectives: Vec<Objective> = vec![];
    for name in names {
        let known = metric(name).ok_or_else(|| {
            let sentence = suggest("metric", name, METRICS.iter().map(|m| m.name));
            Problem::bad_request(format!("metric: {sentence}"))
        })?;
        if objectives.iter().any(|o| o.metric == *name) {
            return Err(Problem::bad_request(format!(
                "metric: '{name}' is given twice; remove one"
            )));
        }
        objectives.push(known.into());
    }
    Ok(objectives)
}
