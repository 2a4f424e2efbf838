//! What is searched: the space, the objectives, the limits and the seed.

use std::collections::BTreeMap;

use spaces::{Limit, Objective, Space};

/// What is searched, checked once and never changed. Build it with [`Problem::new`].
#[derive(Clone, Debug)]
pub struct Problem {
    /// What may vary.
    pub space: Space,
    /// What is optimised, in the order in which values are kept.
    pub objectives: Vec<Objective>,
    /// What must be kept to.
    pub limits: Vec<Limit>,
    /// Seed of every proposal.
    pub seed: u64,
    /// Up to where values count, less being better; `None` where nobody has said so.
    pub reference: Option<Vec<f64>>,
}

/// Why a problem cannot be searched.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProblemError {
    /// Nothing to optimise.
    #[error("there is no objective; name at least one metric to optimise")]
    NoObjective,
    /// A metric that is an objective twice.
    #[error("objective '{0}' is given twice; remove one")]
    DuplicateObjective(String),
    /// A limit without an end.
    #[error("the limit on '{0}' has neither min nor max; give at least one")]
    NoLimit(String),
    /// A limit that no value keeps.
    #[error("the limit on '{metric}' asks for at least {min} and at most {max}; no value is both")]
    EmptyLimit {
        /// The limited metric.
        metric: String,
        /// Its lower end.
        min: f64,
        /// Its upper end.
        max: f64,
    },
    /// NaN or infinity.
    #[error("the limit on '{metric}' is {value}, which is not a finite number")]
    LimitNotFinite {
        /// The limited metric.
        metric: String,
        /// The end given.
        value: f64,
    },
}

impl Problem {
    /// Checks the parts against each other.
    ///
    /// # Errors
    /// [`ProblemError`] for missing or repeated objectives and limits that nothing can keep.
    pub fn new(
        space: Space,
        objectives: Vec<Objective>,
        limits: Vec<Limit>,
        seed: u64,
    ) -> Result<Problem, ProblemError> {
        if objectives.is_empty() {
            return Err(ProblemError::NoObjective);
        }
        for (i, o) in objectives.iter().enumerate() {
            if objectives[..i].iter().any(|p| p.metric == o.metric) {
                return Err(ProblemError::DuplicateObjective(o.metric.clone()));
            }
        }
        for Limit { metric, min, max } in &limits {
            if let Some(value) = [min, max].into_iter().flatten().find(|v| !v.is_finite()) {
                let (metric, value) = (metric.clone(), *value);
                return Err(ProblemError::LimitNotFinite { metric, value });
            }
            match (*min, *max) {
                (None, None) => return Err(ProblemError::NoLimit(metric.clone())),
                (Some(min), Some(max)) if min > max => {
                    let metric = metric.clone();
                    return Err(ProblemError::EmptyLimit { metric, min, max });
                }
                _ => {}
            }
        }
        Ok(Problem {
            space,
            objectives,
            limits,
            seed,
            reference: None,
        })
    }

    /// Values at or beyond the reference, one for each objective with less being better, are of no use.
    #[must_use]
    pub fn up_to(self, reference: Option<Vec<f64>>) -> Problem {
        Problem { reference, ..self }
    }

    /// The objectives' values turned so that less is better; `None` if one is missing or not finite.
    pub fn minimised(&self, metrics: &BTreeMap<String, f64>) -> Option<Vec<f64>> {
        minimised(&self.objectives, metrics)
    }

    /// Undoes [`Problem::minimised`]: values as they are measured, by metric.
    pub fn measured(&self, minimised: &[f64]) -> BTreeMap<String, f64> {
        self.objectives
            .iter()
            .zip(minimised)
            .map(|(o, v)| (o.metric.clone(), o.direction.minimized(*v)))
            .collect()
    }

    /// The limited metrics that have a value, in the order of the limits.
    pub(crate) fn limited(&self, metrics: &BTreeMap<String, f64>) -> Vec<f64> {
        let value = |limit: &Limit| metrics.get(&limit.metric).copied();
        self.limits.iter().filter_map(value).collect()
    }

    /// How far all limits together are broken, 0 where they are kept; `None` if a limited metric has no value.
    pub fn violation(&self, metrics: &BTreeMap<String, f64>) -> Option<f64> {
        violation(&self.limits, metrics)
    }
}

/// The values of `objectives` turned so that less is better; `None` if one is missing or not finite.
pub(crate) fn minimised(objectives: &[Objective], metrics: &BTreeMap<String, f64>) -> Option<Vec<f64>> {
    objectives.iter().map(|o| value(o, metrics)).collect()
}

/// The value of an objective turned so that less is better; `None` if it is missing or not finite.
pub(crate) fn value(objective: &Objective, metrics: &BTreeMap<String, f64>) -> Option<f64> {
    let value = metrics.get(&objective.metric).filter(|v| v.is_finite())?;
    Some(objective.direction.minimized(*value))
}

/// Sum of the violations of `limits`, each in units of its limit; `None` if a limited metric has no finite value.
pub(crate) fn violation(limits: &[Limit], metrics: &BTreeMap<String, f64>) -> Option<f64> {
    limits
        .iter()
        .map(|limit| {
            metrics
                .get(&limit.metric)
                .filter(|v| v.is_finite())
                .map(|v| limit.violation(*v))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use spaces::Direction;

    use super::*;

    fn objective(metric: &str, direction: Direction) -> Objective {
        Objective {
            metric: metric.into(),
            direction,
            known_before_training: false,
        }
    }

    fn limit(min: Option<f64>, max: Option<f64>) -> Limit {
        Limit {
            metric: "bytes".into(),
            min,
            max,
        }
    }

    fn problem(objectives: Vec<Objective>, limits: Vec<Limit>) -> Result<Problem, ProblemError> {
        Problem::new(Space::default(), objectives, limits, 0)
    }

    #[test]
    fn direction_is_applied_once_and_undone() {
        let both = vec![
            objective("loss", Direction::Minimize),
            objective("accuracy", Direction::Maximize),
        ];
        let problem = problem(both, vec![]).unwrap();
        let mut metrics = BTreeMap::from([("loss".into(), 2.0), ("accuracy".into(), 0.5)]);
        let values = problem.minimised(&metrics).unwrap();
        assert_eq!(values, [2.0, -0.5]);
        assert_eq!(problem.measured(&values), metrics);
        metrics.insert("loss".into(), f64::NAN);
        assert_eq!(problem.minimised(&metrics), None);
        metrics.remove("loss");
        assert_eq!(problem.minimised(&metrics), None);
    }

    #[test]
    fn violations_add_up_and_a_missing_metric_is_no_zero() {
        let loss = || vec![objective("loss", Direction::Minimize)];
        let problem = problem(loss(), vec![limit(None, Some(10.0)), limit(Some(1.0), None)]).unwrap();
        let with = |v: f64| problem.violation(&BTreeMap::from([("bytes".into(), v)]));
        assert_eq!(with(5.0), Some(0.0));
        assert_eq!(with(20.0), Some(1.0));
        assert_eq!(with(f64::NAN), None);
        assert_eq!(problem.violation(&BTreeMap::new()), None);
    }

    #[test]
    fn impossible_problems_are_refused_with_the_offender() {
        let loss = || vec![objective("loss", Direction::Minimize)];
        let message = |limits| problem(loss(), limits).unwrap_err().to_string();
        assert_eq!(problem(vec![], vec![]).unwrap_err(), ProblemError::NoObjective);
        let twice = [loss(), loss()].concat();
        assert!(
            problem(twice, vec![])
                .unwrap_err()
                .to_string()
                .contains("'loss' is given twice")
        );
        assert!(message(vec![limit(None, None)]).contains("'bytes' has neither"));
        assert!(message(vec![limit(Some(2.0), Some(1.0))]).contains("at least 2 and at most 1"));
        assert!(message(vec![limit(Some(f64::NAN), None)]).contains("NaN"));
    }
}
