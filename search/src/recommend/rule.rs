//! How one of many trials is chosen.

use std::fmt;

/// How to choose among the trials that keep the limits.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Where the front bends most: see [`crate::knee`].
    Knee,
    /// This very trial.
    Trial(i64),
    /// The least of a metric.
    Min(String),
    /// The most of a metric.
    Max(String),
}

/// Why a text is not a rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("'{0}' is not a rule; write knee, trial:ID, min:METRIC or max:METRIC")]
pub struct RuleError(String);

impl Rule {
    /// Reads `knee`, `trial:ID`, `min:METRIC` or `max:METRIC`.
    ///
    /// # Errors
    /// [`RuleError`] with the forms that can be read.
    pub fn parse(text: &str) -> Result<Rule, RuleError> {
        let text = text.trim();
        let rule = match text.split_once(':') {
            None if text == "knee" => Some(Rule::Knee),
            Some(("trial", id)) => id.trim().parse().ok().map(Rule::Trial),
            Some(("min", metric)) if !metric.trim().is_empty() => Some(Rule::Min(metric.trim().to_owned())),
            Some(("max", metric)) if !metric.trim().is_empty() => Some(Rule::Max(metric.trim().to_owned())),
            _ => None,
        };
        rule.ok_or_else(|| RuleError(text.to_owned()))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Knee => write!(f, "knee"),
            Rule::Trial(id) => write!(f, "trial:{id}"),
            Rule::Min(metric) => write!(f, "min:{metric}"),
            Rule::Max(metric) => write!(f, "max:{metric}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_back() {
        for text in ["knee", "trial:12", "min:model_bytes", "max:accuracy"] {
            assert_eq!(Rule::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "elbow", "trial:first", "min:", "max", "knee:1"] {
            let message = Rule::parse(text).unwrap_err().to_string();
            assert!(
                message.contains(&format!("'{text}' is not a rule; write knee")),
                "{message}"
            );
        }
    }
}
