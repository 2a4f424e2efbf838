//! Gaussian processes with log noisy expected hypervolume improvement (Daulton et al. 2021; Ament et al. 2023).
//!
//! Each unknown objective and limited metric has a process of its own, of outcomes bent to look normal. Known objectives enter the improvement as they
//! are, limits by the probability that they are kept, and trials that failed by a process for success. Pending trials
//! count as if they had come out as expected, or a little better. What trials had come to at a part of their training
//! counts too: the part is one more coordinate, and candidates are judged at the whole. Known objectives are coordinates
//! as well.

mod aim;
mod data;
mod fits;
mod outlook;
mod pool;
mod scale;
mod surrogate;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use spaces::Space;

use self::{
    data::Data,
    fits::Fits,
    outlook::{Outlook, Prospect},
};
use super::{Method, Sampler, sobol::Sobol};
use crate::{Ask, AskError, Proposal, ask::uniform, front, variation};

pub(super) const METHOD: Method = Method {
    name: "gp",
    doc: "Gaussian processes and expected hypervolume improvement, for costly trials",
    paper: "Daulton, Balandat and Bakshy, NeurIPS 2021; Ament et al., NeurIPS 2023",
    build: || Box::new(Gp::default()),
};

/// Fewest results to learn from.
const FEWEST: usize = 4;
/// Uniform candidates of one proposal.
const ANYWHERE: usize = 64;
/// Candidates that evolve over the expected values.
const POPULATION: usize = 32;
/// Generations of those.
const GENERATIONS: usize = 4;
/// Candidates that descend from the front.
const CHILDREN: usize = 192;
/// Candidates that are improved step by step.
const CLIMBERS: usize = 6;
/// Steps around each of those in one round.
const STEPS: usize = 12;
/// Lengths of the steps, round by round.
const SCALES: [f64; 6] = [0.2, 0.08, 0.03, 0.01, 0.004, 0.0015];

/// Where names or conditions are searched, one in so many proposals takes the processes to be less certain than they say.
const DOUBTFUL: u32 = 4;
/// How much less.
const DOUBT: f64 = 2.0;

/// The sampler; it remembers what it has fitted.
#[derive(Default)]
pub(super) struct Gp {
    fits: Fits,
}

impl Sampler for Gp {
    fn ask(&mut self, ask: &mut Ask<'_>) -> Result<Proposal, AskError> {
        let start = (ask.problem.space.len() + 1).clamp(6, 12);
        if ask.history.len() < start || data::readings(ask.problem, ask.history) < FEWEST {
            return Sobol.ask(ask);
        }
        let data = Data::new(ask.problem, ask.history);
        let mut outlook = Outlook::new(ask.problem, &data, &mut self.fits, doubt(ask));
        let anywhere = (0..ANYWHERE)
            .map(|_| uniform(ask.problem.space.len(), &mut ask.rng))
            .collect();
        let anywhere = outlook.foresee(ask, anywhere)?;
        let usual = outlook.usual(&anywhere);
        let mut prospects = evolve(ask, &data, &mut outlook, anywhere)?;
        if prospects.is_empty() {
            // the space may be small and all but used up
            return Sobol.ask(ask);
        }
        outlook.aim(&prospects, &usual, &mut ask.rng);
        let children = (0..CHILDREN)
            .map(|_| child(&ask.problem.space, &data.parents, &mut ask.rng))
            .collect();
        prospects.extend(outlook.foresee(ask, children)?);
        prospects.iter_mut().for_each(|p| outlook.score(p));
        let best = climb(ask, &mut outlook, prospects)?;
        match best.into_iter().next() {
            Some(prospect) => Ok(prospect.proposal),
            None => Sobol.ask(ask),
        }
    }
}

/// How uncertain the processes are taken to be, in deviations.
///
/// Between numbers they know what they do not know. What hangs on a name has to be tried: after a few bad trials of one they
/// are sure of it, though its own parameters were not yet right, and would stay with another for good.
fn doubt(ask: &Ask<'_>) -> f64 {
    let mut parameters = ask.problem.space.parameters().iter();
    let forks = parameters.any(|p| !p.domain.is_ordered() || !p.condition.is_always());
    if forks && ask.number % DOUBTFUL == DOUBTFUL - 1 {
        DOUBT
    } else {
        1.0
    }
}

/// A population that approaches the front of the expected values (Deb et al. 2002), from candidates and relatives of the
/// front.
fn evolve(
    ask: &mut Ask<'_>,
    data: &Data<'_>,
    outlook: &mut Outlook<'_>,
    anywhere: Vec<Prospect>,
) -> Result<Vec<Prospect>, AskError> {
    let space = &ask.problem.space;
    let mut population = anywhere;
    let relatives = (0..POPULATION)
        .map(|_| child(space, &data.parents, &mut ask.rng))
        .collect();
    population.extend(outlook.foresee(ask, relatives)?);
    for _ in 0..GENERATIONS {
        if population.is_empty() {
            break;
        }
        population = fittest(population);
        let genes: Vec<Vec<Option<f64>>> = population
            .iter()
            .map(|p| p.unit.iter().copied().map(Some).collect())
            .collect();
        // the fittest stand first
        let pick = |rng: &mut ChaCha8Rng| {
            let (a, b) = (rng.random_range(0..genes.len()), rng.random_range(0..genes.len()));
            &genes[a.min(b)]
        };
        let offspring = |rng: &mut ChaCha8Rng| {
            let unit = variation::crossover(space, pick(rng), pick(rng), rng);
            let scale = 0.3 * 0.1f64.powf(2.0 * rng.random::<f64>());
            pool::nudge(space, &unit, 1.0 / space.len().max(1) as f64, scale, rng)
        };
        let units = (0..POPULATION).map(|_| offspring(&mut ask.rng)).collect();
        population.extend(outlook.foresee(ask, units)?);
    }
    Ok(population)
}

/// The best by rank and then by room, best first.
fn fittest(population: Vec<Prospect>) -> Vec<Prospect> {
    let values: Vec<Vec<f64>> = population.iter().map(Prospect::means).collect();
    let ranks = front::sort_best(&values, POPULATION);
    let order = ranks.into_iter().flat_map(|rank| front::roomiest(&values, rank));
    let mut slots: Vec<Option<Prospect>> = population.into_iter().map(Some).collect();
    order
        .into_iter()
        .take(POPULATION)
        .filter_map(|(i, _)| slots[i].take())
        .collect()
}

/// A descendant of one or two of the parents.
fn child(space: &Space, parents: &[Vec<Option<f64>>], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let (a, b) = (
        rng.random_range(0..parents.len()),
        rng.random_range(0..parents.len()),
    );
    let b = if rng.random_bool(0.5) { a } else { b };
    let unit = variation::crossover(space, &parents[a], &parents[b], rng);
    let scale = 0.5 * 0.1f64.powf(2.5 * rng.random::<f64>());
    pool::nudge(space, &unit, 1.0 / space.len().max(1) as f64, scale, rng)
}

/// The best prospects, best first, after rounds of ever shorter steps.
fn climb(
    ask: &mut Ask<'_>,
    outlook: &mut Outlook<'_>,
    prospects: Vec<Prospect>,
) -> Result<Vec<Prospect>, AskError> {
    let mut best = prospects;
    keep_best(&mut best);
    for scale in SCALES {
        let mut units = Vec::with_capacity(CLIMBERS * STEPS);
        for climber in &best {
            for step in 0..STEPS {
                // along one axis, and along several
                let rate = if step % 2 == 0 { 0.0 } else { 0.4 };
                units.push(pool::nudge(
                    &ask.problem.space,
                    &climber.unit,
                    rate,
                    scale,
                    &mut ask.rng,
                ));
            }
        }
        let mut nearby = outlook.foresee(ask, units)?;
        nearby.iter_mut().for_each(|p| outlook.score(p));
        best.extend(nearby);
        keep_best(&mut best);
    }
    Ok(best)
}

fn keep_best(prospects: &mut Vec<Prospect>) {
    prospects.sort_by(|a, b| b.score.total_cmp(&a.score));
    prospects.truncate(CLIMBERS);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use spaces::{Direction, Domain, Limit, Objective, Parameter, Value};

    use super::*;
    use crate::{History, NoOracle, Outcome, Problem};

    /// One real parameter, one loss that is least at 0.7 and falls as training goes on.
    fn problem() -> Problem {
        let x = Parameter {
            name: "x".into(),
            domain: Domain::float(0.0, 1.0, false, None).unwrap(),
            condition: Default::default(),
        };
        let loss = Objective {
            metric: "loss".into(),
            direction: Direction::Minimize,
            known_before_training: false,
        };
        Problem::new(Space::new(vec![x]).unwrap(), vec![loss], vec![], 3).unwrap()
    }

    fn x(proposal: &Proposal) -> f64 {
        proposal.candidate.get("x").and_then(Value::as_f64).unwrap()
    }

    fn ask(gp: &mut Gp, problem: &Problem, history: &History, number: u32) -> Proposal {
        gp.ask(&mut Ask::new(problem, history, &mut NoOracle, number))
            .unwrap()
    }

    #[test]
    fn trainings_that_stopped_early_show_where_to_go() {
        let (problem, mut history, mut gp) = (problem(), History::default(), Gp::default());
        for number in 0..14 {
            let proposal = ask(&mut gp, &problem, &history, number);
            let loss = (x(&proposal) - 0.7).powi(2) + 0.3;
            history.start(&problem, number, proposal.clone());
            let metrics = BTreeMap::from([("loss".into(), loss)]);
            history.reach(&problem, number, &proposal, 0.1, metrics, vec![]);
            history.push(&problem, number, proposal.candidate, Outcome::Pruned);
        }
        assert_eq!(history.values().count(), 0, "none was trained in full");
        let near = (14..19)
            .filter(|number| (x(&ask(&mut gp, &problem, &history, *number)) - 0.7).abs() < 0.1)
            .count();
        assert!(near >= 4, "{near} of 5");
    }

    #[test]
    fn parts_of_trainings_show_where_limits_are_kept() {
        let heat = Limit {
            metric: "heat".into(),
            min: None,
            max: Some(1.0),
        };
        let problem = Problem {
            limits: vec![heat],
            ..problem()
        };
        let (mut history, mut gp) = (History::default(), Gp::default());
        let mut kept = 0;
        for number in 0..30 {
            let proposal = ask(&mut gp, &problem, &history, number);
            // the best are too hot, those just below are not
            let at = x(&proposal);
            kept += u32::from(number >= 15 && at < 0.5 && at > 0.3);
            let metrics = BTreeMap::from([
                ("loss".into(), (at - 0.7).powi(2) + 0.3),
                ("heat".into(), 2.0 * at),
            ]);
            history.start(&problem, number, proposal.clone());
            history.reach(&problem, number, &proposal, 0.1, metrics.clone(), vec![]);
            // few are trained in full
            let outcome = if number % 6 == 5 {
                Outcome::Measured(metrics)
            } else {
                Outcome::Pruned
            };
            history.push(&problem, number, proposal.candidate, outcome);
        }
        assert!(kept >= 10, "{kept} of 15");
    }

    #[test]
    fn where_trials_fail_there_are_fewer_proposals() {
        let (problem, mut history, mut gp) = (problem(), History::default(), Gp::default());
        let mut lost = 0;
        for number in 0..40 {
            let proposal = ask(&mut gp, &problem, &history, number);
            // two valleys alike, of which one cannot be had
            let at = x(&proposal);
            let outcome = if at > 0.5 {
                lost += u32::from(number >= 20);
                Outcome::Failed
            } else {
                Outcome::Measured(BTreeMap::from([(
                    "loss".into(),
                    ((at - 0.5).abs() - 0.2).powi(2),
                )]))
            };
            history.push(&problem, number, proposal.candidate, outcome);
        }
        assert!(lost <= 5, "{lost} of 20");
    }
}
