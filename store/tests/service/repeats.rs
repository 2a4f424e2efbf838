//! Configurations that are trained again with another seed.

use spaces::protocol::TrialState;
use store::{TrialFilter, testing::TestDb};

use super::*;

/// Enqueues, leases and finishes a trial with a loss.
async fn train(store: &Store, study: i64, repeats: Option<u32>, loss: f64) -> i64 {
    let trial = NewTrial { repeats, ..point(1) };
    let id = store.enqueue(study, &[trial]).await.unwrap()[0].unwrap().id;
    let lease = lease(store).await;
    assert_eq!(lease.trial, id);
    store.finish(id, lease.token, &done(loss)).await.unwrap();
    id
}

#[tokio::test]
async fn the_first_trial_has_the_means_and_the_history_every_training() {
    let db = TestDb::new().await;
    let s = study(&db.store, "again").await;
    let first = train(&db.store, s.id, None, 2.0).await;
    let before = db.store.trial(first).await.unwrap().trial;
    assert_eq!((before.repeats, before.trainings), (None, 1));
    train(&db.store, s.id, Some(0), 3.0).await;
    let third = train(&db.store, s.id, Some(0), 4.0).await;

    let after = db.store.trial(first).await.unwrap().trial;
    assert_eq!((after.state, after.trainings), (TrialState::Done, 3));
    assert_eq!(
        (after.metrics[0].value, after.metrics[0].spread),
        (3.0, Some(0.5))
    );
    let changed = db.store.changes_since(s.id, before.revision, 100).await.unwrap();
    assert!(changed.trials.iter().any(|t| t.id == first), "a page hears of it");
    let repeat = db.store.trial(third).await.unwrap().trial;
    assert_eq!(
        (repeat.repeats, repeat.trainings, repeat.metrics[0].value),
        (Some(0), 1, 4.0)
    );
    let losses: Vec<f64> = db
        .store
        .history(s.id, 0)
        .await
        .unwrap()
        .iter()
        .map(|f| f.measurements[0].value)
        .collect();
    assert_eq!(losses, [2.0, 3.0, 4.0]);
}

#[tokio::test]
async fn only_a_trial_that_says_so_may_have_a_point_again() {
    let db = TestDb::new().await;
    let s = study(&db.store, "again").await;
    let repeat = NewTrial {
        repeats: Some(0),
        ..point(1)
    };
    assert!(
        db.store
            .enqueue(s.id, std::slice::from_ref(&repeat))
            .await
            .is_err(),
        "there is none yet"
    );
    let enqueued = db
        .store
        .enqueue(s.id, &[point(1), point(1), repeat])
        .await
        .unwrap();
    assert_eq!(
        enqueued.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, false, true]
    );
    let trials = db.store.trials(s.id, &TrialFilter::default()).await.unwrap();
    assert_eq!(
        trials.iter().map(|t| t.repeats).collect::<Vec<_>>(),
        [None, Some(0)]
    );
}
