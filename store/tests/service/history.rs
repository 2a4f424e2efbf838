use spaces::protocol::TrialState;
use store::{Snapshot, testing::TestDb};

use super::*;

#[tokio::test]
async fn history_grows_at_its_end_only() {
    let db = TestDb::new().await;
    let s = study(&db.store, "history").await;
    enqueue(&db.store, s.id, 0..3).await;
    // finished in another order than proposed
    let leases = [
        lease(&db.store).await,
        lease(&db.store).await,
        lease(&db.store).await,
    ];
    for (lease, loss) in [(&leases[2], 2.0), (&leases[0], 0.1)] {
        db.store
            .finish(lease.trial, lease.token, &done(loss))
            .await
            .unwrap();
    }
    let known = db.store.history(s.id, 0).await.unwrap();
    assert_eq!(
        known.iter().map(|f| (f.order, f.number)).collect::<Vec<_>>(),
        [(0, 2), (1, 0)]
    );
    assert_eq!(known[0].candidate, point(2).candidate);
    assert_eq!(known[0].measurements, [measured("validation_loss", 100, 2.0)]);
    assert_eq!(
        (known[1].wall_s, known[1].attempt, known[1].state),
        (Some(1.5), 1, TrialState::Done)
    );
    db.store
        .finish(leases[1].trial, leases[1].token, &done(1.0))
        .await
        .unwrap();
    let fresh = db.store.history(s.id, 2).await.unwrap();
    assert_eq!(
        fresh.iter().map(|f| (f.order, f.number)).collect::<Vec<_>>(),
        [(2, 1)]
    );
    assert!(db.store.history(s.id, 3).await.unwrap().is_empty());
    assert_eq!(db.store.history(s.id, 0).await.unwrap()[..2], known[..]);
}

#[tokio::test]
async fn numbers_come_back_to_the_last_bit() {
    let db = TestDb::new().await;
    let s = study(&db.store, "bits").await;
    // what jsonb or a short decimal would change: a float that is whole, sixteen digits, the extremes
    let values = [
        1e16,
        0.1 + 0.2,
        f64::MIN_POSITIVE,
        f64::MAX,
        -0.0,
        5e-324,
        1.0 / 3.0,
    ];
    let candidate: Candidate = values
        .iter()
        .enumerate()
        .map(|(i, v)| (format!("x{i}"), Value::Float(*v)))
        .collect();
    let trial = NewTrial {
        candidate: candidate.clone(),
        known: values
            .iter()
            .enumerate()
            .map(|(i, v)| (format!("k{i}"), *v))
            .collect(),
        snapshot: Snapshot {
            method: "tpe".into(),
            seed: u64::MAX,
            finished: 3,
            pending: vec![1, 2],
        },
        ..NewTrial::default()
    };
    db.store
        .enqueue(s.id, std::slice::from_ref(&trial))
        .await
        .unwrap();
    let lease = lease(&db.store).await;
    assert_eq!(lease.candidate, candidate);
    assert_eq!(lease.candidate.hash(), candidate.hash());
    let finals: Vec<Measurement> = values
        .iter()
        .enumerate()
        .map(|(i, v)| Measurement {
            spread: Some(v.abs()),
            ..measured(&format!("m{i}"), i64::MAX as u64, *v)
        })
        .collect();
    let outcome = Outcome::Done(Evaluation {
        measurements: finals.clone(),
        ..Evaluation::default()
    });
    db.store
        .report(lease.trial, lease.token, LONG, &finals, None)
        .await
        .unwrap();
    db.store.finish(lease.trial, lease.token, &outcome).await.unwrap();
    let detail = db.store.trial(lease.trial).await.unwrap();
    assert_eq!(
        (detail.snapshot, &detail.trial.known),
        (trial.snapshot, &trial.known)
    );
    let bits = |ms: &[Measurement]| ms.iter().map(|m| (m.value.to_bits(), m.step)).collect::<Vec<_>>();
    assert_eq!(bits(&detail.trial.metrics), bits(&finals));
    assert_eq!(
        bits(&db.store.history(s.id, 0).await.unwrap()[0].measurements),
        bits(&finals)
    );
    assert_eq!(
        bits(&db.store.curve(lease.trial, &[]).await.unwrap()),
        bits(&finals)
    );
}

#[tokio::test]
async fn curves_are_those_of_the_last_attempt() {
    let db = TestDb::new().await;
    let s = study(&db.store, "curves").await;
    enqueue(&db.store, s.id, 0..3).await;
    for value in [1.0, 2.0] {
        let lease = lease(&db.store).await;
        let points: Vec<_> = [20, 10]
            .map(|step| measured("validation_loss", step, value * step as f64))
            .to_vec();
        db.store
            .report(lease.trial, lease.token, LONG, &points, None)
            .await
            .unwrap();
        let other = [measured("accuracy", 10, 0.5)];
        db.store
            .report(lease.trial, lease.token, LONG, &other, None)
            .await
            .unwrap();
    }
    let curves = db.store.curves(s.id, "validation_loss").await.unwrap();
    let shape: Vec<_> = curves
        .iter()
        .map(|c| (c.number, c.points[0].value, c.points[1].value))
        .collect();
    assert_eq!(shape, [(0, 10.0, 20.0), (1, 20.0, 40.0)]);
    assert_eq!(db.store.curves(s.id, "accuracy").await.unwrap().len(), 2);
    assert!(db.store.curves(s.id, "nothing").await.unwrap().is_empty());
    let both = db
        .store
        .curve(curves[0].trial, &["accuracy", "validation_loss"])
        .await
        .unwrap();
    let names: Vec<_> = both.iter().map(|m| (m.metric.as_str(), m.step)).collect();
    assert_eq!(
        names,
        [("accuracy", 10), ("validation_loss", 10), ("validation_loss", 20)]
    );
}
