//! The default: chooses by what is searched, by how much has been tried and by what a trial costs.
//!
//! The present rule. A proposal is the Gaussian processes' where the thought takes no longer than a trial: after a hundred
//! trials they are ahead of the other methods here on nearly all problems of `benchmark`, smooth or mixed and conditional.
//! Where trials are quicker than that, as many proposals come from TPE, which costs a tenth, that thought takes about as
//! long as trials do, at most nine of ten. Nobody may have said how long trials take. Then up to 400 trials all proposals
//! are the processes'; more of them mean that they are cheap, and one in three is, above 2,000 one in ten. Spaces with more
//! than 60 parameters have too few results for processes to tell them apart and get TPE from the start.

use super::{Method, Sampler, gp::Gp, tpe::Tpe};
use crate::{Ask, AskError, History, Proposal};

pub(super) const METHOD: Method = Method {
    name: "auto",
    doc: "models what has been tried, by Gaussian processes and density estimates; right for most studies",
    paper: "Daulton, Balandat and Bakshy, NeurIPS 2021; Watanabe 2023",
    build: || Box::new(Auto::default()),
};

/// Trials up to which every proposal is the processes', where it is not known what a trial costs.
const FEW: usize = 400;
/// Trials from which few are.
const MANY: usize = 2_000;
/// Most parameters that the processes can tell apart.
const WIDE: usize = 60;
/// What a proposal of the processes costs on one core, in seconds, up to [`FEW`] trials: the order of it, which is all
/// that the rule needs. It is not measured, since a study must replay on any machine.
const THOUGHT: f64 = 0.03;
/// The same with more trials, of which the processes look at some.
const LONG_THOUGHT: f64 = 0.3;
/// Of so many proposals at least one is the processes'.
const SELDOM: u32 = 10;

#[derive(Default)]
struct Auto {
    gp: Gp,
}

impl Sampler for Auto {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        if ask.problem.space.len() <= WIDE && ask.number.is_multiple_of(every(ask.history)) {
            self.gp.ask(ask)
        } else {
            Tpe.ask(ask)
        }
    }
}

/// Of how many proposals one is the processes'.
fn every(history: &History) -> u32 {
    let trials = history.len();
    match history.trial_seconds() {
        Some(seconds) => {
            let thought = if trials <= FEW { THOUGHT } else { LONG_THOUGHT };
            // a quotient beyond the numbers, or by zero, is as good as the largest
            (thought / seconds).ceil().clamp(1.0, f64::from(SELDOM)) as u32
        }
        None if trials <= FEW => 1,
        None if trials <= MANY => 3,
        None => SELDOM,
    }
}

#[cfg(test)]
mod tests {
    use spaces::{Candidate, Direction, Objective, Space};

    use super::*;
    use crate::{Outcome, Problem};

    /// Of how many proposals one is the processes' after so many trials, each of which took so long.
    fn every_after(trials: u32, seconds: Option<f64>) -> u32 {
        let loss = Objective {
            metric: "loss".into(),
            direction: Direction::Minimize,
            known_before_training: false,
        };
        let problem = Problem::new(Space::default(), vec![loss], vec![], 0).unwrap();
        let mut history = History::default();
        for number in 0..trials {
            history.push(&problem, number, Candidate::default(), Outcome::Failed);
            history.ran_for(seconds);
        }
        every(&history)
    }

    #[test]
    fn thought_goes_with_what_a_trial_costs() {
        // what takes longer than the thought is thought about each time, however many there are
        assert_eq!([10, 500, 3_000].map(|n| every_after(n, Some(60.0))), [1, 1, 1]);
        // about as much thought as trial
        assert_eq!(
            [0.1, 0.03, 0.01, 0.004].map(|s| every_after(10, Some(s))),
            [1, 1, 3, 8]
        );
        assert_eq!([0.5, 0.1].map(|s| every_after(500, Some(s))), [1, 3]);
        // nothing is too cheap to be thought about now and then
        assert_eq!(
            [1e-3, 1e-300, 0.0].map(|s| every_after(10, Some(s))),
            [10, 10, 10]
        );
        // nobody has said
        assert_eq!([10, 500, 3_000].map(|n| every_after(n, None)), [1, 3, 10]);
    }
}
