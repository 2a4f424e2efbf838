//! The trials that the processes learn from.

use spaces::Candidate;

use crate::{History, Pending, Problem, Trial, ranking};

/// Most results that a process learns from: what it costs grows with their cube.
const MOST: usize = 160;
/// Most failures that the process for success learns from.
const MOST_FAILURES: usize = 60;
/// Fewest trials that have children among the candidates.
const PARENTS: usize = 12;

/// What is learnt from, with unit coordinates (`None` where inactive).
pub(super) struct Data<'h> {
    /// Trials with a result, in finish order.
    pub(super) trials: Vec<&'h Trial>,
    /// Their coordinates.
    pub(super) units: Vec<Vec<Option<f64>>>,
    pub(super) pending: Vec<&'h Pending>,
    pub(super) pending_units: Vec<Vec<Option<f64>>>,
    /// Coordinates of the latest trials without a result.
    pub(super) failures: Vec<Vec<Option<f64>>>,
    /// Coordinates of the best trials: whole ranks of them.
    pub(super) parents: Vec<Vec<Option<f64>>>,
}

impl<'h> Data<'h> {
    /// Every trial, or of many the best, the latest and some of all times.
    pub(super) fn new(problem: &Problem, history: &'h History) -> Data<'h> {
        let encode = |candidate: &Candidate| problem.space.encode(candidate);
        let parents = ranking::ranks(history.trials(), PARENTS);
        let parents = parents
            .into_iter()
            .flatten()
            .map(|t| encode(&t.candidate))
            .collect();
        let usable: Vec<&Trial> = history.trials().iter().filter(|t| t.values.is_some()).collect();
        let trials = if usable.len() <= MOST {
            usable
        } else {
            let (n, quarter) = (usable.len(), MOST / 4);
            let best = ranking::parents(history.trials(), MOST / 2);
            let mut chosen: Vec<u32> = best.iter().map(|p| p.trial.number).collect();
            chosen.extend(usable[n - quarter..].iter().map(|t| t.number));
            chosen.extend((0..quarter).map(|i| usable[i * n / quarter].number));
            chosen.sort_unstable();
            usable
                .into_iter()
                .filter(|t| chosen.binary_search(&t.number).is_ok())
                .collect()
        };
        let failures = history
            .trials()
            .iter()
            .rev()
            .filter(|t| t.values.is_none())
            .take(MOST_FAILURES);
        Data {
            units: trials.iter().map(|t| encode(&t.candidate)).collect(),
            trials,
            pending_units: history
                .pending()
                .iter()
                .map(|p| encode(&p.proposal.candidate))
                .collect(),
            pending: history.pending().iter().collect(),
            failures: failures.map(|t| encode(&t.candidate)).collect(),
            parents,
        }
    }
}
