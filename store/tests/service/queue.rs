use spaces::protocol::{Evaluation, Outcome, Progress, TrialState};
use store::{Artifact, StoreError, TrialFilter, testing::TestDb};
use uuid::Uuid;

use super::*;

#[tokio::test]
async fn a_trial_goes_from_proposal_to_result() {
    let db = TestDb::new().await;
    let s = study(&db.store, "one").await;
    let id = enqueue(&db.store, s.id, 0..1).await[0];
    let lease = lease(&db.store).await;
    assert_eq!(
        (lease.trial, lease.study, lease.number, lease.attempt),
        (id, s.id, 0, 1)
    );
    assert_eq!(
        (lease.study_name.as_str(), lease.data_fingerprint.as_str()),
        ("one", "fingerprint")
    );
    assert_eq!(
        (&lease.spec, &lease.candidate),
        (&spec("one"), &point(0).candidate)
    );
    assert!(db.store.lease("w", "cpu", true, LONG).await.unwrap().is_none());

    let progress = Progress {
        phase: "train".into(),
        step: 5,
        steps: 10,
        eta_s: Some(2.0),
    };
    let stop = db
        .store
        .heartbeat(id, lease.token, LONG, Some(&progress))
        .await
        .unwrap();
    assert!(!stop);
    assert_eq!(db.store.trial(id).await.unwrap().trial.progress, Some(progress));

    let file = |name: &str, byte: &str| Artifact {
        name: name.into(),
        sha256: byte.repeat(32),
        size_bytes: 3,
    };
    db.store
        .put_artifact(id, lease.token, &file("a.json", "0a"))
        .await
        .unwrap();
    db.store
        .put_artifact(id, lease.token, &file("weights", "0b"))
        .await
        .unwrap();
    db.store
        .put_artifact(id, lease.token, &file("weights", "0c"))
        .await
        .unwrap();
    let outcome = Outcome::Done(Evaluation {
        artifacts: vec!["weights".into(), "a.json".into()],
        ..match done(2.25) {
            Outcome::Done(e) => e,
            _ => unreachable!(),
        }
    });
    assert_eq!(
        db.store.finish(id, lease.token, &outcome).await.unwrap(),
        TrialState::Done
    );

    let detail = db.store.trial(id).await.unwrap();
    assert_eq!(detail.trial.state, TrialState::Done);
    assert_eq!(detail.trial.metrics, [measured("validation_loss", 100, 2.25)]);
    assert_eq!((detail.trial.wall_s, detail.activity["prune"]), (Some(1.5), 7));
    assert_eq!(detail.provenance["version"], "0.1.0");
    assert_eq!(detail.artifacts, [file("weights", "0c"), file("a.json", "0a")]);
    assert!(detail.trial.started_at.unwrap() <= detail.trial.finished_at.unwrap());
    assert!(db.store.study(s.id).await.unwrap().started_at.is_some());
}

#[tokio::test]
async fn a_point_is_tried_once_and_numbers_stay_dense() {
    let db = TestDb::new().await;
    let s = study(&db.store, "dense").await;
    let first = db
        .store
        .enqueue(s.id, &[point(1), point(1), point(2)])
        .await
        .unwrap();
    assert_eq!(
        first.iter().map(|e| e.map(|e| e.number)).collect::<Vec<_>>(),
        [Some(0), None, Some(1)]
    );
    let second = db.store.enqueue(s.id, &[point(2), point(3)]).await.unwrap();
    assert_eq!(
        second.iter().map(|e| e.map(|e| e.number)).collect::<Vec<_>>(),
        [None, Some(2)]
    );
    let before = db.store.study(s.id).await.unwrap().revision;
    assert_eq!(db.store.enqueue(s.id, &[point(3)]).await.unwrap(), [None]);
    assert_eq!(
        db.store.study(s.id).await.unwrap().revision,
        before,
        "nothing changed"
    );
    let other = study(&db.store, "other").await;
    assert!(db.store.enqueue(other.id, &[point(1)]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn an_infeasible_trial_is_kept_and_never_leased() {
    let db = TestDb::new().await;
    let s = study(&db.store, "limits").await;
    let refused = NewTrial {
        infeasible: Some("model_bytes 9 MiB is over the limit of 4 MiB".into()),
        ..point(9)
    };
    db.store.enqueue(s.id, &[refused]).await.unwrap();
    assert!(db.store.lease("w", "cpu", true, LONG).await.unwrap().is_none());
    let history = db.store.history(s.id, 0).await.unwrap();
    assert_eq!(
        (history[0].state, history[0].known["parameters"]),
        (TrialState::Infeasible, 90.0)
    );
    let trials = db.store.trials(s.id, &TrialFilter::default()).await.unwrap();
    assert!(trials[0].failure_message.as_ref().unwrap().contains("4 MiB"));
    let infinite = NewTrial {
        known: [("parameters".to_owned(), f64::INFINITY)].into(),
        ..point(10)
    };
    let refused = db.store.enqueue(s.id, &[infinite]).await.unwrap_err();
    assert!(refused.to_string().contains("'parameters'"), "{refused}");
}

#[tokio::test]
async fn priority_goes_before_age() {
    let db = TestDb::new().await;
    let s = study(&db.store, "order").await;
    let urgent = NewTrial {
        priority: 5,
        ..point(7)
    };
    db.store
        .enqueue(s.id, &[point(0), point(1), urgent])
        .await
        .unwrap();
    let order = [
        lease(&db.store).await.number,
        lease(&db.store).await.number,
        lease(&db.store).await.number,
    ];
    assert_eq!(order, [2, 0, 1]);
}

#[tokio::test]
async fn a_late_finish_is_refused_and_writes_nothing() {
    let db = TestDb::new().await;
    let s = study(&db.store, "late").await;
    let id = enqueue(&db.store, s.id, 0..1).await[0];
    let late = lease(&db.store).await;
    assert_eq!(db.store.reap().await.unwrap(), 0, "the lease still holds");
    sql(&db, "update trials set lease_until = now() - interval '1 second'").await;
    assert_eq!(db.store.reap().await.unwrap(), 1);
    let waiting = db.store.trial(id).await.unwrap();
    assert_eq!(
        (waiting.trial.state, waiting.trial.failure_kind.as_deref()),
        (TrialState::Queued, Some("lost"))
    );

    let refused = async |what: &str| {
        let revision = db.store.study(s.id).await.unwrap().revision;
        let m = [measured("validation_loss", 1, 3.0)];
        let a = Artifact {
            name: "weights".into(),
            sha256: "0a".repeat(32),
            size_bytes: 1,
        };
        assert!(
            is_lost(db.store.finish(id, late.token, &done(1.0)).await),
            "{what}: finish"
        );
        assert!(
            is_lost(db.store.report(id, late.token, LONG, &m, None).await),
            "{what}: report"
        );
        assert!(
            is_lost(db.store.heartbeat(id, late.token, LONG, None).await),
            "{what}: heartbeat"
        );
        assert!(is_lost(db.store.release(id, late.token).await), "{what}: release");
        assert!(
            is_lost(db.store.put_artifact(id, late.token, &a).await),
            "{what}: artifact"
        );
        assert_eq!(db.store.study(s.id).await.unwrap().revision, revision, "{what}");
    };
    refused("while it waits").await;
    sql(&db, "update trials set not_before = now()").await;
    let second = lease(&db.store).await;
    assert_eq!((second.trial, second.attempt), (id, 2));
    refused("while another has it").await;
    assert_eq!(count(&db, "select count(*) from measurements").await, 0);
    assert_eq!(count(&db, "select count(*) from artifacts").await, 0);
    db.store.finish(id, second.token, &done(1.0)).await.unwrap();
    refused("when another has finished it").await;
    assert_eq!(count(&db, "select count(*) from measurements").await, 1);
    assert!(
        is_lost(db.store.heartbeat(id + 99, Uuid::new_v4(), LONG, None).await),
        "no such trial"
    );
}

#[tokio::test]
async fn a_lease_past_its_time_holds_until_it_is_taken() {
    let db = TestDb::new().await;
    let s = study(&db.store, "slow").await;
    let id = enqueue(&db.store, s.id, 0..1).await[0];
    let lease = lease(&db.store).await;
    sql(&db, "update trials set lease_until = now() - interval '1 minute'").await;
    db.store.heartbeat(id, lease.token, LONG, None).await.unwrap();
    assert_eq!(db.store.reap().await.unwrap(), 0, "the heartbeat renewed it");
    db.store.finish(id, lease.token, &done(1.0)).await.unwrap();
}

#[tokio::test]
async fn reports_and_finishes_may_be_repeated() {
    let db = TestDb::new().await;
    let s = study(&db.store, "again").await;
    let id = enqueue(&db.store, s.id, 0..1).await[0];
    let lease = lease(&db.store).await;
    let points = [
        measured("validation_loss", 1, 3.0),
        measured("validation_loss", 2, 2.5),
    ];
    db.store
        .report(id, lease.token, LONG, &points, None)
        .await
        .unwrap();
    let revision = db.store.study(s.id).await.unwrap().revision;
    db.store
        .report(id, lease.token, LONG, &points, None)
        .await
        .unwrap();
    assert_eq!(
        db.store.study(s.id).await.unwrap().revision,
        revision,
        "nothing new was shown"
    );
    let overlapping = [
        measured("validation_loss", 2, 9.0),
        measured("validation_loss", 3, 2.0),
    ];
    db.store
        .report(id, lease.token, LONG, &overlapping, None)
        .await
        .unwrap();
    let curve = db.store.curve(id, &["validation_loss"]).await.unwrap();
    assert_eq!(
        curve.iter().map(|m| m.value).collect::<Vec<_>>(),
        [3.0, 2.5, 2.0],
        "the first word counts"
    );

    // the last point of the curve and the final value share step and metric, and both are kept
    db.store
        .report(
            id,
            lease.token,
            LONG,
            &[measured("validation_loss", 100, 1.0)],
            None,
        )
        .await
        .unwrap();
    assert_eq!(
        db.store.finish(id, lease.token, &done(1.25)).await.unwrap(),
        TrialState::Done
    );
    assert_eq!(
        db.store.finish(id, lease.token, &done(1.25)).await.unwrap(),
        TrialState::Done
    );
    assert_eq!(db.store.history(s.id, 0).await.unwrap().len(), 1, "finished once");
    assert_eq!(db.store.trial(id).await.unwrap().trial.metrics[0].value, 1.25);
    assert_eq!(db.store.curve(id, &[]).await.unwrap().last().unwrap().value, 1.0);
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_whole() {
    let db = TestDb::new().await;
    let s = study(&db.store, "values").await;
    let id = enqueue(&db.store, s.id, 0..1).await[0];
    let lease = lease(&db.store).await;
    let says = async |m: Measurement, word: &str| {
        let both = [measured("validation_loss", 1, 1.0), m];
        let e = db
            .store
            .report(id, lease.token, LONG, &both, None)
            .await
            .unwrap_err();
        assert!(
            matches!(e, StoreError::Invalid(_)) && e.to_string().contains(word),
            "{e}"
        );
    };
    says(measured("validation_loss", 2, f64::NAN), "NaN").await;
    says(measured("validation_loss", 2, f64::NEG_INFINITY), "-inf").await;
    says(measured("validation_loss", u64::MAX, 1.0), "63 bits").await;
    says(measured("", 2, 1.0), "empty").await;
    says(measured("a\0b", 2, 1.0), "U+0000").await;
    let spread = Measurement {
        spread: Some(-1.0),
        ..measured("validation_loss", 2, 1.0)
    };
    says(spread, "spread").await;
    let twice = Outcome::Done(Evaluation {
        measurements: vec![measured("accuracy", 1, 0.5), measured("accuracy", 2, 0.6)],
        ..Evaluation::default()
    });
    let e = db.store.finish(id, lease.token, &twice).await.unwrap_err();
    assert!(e.to_string().contains("'accuracy' twice"), "{e}");
    let missing = Outcome::Done(Evaluation {
        measurements: vec![measured("accuracy", 1, 0.5)],
        artifacts: vec!["weights".into()],
        ..Evaluation::default()
    });
    let e = db.store.finish(id, lease.token, &missing).await.unwrap_err();
    assert!(e.to_string().contains("'weights'"), "{e}");
    assert_eq!(count(&db, "select count(*) from measurements").await, 0);
    db.store.finish(id, lease.token, &done(1.0)).await.unwrap();
}
