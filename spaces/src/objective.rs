//! What a study optimises and what it must keep to.

use serde::{Deserialize, Serialize};

use crate::{Direction, Metric, metric};

/// A metric to be optimised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Objective {
    /// The metric's name.
    pub metric: String,
    /// Which way is better.
    pub direction: Direction,
    /// Computed exactly before training, so a search need not model it.
    #[serde(default)]
    pub known_before_training: bool,
}

impl From<&Metric> for Objective {
    fn from(m: &Metric) -> Self {
        Objective {
            metric: m.name.to_owned(),
            direction: m.direction,
            known_before_training: m.known_before_training,
        }
    }
}

/// A limit on a metric, in the metric's unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limit {
    /// The metric's name.
    pub metric: String,
    /// The metric must be at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The metric must be at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

impl Limit {
    /// How far beyond the limit the value is, in units of the limit; 0 where it is kept.
    pub fn violation(&self, value: f64) -> f64 {
        let over = |gap: f64, limit: f64| {
            if gap > 0.0 {
                gap / limit.abs().max(1e-12)
            } else {
                0.0
            }
        };
        let above = self.max.map_or(0.0, |max| over(value - max, max));
        let below = self.min.map_or(0.0, |min| over(min - value, min));
        above.max(below)
    }

    /// Whether the value keeps to the limit; NaN does not.
    pub fn holds(&self, value: f64) -> bool {
        self.max.is_none_or(|max| value <= max) && self.min.is_none_or(|min| value >= min)
    }

    /// Parses `model_bytes<=4 MiB` or `accuracy>=0.5`.
    ///
    /// # Errors
    /// A sentence naming the part that cannot be read.
    pub fn parse(text: &str) -> Result<Limit, String> {
        let (operator, at) = ["<=", ">="]
            .iter()
            .find_map(|op| text.find(op).map(|at| (*op, at)))
            .ok_or_else(|| format!("'{text}' is not a limit; write METRIC<=VALUE or METRIC>=VALUE"))?;
        let name = text[..at].trim();
        let metric = metric(name)
            .ok_or_else(|| crate::suggest("metric", name, crate::METRICS.iter().map(|m| m.name)))?;
        let value = crate::quantity::parse(&text[at + 2..], metric.unit)?;
        let (min, max) = if operator == "<=" {
            (None, Some(value))
        } else {
            (Some(value), None)
        };
        Ok(Limit {
            metric: name.to_owned(),
            min,
            max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_judged() {
        let limit = Limit::parse("model_bytes <= 1 KiB").unwrap();
        assert_eq!(limit.max, Some(1024.0));
        assert!(limit.holds(1024.0) && !limit.holds(1025.0) && !limit.holds(f64::NAN));
        assert_eq!(limit.violation(2048.0), 1.0);
        assert_eq!(limit.violation(0.0), 0.0);
        assert!(Limit::parse("model_byte<=1").unwrap_err().contains("model_bytes"));
        assert!(Limit::parse("model_bytes=1").is_err());
    }
}
