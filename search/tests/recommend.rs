//! Recommendations: what is chosen, and what people are told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use search::{NoRecommendation, Point, Recommendation, Rule, recommend};
use spaces::{Limit, Objective, metric};

const METRICS: [&str; 3] = ["validation_loss", "model_bytes", "accuracy"];

/// Trials 1, 2, 3 ... with loss, bytes and accuracy.
fn points(rows: &[[f64; 3]]) -> Vec<Point> {
    let point = |(i, row): (usize, &[f64; 3])| Point {
        id: i as i64 + 1,
        metrics: METRICS.iter().map(|m| (*m).to_owned()).zip(*row).collect(),
    };
    rows.iter().enumerate().map(point).collect()
}

fn objectives(names: &[&str]) -> Vec<Objective> {
    names
        .iter()
        .map(|n| Objective::from(metric(n).unwrap()))
        .collect()
}

const MIB: f64 = 1048576.0;

/// A bend at trial 2; trial 4 is dominated.
fn example() -> Vec<Point> {
    points(&[
        [1.8, 8.0 * MIB, 0.52],
        [1.9, 2.0 * MIB, 0.50],
        [3.0, MIB, 0.30],
        [2.5, 3.0 * MIB, 0.45],
        [f64::NAN, MIB, 0.1],
    ])
}

fn choose(points: &[Point], limits: &[&str], rule: &str) -> Result<Recommendation, NoRecommendation> {
    let limits: Vec<Limit> = limits.iter().map(|l| Limit::parse(l).unwrap()).collect();
    let objectives = objectives(&["validation_loss", "model_bytes"]);
    recommend(points, &objectives, &limits, &Rule::parse(rule).unwrap())
}

#[test]
fn the_knee_is_chosen_with_the_price_it_asks() {
    let found = choose(&example(), &[], "knee").unwrap();
    assert_eq!((found.id, found.feasible, found.looked_at), (2, 4, 4));
    assert!(found.relax.is_empty());
    assert_eq!(
        found.reason,
        "trial 2 is the knee of 3 trade-offs, 55 % of the range below an even exchange between the extremes: \
         validation_loss 1.900 nats/token is 5.6 % above the best (1.800 nats/token, trial 1), model_bytes 2 MiB is \
         100.0 % above the best (1 MiB, trial 3)"
    );
}

#[test]
fn extremes_are_chosen_within_the_limits() {
    let id = |limits: &[&str], rule| choose(&example(), limits, rule).unwrap().id;
    assert_eq!(id(&[], "min:validation_loss"), 1);
    assert_eq!(id(&[], "max:accuracy"), 1);
    assert_eq!(id(&["model_bytes<=4 MiB"], "min:validation_loss"), 2);
    assert_eq!(
        id(&["model_bytes<=4 MiB", "validation_loss>=2"], "max:accuracy"),
        4
    );
    assert_eq!(
        id(&["model_bytes>=2.5 MiB"], "knee"),
        1,
        "the front is that of the trials that keep the limits"
    );
    let reason = choose(&example(), &["model_bytes<=4 MiB"], "min:validation_loss")
        .unwrap()
        .reason;
    assert!(
        reason.starts_with(
            "trial 2 has the least validation_loss (3 of 4 trials keep the limits): validation_loss"
        ),
        "{reason}"
    );
    assert!(
        reason.contains("1.900 nats/token is the best, model_bytes"),
        "{reason}"
    );
}

#[test]
fn equal_bests_are_told_apart_by_the_objectives() {
    let ties = points(&[[2.0, 5.0, 0.5], [2.0, 3.0, 0.5], [1.0, 9.0, 0.1]]);
    assert_eq!(choose(&ties, &[], "max:accuracy").unwrap().id, 2);
}

#[test]
fn a_named_trial_is_taken_whatever_it_breaks() {
    let found = choose(&example(), &["model_bytes<=4 MiB"], "trial:1").unwrap();
    assert_eq!((found.id, found.relax.len()), (1, 1));
    assert!(
        found
            .reason
            .ends_with("relax model_bytes <= 4 MiB by 100.0 % to 8388608 B (8 MiB)"),
        "{}",
        found.reason
    );
    assert!(found.given_up[0].value == found.given_up[0].best);
}

#[test]
fn where_nothing_keeps_the_limits_the_nearest_is_given_with_what_to_relax() {
    for rule in ["knee", "max:accuracy"] {
        let found = choose(&example(), &["model_bytes<=0.8 MiB", "validation_loss<=5"], rule).unwrap();
        assert_eq!((found.id, found.feasible), (3, 0));
        assert_eq!(found.relax.len(), 1);
        assert_eq!(found.relax[0].value, MIB);
        assert!((found.relax[0].by - 0.25).abs() < 1e-9);
        assert!(
            found.reason.starts_with(
                "no trial keeps model_bytes <= 819.2 KiB and validation_loss <= 5 nats/token; trial 3 comes closest"
            ),
            "{}",
            found.reason
        );
    }
}

#[test]
fn degenerate_sets_have_a_recommendation_too() {
    let one = choose(&points(&[[1.0, 1.0, 1.0]]), &[], "knee").unwrap();
    assert!(
        one.reason
            .starts_with("trial 1 is the best in every objective: validation_loss"),
        "{}",
        one.reason
    );
    let two = choose(&points(&[[2.0, 1.0, 0.0], [1.0, 2.0, 0.0]]), &[], "knee").unwrap();
    assert_eq!(two.id, 2, "the first objective decides");
    assert!(
        two.reason.contains("the most even of 2 trade-offs"),
        "{}",
        two.reason
    );
    let zero = choose(
        &points(&[[0.0, 2.0, 0.0], [0.25, 1.0, 0.0]]),
        &[],
        "min:model_bytes",
    )
    .unwrap();
    assert!(
        zero.reason
            .contains("is 0.250 nats/token above the best (0 nats/token, trial 1)"),
        "{}",
        zero.reason
    );
}

#[test]
fn a_maximised_objective_is_given_up_downwards() {
    let both = objectives(&["accuracy", "model_bytes"]);
    let found = recommend(&example(), &both, &[], &Rule::Min("model_bytes".into())).unwrap();
    assert_eq!(found.id, 3, "trial 5 has as few bytes and is worse otherwise");
    assert_eq!((found.given_up[0].best, found.given_up[0].best_id), (0.52, 1));
    assert!(
        found
            .reason
            .contains("accuracy 0.300 is 42.3 % below the best (0.520, trial 1)"),
        "{}",
        found.reason
    );
}

#[test]
fn what_cannot_be_answered_is_said() {
    let message =
        |points: &[Point], limits: &[&str], rule| choose(points, limits, rule).unwrap_err().to_string();
    assert!(message(&[], &[], "knee").contains("none of 0 trials"));
    assert!(message(&points(&[[f64::NAN, 1.0, 0.0]]), &[], "knee").contains("none of 1 trials"));
    assert!(message(&example(), &[], "trial:9").contains("no trial 9"));
    assert!(message(&example(), &[], "trial:5").contains("no trial 5 with a result"));
    let unknown = message(&example(), &[], "min:model_byte");
    assert!(
        unknown.contains("no trial has a value of 'model_byte'") && unknown.contains("'model_bytes'?"),
        "{unknown}"
    );
    assert!(message(&example(), &["latency_ms_per_token<=1"], "knee").contains("'latency_ms_per_token'"));
}
