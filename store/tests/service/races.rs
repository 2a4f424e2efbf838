use std::collections::BTreeSet;

use store::testing::TestDb;
use tokio::task::JoinSet;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_workers_never_claim_a_trial_twice_and_finishes_stay_dense() {
    let db = TestDb::new().await;
    let (a, b) = (study(&db.store, "a").await, study(&db.store, "b").await);
    enqueue(&db.store, a.id, 0..100).await;
    enqueue(&db.store, b.id, 0..100).await;
    let mut workers = JoinSet::new();
    for w in 0..16 {
        let store = db.store.clone();
        workers.spawn(async move {
            let mut claimed = vec![];
            while let Some(lease) = store.lease(&format!("w{w}"), "cpu", true, LONG).await.unwrap() {
                let points = [measured("accuracy", 1, 0.5)];
                store
                    .report(lease.trial, lease.token, LONG, &points, None)
                    .await
                    .unwrap();
                store
                    .finish(lease.trial, lease.token, &done(f64::from(w)))
                    .await
                    .unwrap();
                claimed.push(lease.trial);
            }
            claimed
        });
    }
    let claimed: Vec<i64> = workers.join_all().await.concat();
    assert_eq!(claimed.len(), 200);
    assert_eq!(
        claimed.iter().collect::<BTreeSet<_>>().len(),
        200,
        "a trial was claimed twice"
    );
    for study in [a.id, b.id] {
        let history = db.store.history(study, 0).await.unwrap();
        assert!(
            history.iter().map(|f| f.order).eq(0..100),
            "finish orders have gaps"
        );
        assert_eq!(
            history.iter().map(|f| f.trial).collect::<BTreeSet<_>>().len(),
            100
        );
        assert_eq!(db.store.study(study).await.unwrap().finished_count, 100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_who_follows_revisions_misses_nothing() {
    let db = TestDb::new().await;
    let s = study(&db.store, "followed").await;
    let mut workers = JoinSet::new();
    let store = db.store.clone();
    workers.spawn(async move {
        for i in 0..40 {
            store
                .enqueue(s.id, &[point(2 * i), point(2 * i + 1)])
                .await
                .unwrap();
        }
    });
    for w in 0..4 {
        let store = db.store.clone();
        workers.spawn(async move {
            let mut ended = 0;
            while ended < 15 {
                let Some(lease) = store.lease(&format!("w{w}"), "cpu", true, LONG).await.unwrap() else {
                    tokio::task::yield_now().await;
                    continue;
                };
                if ended % 5 == 4 {
                    store.release(lease.trial, lease.token).await.unwrap();
                } else {
                    store.finish(lease.trial, lease.token, &done(1.0)).await.unwrap();
                }
                ended += 1;
            }
        });
    }
    // follows with small pages while the others write, keeping the last of each trial that it was told
    let (mut seen, mut at) = (BTreeMap::new(), 0);
    let mut writing = true;
    let study_seen = loop {
        let changes = db.store.changes_since(s.id, at, 7).await.unwrap();
        assert!(changes.revision >= at, "revisions went back");
        assert!(changes.trials.is_sorted_by(|a, b| a.revision < b.revision));
        assert!(
            changes
                .trials
                .iter()
                .all(|t| t.revision > at && t.revision <= changes.revision)
        );
        at = changes.revision;
        let study_seen = (changes.study.revision, changes.study.finished_count);
        let nothing = changes.trials.is_empty();
        for trial in changes.trials {
            seen.insert(trial.number, (trial.state, trial.attempt, trial.revision));
        }
        if nothing && !writing {
            break study_seen;
        }
        while let Some(ended) = workers.try_join_next() {
            ended.unwrap();
        }
        writing = !workers.is_empty();
    };
    let truth = db.store.trials(s.id, &Default::default()).await.unwrap();
    let truth: BTreeMap<_, _> = truth
        .iter()
        .map(|t| (t.number, (t.state, t.attempt, t.revision)))
        .collect();
    assert_eq!(seen, truth);
    let study = db.store.study(s.id).await.unwrap();
    assert_eq!(study_seen, (study.revision, study.finished_count));
    assert_eq!(study.revision, at);
    // 1 creation, 80 proposals, 60 claims, 60 ends: each has its own revision
    assert_eq!(study.revision, 1 + 80 + 60 + 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_claimed_after_a_pause() {
    let db = TestDb::new().await;
    for round in 0..5 {
        let s = study(&db.store, &format!("round {round}")).await;
        enqueue(&db.store, s.id, 0..100).await;
        let mut workers = JoinSet::new();
        for w in 0..12 {
            let store = db.store.clone();
            workers.spawn(async move {
                while store
                    .lease(&format!("w{w}"), "cpu", true, LONG)
                    .await
                    .unwrap()
                    .is_some()
                {}
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        db.store.pause(s.id).await.unwrap();
        workers.join_all().await;
        // nothing but claims and the pause took a revision, so the pause must have the last one
        let last_claim = db.store.trials(s.id, &Default::default()).await.unwrap();
        let last_claim = last_claim.iter().map(|t| t.revision).max().unwrap();
        assert!(
            last_claim < db.store.study(s.id).await.unwrap().revision,
            "claimed after the pause"
        );
        assert!(
            db.store.counts(s.id).await.unwrap().queued > 0,
            "the pause came too late to test anything"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_at_once_ends_without_deadlock() {
    let db = TestDb::new().await;
    let mut tasks = JoinSet::new();
    for round in 0..6 {
        let s = study(&db.store, &format!("round {round}")).await;
        enqueue(&db.store, s.id, 0..20).await;
        for w in 0..4 {
            let store = db.store.clone();
            tasks.spawn(async move {
                while let Some(lease) = store.lease(&format!("w{w}"), "cpu", true, LONG).await.unwrap() {
                    let kept = store
                        .report(
                            lease.trial,
                            lease.token,
                            LONG,
                            &[measured("accuracy", 1, 0.5)],
                            None,
                        )
                        .await;
                    let ended = match kept {
                        Ok(true) => store.release(lease.trial, lease.token).await,
                        Ok(false) => {
                            store
                                .finish(lease.trial, lease.token, &failed(FailureKind::Data))
                                .await
                        }
                        Err(e) => Err(e),
                    };
                    assert!(ended.is_ok() || is_lost(ended));
                }
            });
        }
        let store = db.store.clone();
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(15)).await;
            store.pause(s.id).await.unwrap();
            store.retry_failed(s.id).await.unwrap();
            store.resume(s.id).await.unwrap();
            store.reap().await.unwrap();
            let _ = store.enqueue(s.id, &[point(100)]).await.unwrap();
            match round % 3 {
                0 => store.cancel_study(s.id).await.unwrap(),
                1 => store.finish_study(s.id, None).await.unwrap(),
                _ => drop(store.delete_study(s.id).await.unwrap()),
            }
        });
    }
    tokio::time::timeout(Duration::from_secs(60), tasks.join_all())
        .await
        .expect("someone waits for ever");
    for summary in db.store.studies().await.unwrap() {
        assert_eq!(
            (summary.counts.queued, summary.counts.running),
            (0, 0),
            "{}",
            summary.study.name
        );
        let ended = summary.counts.failed + summary.counts.cancelled;
        assert_eq!(ended, i64::from(summary.study.trial_count));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_one_time_token_opens_once() {
    let db = TestDb::new().await;
    let token = store::NewToken {
        role: store::Role::Admin,
        label: "login link".into(),
        expires_in: Some(LONG),
        one_time: true,
    };
    for _ in 0..10 {
        let issued = db.store.create_token(&token).await.unwrap();
        let mut tries = JoinSet::new();
        for _ in 0..12 {
            let (store, secret) = (db.store.clone(), issued.secret.clone());
            tries.spawn(async move { store.check_token(&secret).await.unwrap() });
        }
        let opened = tries.join_all().await.into_iter().flatten().count();
        assert_eq!(opened, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_servers_open_an_empty_database_at_once() {
    let db = TestDb::new().await;
    sql(&db, "drop schema public cascade").await;
    sql(&db, "create schema public").await;
    let mut opening = JoinSet::new();
    for _ in 0..4 {
        let url = db.url().to_owned();
        opening.spawn(async move { Store::open(&url).await.map(drop) });
    }
    for opened in opening.join_all().await {
        opened.unwrap();
    }
    study(&db.store, "works").await;
}
