//! How trials are trained in parts: the keys `search.fidelity` and `search.full_trials`.

use serde::{Deserialize, Serialize};

use super::{SpecError, StudySpec, suggest};
use crate::Catalog;

/// `search.fidelity`: trains many configurations a little and the promising ones further.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FidelitySpec {
    /// Ascending parts of the full training at which trials are judged; the last is 1.
    pub steps: Vec<f64>,
    /// A rule of the catalogue, which decides who is trained on.
    #[serde(default = "FidelitySpec::default_rule")]
    pub rule: String,
    /// One in so many is trained on from each step.
    #[serde(default = "FidelitySpec::default_eta")]
    pub eta: u32,
}

impl FidelitySpec {
    pub(super) fn default_rule() -> String {
        "mo_asha".into()
    }

    pub(super) fn default_eta() -> u32 {
        3
    }
}

/// Checks `search.fidelity` and `search.full_trials`.
pub(super) fn check(spec: &StudySpec, catalog: &Catalog, errors: &mut Vec<SpecError>) {
    let mut error = |path: &str, message: String| errors.push(SpecError::new(path, message));
    if let Some(least) = spec
        .search
        .full_trials
        .filter(|n| !(1.0..f64::INFINITY).contains(n))
    {
        error(
            "search.full_trials",
            format!("{least} leaves no trial trained in full; give at least 1"),
        );
    }
    let Some(fidelity) = &spec.search.fidelity else {
        return;
    };
    let steps = &fidelity.steps;
    let path = "search.fidelity.steps";
    if let Some(step) = steps.iter().find(|s| !(**s > 0.0 && **s <= 1.0)) {
        error(
            path,
            format!("{step} is no part of a training; use numbers above 0 up to 1"),
        );
    } else if let Some(two) = steps.windows(2).find(|two| two[0] >= two[1]) {
        error(
            path,
            format!("{} stands before {}; put them in ascending order", two[0], two[1]),
        );
    } else if steps.last() != Some(&1.0) {
        let last = steps.last().map_or_else(|| "nothing".to_owned(), f64::to_string);
        error(
            path,
            format!("the last step is {last}, so no trial is trained in full; end with 1.0"),
        );
    } else if steps.len() < 2 {
        error(
            path,
            "a single step trains every trial in full; add an earlier one, or remove search.fidelity".into(),
        );
    }
    let rule = &fidelity.rule;
    let Some(info) = catalog.rules.iter().find(|r| r.name == *rule) else {
        let known = catalog.rules.iter().map(|r| r.name.as_str());
        return error("search.fidelity.rule", suggest("rule", rule, known));
    };
    if let Some(needs) = &info.needs
        && !spec.objective.iter().any(|o| o.metric == *needs)
    {
        error(
            "search.fidelity.rule",
            format!("'{rule}' extrapolates {needs}, which is no objective; add it or choose another rule"),
        );
    }
}
