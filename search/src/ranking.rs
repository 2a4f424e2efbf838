//! Which finished trials are the best, as evolution sees them (constraint domination, Deb et al. 2002).
//!
//! Trials that keep the limits stand by non-dominated rank, behind them the others by how far they break them. Trials
//! without a result have no rank.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Trial, front};

/// The ranks of the trials until they hold `enough` together, best first; each that breaks limits is a rank of its own.
pub(crate) fn ranks<'a>(trials: impl IntoIterator<Item = &'a Trial>, enough: usize) -> Vec<Vec<&'a Trial>> {
    let usable = trials.into_iter().filter(|t| t.values.is_some());
    let (feasible, mut broken): (Vec<&Trial>, Vec<&Trial>) = usable.partition(|t| t.violation == 0.0);
    let values: Vec<&[f64]> = feasible.iter().filter_map(|t| t.values.as_deref()).collect();
    // with one objective each rank may be one trial: peeling them off would cost a pass for each
    let sorted = match values.first() {
        Some([_]) => front::sort(&values),
        _ => front::sort_best(&values, enough),
    };
    let members = |rank: Vec<usize>| rank.into_iter().map(|i| feasible[i]).collect();
    let mut ranks: Vec<Vec<&Trial>> = sorted.into_iter().map(members).collect();
    broken.sort_by(|a, b| a.violation.total_cmp(&b.violation));
    ranks.extend(broken.into_iter().map(|trial| vec![trial]));
    let mut held = 0;
    ranks.retain(|rank| {
        let wanted = held < enough;
        held += rank.len();
        wanted
    });
    ranks
}

/// The objectives' values of trials that have a result.
pub(crate) fn values<'a>(trials: &[&'a Trial]) -> Vec<&'a [f64]> {
    trials.iter().filter_map(|t| t.values.as_deref()).collect()
}

/// A trial that may have children.
pub(crate) struct Parent<'a> {
    /// The trial.
    pub(crate) trial: &'a Trial,
    /// 0 for the front.
    pub(crate) rank: usize,
    /// How much room its neighbours leave it.
    pub(crate) crowding: f64,
}

/// The best `most` trials, best first: by rank, then by the room that their neighbours leave them.
pub(crate) fn parents<'a>(trials: impl IntoIterator<Item = &'a Trial>, most: usize) -> Vec<Parent<'a>> {
    let mut parents = Vec::with_capacity(most);
    for (rank, members) in ranks(trials, most).into_iter().enumerate() {
        let all = (0..members.len()).collect();
        let roomiest = front::roomiest(&values(&members), all);
        parents.extend(roomiest.into_iter().map(|(i, crowding)| Parent {
            trial: members[i],
            rank,
            crowding,
        }));
    }
    parents.truncate(most);
    parents
}

/// The better of two parents drawn at random: by rank, then by crowding.
pub(crate) fn tournament(parents: &[Parent<'_>], rng: &mut ChaCha8Rng) -> usize {
    let (a, b) = (
        rng.random_range(0..parents.len()),
        rng.random_range(0..parents.len()),
    );
    if better(&parents[b], &parents[a]) { b } else { a }
}

/// Whether one parent stands before another.
pub(crate) fn better(a: &Parent<'_>, b: &Parent<'_>) -> bool {
    a.rank
        .cmp(&b.rank)
        .then(b.crowding.total_cmp(&a.crowding))
        .is_lt()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use spaces::{Direction, Limit, Objective, Space};

    use super::*;
    use crate::{History, Outcome, Problem, proposal_rng};

    /// A history of trials with loss, bytes and heat, of which heat may be at most 10.
    fn history(rows: &[[f64; 3]]) -> (History, Problem) {
        let objective = |metric: &str| Objective {
            metric: metric.into(),
            direction: Direction::Minimize,
            known_before_training: false,
        };
        let limit = Limit {
            metric: "heat".into(),
            min: None,
            max: Some(10.0),
        };
        let objectives = vec![objective("loss"), objective("bytes")];
        let problem = Problem::new(Space::default(), objectives, vec![limit], 0).unwrap();
        let mut history = History::default();
        for (number, row) in (0..).zip(rows) {
            let metrics = ["loss", "bytes", "heat"].map(String::from).into_iter().zip(*row);
            let metrics: BTreeMap<String, f64> = metrics.collect();
            history.push(&problem, number, Default::default(), Outcome::Measured(metrics));
        }
        (history, problem)
    }

    #[test]
    fn parents_stand_by_limits_then_rank_then_room() {
        let (history, _) = history(&[
            [0.0, 0.0, 15.0],     // best, but too hot
            [0.0, 0.0, 12.0],     // less too hot
            [5.0, 5.0, 5.0],      // second rank
            [1.0, 4.0, 5.0],      // an end of the front
            [2.0, 2.9, 5.0],      // between near neighbours
            [2.1, 2.8, 5.0],      // with more room on one side
            [4.0, 1.0, 5.0],      // the other end
            [f64::NAN, 0.0, 5.0], // no result
        ]);
        let parents = parents(history.trials(), 10);
        let order: Vec<u32> = parents.iter().map(|p| p.trial.number).collect();
        assert_eq!(order, [3, 6, 5, 4, 2, 1, 0]);
        let ranks: Vec<usize> = parents.iter().map(|p| p.rank).collect();
        assert_eq!(ranks, [0, 0, 0, 0, 1, 2, 3]);
        assert_eq!(super::parents(history.trials(), 3).len(), 3);
    }

    #[test]
    fn the_better_of_two_wins() {
        let (history, _) = history(&[[1.0, 4.0, 5.0], [2.0, 2.0, 5.0], [4.0, 1.0, 5.0], [5.0, 5.0, 5.0]]);
        let parents = parents(history.trials(), 4);
        let (mut rng, mut wins) = (proposal_rng(0, 0), [0; 4]);
        for _ in 0..4000 {
            wins[tournament(&parents, &mut rng)] += 1;
        }
        // the last wins only against itself, the third only against itself and the last
        assert!(
            (200..300).contains(&wins[3]) && (680..820).contains(&wins[2]),
            "{wins:?}"
        );
    }
}
