use spaces::protocol::{FailureKind, Outcome, TrialState};
use store::testing::TestDb;

use super::*;

#[tokio::test]
async fn failures_worth_a_retry_wait_longer_each_time_and_then_end() {
    let db = TestDb::new().await;
    let s = study(&db.store, "retries").await;
    let id = enqueue(&db.store, s.id, 0..1).await[0];
    for (attempt, pause_s) in [(1, 10.0), (2, 20.0)] {
        let lease = lease(&db.store).await;
        assert_eq!(lease.attempt, attempt);
        let state = db
            .store
            .finish(id, lease.token, &failed(FailureKind::Crash))
            .await
            .unwrap();
        assert_eq!(state, TrialState::Queued);
        assert!(
            db.store.lease("w", "cpu", true, LONG).await.unwrap().is_none(),
            "it waits first"
        );
        let detail = db.store.trial(id).await.unwrap();
        let pause = (detail.not_before - time::OffsetDateTime::now_utc()).as_seconds_f64();
        assert!(
            (pause_s - 5.0..=pause_s).contains(&pause),
            "{pause} s before attempt {}",
            attempt + 1
        );
        assert_eq!(detail.trial.failure_message.as_deref(), Some("it broke"));
        sql(&db, "update trials set not_before = now()").await;
    }
    let lease = lease(&db.store).await;
    let state = db
        .store
        .finish(id, lease.token, &failed(FailureKind::Crash))
        .await
        .unwrap();
    assert_eq!(state, TrialState::Failed, "three attempts are enough");
    assert_eq!(
        db.store.history(s.id, 0).await.unwrap().len(),
        1,
        "only the end is a finish"
    );
}

#[tokio::test]
async fn failures_that_repeat_themselves_end_at_once() {
    let db = TestDb::new().await;
    let s = study(&db.store, "hopeless").await;
    use FailureKind::*;
    let kinds = [OutOfMemory, NotANumber, Timeout, Crash, Data, Inert, Lost, Disk];
    enqueue(&db.store, s.id, 0..kinds.len() as i64).await;
    for kind in kinds {
        let lease = lease(&db.store).await;
        let outcome = Outcome::Failed {
            kind,
            message: "a\0b".into(),
        };
        let state = db.store.finish(lease.trial, lease.token, &outcome).await.unwrap();
        let expected = if kind.is_worth_a_retry() {
            TrialState::Queued
        } else {
            TrialState::Failed
        };
        assert_eq!(state, expected, "{kind:?}");
        let trial = db.store.trial(lease.trial).await.unwrap().trial;
        assert_eq!(trial.failure_kind.as_deref(), Some(kind.label()));
        assert_eq!(trial.failure_message.as_deref(), Some("a\u{fffd}b"));
    }
}

#[tokio::test]
async fn a_lease_that_ran_out_too_often_fails_the_trial() {
    let db = TestDb::new().await;
    let s = study(&db.store, "lost").await;
    let id = enqueue(&db.store, s.id, 0..1).await[0];
    for _ in 0..3 {
        lease(&db.store).await;
        sql(&db, "update trials set lease_until = now() - interval '1 second'").await;
        assert_eq!(db.store.reap().await.unwrap(), 1);
        sql(&db, "update trials set not_before = now()").await;
    }
    let trial = db.store.trial(id).await.unwrap().trial;
    assert_eq!(
        (trial.state, trial.failure_kind.as_deref()),
        (TrialState::Failed, Some("lost"))
    );
}

#[tokio::test]
async fn being_pre_empted_costs_no_attempt() {
    let db = TestDb::new().await;
    let s = study(&db.store, "gentle").await;
    let id = enqueue(&db.store, s.id, 0..1).await[0];
    // far more often than attempts are allowed, and beyond what the pause's power of two could hold
    for i in 1..=70 {
        let lease = lease(&db.store).await;
        assert_eq!(lease.attempt, i, "an attempt's number is not used twice");
        db.store
            .report(
                id,
                lease.token,
                LONG,
                &[measured("validation_loss", 1, f64::from(i))],
                None,
            )
            .await
            .unwrap();
        assert_eq!(
            db.store.release(id, lease.token).await.unwrap(),
            TrialState::Queued
        );
    }
    let lease = lease(&db.store).await;
    assert!(
        db.store.curve(id, &[]).await.unwrap().is_empty(),
        "earlier attempts' points do not mix in"
    );
    assert_eq!(
        db.store
            .finish(id, lease.token, &failed(FailureKind::Crash))
            .await
            .unwrap(),
        TrialState::Queued,
        "its three attempts are still there"
    );
}
