//! What every sampler must keep to, over the whole registry and many spaces.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod support;

use std::collections::{BTreeMap, HashSet};

use common::{at_most, cube, mixed};
use search::{
    Ask, AskError, History, Known, NoOracle, Oracle, Outcome, Problem, Proposal, REGISTRY, Sampler,
};
use spaces::{Candidate, Space, Value};
use support::{Judge, generated, known, noise, problem, spaces, sum, tiny_spaces};

fn ask(
    sampler: &mut dyn Sampler,
    problem: &Problem,
    history: &History,
    oracle: &mut dyn Oracle,
    number: u32,
) -> Result<Proposal, AskError> {
    sampler.ask(&mut Ask::new(problem, history, oracle, number))
}

/// A third cannot be built; the others know their bytes, between 0 and 1.
fn opinion(candidate: &Candidate) -> Known {
    if noise(candidate, 1) < 0.33 {
        Known::Invalid("heads do not divide width".into())
    } else {
        known("bytes", noise(candidate, 2))
    }
}

/// Ends of every kind: results, failures, refusals, NaN, infinity, missing objectives.
fn outcome(candidate: &Candidate, number: u32) -> Outcome {
    let measured = |loss: f64| Outcome::Measured(BTreeMap::from([("loss".to_owned(), loss)]));
    match number % 8 {
        1 => Outcome::Failed,
        3 => Outcome::Infeasible,
        5 => measured(f64::NAN),
        6 => measured(if number % 16 == 6 { f64::INFINITY } else { f64::MAX }),
        7 => Outcome::Measured(BTreeMap::new()),
        _ => measured(noise(candidate, 3)),
    }
}

#[test]
fn proposals_are_valid_new_and_within_the_known_limits() {
    for method in REGISTRY {
        for (i, space) in spaces().into_iter().enumerate() {
            let problem = problem(space, vec![at_most("bytes", 0.5)], i as u64);
            let (mut history, mut sampler) = (History::default(), method.sampler());
            let mut met = HashSet::new();
            for number in 0..60 {
                let mut oracle = Judge::new(opinion);
                let proposal = ask(&mut *sampler, &problem, &history, &mut oracle, number)
                    .unwrap_or_else(|e| panic!("{} in space {i}: {e}", method.name));
                let Proposal { candidate, known } = &proposal;
                problem.space.check(candidate).unwrap();
                assert!(
                    met.insert(candidate.hash()),
                    "{} in space {i}: a point twice",
                    method.name
                );
                assert_eq!(opinion(candidate), Known::Values(known.clone()));
                assert!(known["bytes"] <= 0.5);
                history.start(&problem, number, proposal);
                // three at a time, and the youngest ends first
                if number % 3 == 2 {
                    for n in (number - 2..=number).rev() {
                        let at = history.pending().iter().position(|p| p.number == n).unwrap();
                        let candidate = history.pending()[at].proposal.candidate.clone();
                        let end = outcome(&candidate, n);
                        history.push(&problem, n, candidate, end);
                    }
                }
            }
            assert_eq!((history.len(), history.pending().len()), (60, 0));
        }
    }
}

#[test]
fn a_hundred_thousand_proposals_are_points_of_their_spaces_and_decode_to_themselves() {
    let mut sampler = search::sampler("random").unwrap();
    for seed in 0..200 {
        let problem = problem(generated(seed), vec![], seed);
        for number in 0..500 {
            let proposal = ask(
                &mut *sampler,
                &problem,
                &History::default(),
                &mut NoOracle,
                number,
            )
            .unwrap();
            let space = &problem.space;
            space.check(&proposal.candidate).unwrap();
            let unit: Vec<f64> = space
                .encode(&proposal.candidate)
                .iter()
                .map(|u| u.unwrap_or(0.3))
                .collect();
            let again = space.decode(&unit);
            // reals come back but for the rounding of their logarithms
            assert_eq!(again.values.len(), proposal.candidate.values.len());
            for (name, value) in &proposal.candidate.values {
                match (value, &again.values[name]) {
                    (Value::Float(a), Value::Float(b)) => assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0)),
                    (a, b) => assert_eq!(a, b, "{name}"),
                }
            }
        }
    }
}

#[test]
fn the_same_request_gives_the_same_proposal_in_any_process() {
    for method in REGISTRY {
        for (i, space) in spaces().into_iter().enumerate() {
            let problem = problem(space, vec![], i as u64);
            let (mut history, mut sampler) = (History::default(), method.sampler());
            for number in 0..40 {
                let proposal = ask(&mut *sampler, &problem, &history, &mut NoOracle, number).unwrap();
                // a fresh sampler, given what was stored
                let stored = serde_json::to_string(&history).unwrap();
                let read: History = serde_json::from_str(&stored).unwrap();
                let again = ask(&mut *method.sampler(), &problem, &read, &mut NoOracle, number).unwrap();
                assert_eq!(proposal, again, "{}", method.name);
                let metrics = [
                    ("loss", noise(&proposal.candidate, 1)),
                    ("bytes", sum(&proposal.candidate)),
                ];
                let metrics = metrics.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
                history.push(&problem, number, proposal.candidate, Outcome::Measured(metrics));
            }
        }
    }
}

#[test]
fn the_seed_and_the_number_matter() {
    for method in REGISTRY {
        let first = |seed, number| {
            let problem = problem(mixed(), vec![], seed);
            ask(
                &mut *method.sampler(),
                &problem,
                &History::default(),
                &mut NoOracle,
                number,
            )
            .unwrap()
        };
        assert_ne!(first(0, 0), first(1, 0), "{}", method.name);
        assert_ne!(first(0, 0), first(0, 1), "{}", method.name);
    }
}

#[test]
fn a_finite_space_is_used_up_point_by_point_and_then_reported() {
    for method in REGISTRY {
        for (space, points) in tiny_spaces() {
            let problem = problem(space, vec![], 5);
            let (mut history, mut sampler) = (History::default(), method.sampler());
            for number in 0..points as u32 {
                let proposal = ask(&mut *sampler, &problem, &history, &mut NoOracle, number).unwrap();
                assert!(!history.contains(proposal.candidate.key()));
                history.start(&problem, number, proposal.clone());
                if number % 2 == 0 {
                    let end = outcome(&proposal.candidate, number);
                    history.push(&problem, number, proposal.candidate, end);
                }
            }
            let end = ask(&mut *sampler, &problem, &history, &mut NoOracle, points as u32);
            let (tried, refused) = (points, 0);
            assert_eq!(
                end,
                Err(AskError::Exhausted { tried, refused }),
                "{}",
                method.name
            );
            // a cancelled trial gives its point back
            if let Some(pending) = history.pending().first().cloned() {
                history.cancel(pending.number);
                let again = ask(&mut *sampler, &problem, &history, &mut NoOracle, 99).unwrap();
                assert_eq!(again, pending.proposal);
            }
        }
    }
}

#[test]
fn a_limit_that_nothing_keeps_is_named_with_the_closest_value() {
    for method in REGISTRY {
        let ask_for = |space: Space| {
            let limits = vec![at_most("bytes", 0.5), at_most("unmeasured", 1.0)];
            let problem = problem(space, limits, 5);
            let mut oracle = Judge::new(|c: &Candidate| known("bytes", 1.0 + sum(c).abs()));
            let end = ask(
                &mut *method.sampler(),
                &problem,
                &History::default(),
                &mut oracle,
                0,
            );
            (end.unwrap_err(), oracle.questions)
        };
        let (grid, _) = tiny_spaces().swap_remove(1);
        let (error, _) = ask_for(grid);
        let AskError::NothingFeasible {
            looked_at: 30,
            limit,
            closest: 3.0,
        } = &error
        else {
            panic!("{}: {error:?}", method.name);
        };
        assert_eq!(limit, &at_most("bytes", 0.5));
        let text = error.to_string();
        assert!(
            text.contains("none of 30 configurations keeps bytes <= 0.5") && text.contains("has 3:"),
            "{text}"
        );
        // ten reals: chance alone comes no closer than about 2.5, the least is 1
        let (error, questions) = ask_for(cube(10));
        assert!(
            matches!(error, AskError::NothingFeasible { closest, .. } if closest < 1.2),
            "{error:?}"
        );
        assert!(questions < 25, "{questions} questions");
    }
}

#[test]
fn a_narrow_feasible_corner_is_found() {
    // a corner that holds a ten-millionth of the space
    let opinion = |c: &Candidate| known("bytes", sum(c));
    for method in REGISTRY {
        let problem = problem(cube(10), vec![at_most("bytes", 0.9)], 3);
        let proposal = ask(
            &mut *method.sampler(),
            &problem,
            &History::default(),
            &mut Judge::new(opinion),
            0,
        );
        assert!(sum(&proposal.unwrap().candidate) <= 0.9, "{}", method.name);
    }
}

#[test]
fn a_space_in_which_nothing_can_be_built_gives_the_most_frequent_reason() {
    let opinion = |c: &Candidate| match c.get("x0").and_then(Value::as_f64) {
        Some(x) if x < 0.1 => known("bytes", f64::NAN),
        _ => Known::Invalid("3 heads do not divide width 64".into()),
    };
    for method in REGISTRY {
        let problem = problem(cube(2), vec![], 0);
        let mut oracle = Judge::new(opinion);
        let end = ask(
            &mut *method.sampler(),
            &problem,
            &History::default(),
            &mut oracle,
            0,
        )
        .unwrap_err();
        assert!(
            end.to_string()
                .contains("can be built, most often because 3 heads do not divide width 64"),
            "{end}"
        );
        assert!(matches!(end, AskError::NothingValid { looked_at, .. } if looked_at == oracle.candidates));
    }
}

#[test]
fn points_that_a_space_no_longer_has_are_borne() {
    for method in REGISTRY {
        let (problem, mut history) = (problem(mixed(), vec![], 0), History::default());
        for number in 0..40u32 {
            let odd = [
                ("gone".to_owned(), Value::Int(number.into())),
                ("layers".to_owned(), Value::Text("two".into())),
            ];
            let metrics = BTreeMap::from([("loss".to_owned(), f64::from(number)), ("bytes".to_owned(), 1.0)]);
            history.push(
                &problem,
                number,
                odd.into_iter().collect(),
                Outcome::Measured(metrics),
            );
        }
        let proposal = ask(&mut *method.sampler(), &problem, &history, &mut NoOracle, 40).unwrap();
        problem.space.check(&proposal.candidate).unwrap();
    }
}

#[test]
fn an_easy_proposal_costs_one_question() {
    for method in REGISTRY {
        let mut oracle = Judge::new(|_: &Candidate| known("bytes", 0.0));
        let problem = problem(mixed(), vec![at_most("bytes", 1.0)], 0);
        ask(
            &mut *method.sampler(),
            &problem,
            &History::default(),
            &mut oracle,
            0,
        )
        .unwrap();
        assert_eq!(oracle.questions, 1, "{}", method.name);
    }
}

#[test]
fn an_oracle_that_does_not_answer_for_each_candidate_is_an_error() {
    struct Mute;
    impl Oracle for Mute {
        fn known(&mut self, _: &[Candidate]) -> Vec<Known> {
            Vec::new()
        }
    }
    for method in REGISTRY {
        let problem = problem(mixed(), vec![], 0);
        let end = ask(
            &mut *method.sampler(),
            &problem,
            &History::default(),
            &mut Mute,
            0,
        );
        assert!(
            matches!(
                end,
                Err(AskError::Oracle {
                    asked: 1..,
                    answered: 0
                })
            ),
            "{end:?}"
        );
    }
}

#[test]
fn the_catalogue_lists_every_method_by_a_name_of_its_own() {
    let methods = search::methods();
    assert_eq!(methods[0].name, "auto");
    for (i, method) in methods.iter().enumerate() {
        assert!(methods[..i].iter().all(|m| m.name != method.name));
        assert!(!method.doc.is_empty() && !method.paper.is_empty());
        assert!(search::sampler(&method.name).is_some());
    }
    assert!(search::sampler("guess").is_none());
}
