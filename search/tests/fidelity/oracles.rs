//! Known answers.

use search::{
    Problem,
    fidelity::{Decision, rule},
};

use crate::{
    common::{at_most, cube, mixed, objective},
    support::{Study, ladder, noise},
};

fn single(name: &str, steps: &[f64], eta: u32, trials: u32) -> Study {
    let problem = Problem::new(mixed(), vec![objective("loss")], vec![], 0).unwrap();
    Study::with(rule(name).unwrap(), ladder(steps, eta), trials, problem)
}

#[test]
fn asha_promotes_exactly_the_nth_part() {
    for name in ["asha", "mo_asha"] {
        for (trials, eta) in [(64, 3), (27, 3), (26, 3), (40, 2), (17, 4)] {
            for parallel in [1, 4, 16] {
                // better and better, at random, worse and worse: the order of arrival changes who, never how many
                for order in [-1.0, 0.0, 1.0] {
                    let mut study = single(name, &[0.1, 0.3, 1.0], eta, trials);
                    study.run(parallel, |n, _| Some(vec![order * f64::from(n) + noise(n, 0)]));
                    let (first, second) = (
                        trials as usize / eta as usize,
                        trials as usize / (eta * eta) as usize,
                    );
                    assert_eq!(
                        study.sent(),
                        [trials as usize, first, second],
                        "{name} {trials}/{eta}"
                    );
                }
            }
        }
    }
}

#[test]
fn asha_promotes_as_soon_as_there_is_a_place_and_the_best() {
    let mut study = single("asha", &[0.5, 1.0], 3, 100);
    let losses = [5.0, 1.0, 3.0, 0.5, 4.0, 2.0];
    for n in 0..3u32 {
        study.fill(1);
        assert_eq!(study.targets.len(), n as usize + 1, "no place yet");
        study.report(&|n, _| Some(vec![losses[n as usize]]));
    }
    study.fill(1);
    assert_eq!(study.targets[&1], [0.5, 1.0]);
}

#[test]
fn the_order_of_arrival_does_not_matter_to_the_synchronous_rules() {
    for name in ["successive_halving", "hyperband"] {
        let run = |parallel| {
            let mut study = single(name, &[0.1, 0.3, 1.0], 3, 33);
            study.run(parallel, |n, fidelity| Some(vec![noise(n, 0) + 0.1 / fidelity]));
            study.targets
        };
        assert_eq!(run(1), run(5), "{name}");
    }
}

#[test]
fn successive_halving_halves_each_bracket() {
    let mut study = single("successive_halving", &[0.1, 0.3, 1.0], 3, 27);
    study.run(4, |n, _| Some(vec![noise(n, 0)]));
    assert_eq!(study.sent(), [27, 9, 3]);
    // of each bracket of nine, the best three
    for bracket in 0..3 {
        let mut members: Vec<u32> = (bracket * 9..bracket * 9 + 9).collect();
        members.sort_by(|a, b| noise(*a, 0).total_cmp(&noise(*b, 0)));
        let promoted = |n: &u32| study.targets[n].len() > 1;
        assert!(members[..3].iter().all(promoted) && !members[3..].iter().any(promoted));
        assert_eq!(study.targets[&members[0]], [0.1, 0.3, 1.0]);
    }
}

#[test]
fn hyperband_runs_the_papers_table() {
    // R = 81 and eta = 3; the table's (configurations, resource) of one round of brackets
    let steps: Vec<f64> = [1.0, 3.0, 9.0, 27.0, 81.0].iter().map(|r| r / 81.0).collect();
    let mut study = single("hyperband", &steps, 3, 81 + 27 + 9 + 6 + 5);
    study.run(8, |n, _| Some(vec![noise(n, 0)]));
    let table: [(std::ops::Range<u32>, usize, &[usize]); 5] = [
        (0..81, 0, &[81, 27, 9, 3, 1]),
        (81..108, 1, &[27, 9, 3, 1]),
        (108..117, 2, &[9, 3, 1]),
        (117..123, 3, &[6, 2]),
        (123..128, 4, &[5]),
    ];
    for (members, first, sizes) in table {
        for (i, size) in sizes.iter().enumerate() {
            let at = steps[first + i];
            let reached = members.clone().filter(|n| study.targets[n].contains(&at)).count();
            assert_eq!(reached, *size, "bracket from {first} at step {}", first + i);
        }
    }
}

#[test]
fn median_stops_who_is_worse_than_the_median_of_running_averages() {
    let mut study = single("median", &[0.25, 0.5, 1.0], 2, 7);
    // by step: the first four are never stopped; 4 is worse than the median 2.5 of (1, 2, 3, 4), 5 is as good
    let first = [1.0, 2.0, 3.0, 4.0, 2.6, 2.5, 2.4];
    study.run(1, |n, _| Some(vec![first[n as usize]]));
    // the fifth result is judged against four others, the sixth against five with the median 2.6
    assert_eq!(study.stopped, [4]);
    assert_eq!(study.targets[&3], [0.25, 0.5, 1.0]);
    assert_eq!(study.targets[&5], [0.25, 0.5, 1.0]);
}

#[test]
fn median_needs_to_be_worse_in_every_objective() {
    let mut study = Study::new(rule("median").unwrap(), ladder(&[0.5, 1.0], 2), 7);
    let values = [
        [1.0, 5.0],
        [1.0, 5.0],
        [1.0, 5.0],
        [1.0, 5.0],
        [9.0, 4.0],
        [9.0, 9.0],
        [0.5, 9.0],
    ];
    study.run(1, |n, _| Some(values[n as usize].to_vec()));
    assert_eq!(study.stopped, [5]);
}

#[test]
fn multi_objective_asha_promotes_both_ends_of_a_front_first() {
    let mut study = Study::new(rule("mo_asha").unwrap(), ladder(&[0.5, 1.0], 3), 9);
    // a front of five and four behind it
    let values = [
        [9.0, 9.0],
        [2.0, 8.0],
        [0.0, 10.0],
        [9.0, 8.0],
        [10.0, 0.0],
        [5.0, 5.0],
        [8.0, 9.0],
        [1.0, 9.0],
        [9.5, 9.5],
    ];
    // all report before anything is promoted
    study.fill(9);
    while study.report(&|n, _| Some(values[n as usize].to_vec())) {}
    study.fill(3);
    let promoted: Vec<u32> = (0..9).filter(|n| study.targets[n].len() > 1).collect();
    assert_eq!(promoted, [2, 4, 5], "the ends, then the middle");
    assert_eq!(
        search::fidelity::next(
            rule("mo_asha").unwrap(),
            &study.ladder,
            &study.problem,
            &study.history,
            search::fidelity::Allowance {
                room: false,
                full_trials: 99.0
            }
        ),
        Decision::Wait
    );
}

#[test]
fn who_breaks_a_measured_limit_is_promoted_last() {
    let objectives = vec![objective("loss")];
    let problem = Problem::new(cube(1), objectives, vec![at_most("loss", 2.0)], 0).unwrap();
    let mut study = Study::with(rule("asha").unwrap(), ladder(&[0.5, 1.0], 2), 4, problem);
    study.fill(4);
    while study.report(&|n, _| Some(vec![f64::from(n)])) {}
    study.fill(2);
    assert_eq!((study.targets[&0].len(), study.targets[&1].len()), (2, 2));
    // two keep the limit and two break it; the places are for the former whatever their loss
    let mut study = Study::with(rule("asha").unwrap(), ladder(&[0.5, 1.0], 2), 4, {
        let limit = spaces::Limit {
            metric: "loss".into(),
            min: Some(2.0),
            max: None,
        };
        Problem::new(cube(1), vec![objective("loss")], vec![limit], 0).unwrap()
    });
    study.fill(4);
    while study.report(&|n, _| Some(vec![f64::from(n)])) {}
    study.fill(2);
    assert_eq!((study.targets[&2].len(), study.targets[&3].len()), (2, 2));
}
