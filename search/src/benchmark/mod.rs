//! Problems with known answers, on which search methods are measured.
//!
//! Each problem is a constant in its family's file and a line in [`BENCHMARKS`]. [`run`] drives a sampler over one;
//! [`Benchmark::quality`] says how much of the best reachable volume its evaluations dominate.

mod classic;
mod conditional;
mod dtlz;
mod language_model;
mod mixed;
mod parts;
mod run;
#[cfg(test)]
mod tests;
mod wfg;
mod zdt;

use spaces::{Candidate, Direction, Objective, Space};

pub use self::run::{CHECKPOINTS, Settings, run};
use crate::{Front, Known, Oracle, Problem, hypervolume};

/// A problem with a known or well-searched front. Every objective is minimised.
#[derive(Debug)]
pub struct Benchmark {
    /// What it is called on the command line.
    pub name: &'static str,
    /// One line for people.
    pub doc: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// How many of the first objectives are known before a trial.
    pub known: usize,
    /// The best value of each objective on the front.
    pub ideal: &'static [f64],
    /// The corner up to which volumes are measured.
    pub reference: &'static [f64],
    /// The volume of the whole front, or the largest that was found.
    pub best_volume: f64,
    space: fn() -> Space,
    evaluate: fn(&Candidate) -> Vec<f64>,
}

/// Every problem. A new one is a constant in a file and a line here.
///
/// The reference is the median of random points, and nowhere better than the front's end in an objective, unless the
/// problem's file says otherwise: random draws then start well above nothing and far below 1.
pub const BENCHMARKS: &[Benchmark] = &[
    zdt::ZDT1,
    zdt::ZDT2,
    zdt::ZDT3,
    zdt::ZDT4,
    zdt::ZDT6,
    dtlz::DTLZ1,
    dtlz::DTLZ2,
    dtlz::DTLZ2_WIDE,
    dtlz::DTLZ3,
    dtlz::DTLZ5,
    dtlz::DTLZ7,
    wfg::WFG1,
    wfg::WFG2,
    wfg::WFG4,
    wfg::WFG9,
    classic::KURSAWE,
    classic::FONSECA,
    classic::VIENNET,
    mixed::RIPPLE,
    mixed::PANEL,
    conditional::BRANCHES,
    conditional::TOWER,
    language_model::LANGUAGE_MODEL,
];

/// The problem of that name.
pub fn benchmark(name: &str) -> Option<&'static Benchmark> {
    BENCHMARKS.iter().find(|b| b.name == name)
}

impl Benchmark {
    /// What may vary.
    pub fn space(&self) -> Space {
        (self.space)()
    }

    /// The problem to search: objectives `f0`, `f1` ..., the cheap ones marked as known if `greybox`.
    pub fn problem(&self, seed: u64, greybox: bool) -> Problem {
        let objective = |i| Objective {
            metric: metric(i),
            direction: Direction::Minimize,
            known_before_training: greybox && i < self.known,
        };
        let objectives = (0..self.reference.len()).map(objective).collect();
        Problem::new(self.space(), objectives, vec![], seed).expect("distinct objectives, no limits")
    }

    /// The objectives' values of a point of the space.
    pub fn evaluate(&self, candidate: &Candidate) -> Vec<f64> {
        (self.evaluate)(candidate)
    }

    /// What is known before a trial: the cheap objectives, exactly.
    pub fn oracle(&'static self) -> impl Oracle {
        Formulas(self)
    }

    /// The quality after each evaluation.
    pub fn curve<P: AsRef<[f64]>>(&self, values: &[P]) -> Vec<f64> {
        let (mut best, mut quality) = (Front::default(), 0.0);
        let after = |value: &P| {
            // what is dominated changes nothing
            if best.insert(value.as_ref().to_vec(), ()) {
                let members: Vec<&[f64]> = best.members().iter().map(|m| m.0.as_slice()).collect();
                quality = self.quality(&members);
            }
            quality
        };
        values.iter().map(after).collect()
    }

    /// The share of the best volume that the points dominate: 1 is the whole front.
    pub fn quality<P: AsRef<[f64]>>(&self, values: &[P]) -> f64 {
        hypervolume(values, self.reference) / self.best_volume
    }
}

/// The name of objective `i`.
fn metric(i: usize) -> String {
    format!("f{i}")
}

struct Formulas(&'static Benchmark);

impl Oracle for Formulas {
    fn known(&mut self, candidates: &[Candidate]) -> Vec<Known> {
        let known = |candidate| {
            let values = self.0.evaluate(candidate).into_iter().take(self.0.known);
            Known::Values(values.enumerate().map(|(i, v)| (metric(i), v)).collect())
        };
        candidates.iter().map(known).collect()
    }
}
