use spaces::{
    Evidence,
    protocol::{FailureKind, TrialState},
};
use store::{Role, StudyState, testing::TestDb};

use super::*;

/// Runs a statement that a rule of the schema must refuse; returns the refusal.
async fn refused(db: &TestDb, statement: &'static str) -> String {
    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .expect_err(statement)
        .to_string()
}

#[tokio::test]
async fn results_cannot_be_rewritten_even_by_hand() {
    let db = TestDb::new().await;
    let s = study(&db.store, "kept").await;
    enqueue(&db.store, s.id, 0..1).await;
    let lease = lease(&db.store).await;
    db.store
        .finish(lease.trial, lease.token, &done(1.0))
        .await
        .unwrap();
    for statement in [
        "update measurements set value = 0",
        "delete from measurements",
        "truncate measurements",
        "update finishes set state = 'failed'",
        "delete from finishes",
        "truncate finishes",
    ] {
        let e = refused(&db, statement).await;
        assert!(e.contains("append-only"), "{statement}: {e}");
    }
    assert!(
        refused(&db, "truncate studies cascade")
            .await
            .contains("append-only")
    );
    assert_eq!(
        db.store.trial(lease.trial).await.unwrap().trial.metrics[0].value,
        1.0
    );
    db.store.delete_study(s.id).await.unwrap();
    assert_eq!(count(&db, "select count(*) from measurements").await, 0);
}

#[tokio::test]
async fn the_schema_knows_the_same_labels_as_the_code() {
    let db = TestDb::new().await;
    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    let mut check = async |constraint: &str, labels: Vec<&str>| {
        let text: String =
            sqlx::query_scalar("select pg_get_constraintdef(oid) from pg_constraint where conname = $1")
                .bind(constraint)
                .fetch_one(&mut connection)
                .await
                .unwrap();
        let mut found: Vec<&str> = text.split('\'').skip(1).step_by(2).collect();
        let mut known = labels;
        found.sort_unstable();
        known.sort_unstable();
        assert_eq!(found, known, "{constraint}");
    };
    let states: Vec<_> = TrialState::ALL.iter().map(|s| s.label()).collect();
    check("trials_state_known", states).await;
    let ends = TrialState::ALL
        .iter()
        .filter(|s| s.is_final() || **s == TrialState::Paused)
        .map(|s| s.label())
        .collect();
    check("finishes_state_known", ends).await;
    check(
        "studies_state_known",
        StudyState::ALL.iter().map(|s| s.label()).collect(),
    )
    .await;
    check("tokens_role_known", Role::ALL.iter().map(|r| r.label()).collect()).await;
    use FailureKind::*;
    let kinds = [OutOfMemory, NotANumber, Timeout, Crash, Data, Inert, Lost, Disk];
    check(
        "trials_failure_kind_known",
        kinds.iter().map(|k| k.label()).collect(),
    )
    .await;
    use Evidence::*;
    let evidence = [Measured, Analytic, Estimated, Extrapolated, Imported];
    check(
        "measurements_evidence_known",
        evidence.iter().map(|e| e.label()).collect(),
    )
    .await;
}

#[tokio::test]
async fn every_constraint_has_a_name_of_ours() {
    let db = TestDb::new().await;
    let unnamed = count(
        &db,
        "select count(*) from pg_constraint c join pg_class t on t.oid = c.conrelid
        where t.relnamespace = 'public'::regnamespace and t.relname !~ '^_sqlx' and c.contype in ('c', 'f', 'u', 'p')
            and c.conname !~ ('^' || t.relname || '_') or c.conname ~ '_check[0-9]*$'",
    )
    .await;
    assert_eq!(unnamed, 0);
}

#[tokio::test]
async fn a_newer_or_altered_database_is_refused_with_a_sentence() {
    let db = TestDb::new().await;
    sql(
        &db,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9999, 'x', true, '', 0)",
    )
    .await;
    let e = Store::open(db.url()).await.unwrap_err();
    assert!(matches!(e, StoreError::DatabaseTooNew(9999)), "{e}");
    sql(&db, "delete from _sqlx_migrations where version = 9999").await;
    sql(
        &db,
        "update _sqlx_migrations set checksum = 'other' where version = 2",
    )
    .await;
    let e = Store::open(db.url()).await.unwrap_err();
    assert!(matches!(e, StoreError::DatabaseAltered(2)), "{e}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_at_once() {
    let started = std::time::Instant::now();
    let e = Store::open("postgres://user:secret@127.0.0.1:1/none")
        .await
        .unwrap_err();
    assert!(e.to_string().contains("127.0.0.1:1"), "{e}");
    assert!(!e.to_string().contains("secret"));
    assert!(started.elapsed() < Duration::from_secs(3));
    for wrong in [
        "not a url",
        "mysql://localhost/x",
        "postgres://user:secret@host:port/x",
    ] {
        let e = Store::open(wrong).await.unwrap_err();
        assert!(
            matches!(e, StoreError::BadUrl(_)) && !e.to_string().contains("secret"),
            "{wrong}: {e}"
        );
    }
}
