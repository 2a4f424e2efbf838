//! What is known about a candidate before it is tried.

use std::collections::BTreeMap;

use spaces::Candidate;

/// What is known about a candidate before it is tried.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It cannot be built; says why, such as "3 heads do not divide width 64".
    Invalid(String),
    /// Metrics that a formula gives exactly, by name, in the direction in which they are measured.
    Values(BTreeMap<String, f64>),
}

/// Answers what is known about candidates before they are tried.
///
/// Samplers ask about many candidates at once, because a batch may be one message to another program.
pub trait Oracle {
    /// One answer for each candidate, in their order.
    fn known(&mut self, candidates: &[Candidate]) -> Vec<Known>;
}

/// Knows nothing: every candidate can be built and has to be tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOracle;

impl Oracle for NoOracle {
    fn known(&mut self, candidates: &[Candidate]) -> Vec<Known> {
        vec![Known::Values(BTreeMap::new()); candidates.len()]
    }
}
