use std::time::Instant;

use spaces::protocol::TrialState;
use store::{StoreError, StudyState, TrialFilter, testing::TestDb};

use super::*;

#[tokio::test]
async fn a_study_is_found_by_name_and_by_id() {
    let db = TestDb::new().await;
    let s = study(&db.store, "shakespeare").await;
    assert_eq!((s.state, s.revision, s.trial_count), (StudyState::Running, 1, 0));
    assert_eq!(db.store.find_study("shakespeare").await.unwrap().id, s.id);
    assert_eq!(
        db.store.find_study(&s.id.to_string()).await.unwrap().name,
        "shakespeare"
    );
    for missing in ["hamlet", "999", "-1", "+1", "99999999999999999999999", "", "a\0b"] {
        let e = db.store.find_study(missing).await.unwrap_err();
        assert!(
            matches!(e, StoreError::NotFound { what: "study", .. }),
            "{missing:?}: {e}"
        );
    }
    let taken = db
        .store
        .create_study(&spec("shakespeare"), "f")
        .await
        .unwrap_err();
    assert!(matches!(taken, StoreError::NameTaken(name) if name == "shakespeare"));
}

#[tokio::test]
async fn a_study_file_comes_back_with_its_parameters_in_order() {
    let db = TestDb::new().await;
    let s = study(&db.store, "order").await;
    let back = db.store.study(s.id).await.unwrap().spec;
    assert_eq!(back, spec("order"));
    let names: Vec<_> = back.space.parameters.keys().collect();
    assert_eq!(names, ["width", "bits", "attention", "lr"]);
    assert_eq!(back.search.seed, u64::MAX);
}

#[tokio::test]
async fn studies_are_listed_with_their_counts_the_last_active_first() {
    let db = TestDb::new().await;
    let (a, b) = (study(&db.store, "a").await, study(&db.store, "b").await);
    enqueue(&db.store, b.id, 0..2).await;
    enqueue(&db.store, a.id, 0..3).await;
    let lease = lease(&db.store).await;
    db.store
        .finish(lease.trial, lease.token, &done(1.0))
        .await
        .unwrap();
    let list = db.store.studies().await.unwrap();
    let short: Vec<_> = list
        .iter()
        .map(|s| (s.study.name.as_str(), s.counts.queued, s.counts.done))
        .collect();
    assert_eq!(short, [("b", 1, 1), ("a", 3, 0)]);
    assert!(list[0].study.changed_at > list[1].study.changed_at);
    assert_eq!(db.store.counts(b.id).await.unwrap(), list[0].counts);
}

#[tokio::test]
async fn the_reference_point_is_fixed_once() {
    let db = TestDb::new().await;
    let s = study(&db.store, "reference").await;
    let point = |x: f64| BTreeMap::from([("validation_loss".to_owned(), x)]);
    assert_eq!(
        db.store.fix_reference(s.id, &point(5.0)).await.unwrap(),
        point(5.0)
    );
    assert_eq!(
        db.store.fix_reference(s.id, &point(9.0)).await.unwrap(),
        point(5.0),
        "it never moves"
    );
    assert_eq!(db.store.study(s.id).await.unwrap().reference, Some(point(5.0)));
    assert!(matches!(
        db.store.fix_reference(s.id, &point(f64::NAN)).await,
        Err(StoreError::Invalid(_))
    ));
    assert!(matches!(
        db.store.fix_reference(99, &point(1.0)).await,
        Err(StoreError::NotFound { .. })
    ));
}

#[tokio::test]
async fn trials_are_filtered_and_paged_by_number() {
    let db = TestDb::new().await;
    let s = study(&db.store, "pages").await;
    enqueue(&db.store, s.id, 0..6).await;
    for loss in [1.0, 2.0] {
        let lease = lease(&db.store).await;
        db.store
            .finish(lease.trial, lease.token, &done(loss))
            .await
            .unwrap();
    }
    let numbers = async |states: &[TrialState], after, limit| {
        let filter = TrialFilter {
            states: states.to_vec(),
            after,
            limit,
        };
        let trials = db.store.trials(s.id, &filter).await.unwrap();
        trials.iter().map(|t| t.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&[], None, None).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(numbers(&[], Some(1), Some(2)).await, [2, 3]);
    assert_eq!(numbers(&[TrialState::Done], None, None).await, [0, 1]);
    assert_eq!(
        numbers(&[TrialState::Queued, TrialState::Done], Some(0), Some(3)).await,
        [1, 2, 3]
    );
    assert!(numbers(&[TrialState::Failed], None, None).await.is_empty());
    assert!(matches!(
        db.store.trial(99).await,
        Err(StoreError::NotFound { what: "trial", .. })
    ));
}

#[tokio::test]
async fn workers_show_what_they_do_and_nothing_once_it_is_over() {
    let db = TestDb::new().await;
    let s = study(&db.store, "work").await;
    enqueue(&db.store, s.id, 0..1).await;
    let lease = db
        .store
        .lease("node1", "cuda:0", true, LONG)
        .await
        .unwrap()
        .unwrap();
    assert!(
        db.store
            .lease("node2", "cpu", true, LONG)
            .await
            .unwrap()
            .is_none()
    );
    let workers = db.store.workers().await.unwrap();
    let of = |name: &str| workers.iter().find(|w| w.name == name).unwrap().clone();
    let busy = of("node1");
    assert_eq!(
        (busy.device.as_str(), busy.trial, busy.trial_number),
        ("cuda:0", Some(lease.trial), Some(0))
    );
    assert_eq!(busy.study.as_deref(), Some("work"));
    assert_eq!(of("node2").trial, None);
    db.store
        .heartbeat(lease.trial, lease.token, LONG, None)
        .await
        .unwrap();
    let seen = db.store.workers().await.unwrap()[0].clone();
    assert_eq!(seen.name, "node1", "a heartbeat counts as a sign of life");
    assert!(seen.last_seen > busy.last_seen);
    db.store
        .finish(lease.trial, lease.token, &done(1.0))
        .await
        .unwrap();
    assert!(
        db.store
            .workers()
            .await
            .unwrap()
            .iter()
            .all(|w| w.trial.is_none())
    );
}

#[tokio::test]
async fn names_that_look_like_statements_are_names() {
    let db = TestDb::new().await;
    let names = [
        "'; drop table studies; --",
        "\"quoted\" \\ back $1 %s",
        "naïve 研究 🦀",
        "a\u{202e}b",
        " 7",
        "null",
    ];
    for name in names {
        let s = study(&db.store, name).await;
        assert_eq!(db.store.find_study(name).await.unwrap().id, s.id);
        db.store.enqueue(s.id, &[point(0)]).await.unwrap();
        let lease = db.store.lease(name, name, true, LONG).await.unwrap().unwrap();
        assert_eq!(lease.study_name, name);
        let odd = Measurement {
            source: name.into(),
            ..measured(name, 1, 1.0)
        };
        db.store
            .report(lease.trial, lease.token, LONG, std::slice::from_ref(&odd), None)
            .await
            .unwrap();
        assert_eq!(db.store.curve(lease.trial, &[name]).await.unwrap(), [odd]);
        let outcome = Outcome::Failed {
            kind: FailureKind::Data,
            message: name.into(),
        };
        db.store.finish(lease.trial, lease.token, &outcome).await.unwrap();
        let trial = db.store.trial(lease.trial).await.unwrap().trial;
        assert_eq!(
            (trial.failure_message.as_deref(), trial.worker.as_deref()),
            (Some(name), Some(name))
        );
    }
    assert_eq!(db.store.studies().await.unwrap().len(), names.len());
    for refused in ["", "12", "a\0b"] {
        let e = db.store.create_study(&spec(refused), "f").await.unwrap_err();
        assert!(matches!(e, StoreError::Invalid(_)), "{refused:?}: {e}");
    }
}

#[tokio::test]
async fn ten_thousand_trials_are_listed_quickly() {
    let db = TestDb::new().await;
    let s = study(&db.store, "large").await;
    let started = Instant::now();
    enqueue(&db.store, s.id, 0..10_000).await;
    println!("enqueue 10,000 trials: {:.0?}", started.elapsed());
    // ended in bulk, past the queue: ten final values and a curve of twenty points each
    sql(
        &db,
        "update trials set state = 'done', attempt = 1, finished_at = now()",
    )
    .await;
    sql(
        &db,
        "insert into measurements
        select t.id, 1, m <= 10, 'metric_' || m, m, random(), null, 'measured', 'clock'
        from trials t, generate_series(1, 30) m",
    )
    .await;
    sql(
        &db,
        "insert into finishes (study_id, finish_order, trial_id, attempt, state)
        select study_id, number, id, 1, 'done' from trials",
    )
    .await;
    sql(&db, "analyze").await;
    for round in 0..2 {
        let started = Instant::now();
        let trials = db.store.trials(s.id, &TrialFilter::default()).await.unwrap();
        assert_eq!((trials.len(), trials[9_999].metrics.len()), (10_000, 10));
        println!(
            "list 10,000 trials with 10 metrics each, round {round}: {:.0?}",
            started.elapsed()
        );
    }
    let started = Instant::now();
    let page = TrialFilter {
        after: Some(5_000),
        limit: Some(100),
        ..TrialFilter::default()
    };
    assert_eq!(db.store.trials(s.id, &page).await.unwrap().len(), 100);
    println!("list a page of 100: {:.1?}", started.elapsed());
    let started = Instant::now();
    assert_eq!(db.store.history(s.id, 0).await.unwrap().len(), 10_000);
    println!("history of 10,000: {:.0?}", started.elapsed());
    let started = Instant::now();
    assert_eq!(db.store.studies().await.unwrap()[0].counts.done, 10_000);
    println!("list studies with counts: {:.1?}", started.elapsed());
    let started = Instant::now();
    assert_eq!(db.store.curves(s.id, "metric_20").await.unwrap().len(), 10_000);
    println!("one metric's curves of 10,000: {:.0?}", started.elapsed());
    let started = Instant::now();
    db.store.delete_study(s.id).await.unwrap();
    println!(
        "delete 10,000 trials with 300,000 measurements: {:.1?}",
        started.elapsed()
    );
}
