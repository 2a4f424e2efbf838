//! Trials that are trained in parts: they rest, are sent on, and leave no checkpoint behind.

use spaces::protocol::{Evaluation, FailureKind, Outcome, TrialState};
use store::{Artifact, Snapshot, testing::TestDb};

use super::*;

fn part(i: i64, target: f64) -> NewTrial {
    NewTrial { target, ..point(i) }
}

async fn begin(store: &Store, study: i64, target: f64) -> i64 {
    let enqueued = store
        .enqueue(study, &[part(i64::from(u8::MAX), target)])
        .await
        .unwrap();
    enqueued[0].unwrap().id
}

fn file(name: &str, digit: char) -> Artifact {
    Artifact {
        name: name.into(),
        sha256: digit.to_string().repeat(64),
        size_bytes: 1,
    }
}

/// Finishes a lease with a loss and a file.
async fn report(store: &Store, lease: &Lease, loss: f64, step: u64, digit: char) -> TrialState {
    let artifact = file("state.json", digit);
    store
        .put_artifact(lease.trial, lease.token, &artifact)
        .await
        .unwrap();
    let outcome = Outcome::Done(Evaluation {
        measurements: vec![Measurement {
            step,
            ..measurement("validation_loss", loss)
        }],
        artifacts: vec!["state.json".into()],
        ..Evaluation::default()
    });
    store.finish(lease.trial, lease.token, &outcome).await.unwrap()
}

fn measurement(metric: &str, value: f64) -> Measurement {
    Measurement {
        metric: metric.into(),
        step: 1,
        value,
        spread: None,
        evidence: Evidence::Measured,
        source: "test".into(),
    }
}

#[tokio::test]
async fn a_trial_rests_is_sent_on_and_ends_with_one_place_for_each_part() {
    let db = TestDb::new().await;
    let s = study(&db.store, "parts").await;
    let id = begin(&db.store, s.id, 0.25).await;
    let first = lease(&db.store).await;
    assert_eq!((first.target, first.attempt), (0.25, 1));
    let curve = [measurement("validation_loss", 4.0)];
    db.store
        .report(id, first.token, LONG, &curve, None)
        .await
        .unwrap();
    assert_eq!(report(&db.store, &first, 3.0, 25, 'a').await, TrialState::Paused);
    // the same finish again is recognised
    let again = Outcome::Done(Evaluation::default());
    assert_eq!(
        db.store.finish(id, first.token, &again).await.unwrap(),
        TrialState::Paused
    );
    let trial = db.store.trial(id).await.unwrap().trial;
    assert_eq!(
        (trial.state, trial.reached, trial.finished_at),
        (TrialState::Paused, 0.25, None)
    );
    assert!(
        db.store.lease("w", "cpu", true, LONG).await.unwrap().is_none(),
        "it holds no place in the queue"
    );
    assert_eq!(db.store.counts(s.id).await.unwrap().paused, 1);

    let snapshot = Snapshot {
        finished: 1,
        ..Snapshot::default()
    };
    let refused = db.store.promote_trial(id, 0.25, &snapshot).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("cannot be sent to 0.25")
    );
    db.store.promote_trial(id, 1.0, &snapshot).await.unwrap();
    let refused = db.store.promote_trial(id, 1.0, &snapshot).await;
    assert!(refused.unwrap_err().to_string().contains("trained on"));
    let second = lease(&db.store).await;
    assert_eq!((second.trial, second.target, second.attempt), (id, 1.0, 2));
    assert_eq!(
        db.store.trial(id).await.unwrap().trial.max_attempts,
        4,
        "it cost no attempt"
    );
    let files = db.store.checkpoint(id).await.unwrap();
    assert_eq!(files, [file("state.json", 'a')]);
    // while it is needed nothing is dropped
    assert!(db.store.drop_checkpoints().await.unwrap().is_empty());
    let point = Measurement {
        step: 50,
        ..measurement("validation_loss", 2.5)
    };
    db.store
        .report(id, second.token, LONG, &[point], None)
        .await
        .unwrap();
    assert_eq!(report(&db.store, &second, 2.0, 100, 'b').await, TrialState::Done);

    let history = db.store.history(s.id, 0).await.unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|f| (f.state, f.fidelity, f.attempt, f.measurements[0].value))
        .collect();
    assert_eq!(
        told,
        [
            (TrialState::Paused, 0.25, 1, 3.0),
            (TrialState::Done, 1.0, 2, 2.0)
        ]
    );
    let steps: Vec<u64> = db
        .store
        .curve(id, &[])
        .await
        .unwrap()
        .iter()
        .map(|m| m.step)
        .collect();
    assert_eq!(steps, [1, 50], "the curve goes through the parts");
    assert_eq!(db.store.drop_checkpoints().await.unwrap(), ["a".repeat(64)]);
    assert!(db.store.checkpoint(id).await.unwrap().is_empty());
    let kept = db.store.trial(id).await.unwrap().artifacts;
    assert_eq!(kept, [file("state.json", 'b')], "the model's files stay");
}

#[tokio::test]
async fn a_checkpoint_outlives_a_worker_that_is_lost() {
    let db = TestDb::new().await;
    let s = study(&db.store, "lost").await;
    let id = begin(&db.store, s.id, 0.5).await;
    let first = lease(&db.store).await;
    report(&db.store, &first, 3.0, 5, 'a').await;
    db.store
        .promote_trial(id, 1.0, &Snapshot::default())
        .await
        .unwrap();
    let second = lease(&db.store).await;
    let state = db
        .store
        .finish(id, second.token, &failed(FailureKind::Lost))
        .await
        .unwrap();
    assert_eq!(state, TrialState::Queued);
    let trial = db.store.trial(id).await.unwrap().trial;
    assert_eq!((trial.target, trial.reached), (1.0, 0.5));
    assert_eq!(db.store.checkpoint(id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_rests_when_a_study_ends_is_pruned_and_its_checkpoint_dropped() {
    let db = TestDb::new().await;
    for (name, state) in [
        ("finished", TrialState::Pruned),
        ("cancelled", TrialState::Cancelled),
    ] {
        let s = study(&db.store, name).await;
        let id = begin(&db.store, s.id, 0.5).await;
        let first = lease(&db.store).await;
        report(&db.store, &first, 3.0, 5, 'c').await;
        if name == "finished" {
            db.store.finish_study(s.id, None).await.unwrap();
        } else {
            db.store.cancel_study(s.id).await.unwrap();
        }
        assert_eq!(db.store.trial(id).await.unwrap().trial.state, state);
        assert_eq!(db.store.drop_checkpoints().await.unwrap(), ["c".repeat(64)]);
    }
}

#[tokio::test]
async fn files_that_another_trial_has_as_well_are_kept() {
    let db = TestDb::new().await;
    let s = study(&db.store, "shared").await;
    let trials = db
        .store
        .enqueue(s.id, &[part(1, 0.5), part(2, 0.5)])
        .await
        .unwrap();
    for _ in 0..2 {
        let lease = lease(&db.store).await;
        report(&db.store, &lease, 1.0, 1, 'd').await;
    }
    db.store.prune_trial(trials[0].unwrap().id).await.unwrap();
    assert!(db.store.drop_checkpoints().await.unwrap().is_empty());
    db.store.prune_trial(trials[1].unwrap().id).await.unwrap();
    assert_eq!(db.store.drop_checkpoints().await.unwrap(), ["d".repeat(64)]);
}

#[tokio::test]
async fn workers_that_know_no_parts_are_given_whole_trainings_only() {
    let db = TestDb::new().await;
    let s = study(&db.store, "whole").await;
    db.store
        .enqueue(s.id, &[part(1, 0.5), part(2, 1.0)])
        .await
        .unwrap();
    let lease = db.store.lease("w", "cpu", false, LONG).await.unwrap().unwrap();
    assert_eq!((lease.number, lease.target), (1, 1.0));
    assert!(db.store.lease("w", "cpu", false, LONG).await.unwrap().is_none());
}

#[tokio::test]
async fn promotions_cannot_be_rewritten() {
    let db = TestDb::new().await;
    let s = study(&db.store, "kept").await;
    let id = begin(&db.store, s.id, 0.5).await;
    let first = lease(&db.store).await;
    report(&db.store, &first, 3.0, 5, 'e').await;
    db.store
        .promote_trial(id, 1.0, &Snapshot::default())
        .await
        .unwrap();
    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    for sql in [
        "delete from promotions",
        "update promotions set target = 0.6",
        "truncate promotions",
    ] {
        let error = sqlx::query(sql).execute(&mut connection).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{sql}: {error}");
    }
    db.store.delete_study(s.id).await.unwrap();
}
