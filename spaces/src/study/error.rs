//! Errors of a study file, each with its place, the value and the remedy.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong with a study or configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SpecError {
    /// Where it stands: `space.layers.int`, `objective[1].metric`.
    pub path: String,
    /// Line in the TOML text, from 1, where one is known.
    pub line: Option<usize>,
    /// The offending value and the remedy, in one sentence.
    pub message: String,
}

impl SpecError {
    /// An error at a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        SpecError {
            path: path.into(),
            line: None,
            message: message.into(),
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for SpecError {}

/// The sentence for an unknown name, with the nearest known one.
pub fn suggest<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let nearest = known
        .clone()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .min()
        .filter(|(distance, k)| *distance <= k.len().max(name.len()) / 2);
    match nearest {
        Some((_, k)) => format!("unknown {kind} '{name}'; did you mean '{k}'?"),
        None => {
            let known: Vec<_> = known.take(40).collect();
            format!("unknown {kind} '{name}'; known are {}", known.join(", "))
        }
    }
}
