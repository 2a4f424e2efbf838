//! Which configuration to train once more, with another seed: one whose place on the front may be luck.
//!
//! Trainings of one configuration come to different values. How different is learnt from those that were repeated, pooled
//! over all of them (as in ranking and selection, Kim and Nelson 2006): then a configuration is in doubt where the
//! difference between its means and those of another one, which decides whether it is on the front, is small against its
//! standard error. What is known before training has no noise and decides without doubt.

use std::collections::HashMap;

use crate::{History, Problem, Trial, front};

/// Configurations with a result before anything is repeated.
const ENOUGH: usize = 12;
/// Degrees of freedom of the pooled variance before it is relied on.
const DEGREES: usize = 3;
/// Configurations with a result for each repeat: what is new teaches more.
const SHARE: usize = 4;
/// In standard errors, a smaller difference may be luck: one in twenty.
const DOUBTFUL: f64 = 1.645;

/// The trainings of one configuration.
struct Trained<'h> {
    /// The trial that was the first.
    first: &'h Trial,
    /// Of the finished ones.
    values: Vec<&'h [f64]>,
    mean: Vec<f64>,
    /// Finished and pending ones.
    trainings: usize,
}

/// The trial to repeat, whose configuration has been repeated less than `most` times; `None` where nothing
/// is in doubt, or where enough of the trials are repeats.
///
/// A function of the history alone, like proposals.
pub fn doubtful<'h>(problem: &Problem, history: &'h History, most: u32) -> Option<&'h Trial> {
    if most == 0 {
        return None;
    }
    let trained = trained(history);
    let repeats: usize = trained.iter().map(|t| t.trainings - 1).sum();
    if trained.len() < ENOUGH.max(SHARE * (repeats + 1)) {
        return None;
    }
    let may = |t: &Trained<'_>| t.trainings <= most as usize;
    let means: Vec<&[f64]> = trained.iter().map(|t| &t.mean[..]).collect();
    let best = front::front(&means);
    let degrees: usize = trained.iter().map(|t| t.values.len() - 1).sum();
    if degrees < DEGREES {
        // of the best, whose values matter; nothing while the first ones are on their way
        let repeatable = best.iter().map(|i| &trained[*i]).filter(|t| may(t));
        let next = repeatable
            .min_by_key(|t| (t.trainings, t.first.number))
            .map(|t| t.first);
        if next.is_some() || degrees == 0 {
            return next.filter(|_| repeats < DEGREES);
        }
    }
    let noise: Vec<f64> = (0..problem.objectives.len())
        .map(|k| pooled_variance(&trained, k, degrees))
        .collect();
    let doubt = |i: usize| {
        let margin = margin(&trained, &best, &noise, i);
        (margin < DOUBTFUL && may(&trained[i])).then_some((margin, trained[i].first))
    };
    let doubts = (0..trained.len()).filter_map(doubt);
    let closest = doubts.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.number.cmp(&b.1.number)));
    closest.map(|(_, first)| first)
}

/// The configurations with a result that keeps the limits, in the order in which they first had one.
fn trained(history: &History) -> Vec<Trained<'_>> {
    let (mut places, mut trained) = (HashMap::new(), Vec::<Trained<'_>>::new());
    let results = history.trials().iter().filter(|t| t.violation == 0.0);
    for (trial, values) in results.filter_map(|t| Some((t, t.values.as_deref()?))) {
        let place = *places.entry(trial.candidate.key()).or_insert(trained.len());
        if place == trained.len() {
            trained.push(Trained {
                first: trial,
                values: vec![],
                mean: vec![0.0; values.len()],
                trainings: 0,
            });
        }
        let each = &mut trained[place];
        if trial.number < each.first.number {
            each.first = trial;
        }
        each.values.push(values);
        each.trainings += 1;
    }
    for each in &mut trained {
        let n = each.values.len() as f64;
        for (k, mean) in each.mean.iter_mut().enumerate() {
            *mean = each.values.iter().map(|v| v[k]).sum::<f64>() / n;
        }
    }
    for pending in history.pending().iter().filter(|p| p.target.is_some()) {
        if let Some(place) = places.get(&pending.proposal.candidate.key()) {
            trained[*place].trainings += 1;
        }
    }
    trained
}

fn pooled_variance(trained: &[Trained<'_>], k: usize, degrees: usize) -> f64 {
    let squares = |t: &Trained<'_>| -> f64 { t.values.iter().map(|v| (v[k] - t.mean[k]).powi(2)).sum() };
    trained.iter().map(squares).sum::<f64>() / degrees as f64
}

/// By how many standard errors it is on the front, or off it.
fn margin(trained: &[Trained<'_>], best: &[usize], noise: &[f64], i: usize) -> f64 {
    let own = &trained[i];
    // by how many standard errors the other one is worse there
    let apart = |other: &Trained<'_>, k: usize| {
        let n = |t: &Trained<'_>| t.values.len() as f64;
        let error = (noise[k] * (1.0 / n(own) + 1.0 / n(other))).sqrt();
        match other.mean[k] - own.mean[k] {
            // also where there is no noise
            0.0 => 0.0,
            difference => difference / error,
        }
    };
    let objectives = 0..noise.len();
    if best.contains(&i) {
        // another one beats it only once it has caught up where it is worst
        let others = trained.iter().enumerate().filter(|(o, _)| *o != i);
        let worst = |o: &Trained<'_>| {
            objectives
                .clone()
                .map(|k| apart(o, k))
                .fold(f64::NEG_INFINITY, f64::max)
        };
        others.map(|(_, o)| worst(o)).fold(f64::INFINITY, f64::min)
    } else {
        // it has to get ahead somewhere of each one that beats it, which it cannot where both are known to be alike
        let noisy = |k: &usize| noise[*k] > 0.0;
        let nearest = |o: &Trained<'_>| {
            objectives
                .clone()
                .filter(noisy)
                .map(|k| -apart(o, k))
                .fold(f64::INFINITY, f64::min)
        };
        let beats = |o: &&Trained<'_>| objectives.clone().all(|k| o.mean[k] <= own.mean[k]);
        best.iter()
            .map(|b| &trained[*b])
            .filter(beats)
            .map(nearest)
            .fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use spaces::{Direction, Domain, Objective, Parameter, Space};

    use super::*;
    use crate::{Outcome, Proposal};

    fn problem() -> Problem {
        let x = Parameter {
            name: "x".into(),
            domain: Domain::int(0, 1000, false, 1).unwrap(),
            condition: Default::default(),
        };
        let objective = |metric: &str, known_before_training| Objective {
            metric: metric.into(),
            direction: Direction::Minimize,
            known_before_training,
        };
        let objectives = vec![objective("loss", false), objective("bytes", true)];
        Problem::new(Space::new(vec![x]).unwrap(), objectives, vec![], 0).unwrap()
    }

    /// Trials of (x, loss, bytes), numbered in order.
    fn history(problem: &Problem, trials: &[(i64, f64, f64)]) -> History {
        let mut history = History::default();
        for (number, (x, loss, bytes)) in trials.iter().enumerate() {
            let metrics = BTreeMap::from([("loss".into(), *loss), ("bytes".into(), *bytes)]);
            history.push(problem, number as u32, candidate(*x), Outcome::Measured(metrics));
        }
        history
    }

    fn candidate(x: i64) -> spaces::Candidate {
        [("x".to_owned(), spaces::Value::Int(x))].into_iter().collect()
    }

    /// A front of sixteen, far apart, and four behind it.
    fn clear() -> Vec<(i64, f64, f64)> {
        let front = (0..16).map(|x| (x, 10.0 - 0.5 * x as f64, 100.0 + x as f64));
        let behind = (16..20).map(|x| (x, 20.0, 200.0));
        front.chain(behind).collect()
    }

    fn again(problem: &Problem, history: &History, most: u32) -> Option<u32> {
        doubtful(problem, history, most).map(|t| t.number)
    }

    #[test]
    fn noise_is_learnt_first_from_the_best_and_not_all_at_once() {
        let problem = problem();
        let mut history = history(&problem, &clear());
        let mut asked = vec![];
        while let Some(number) = again(&problem, &history, 2) {
            asked.push(number);
            let again = Proposal {
                candidate: candidate(i64::from(number)),
                ..Proposal::default()
            };
            history.start(&problem, 20 + asked.len() as u32, again);
        }
        assert_eq!(asked, [0, 1, 2]);
        assert_eq!(again(&problem, &history, 0), None, "where nobody wants it");
    }

    #[test]
    fn what_noise_decides_is_repeated_and_nothing_else() {
        let problem = problem();
        let mut trials = clear();
        // three repeats that differ by 0.02: all differences of the front are 0.5
        trials.extend([(0, 10.02, 100.0), (1, 9.52, 101.0), (2, 9.02, 102.0)]);
        assert_eq!(again(&problem, &history(&problem, &trials), 2), None);
        // one as large as another and better by less than the noise; and one that is worse by as little
        for loss in [5.0 - 0.004, 5.0 + 0.004] {
            let mut close = trials.clone();
            close[16] = (16, loss, 110.0);
            let repeated = again(&problem, &history(&problem, &close), 2);
            assert_eq!(repeated, Some(10), "the first of the two");
            // enough trainings of both have the other one's turn, and then no more
            close.push((10, 5.001, 110.0));
            close.extend((30..34).map(|x| (x, 20.0, 200.0)));
            assert_eq!(again(&problem, &history(&problem, &close), 1), Some(16));
            close.push((16, loss, 110.0));
            close.extend((34..38).map(|x| (x, 20.0, 200.0)));
            assert_eq!(again(&problem, &history(&problem, &close), 1), None);
        }
    }

    #[test]
    fn no_more_than_one_in_five_trials_is_a_repeat() {
        let problem = problem();
        let mut trials: Vec<(i64, f64, f64)> = (0..12).map(|x| (x, 1.0 + 1e-9 * x as f64, 5.0)).collect();
        trials.extend([(0, 1.5, 5.0), (1, 0.5, 5.0), (2, 1.2, 5.0)]);
        assert_eq!(again(&problem, &history(&problem, &trials), 5), None);
        trials.extend((12..16).map(|x| (x, 1.0, 5.0)));
        assert!(again(&problem, &history(&problem, &trials), 5).is_some());
    }
}
