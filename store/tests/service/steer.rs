use spaces::protocol::{FailureKind, Outcome, TrialState};
use store::{StoreError, StudyState, testing::TestDb};

use super::*;

#[tokio::test]
async fn a_paused_study_leases_nothing_and_lets_running_trials_end() {
    let db = TestDb::new().await;
    let s = study(&db.store, "pausable").await;
    enqueue(&db.store, s.id, 0..2).await;
    let running = lease(&db.store).await;
    db.store.pause(s.id).await.unwrap();
    db.store.pause(s.id).await.unwrap();
    assert!(db.store.lease("w", "cpu", true, LONG).await.unwrap().is_none());
    assert!(
        !db.store
            .heartbeat(running.trial, running.token, LONG, None)
            .await
            .unwrap()
    );
    db.store
        .finish(running.trial, running.token, &done(1.0))
        .await
        .unwrap();
    assert!(db.store.enqueue(s.id, &[point(7)]).await.unwrap()[0].is_some());
    let other = study(&db.store, "other").await;
    enqueue(&db.store, other.id, 0..1).await;
    assert_eq!(
        lease(&db.store).await.study,
        other.id,
        "only that study is paused"
    );
    db.store.resume(s.id).await.unwrap();
    assert_eq!(lease(&db.store).await.number, 1);
}

#[tokio::test]
async fn cancelling_a_study_ends_what_waits_and_asks_what_runs() {
    let db = TestDb::new().await;
    let s = study(&db.store, "cancelled").await;
    enqueue(&db.store, s.id, 0..5).await;
    let (a, b) = (lease(&db.store).await, lease(&db.store).await);
    db.store.cancel_study(s.id).await.unwrap();
    db.store.cancel_study(s.id).await.unwrap();
    let counts = db.store.counts(s.id).await.unwrap();
    assert_eq!((counts.queued, counts.running, counts.cancelled), (0, 2, 3));
    assert!(db.store.trial(a.trial).await.unwrap().trial.stopping);
    assert!(db.store.heartbeat(a.trial, a.token, LONG, None).await.unwrap());
    assert_eq!(
        db.store
            .finish(a.trial, a.token, &Outcome::Cancelled)
            .await
            .unwrap(),
        TrialState::Cancelled
    );
    assert_eq!(
        db.store.finish(b.trial, b.token, &done(1.0)).await.unwrap(),
        TrialState::Done,
        "results are kept"
    );
    assert_eq!(db.store.history(s.id, 0).await.unwrap().len(), 5);

    assert!(db.store.study(s.id).await.unwrap().finished_at.is_some());
    let refused = db.store.enqueue(s.id, &[point(9)]).await.unwrap_err();
    assert!(
        refused.to_string().contains("'cancelled' is cancelled"),
        "{refused}"
    );
    for refused in [
        db.store.resume(s.id).await,
        db.store.pause(s.id).await,
        db.store.finish_study(s.id, None).await,
    ] {
        assert!(matches!(refused, Err(StoreError::WrongState { .. })));
    }
}

#[tokio::test]
async fn a_stopped_trial_never_returns_to_the_queue() {
    let db = TestDb::new().await;
    let s = study(&db.store, "stop").await;
    enqueue(&db.store, s.id, 0..4).await;
    let stopped = async || {
        let lease = lease(&db.store).await;
        assert_eq!(
            db.store.cancel_trial(lease.trial).await.unwrap(),
            TrialState::Running
        );
        lease
    };
    let a = stopped().await;
    let state = db
        .store
        .finish(a.trial, a.token, &failed(FailureKind::Crash))
        .await
        .unwrap();
    assert_eq!(state, TrialState::Cancelled);
    let b = stopped().await;
    assert_eq!(
        db.store.release(b.trial, b.token).await.unwrap(),
        TrialState::Cancelled
    );
    let c = stopped().await;
    sql(
        &db,
        "update trials set lease_until = now() - interval '1 second' where state = 'running'",
    )
    .await;
    db.store.reap().await.unwrap();
    assert_eq!(
        db.store.trial(c.trial).await.unwrap().trial.state,
        TrialState::Cancelled
    );
    let waiting = c.trial + 1;
    assert_eq!(
        db.store.cancel_trial(waiting).await.unwrap(),
        TrialState::Cancelled
    );
    let again = db.store.cancel_trial(waiting).await.unwrap_err();
    assert!(
        matches!(
            again,
            StoreError::WrongState {
                state: "cancelled",
                ..
            }
        ),
        "{again}"
    );
}

#[tokio::test]
async fn a_pruned_trial_keeps_the_last_point_of_its_curves() {
    let db = TestDb::new().await;
    let s = study(&db.store, "prune").await;
    enqueue(&db.store, s.id, 0..1).await;
    let lease = lease(&db.store).await;
    let curve = [
        measured("validation_loss", 10, 3.0),
        measured("validation_loss", 20, 2.5),
        measured("training_time_s", 10, 1.0),
    ];
    db.store
        .report(lease.trial, lease.token, LONG, &curve, None)
        .await
        .unwrap();
    db.store.prune_trial(lease.trial).await.unwrap();
    assert!(
        db.store
            .heartbeat(lease.trial, lease.token, LONG, None)
            .await
            .unwrap()
    );
    let state = db
        .store
        .finish(lease.trial, lease.token, &Outcome::Cancelled)
        .await
        .unwrap();
    assert_eq!(state, TrialState::Pruned);
    let finish = &db.store.history(s.id, 0).await.unwrap()[0];
    assert_eq!(finish.state, TrialState::Pruned);
    assert_eq!(
        finish.measurements,
        [
            measured("training_time_s", 10, 1.0),
            measured("validation_loss", 20, 2.5)
        ]
    );
}

#[tokio::test]
async fn retrying_keeps_the_history_that_proposals_were_derived_from() {
    let db = TestDb::new().await;
    let s = study(&db.store, "retry").await;
    enqueue(&db.store, s.id, 0..3).await;
    for outcome in [
        failed(FailureKind::OutOfMemory),
        done(1.0),
        failed(FailureKind::Data),
    ] {
        let lease = lease(&db.store).await;
        db.store.finish(lease.trial, lease.token, &outcome).await.unwrap();
    }
    db.store.finish_study(s.id, None).await.unwrap();
    let before = db.store.history(s.id, 0).await.unwrap();
    let id = before[0].trial;
    db.store.retry_trial(id).await.unwrap();
    assert_eq!(
        db.store.study(s.id).await.unwrap().state,
        StudyState::Running,
        "it runs again"
    );
    assert!(db.store.study(s.id).await.unwrap().finished_at.is_none());
    let again = lease(&db.store).await;
    assert_eq!((again.trial, again.attempt), (id, 2));
    db.store.finish(id, again.token, &done(0.5)).await.unwrap();
    let after = db.store.history(s.id, 0).await.unwrap();
    assert_eq!(
        after[..3],
        before[..],
        "what was derived from the first three finishes still can be"
    );
    assert_eq!(
        (after[3].order, after[3].trial, after[3].attempt, after[3].state),
        (3, id, 2, TrialState::Done)
    );

    assert_eq!(db.store.retry_failed(s.id).await.unwrap(), 1);
    assert_eq!(db.store.retry_failed(s.id).await.unwrap(), 0);
    let trial = db.store.trial(lease(&db.store).await.trial).await.unwrap().trial;
    assert_eq!(
        (trial.number, trial.max_attempts - trial.attempt),
        (2, 2),
        "two more after this one"
    );
    let refused = db.store.retry_trial(id).await.unwrap_err();
    assert!(matches!(refused, StoreError::WrongState { state: "done", .. }));
    db.store.cancel_study(s.id).await.unwrap();
    assert!(matches!(
        db.store.retry_failed(s.id).await,
        Err(StoreError::WrongState { .. })
    ));
}

#[tokio::test]
async fn a_failed_study_says_why_and_may_go_on() {
    let db = TestDb::new().await;
    let s = study(&db.store, "broken").await;
    enqueue(&db.store, s.id, 0..1).await;
    db.store
        .fail_study(s.id, "the data folder is gone")
        .await
        .unwrap();
    let study = db.store.study(s.id).await.unwrap();
    assert_eq!(
        (study.state, study.error.as_deref()),
        (StudyState::Failed, Some("the data folder is gone"))
    );
    assert!(db.store.lease("w", "cpu", true, LONG).await.unwrap().is_none());
    db.store.resume(s.id).await.unwrap();
    let study = db.store.study(s.id).await.unwrap();
    assert_eq!(
        (study.state, study.error, study.finished_at),
        (StudyState::Running, None, None)
    );
    for missing in [
        db.store.pause(99).await,
        db.store.cancel_study(99).await,
        db.store.resume(99).await,
    ] {
        assert!(matches!(missing, Err(StoreError::NotFound { what: "study", .. })));
    }
    assert!(matches!(
        db.store.cancel_trial(99).await,
        Err(StoreError::NotFound { what: "trial", .. })
    ));
}

#[tokio::test]
async fn deleting_a_study_takes_everything_with_it_and_names_the_files_left() {
    let db = TestDb::new().await;
    let (s, other) = (study(&db.store, "doomed").await, study(&db.store, "other").await);
    enqueue(&db.store, s.id, 0..2).await;
    enqueue(&db.store, other.id, 0..1).await;
    let file = |byte: &str| store::Artifact {
        name: byte.into(),
        sha256: byte.repeat(32),
        size_bytes: 1,
    };
    let (a, running, b) = (
        lease(&db.store).await,
        lease(&db.store).await,
        lease(&db.store).await,
    );
    for (lease, bytes) in [(&a, ["0a", "0b"]), (&b, ["0b", "0c"])] {
        for byte in bytes {
            db.store
                .put_artifact(lease.trial, lease.token, &file(byte))
                .await
                .unwrap();
        }
        db.store
            .report(
                lease.trial,
                lease.token,
                LONG,
                &[measured("accuracy", 1, 0.5)],
                None,
            )
            .await
            .unwrap();
        db.store
            .finish(lease.trial, lease.token, &done(1.0))
            .await
            .unwrap();
    }
    let orphans = db.store.delete_study(s.id).await.unwrap();
    assert_eq!(orphans, ["0a".repeat(32)], "the other study still needs 0b");
    assert!(is_lost(
        db.store.heartbeat(running.trial, running.token, LONG, None).await
    ));
    assert!(matches!(
        db.store.study(s.id).await,
        Err(StoreError::NotFound { .. })
    ));
    assert!(matches!(
        db.store.delete_study(s.id).await,
        Err(StoreError::NotFound { .. })
    ));
    assert_eq!(count(&db, "select count(*) from trials").await, 1);
    assert_eq!(count(&db, "select count(*) from measurements").await, 2);
    assert_eq!(count(&db, "select count(*) from finishes").await, 1);
    assert_eq!(count(&db, "select count(*) from artifacts").await, 2);
    assert_eq!(
        db.store.workers().await.unwrap().len(),
        1,
        "workers outlive their studies"
    );
    study(&db.store, "doomed").await;
}

#[tokio::test]
async fn one_server_leads_and_the_lead_ends_with_it() {
    let db = store::testing::TestDb::new().await;
    let other = store::Store::open(db.url()).await.unwrap();
    let mut lead = db.store.lead().await.unwrap().expect("nobody leads yet");
    assert!(lead.is_held().await);
    assert!(other.lead().await.unwrap().is_none());
    drop(lead);
    let mut taken = None;
    for _ in 0..100 {
        taken = other.lead().await.unwrap();
        if taken.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(taken.is_some(), "the lock ends with its connection");
    other.close().await;
}

#[tokio::test]
async fn the_time_of_a_search_adds_up_and_wakes_nobody() {
    let db = TestDb::new().await;
    let s = study(&db.store, "timed").await;
    assert_eq!(s.searched_s, 0.0);
    let half = std::time::Duration::from_millis(500);
    assert_eq!(db.store.add_search_time(s.id, half).await.unwrap(), 0.5);
    assert_eq!(db.store.add_search_time(s.id, half).await.unwrap(), 1.0);
    let again = db.store.study(s.id).await.unwrap();
    assert_eq!((again.searched_s, again.revision), (1.0, s.revision));
    let missing = db.store.add_search_time(s.id + 1, half).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}
