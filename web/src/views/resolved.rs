//! A stored study, read against the catalogue of this build.

use std::collections::BTreeMap;

use spaces::{Candidate, Catalog, Limit, Objective, SpecError, Study, Value, metric, study::resolve_study};

/// A stored study, read against the catalogue of this build.
///
/// Another version may have written it, so that it names what this build does not know; then it can be looked at, but
/// its trials' configurations hold only what was written and searched.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The study as stored.
    pub row: store::Study,
    /// What this build cannot make of it.
    pub problems: Vec<SpecError>,
    /// What is optimised.
    pub objectives: Vec<Objective>,
    /// What must be kept to.
    pub limits: Vec<Limit>,
    study: Option<Study>,
}

impl Resolved {
    /// Reads a stored study.
    pub fn new(row: store::Study, catalog: &Catalog) -> Resolved {
        match resolve_study(&row.spec, catalog) {
            Ok(study) => Resolved {
                row,
                problems: vec![],
                objectives: study.objectives.clone(),
                limits: study.limits.clone(),
                study: Some(study),
            },
            Err(problems) => {
                let known = row.spec.objective.iter().filter_map(|o| metric(&o.metric));
                Resolved {
                    problems,
                    objectives: known.map(Objective::from).collect(),
                    limits: vec![],
                    study: None,
                    row,
                }
            }
        }
    }

    /// The study with its space, where this build knows all it names.
    pub fn study(&self) -> Option<&Study> {
        self.study.as_ref()
    }

    /// Every parameter that has a meaning for the candidate, constants and defaults included.
    pub fn config(&self, catalog: &Catalog, candidate: &Candidate) -> BTreeMap<String, Value> {
        match &self.study {
            Some(study) => study.config(catalog, candidate).values,
            None => {
                let mut values = self.row.spec.fixed.clone();
                values.extend(candidate.values.clone());
                values
            }
        }
    }
}
