//! The sentences of a recommendation.

use super::{GivenUp, Relax};
use crate::text::{exact, limit_text, short};

impl GivenUp {
    pub(super) fn text(&self) -> String {
        let GivenUp {
            metric,
            value,
            best,
            best_id,
        } = self;
        let shown = format!("{metric} {}", short(metric, *value));
        if value == best {
            return format!("{shown} is the best");
        }
        let side = if value > best { "above" } else { "below" };
        let gap = if *best == 0.0 {
            short(metric, (value - best).abs())
        } else {
            format!("{:.1} %", 100.0 * ((value - best) / best).abs())
        };
        format!(
            "{shown} is {gap} {side} the best ({}, trial {best_id})",
            short(metric, *best)
        )
    }
}

impl Relax {
    pub(super) fn text(&self) -> String {
        let Relax { limit, value, by } = self;
        let (limit, value) = (limit_text(limit), exact(&limit.metric, *value));
        format!("relax {limit} by {:.1} % to {value}", 100.0 * by)
    }
}

pub(super) fn unmeasured(metric: &str, measured: &[String]) -> String {
    let known = spaces::suggest("metric", metric, measured.iter().map(String::as_str));
    format!("no trial has a value of '{metric}': {known}")
}
