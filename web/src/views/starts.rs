//! What a study may begin with: what an earlier one found.

use std::collections::BTreeMap;

use spaces::{Catalog, Study, Value};

use super::Front;

/// The front of an earlier study as points of `study`'s space: each once, none that `study` begins with already, and no
/// more altogether than it has trials.
pub fn starts(earlier: &Front, study: &Study, catalog: &Catalog) -> Vec<BTreeMap<String, Value>> {
    let mut starts: Vec<BTreeMap<String, Value>> = vec![];
    for trial in &earlier.trials {
        let point = study.adopt(catalog, &trial.config).values;
        if !starts.contains(&point) && !study.start.iter().any(|own| own.values == point) {
            starts.push(point);
        }
    }
    starts.truncate((study.spec.search.trials as usize).saturating_sub(study.start.len()));
    starts
}
