//! Problems and methods as they are named on the command line.

use search::{
    Method, REGISTRY,
    benchmark::{BENCHMARKS, Benchmark},
};

use crate::errors::BadInput;

/// The problems of these names, or all.
pub(super) fn problems(named: &[String]) -> anyhow::Result<Vec<&'static Benchmark>> {
    all_or("problem", named, BENCHMARKS, |b| b.name)
}

/// The methods of these names, or all.
pub(super) fn methods(named: &[String]) -> anyhow::Result<Vec<&'static Method>> {
    all_or("method", named, REGISTRY, |m| m.name)
}

fn all_or<T>(
    kind: &str,
    named: &[String],
    known: &'static [T],
    name_of: fn(&T) -> &'static str,
) -> anyhow::Result<Vec<&'static T>> {
    if named.is_empty() {
        return Ok(known.iter().collect());
    }
    let mut found: Vec<&T> = Vec::with_capacity(named.len());
    for name in named {
        let Some(one) = known.iter().find(|k| name_of(k) == name) else {
            return Err(BadInput::error(spaces::suggest(
                kind,
                name,
                known.iter().map(name_of),
            )));
        };
        if found.iter().any(|f| name_of(f) == name) {
            return Err(BadInput::error(format!(
                "{kind} '{name}' is named twice; remove one"
            )));
        }
        found.push(one);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_in_order_and_wrong_ones_get_a_remedy() {
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            problems(&names).map(|found| found.iter().map(|b| b.name).collect::<Vec<_>>())
        };
        assert_eq!(of(&["tower", "zdt1"]).unwrap(), ["tower", "zdt1"]);
        assert_eq!(of(&[]).unwrap().len(), BENCHMARKS.len());
        let error = |names| of(names).unwrap_err().to_string();
        assert_eq!(error(&["zdt11"]), "unknown problem 'zdt11'; did you mean 'zdt1'?");
        assert_eq!(
            error(&["zdt1", "zdt1"]),
            "problem 'zdt1' is named twice; remove one"
        );
        assert!(methods(&["nsga-2".to_owned()]).is_err());
    }
}
