use store::{Event, testing::TestDb};
use tokio::{sync::broadcast::Receiver, time::timeout};

use super::*;

async fn next(receiver: &mut Receiver<Event>) -> Event {
    timeout(Duration::from_secs(20), receiver.recv())
        .await
        .expect("an event comes")
        .unwrap()
}

/// Skips until the study is at `revision`; returns what came before.
async fn until(receiver: &mut Receiver<Event>, revision: i64) -> Vec<Event> {
    let mut events = vec![];
    loop {
        let event = next(receiver).await;
        events.push(event);
        if matches!(event, Event::Changed { revision: r, .. } if r >= revision) {
            return events;
        }
    }
}

#[tokio::test]
async fn changes_reach_every_subscriber_after_their_commit() {
    let db = TestDb::new().await;
    let events = db.store.events().await.unwrap();
    let (mut one, mut two) = (events.subscribe(), events.subscribe());
    let s = study(&db.store, "heard").await;
    let first = Event::Changed {
        study: s.id,
        revision: 1,
    };
    assert_eq!((next(&mut one).await, next(&mut two).await), (first, first));
    enqueue(&db.store, s.id, 0..2).await;
    let heard = until(&mut one, 3).await;
    assert_eq!(
        heard.len(),
        2,
        "one for the queue, one for the study, however many trials: {heard:?}"
    );
    assert!(heard.contains(&Event::Queued));
    assert_eq!(db.store.changes_since(s.id, 1, 10).await.unwrap().trials.len(), 2);
    let lease = lease(&db.store).await;
    db.store
        .heartbeat(lease.trial, lease.token, LONG, None)
        .await
        .unwrap();
    db.store.release(lease.trial, lease.token).await.unwrap();
    let heard = until(&mut one, 5).await;
    assert_eq!(heard.len(), 3, "a bare heartbeat is no news: {heard:?}");
    assert!(heard.contains(&Event::Queued), "a released trial waits again");
    db.store.delete_study(s.id).await.unwrap();
    while next(&mut one).await != (Event::Deleted { study: s.id }) {}
}

#[tokio::test]
async fn a_broken_connection_is_restored_and_said() {
    let db = TestDb::new().await;
    let events = db.store.events().await.unwrap();
    let mut receiver = events.subscribe();
    let s = study(&db.store, "cut").await;
    until(&mut receiver, 1).await;
    for _ in 0..2 {
        let cut = sql(
            &db,
            "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and query ilike 'listen%'",
        )
        .await;
        assert_eq!(cut, 1);
        assert_eq!(next(&mut receiver).await, Event::Resumed);
    }
    enqueue(&db.store, s.id, 0..1).await;
    until(&mut receiver, 2).await;
}

#[tokio::test]
async fn the_listener_ends_with_its_last_holder_or_the_store() {
    let db = TestDb::new().await;
    let listening = "select count(*) from pg_stat_activity
        where datname = current_database() and query ilike 'listen%' and state = 'idle'";
    let events = db.store.events().await.unwrap();
    let clone = events.clone();
    drop(events);
    assert_eq!(count(&db, listening).await, 1);
    let mut receiver = clone.subscribe();
    drop(clone);
    let closed = timeout(Duration::from_secs(20), receiver.recv()).await.unwrap();
    assert!(closed.is_err(), "the channel closes: {closed:?}");
    let events = db.store.events().await.unwrap();
    let mut receiver = events.subscribe();
    timeout(Duration::from_secs(5), db.store.close())
        .await
        .expect("the listener lets go of its connection");
    let closed = timeout(Duration::from_secs(5), receiver.recv()).await.unwrap();
    assert!(
        closed.is_err(),
        "subscribers learn that the store is closed: {closed:?}"
    );
    assert!(events.subscribe().recv().await.is_err());
}
