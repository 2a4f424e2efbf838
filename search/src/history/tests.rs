//! What a history keeps, and what it counts as no result.

use spaces::{Direction, Domain, Limit, Objective, Parameter, Value};

use super::*;

fn problem() -> Problem {
    let rate = Parameter {
        name: "rate".into(),
        domain: Domain::float(0.0, 10.0, false, None).unwrap(),
        condition: Default::default(),
    };
    let accuracy = Objective {
        metric: "accuracy".into(),
        direction: Direction::Maximize,
        known_before_training: false,
    };
    let bytes = Limit {
        metric: "bytes".into(),
        min: None,
        max: Some(10.0),
    };
    Problem::new(Space::new(vec![rate]).unwrap(), vec![accuracy], vec![bytes], 0).unwrap()
}

fn at(rate: Value) -> Candidate {
    [("rate".to_owned(), rate)].into_iter().collect()
}

fn measured(metrics: &[(&str, f64)]) -> Outcome {
    Outcome::Measured(metrics.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect())
}

#[test]
fn values_enter_minimised_and_gaps_make_a_trial_useless() {
    let (problem, mut history) = (problem(), History::default());
    for (i, metrics) in [
        &[("accuracy", 0.5), ("bytes", 20.0)][..],
        &[("accuracy", f64::NAN), ("bytes", 5.0)],
        &[("bytes", 5.0)],
        &[("accuracy", 0.5)],
    ]
    .into_iter()
    .enumerate()
    {
        history.push(&problem, i as u32, at(Value::Float(i as f64)), measured(metrics));
    }
    history.push(&problem, 9, at(Value::Float(9.0)), Outcome::Failed);
    assert_eq!(history.values().collect::<Vec<_>>(), [&[-0.5]]);
    assert_eq!(history.trials()[0].violation, 1.0);
    assert_eq!(history.len(), 5);
}

#[test]
fn a_point_is_known_while_finished_or_pending_whatever_its_type() {
    let (problem, mut history) = (problem(), History::default());
    let proposal = |rate| Proposal {
        candidate: at(rate),
        known: BTreeMap::from([("bytes".into(), 4.0)]),
    };
    history.start(&problem, 0, proposal(Value::Int(1)));
    history.start(&problem, 1, proposal(Value::Float(2.0)));
    assert!(history.contains(at(Value::Float(1.0)).key()));
    history.cancel(0);
    assert!(!history.contains(at(Value::Float(1.0)).key()));
    history.push(&problem, 1, at(Value::Int(2)), measured(&[("accuracy", 0.9)]));
    assert!(history.pending().is_empty());
    assert!(history.contains(at(Value::Float(2.0)).key()));
    let read: History = serde_json::from_str(&serde_json::to_string(&history).unwrap()).unwrap();
    assert_eq!(read, history, "the index counts the point once");
    assert_eq!(history.trials()[0].values, Some(vec![-0.9]), "bytes were known");
}

#[test]
fn a_point_finished_twice_survives_the_cancelling_of_a_third() {
    let (problem, mut history) = (problem(), History::default());
    history.push(&problem, 0, at(Value::Float(1.0)), Outcome::Failed);
    let again = Proposal {
        candidate: at(Value::Float(1.0)),
        known: BTreeMap::new(),
    };
    history.start(&problem, 1, again);
    history.cancel(1);
    assert!(history.contains(at(Value::Float(1.0)).key()));
}

#[test]
fn what_is_written_is_read_back_to_the_last_bit() {
    let (problem, mut history) = (problem(), History::default());
    for i in 0..500u32 {
        let x = f64::from(i).mul_add(0.017, 0.1).sin().abs();
        history.push(
            &problem,
            i,
            at(Value::Float(x)),
            measured(&[("accuracy", x / 3.0), ("bytes", x)]),
        );
    }
    history.push(
        &problem,
        500,
        at(Value::Float(3.0)),
        measured(&[("bytes", f64::INFINITY)]),
    );
    let back: History = serde_json::from_str(&serde_json::to_string(&history).unwrap()).unwrap();
    assert_eq!(back, history);
}
