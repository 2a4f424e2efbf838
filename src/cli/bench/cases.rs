//! The attentions that are compared, each in every form, and how their costs grow.

use std::collections::BTreeMap;

use rand::RngExt;
use search::proposal_rng;
use spaces::{Catalog, Config, Domain, ParameterInfo, Test, Value, study::config_from_toml};

use super::statistics::quantile;
use crate::errors::{BadInput, spec_errors};

/// How often points are drawn again for an interval of slopes.
const REDRAWN: usize = 2000;

/// An attention in one of its forms.
pub(super) struct Case {
    pub(super) name: String,
    settings: BTreeMap<String, String>,
}

impl Case {
    /// A configuration with this attention, and the sizes that are given as lines of TOML.
    pub(super) fn config(&self, catalog: &Catalog, sizes: &str) -> anyhow::Result<Config> {
        let settings: String = self
            .settings
            .iter()
            .map(|(k, v)| format!("{k} = \"{v}\"\n"))
            .collect();
        let text = format!("[data]\ncorpus = \"markov\"\n[fixed]\n{sizes}{settings}");
        config_from_toml(&text, catalog).map_err(|e| spec_errors("the model", &e))
    }
}

/// Those of these names, or all if there is none, each in every form that it gives a name to.
pub(super) fn cases(catalog: &Catalog, names: &[String]) -> anyhow::Result<Vec<Case>> {
    let known: Vec<&str> = catalog
        .techniques
        .iter()
        .filter(|t| t.family == "attention")
        .map(|t| t.name.as_str())
        .collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        let message = format!("--attention {name} is not one of {}", known.join(", "));
        return Err(BadInput::error(message));
    }
    let chosen = known
        .iter()
        .filter(|name| names.is_empty() || names.iter().any(|a| a == *name));
    Ok(chosen.flat_map(|name| forms(catalog, name)).collect())
}

/// Refuses contexts between which there is no slope.
pub(super) fn check_contexts(contexts: &[u32]) -> anyhow::Result<()> {
    if contexts.len() > 1 {
        return Ok(());
    }
    let message = format!("--context {} is one point, and a slope needs two", contexts[0]);
    Err(BadInput::error(message))
}

/// An attention in every form that a named setting of its own gives it.
fn forms(catalog: &Catalog, name: &str) -> Vec<Case> {
    let is_own = |p: &&ParameterInfo| {
        p.condition.clauses.len() == 1
            && p.condition.clauses[0].parent == "attention"
            && p.condition.clauses[0].test == Test::In(vec![Value::Text(name.to_owned())])
    };
    let form = catalog
        .parameters
        .iter()
        .filter(is_own)
        .find_map(|p| match &p.allowed {
            Domain::Categorical { choices } if choices.iter().all(|c| c.as_str().is_some()) => {
                Some((p.name.clone(), choices))
            }
            _ => None,
        });
    let case = |form: Option<(&str, &str)>| Case {
        name: form.map_or(name.to_owned(), |(_, value)| format!("{name} {value}")),
        settings: [("attention", name)]
            .into_iter()
            .chain(form)
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
    };
    match form {
        Some((parameter, choices)) => choices
            .iter()
            .filter_map(Value::as_str)
            .map(|value| case(Some((&parameter, value))))
            .collect(),
        None => vec![case(None)],
    }
}

/// Least-squares slope of the logarithm of a value over the logarithm of the context.
pub(super) fn slope(points: impl Iterator<Item = (u32, f64)>) -> f64 {
    let (xs, ys): (Vec<f64>, Vec<f64>) = points
        .map(|(context, y)| (f64::from(context).ln(), y.ln()))
        .unzip();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mx, my) = (mean(&xs), mean(&ys));
    let over: f64 = xs.iter().zip(&ys).map(|(x, y)| (x - mx) * (y - my)).sum();
    over / xs.iter().map(|x| (x - mx).powi(2)).sum::<f64>()
}

/// Between which slopes 95 % of those lie that come of points drawn again with replacement (Efron, 1979).
pub(super) fn slope_interval(points: &[(u32, f64)]) -> [f64; 2] {
    let mut rng = proposal_rng(0, 0);
    let slopes: Vec<f64> = (0..REDRAWN)
        .map(|_| slope((0..points.len()).map(|_| points[rng.random_range(0..points.len())])))
        // points of a single context have no slope
        .filter(|slope| slope.is_finite())
        .collect();
    [0.025, 0.975].map(|share| quantile(&slopes, share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attention_is_there_and_one_with_named_forms_in_each_of_them() {
        let catalog = evaluator::catalog();
        let names = |name: &str| {
            forms(&catalog, name)
                .into_iter()
                .map(|c| c.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names("aft"), ["aft full", "aft local", "aft simple", "aft conv"]);
        assert_eq!(names("linear"), ["linear elu1", "linear relu", "linear favor"]);
        let attentions = catalog.techniques.iter().filter(|t| t.family == "attention");
        for attention in attentions.filter(|t| t.name != "aft" && t.name != "linear") {
            assert_eq!(names(&attention.name), std::slice::from_ref(&attention.name));
        }
    }

    #[test]
    fn the_interval_holds_the_slope_and_not_those_that_the_points_deny() {
        let noise = |n: u32, i: u32| 1.0 + 0.02 * f64::from((n / 128 * 7 + i * 5) % 11) / 11.0;
        let of = |power: f64| {
            let rounds = (0..3).flat_map(|i| [128, 256, 512, 1024].map(|n| (n, i)));
            rounds
                .map(|(n, i)| (n, f64::from(n).powf(power) * noise(n, i)))
                .collect::<Vec<_>>()
        };
        let [low, high] = slope_interval(&of(0.0));
        assert!(low < 0.0 && 0.0 < high && high - low < 0.05, "{low} {high}");
        let [low, high] = slope_interval(&of(0.5));
        assert!(low < 0.5 && 0.5 < high && low > 0.4, "{low} {high}");
    }

    #[test]
    fn the_slope_is_the_exponent() {
        let points = [256, 512, 4096].map(|n: u32| (n, 3.0 * f64::from(n).powf(1.5)));
        assert!((slope(points.into_iter()) - 1.5).abs() < 1e-9);
    }
}
