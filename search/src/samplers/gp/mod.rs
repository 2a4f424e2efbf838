//! Gaussian processes with log noisy expected hypervolume improvement (Daulton et al. 2021; Ament et al. 2023).
//!
//! Each unknown objective and limited metric has a process of its own; known ones enter the improvement as they are,
//! and limits by the probability that they are kept. Pending trials count as if they had come out as expected.

mod pool;
mod surrogate;

use rand::RngExt;

use self::surrogate::{Fits, Scale, Surrogate, Target};
use super::{Method, Sampler, sobol::Sobol};
use crate::{
    Ask, AskError, Outcome, Proposal, Verdict,
    ask::uniform,
    expected_improvement::{Belief, Improvement},
    front,
    gaussian_process::{Layout, Points},
    variation,
};

pub(super) const METHOD: Method = Method {
    name: "gp",
    doc: "Gaussian processes and expected hypervolume improvement, for costly trials",
    paper: "Daulton, Balandat and Bakshy, NeurIPS 2021; Ament et al., NeurIPS 2023",
    build: || Box::new(Gp::default()),
};

/// Uniform candidates of one proposal.
const ANYWHERE: usize = 64;
/// Candidates that evolve over the expected values.
const POPULATION: usize = 32;
/// Generations of those.
const GENERATIONS: usize = 4;
/// Candidates of one proposal that descend from the front.
const CHILDREN: usize = 192;
/// Candidates that are improved step by step.
const CLIMBERS: usize = 6;
/// Steps around each of those in one round.
const STEPS: usize = 12;
/// Lengths of the steps, round by round.
const SCALES: [f64; 6] = [0.2, 0.08, 0.03, 0.01, 0.004, 0.0015];

/// The sampler.
#[derive(Default)]
pub(super) struct Gp {
    fits: Fits,
}

/// A candidate under consideration.
struct Option_ {
    unit: Vec<f64>,
    proposal: Proposal,
    point: Vec<f64>,
    beliefs: Vec<Belief>,
    score: f64,
}
impl Option_ {
    fn means(&self) -> Vec<f64> {
        self.beliefs.iter().map(|b| b.mean).collect()
    }
}

impl Sampler for Gp {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let start = (ask.problem.space.len() + 1).clamp(6, 12);
        let usable = ask.history.trials().iter().filter(|t| t.values.is_some()).count();
        if ask.history.len() < start || usable < 4 {
            return Sobol.ask(ask);
        }
        let Some(mut view) = View::new(ask, &mut self.fits) else {
            return Sobol.ask(ask);
        };
        let space = &ask.problem.space;
        let dimensions = space.len();
        let size = POPULATION;
        let mut population: Vec<Option_> = Vec::new();
        let mut units: Vec<Vec<f64>> = (0..ANYWHERE).map(|_| uniform(dimensions, &mut ask.rng)).collect();
        for _ in 0..size {
            units.push(view.child(space, &mut ask.rng));
        }
        population.extend(view.foresee(ask, units)?);
        if population.is_empty() {
            return Sobol.ask(ask);
        }
        for _ in 0..GENERATIONS {
            let values: Vec<Vec<f64>> = population.iter().map(|o| o.means()).collect();
            let mut order = vec![];
            for rank in front::sort_best(&values, size) {
                let room = front::crowding(&values, &rank);
                let mut ranked: Vec<(usize, f64)> = rank.into_iter().zip(room).collect();
                ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
                order.extend(ranked.into_iter().map(|r| r.0));
            }
            order.truncate(size);
            let mut slots: Vec<Option<Option_>> = population.into_iter().map(Some).collect();
            population = order.into_iter().filter_map(|i| slots[i].take()).collect();
            let units = (0..size)
                .map(|_| {
                    let rng = &mut ask.rng;
                    let pick = |rng: &mut rand_chacha::ChaCha8Rng| {
                        let n = population.len();
                        rng.random_range(0..n).min(rng.random_range(0..n))
                    };
                    let (a, b) = (pick(rng), pick(rng));
                    let genes = |i: usize| population[i].unit.iter().map(|u| Some(*u)).collect::<Vec<_>>();
                    let child = variation::crossover(space, &genes(a), &genes(b), rng);
                    let scale = 0.3 * 0.1f64.powf(2.0 * rng.random::<f64>());
                    pool::nudge(space, &child, 1.0 / dimensions as f64, scale, rng)
                })
                .collect();
            population.extend(view.foresee(ask, units)?);
        }
        view.aim(&population);
        let mut best: Vec<Option_> = population;
        let more = (0..CHILDREN).map(|_| view.child(space, &mut ask.rng)).collect();
        best.extend(view.foresee(ask, more)?);
        for o in &mut best {
            view.score(ask, o);
        }
        keep_best(&mut best, CLIMBERS);
        for scale in SCALES {
            let mut units = Vec::with_capacity(64);
            for climber in &best {
                for k in 0..STEPS {
                    let rate = if k % 2 == 0 { 0.0 } else { 0.4 };
                    units.push(pool::nudge(space, &climber.unit, rate, scale, &mut ask.rng));
                }
            }
            let mut more = view.foresee(ask, units)?;
            for o in &mut more {
                view.score(ask, o);
            }
            best.extend(more);
            keep_best(&mut best, CLIMBERS);
        }
        match best.into_iter().next() {
            Some(option) => Ok(option.proposal),
            None => Sobol.ask(ask),
        }
    }
}

fn keep_best(options: &mut Vec<Option_>, most: usize) {
    options.sort_by(|a, b| b.score.total_cmp(&a.score));
    options.truncate(most);
}

/// What the history says, ready to judge candidates.
struct View {
    layout: Layout,
    points: Points,
    /// For each objective its process, or its scale where it is known beforehand.
    objectives: Vec<Result<Surrogate, Scale>>,
    limits: Vec<Surrogate>,
    improvement: Option<Improvement>,
    rows: Vec<Vec<f64>>,
    parents: Vec<Vec<Option<f64>>>,
}

impl View {
    fn new(ask: &mut Ask<'_>, fits: &mut Fits) -> Option<View> {
        let (problem, history) = (ask.problem, ask.history);
        let space = &problem.space;
        let layout = Layout::new(space);
        let usable: Vec<_> = history.trials().iter().filter(|t| t.values.is_some()).collect();
        let units: Vec<Vec<Option<f64>>> = usable.iter().map(|t| space.encode(&t.candidate)).collect();
        let pending: Vec<Vec<Option<f64>>> = history
            .pending()
            .iter()
            .map(|p| space.encode(&p.proposal.candidate))
            .collect();
        let points = layout.points(units.iter().chain(&pending).map(|u| &u[..]));
        let pairs = layout.pairs(&points);
        let outcomes = |k: usize| -> Vec<f64> {
            usable
                .iter()
                .map(|t| t.values.as_ref().map_or(0.0, |v| v[k]))
                .collect()
        };
        let mut model = |id: usize, outcomes: Vec<f64>| {
            let target = Target { id, outcomes };
            let kernel = fits.kernel(&layout, &units, &target);
            Surrogate::new(&layout, &points, &pairs, &target.outcomes, kernel)
        };
        let objectives: Vec<Result<Surrogate, Scale>> = problem
            .objectives
            .iter()
            .enumerate()
            .map(|(k, o)| {
                let outcomes = outcomes(k);
                if o.known_before_training {
                    Err(Scale::new(&outcomes))
                } else {
                    Ok(model(k, outcomes))
                }
            })
            .collect();
        let limits = problem
            .limits
            .iter()
            .enumerate()
            .map(|(k, limit)| {
                let values = usable.iter().map(|t| match &t.outcome {
                    Outcome::Measured(metrics) => metrics.get(&limit.metric).copied().unwrap_or(0.0),
                    Outcome::Failed | Outcome::Infeasible => 0.0,
                });
                model(problem.objectives.len() + k, values.collect())
            })
            .collect();
        // what is believed of every trial, done or pending
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(points.n);
        for i in 0..points.n {
            let row = objectives.iter().enumerate().map(|(k, o)| match o {
                Ok(surrogate) => Some(surrogate.smoothed[i]),
                Err(scale) => Some(scale.apply(match i.checked_sub(usable.len()) {
                    None => usable[i].values.as_ref()?[k],
                    Some(p) => {
                        let objective = &problem.objectives[k];
                        let known = &history.pending()[p].proposal.known;
                        objective.direction.minimized(*known.get(&objective.metric)?)
                    }
                })),
            });
            match row.collect::<Option<Vec<f64>>>() {
                Some(row) if i >= usable.len() || usable[i].violation == 0.0 => rows.push(row),
                _ => {}
            }
        }
        let parents_of: Vec<Vec<f64>> = usable.iter().filter_map(|t| t.values.clone()).collect();
        let parents = front::sort_best(&parents_of, 12)
            .into_iter()
            .flatten()
            .map(|i| units[i].clone())
            .collect();
        Some(View {
            improvement: None,
            rows,
            layout,
            points,
            objectives,
            limits,
            parents,
        })
    }

    fn child(&self, space: &spaces::Space, rng: &mut rand_chacha::ChaCha8Rng) -> Vec<f64> {
        let a = &self.parents[rng.random_range(0..self.parents.len())];
        let b = &self.parents[rng.random_range(0..self.parents.len())];
        let b = if rng.random_bool(0.5) { a } else { b };
        let child = variation::crossover(space, a, b, rng);
        let scale = 0.5 * 0.1f64.powf(2.5 * rng.random::<f64>());
        pool::nudge(space, &child, 1.0 / space.len().max(1) as f64, scale, rng)
    }

    fn aim(&mut self, population: &[Option_]) {
        let rows = &self.rows;
        let members = front::front(rows);
        let width = self.objectives.len();
        let front: Vec<Vec<f64>> = members.into_iter().map(|i| rows[i].clone()).collect();
        let predicted: Vec<Vec<f64>> = population.iter().map(|o| o.means()).collect();
        let both: Vec<Vec<f64>> = predicted.iter().cloned().chain(front.iter().cloned()).collect();
        let ahead: Vec<usize> = front::front(&both);
        let q = 0.75;
        let reference: Vec<f64> = (0..width)
            .map(|k| {
                let values = || front.iter().map(|p| p[k]);
                let (best, worst) = (
                    values().fold(f64::INFINITY, f64::min),
                    values().fold(f64::NEG_INFINITY, f64::max),
                );
                let mut early: Vec<f64> = rows.iter().take(16).map(|r| r[k]).collect();
                early.sort_unstable_by(f64::total_cmp);
                let usual = early
                    .get((early.len() as f64 * q) as usize)
                    .copied()
                    .unwrap_or(3.0);
                let foreseen = ahead
                    .iter()
                    .map(|i| both[*i][k])
                    .fold(f64::NEG_INFINITY, f64::max);
                let worst = worst.max(foreseen).max(usual);
                worst + (0.1 * (worst - best.min(worst))).max(1e-6)
            })
            .collect();
        let cap = if width <= 3 { 100 } else { 40 };
        let front = thinned(front, cap);
        self.improvement = Some(Improvement::new(&front, &reference));
    }

    fn score(&mut self, ask: &Ask<'_>, o: &mut Option_) {
        let mut score = self.improvement.as_mut().unwrap().log(&o.beliefs);
        for (surrogate, limit) in self.limits.iter_mut().zip(&ask.problem.limits) {
            let belief = surrogate.belief(&self.layout, &self.points, &o.point);
            let at_most = limit
                .max
                .map_or(1.0, |max| belief.probability_below(surrogate.scale.limit(max)));
            let at_least = limit.min.map_or(1.0, |min| {
                1.0 - belief.probability_below(surrogate.scale.limit(min))
            });
            score += (at_most * at_least).max(1e-300).ln();
        }
        o.score = score;
    }

    /// The admissible ones of the candidates, with what is believed of them.
    fn foresee(&mut self, ask: &mut Ask<'_>, units: Vec<Vec<f64>>) -> Result<Vec<Option_>, AskError> {
        let problem = ask.problem;
        let candidates = units.iter().map(|u| problem.space.decode(u)).collect();
        let verdicts = ask.screen(candidates)?;
        let mut options = Vec::with_capacity(units.len());
        for (unit, verdict) in units.into_iter().zip(verdicts) {
            let Verdict::Admissible(proposal) = verdict else {
                continue;
            };
            let mut point = Vec::new();
            self.layout
                .place(&problem.space.encode(&proposal.candidate), &mut point);
            let mut beliefs = Vec::with_capacity(self.objectives.len());
            for (model, objective) in self.objectives.iter_mut().zip(&problem.objectives) {
                beliefs.push(match model {
                    Ok(surrogate) => surrogate.belief(&self.layout, &self.points, &point),
                    Err(scale) => match proposal.known.get(&objective.metric) {
                        Some(known) => Belief {
                            mean: scale.apply(objective.direction.minimized(*known)),
                            deviation: 0.0,
                        },
                        None => Belief {
                            mean: 0.0,
                            deviation: 1.0,
                        },
                    },
                });
            }
            options.push(Option_ {
                unit,
                proposal,
                point,
                beliefs,
                score: 0.0,
            });
        }
        Ok(options)
    }
}

/// At most so many members of a front, those with the most room around them.
fn thinned(front: Vec<Vec<f64>>, most: usize) -> Vec<Vec<f64>> {
    if front.len() <= most {
        return front;
    }
    let members: Vec<usize> = (0..front.len()).collect();
    let room = front::crowding(&front, &members);
    let mut order = members;
    order.sort_by(|a, b| room[*b].total_cmp(&room[*a]));
    order.into_iter().take(most).map(|i| front[i].clone()).collect()
}
