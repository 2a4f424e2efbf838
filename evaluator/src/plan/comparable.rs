//! Which parameters change what a loss is taken on, so that a study which opens them would compare what does not compare.

use spaces::{Domain, Study};

use crate::{meters, model::kinds};

/// Where a study opens what changes the meaning of a metric that it is judged by: the parameter and one sentence for each.
pub fn incomparable(study: &Study) -> Vec<(String, String)> {
    let judged = study.objectives.iter().map(|o| &o.metric);
    let judged = judged.chain(study.limits.iter().map(|limit| &limit.metric));
    let Some(metric) = judged.into_iter().find(|m| meters::of_quality(m)) else {
        return vec![];
    };
    let opened = study.space.parameters().iter();
    opened
        .filter(|parameter| {
            let several = match &parameter.domain {
                Domain::Categorical { choices } => choices.len() > 1,
                _ => true,
            };
            several && kinds::changes_what_is_scored(&parameter.name, &parameter.domain)
        })
        .map(|parameter| {
            let name = &parameter.name;
            let message = format!(
                "'{name}' changes what {metric} is taken on, so that trials would not compare; choose one value in [fixed], and another study for each other"
            );
            (name.clone(), message)
        })
        .collect()
}
