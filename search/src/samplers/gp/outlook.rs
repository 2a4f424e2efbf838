//! What the trials let expect of candidates, and how good that would be.

use rand_chacha::ChaCha8Rng;
use spaces::{Limit, Objective, metric};

use super::{
    aim,
    data::{Data, Extras},
    fits::{Fits, Target},
    scale::Scale,
    surrogate::Surrogate,
};
use crate::{
    Ask, AskError, Problem, Proposal, Verdict,
    expected_improvement::{Belief, Improvement},
    front,
    gaussian_process::{Layout, Points},
    problem::value,
};

/// Most members of a front that enter the improvement, with up to five objectives and with more: boxes multiply with their
/// number.
const MEMBERS: [usize; 2] = [100, 40];
/// The first trials, before the search has moved anywhere.
const FIRST: usize = 16;

/// A candidate under consideration.
pub(super) struct Prospect {
    pub(super) unit: Vec<f64>,
    pub(super) proposal: Proposal,
    /// What is believed of each objective, in standard units.
    beliefs: Vec<Belief>,
    /// The logarithm of the probability that it succeeds and keeps the limits.
    log_chance: f64,
    /// The logarithm of the improvement to be expected.
    pub(super) score: f64,
}

impl Prospect {
    /// The expected values.
    pub(super) fn means(&self) -> Vec<f64> {
        self.beliefs.iter().map(|b| b.mean).collect()
    }
}

/// An objective, less being better.
enum Goal {
    /// Known beforehand, once brought to standard units.
    Known(Scale),
    Modelled(Box<Surrogate>),
}

/// Farthest that a reference lies, in deviations.
const LONGEST: f64 = 1e30;

/// The processes of one proposal.
pub(super) struct Outlook<'p> {
    problem: &'p Problem,
    extras: Extras,
    /// How uncertain the processes are taken to be, in deviations.
    doubt: f64,
    layout: Layout,
    points: Points,
    goals: Vec<Goal>,
    /// Limits on metrics that have to be measured.
    limits: Vec<(&'p Limit, Surrogate)>,
    /// Where trials succeed, with the points it was learnt from; `None` while none failed.
    success: Option<(Surrogate, Layout, Points)>,
    /// What is believed of every trial that keeps the limits, done or pending.
    believed: Vec<Vec<f64>>,
    improvement: Improvement,
}

impl<'p> Outlook<'p> {
    pub(super) fn new(problem: &'p Problem, data: &Data<'_>, fits: &mut Fits, doubt: f64) -> Outlook<'p> {
        let layout = Layout::new(&problem.space, data.extras.len());
        let points = layout.points(data.units.iter().chain(&data.pending_units).map(|u| &u[..]));
        let pairs = layout.pairs(&points);
        let mut model = |id: usize, outcomes: Vec<f64>| {
            let target = Target {
                id,
                bends: true,
                outcomes,
            };
            let fitted = fits.fit(&layout, &data.units, &target);
            Surrogate::new(&layout, &points, &pairs, &target.outcomes, fitted)
        };
        let mut goal = |(k, objective): (usize, &Objective)| {
            let outcomes: Vec<f64> = data.readings.iter().map(|r| r.values[k]).collect();
            if objective.known_before_training {
                Goal::Known(Scale::new(&outcomes, 1.0))
            } else {
                Goal::Modelled(Box::new(model(k, outcomes)))
            }
        };
        let goals: Vec<Goal> = problem.objectives.iter().enumerate().map(&mut goal).collect();
        // what is known beforehand keeps its limits exactly: candidates that do not are not looked at
        let is_known = |limit: &Limit| metric(&limit.metric).is_some_and(|m| m.known_before_training);
        let unknown = problem
            .limits
            .iter()
            .enumerate()
            .filter(|(_, limit)| !is_known(limit));
        let limits = unknown.map(|(k, limit)| {
            let values = data.readings.iter().map(|r| r.limited[k]).collect();
            (limit, model(problem.objectives.len() + k, values))
        });
        let limits = limits.collect();
        let mut outlook = Outlook {
            problem,
            extras: data.extras.clone(),
            doubt,
            success: success(problem, data, fits),
            layout,
            points,
            goals,
            limits,
            believed: Vec::new(),
            improvement: Improvement::new(&[], &[]),
        };
        outlook.believed = outlook.believe(data);
        outlook
    }

    fn believe(&self, data: &Data<'_>) -> Vec<Vec<f64>> {
        let done = data.readings.len();
        let row = |i: usize| {
            let believed = |(k, goal): (usize, &Goal)| match goal {
                Goal::Modelled(surrogate) => Some(surrogate.smoothed[i]),
                Goal::Known(scale) => {
                    let known = match i.checked_sub(done) {
                        None => data.readings[i].values[k],
                        Some(pending) => self.known(k, &data.pending[pending].proposal)?,
                    };
                    Some(scale.apply(known))
                }
            };
            self.goals
                .iter()
                .enumerate()
                .map(believed)
                .collect::<Option<Vec<f64>>>()
        };
        // the front is made of whole trainings
        let counts = |i: &usize| *i >= done || data.readings[*i].trial.is_some_and(|t| t.violation == 0.0);
        (0..self.points.n).filter(counts).filter_map(row).collect()
    }

    /// The value of an objective that is known beforehand, less being better.
    fn known(&self, k: usize, proposal: &Proposal) -> Option<f64> {
        value(&self.problem.objectives[k], &proposal.known)
    }

    /// What values are usual, given candidates from anywhere.
    ///
    /// Those say more than the first trials where they are known, or expected from something known; what is expected
    /// from parameters alone lies too close to the middle.
    pub(super) fn usual(&self, anywhere: &[Prospect]) -> Vec<Vec<f64>> {
        let first = self.believed.iter().take(FIRST).cloned();
        let knows = self.goals.iter().any(|g| matches!(g, Goal::Known(_)));
        let candidates = anywhere.iter().filter(|_| knows).map(Prospect::means);
        first.chain(candidates).collect()
    }

    /// Decides what counts as an improvement, given candidates near the front that is expected and values that are usual.
    pub(super) fn aim(&mut self, prospects: &[Prospect], usual: &[Vec<f64>], rng: &mut ChaCha8Rng) {
        let members = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
            front::front(rows).into_iter().map(|i| rows[i].clone()).collect()
        };
        let front = members(&self.believed);
        let reference = match &self.problem.reference {
            Some(reference) => self.standard(reference),
            None => {
                let mut foreseen: Vec<Vec<f64>> = prospects.iter().map(Prospect::means).collect();
                foreseen.extend(front.iter().cloned());
                aim::reference(&front, &members(&foreseen), usual, rng)
            }
        };
        let most = MEMBERS[usize::from(reference.len() > 5)];
        self.improvement = Improvement::new(&thinned(front, &reference, most), &reference);
    }

    /// Objectives' values in the units of beliefs.
    fn standard(&self, values: &[f64]) -> Vec<f64> {
        let standard = |(goal, value): (&Goal, &f64)| match goal {
            Goal::Known(scale) => scale.limit(*value),
            Goal::Modelled(surrogate) => surrogate.scale.standard(*value),
        };
        // volumes of sides longer than this are no numbers any more
        let bounded = |value: f64| value.clamp(-LONGEST, LONGEST);
        let values = self.goals.iter().zip(values);
        values.map(|each| bounded(standard(each))).collect()
    }

    /// How much a prospect promises.
    pub(super) fn score(&mut self, prospect: &mut Prospect) {
        prospect.score = self.improvement.log(&prospect.beliefs) + prospect.log_chance;
    }

    /// The admissible ones of the candidates, with what is believed of them.
    pub(super) fn foresee(
        &mut self,
        ask: &mut Ask<'_>,
        units: Vec<Vec<f64>>,
    ) -> Result<Vec<Prospect>, AskError> {
        let space = &self.problem.space;
        let candidates = units.iter().map(|u| space.decode(u)).collect();
        let verdicts = ask.screen(candidates)?;
        let mut prospects = Vec::with_capacity(units.len());
        let mut point = Vec::new();
        for (unit, verdict) in units.into_iter().zip(verdicts) {
            let Verdict::Admissible(proposal) = verdict else {
                continue;
            };
            let coordinates = self
                .extras
                .encode(space, &proposal.candidate, 1.0, |k| self.known(k, &proposal));
            self.layout.place(&coordinates, &mut point);
            let mut beliefs = Vec::with_capacity(self.goals.len());
            for k in 0..self.goals.len() {
                beliefs.push(match &mut self.goals[k] {
                    Goal::Modelled(surrogate) => {
                        surrogate.outcome(&self.layout, &self.points, &point, self.doubt)
                    }
                    Goal::Known(scale) => match value(&self.problem.objectives[k], &proposal.known) {
                        Some(known) => Belief {
                            mean: scale.apply(known),
                            deviation: 0.0,
                        },
                        // said to be known, yet not given: anything is possible
                        None => Belief {
                            mean: 0.0,
                            deviation: 1.0,
                        },
                    },
                });
            }
            let log_chance = self.log_chance(&point);
            prospects.push(Prospect {
                unit,
                proposal,
                beliefs,
                log_chance,
                score: f64::NEG_INFINITY,
            });
        }
        Ok(prospects)
    }

    fn log_chance(&mut self, point: &[f64]) -> f64 {
        let mut log = 0.0;
        for (limit, surrogate) in &mut self.limits {
            let belief = surrogate.belief(&self.layout, &self.points, point);
            let below = |limit: f64| belief.probability_below(surrogate.scale.limit(limit));
            let chance = limit.max.map_or(1.0, below) - limit.min.map_or(0.0, below);
            log += chance.max(1e-300).ln();
        }
        if let Some((surrogate, layout, points)) = &mut self.success {
            // the further coordinates stand last and do not matter here
            let belief = surrogate.belief(layout, points, point);
            log += belief
                .probability_below(surrogate.scale.limit(0.5))
                .max(1e-300)
                .ln();
        }
        log
    }
}

/// A process for failure: 0 where trials had a result, 1 where they had none.
fn success(problem: &Problem, data: &Data<'_>, fits: &mut Fits) -> Option<(Surrogate, Layout, Points)> {
    let layout = Layout::new(&problem.space, 0);
    if data.attempts.iter().all(|(_, failed)| !failed) {
        return None;
    }
    let (units, failed): (Vec<Vec<Option<f64>>>, Vec<bool>) = data.attempts.iter().cloned().unzip();
    let outcomes = failed
        .into_iter()
        .map(|failed| f64::from(u8::from(failed)))
        .collect();
    let points = layout.points(units.iter().map(|u| &u[..]));
    let pairs = layout.pairs(&points);
    let target = Target {
        id: usize::MAX,
        bends: false,
        outcomes,
    };
    let fitted = fits.fit(&layout, &units, &target);
    let surrogate = Surrogate::new(&layout, &points, &pairs, &target.outcomes, fitted);
    Some((surrogate, layout, points))
}

/// Members of a front that lie below the reference, at most so many: each next one is that which stands out farthest
/// from those before it.
///
/// A cluster keeps one member, without which the front would look open where it has been searched most.
fn thinned(front: Vec<Vec<f64>>, reference: &[f64], most: usize) -> Vec<Vec<f64>> {
    let below = |point: &Vec<f64>| point.iter().zip(reference).all(|(p, r)| p < r);
    let mut rest: Vec<Vec<f64>> = front.into_iter().filter(below).collect();
    if rest.len() <= most {
        return rest;
    }
    let best = |k: usize| rest.iter().map(|p| p[k]).fold(reference[k], f64::min);
    let ranges: Vec<f64> = (0..reference.len()).map(|k| reference[k] - best(k)).collect();
    // by how much a point is better than another where it is most so
    let lead = |point: &[f64], other: &[f64]| {
        let leads = point.iter().zip(other).zip(&ranges);
        leads.map(|((p, o), range)| (o - p) / range).fold(0.0, f64::max)
    };
    let mut leads: Vec<f64> = rest.iter().map(|p| lead(p, reference)).collect();
    let mut kept = Vec::with_capacity(most);
    while kept.len() < most {
        let leader = leads.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let Some((leader, _)) = leader else { break };
        leads.swap_remove(leader);
        let member = rest.swap_remove(leader);
        for (point, own) in rest.iter().zip(&mut leads) {
            *own = own.min(lead(point, &member));
        }
        kept.push(member);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_keeps_a_member() {
        // a line of four and forty points that are all but the same, of which none has room
        let mut front: Vec<Vec<f64>> = (0..4)
            .map(|i| vec![1.0 + f64::from(i), 4.0 - f64::from(i)])
            .collect();
        front.extend((0..40).map(|i| vec![0.01 * f64::from(i), 10.0 - 0.01 * f64::from(i)]));
        // and one that does not count
        front.push(vec![20.0, -1.0]);
        let kept = thinned(front, &[11.0, 11.0], 10);
        assert_eq!(kept.len(), 10);
        assert!(kept.iter().filter(|p| p[0] < 0.4).count() >= 1);
        assert!(kept.iter().filter(|p| p[0] >= 1.0).count() == 4, "{kept:?}");
    }
}
