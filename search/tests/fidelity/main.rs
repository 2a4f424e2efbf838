//! What every fidelity rule must keep to, over the whole registry, and known answers of each.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod curves;
mod oracles;
mod support;

use std::collections::BTreeMap;

use common::mixed;
use search::{
    History, Outcome,
    fidelity::{Allowance, Decision, Ladder, REGISTRY, next},
};
use support::{Study, ladder, noise};

const ENDLESS: Allowance = Allowance {
    room: true,
    full_trials: f64::INFINITY,
};

#[test]
fn every_rule_trains_each_trial_upwards_and_ends() {
    for rule in REGISTRY {
        for (steps, eta, parallel) in [
            (&[0.1, 0.3, 1.0][..], 3, 1),
            (&[0.25, 0.5, 1.0], 2, 4),
            (&[0.5, 1.0], 4, 7),
            (&[1.0], 3, 2),
        ] {
            let mut study = Study::new(rule.rule, ladder(steps, eta), 40);
            study.run(parallel, |number, fidelity| {
                // some die on the way, some have nothing to be judged by
                match number % 11 {
                    3 => None,
                    _ => Some(vec![noise(number, 0) / fidelity, noise(number, 1)]),
                }
            });
            assert!(study.history.pending().iter().all(|p| p.target.is_none()));
            let full = study.history.values().count();
            assert!(full > 0, "{} trains nothing in full", rule.name);
            assert_eq!(study.started, 40, "{}", rule.name);
            // by what is asked of a rule: nothing is trained twice and each promotion goes one step up
            for (number, targets) in &study.targets {
                assert!(
                    targets.windows(2).all(|w| w[0] < w[1]),
                    "{} of trial {number}",
                    rule.name
                );
                let first = steps.iter().position(|s| s == &targets[0]).unwrap();
                assert_eq!(targets[..], steps[first..first + targets.len()]);
            }
        }
    }
}

#[test]
fn the_same_standing_gives_the_same_decision_in_a_history_that_is_read_again() {
    for rule in REGISTRY {
        let mut study = Study::new(rule.rule, ladder(&[0.1, 0.3, 1.0], 3), 30);
        study.run_steps(3, 50, |number, fidelity| {
            Some(vec![noise(number, 0) / fidelity, noise(number, 1)])
        });
        let read: History = serde_json::from_str(&serde_json::to_string(&study.history).unwrap()).unwrap();
        assert_eq!(read, study.history);
        let decide = |history: &History| next(rule.rule, &study.ladder, &study.problem, history, ENDLESS);
        assert_eq!(decide(&read), decide(&study.history), "{}", rule.name);
    }
}

#[test]
fn a_budget_is_never_overspent_and_nearly_spent() {
    for rule in REGISTRY {
        let mut study = Study::new(rule.rule, ladder(&[0.1, 0.3, 1.0], 3), 1000);
        study.full_trials = 12.0;
        study.run(3, |number, fidelity| {
            Some(vec![noise(number, 0) / fidelity, noise(number, 1)])
        });
        let spent: f64 = study
            .targets
            .values()
            .map(|targets| targets.last().copied().unwrap_or(0.0))
            .sum();
        assert!(spent <= 12.0 + 1e-6, "{} spends {spent}", rule.name);
        assert!(spent > 11.0, "{} spends {spent}", rule.name);
        assert!(study.history.values().count() > 0, "{}", rule.name);
    }
}

#[test]
fn what_could_not_be_trained_in_full_is_not_begun_and_the_rest_goes_to_the_best() {
    let mut study = Study::new(
        search::fidelity::rule("mo_asha").unwrap(),
        ladder(&[0.25, 1.0], 4),
        1000,
    );
    study.full_trials = 3.4;
    study.run(1, |number, _| Some(vec![noise(number, 0), noise(number, 0)]));
    // halving alone would begin three more with the 0.9 that are left, and finish none
    let full = study.history.values().count();
    let spent = 0.25 * f64::from(study.started) + 0.75 * full as f64;
    assert_eq!((study.started, full), (7, 2), "{spent}");
}

#[test]
fn a_study_too_small_for_a_promotion_still_ends_with_a_result() {
    for rule in REGISTRY {
        let mut study = Study::new(rule.rule, ladder(&[0.1, 0.3, 1.0], 3), 2);
        study.run(2, |number, _| Some(vec![f64::from(number), 0.0]));
        assert_eq!(study.history.values().count().min(1), 1, "{}", rule.name);
    }
}

#[test]
fn results_that_lack_an_objective_are_no_rungs() {
    let mut study = Study::new(REGISTRY[0].rule, ladder(&[0.5, 1.0], 2), 4);
    let proposal = search::Proposal {
        candidate: mixed().decode(&[0.5; 11]),
        ..Default::default()
    };
    let loss = BTreeMap::from([("loss".to_owned(), 1.0), ("bytes".to_owned(), f64::NAN)]);
    study
        .history
        .reach(&study.problem, 0, &proposal, 0.5, loss, vec![]);
    assert!(study.history.pending()[0].rungs.is_empty());
    assert_eq!(study.history.pending()[0].target, None);
    let decision = next(
        REGISTRY[0].rule,
        &study.ladder,
        &study.problem,
        &study.history,
        ENDLESS,
    );
    assert_eq!(decision, Decision::Start { rung: 0 });
}

#[test]
fn rungs_stay_with_a_trial_when_it_is_over() {
    let mut study = Study::new(REGISTRY[0].rule, Ladder::full(), 1);
    let proposal = search::Proposal {
        candidate: mixed().decode(&[0.5; 11]),
        known: BTreeMap::from([("bytes".to_owned(), 7.0)]),
    };
    let at = |loss: f64| BTreeMap::from([("loss".to_owned(), loss), ("bytes".to_owned(), 3.0)]);
    study
        .history
        .reach(&study.problem, 5, &proposal, 0.1, at(3.0), vec![]);
    study.history.train_to(5, 1.0);
    study.history.push(
        &study.problem,
        5,
        proposal.candidate.clone(),
        Outcome::Measured(at(2.0)),
    );
    let trial = &study.history.trials()[0];
    assert_eq!(
        trial.rungs[0].values,
        [3.0, 7.0],
        "what is known is known of the whole"
    );
    assert_eq!(trial.values.as_deref(), Some(&[2.0, 3.0][..]));
    assert!(study.history.pending().is_empty());
    assert!(study.history.contains(proposal.candidate.key()));
}

#[test]
fn older_records_are_read() {
    let old = r#"{"trials":[{"number":0,"candidate":{},"outcome":"failed","values":null,"violation":0.0}],
        "pending":[{"number":1,"proposal":{"candidate":{},"known":{}}}]}"#;
    let history: History = serde_json::from_str(old).unwrap();
    assert_eq!(history.pending()[0].target, Some(1.0));
    assert!(history.trials()[0].rungs.is_empty());
}

#[test]
fn the_catalogue_lists_every_rule_by_a_name_of_its_own() {
    let rules = search::fidelity::rules();
    assert_eq!(rules[0].name, "mo_asha");
    for (i, rule) in rules.iter().enumerate() {
        assert!(rules[..i].iter().all(|r| r.name != rule.name));
        assert!(!rule.doc.is_empty() && !rule.paper.is_empty());
        assert!(search::fidelity::rule(&rule.name).is_some());
    }
    assert!(search::fidelity::rule("guess").is_none());
}
