use store::{Access, NewToken, Role, StoreError, testing::TestDb};

use super::*;

fn token(role: Role) -> NewToken {
    NewToken {
        role,
        label: format!("for {}", role.label()),
        expires_in: None,
        one_time: false,
    }
}

#[tokio::test]
async fn a_token_gives_its_role_until_it_is_revoked() {
    let db = TestDb::new().await;
    for role in Role::ALL {
        let issued = db.store.create_token(&token(role)).await.unwrap();
        assert!(
            issued.secret.starts_with("psy_") && issued.secret.len() == 4 + 43,
            "{}",
            issued.secret
        );
        let access = Access {
            token: issued.id,
            role,
        };
        for _ in 0..2 {
            assert_eq!(db.store.check_token(&issued.secret).await.unwrap(), Some(access));
        }
        db.store.revoke_token(issued.id).await.unwrap();
        db.store.revoke_token(issued.id).await.unwrap();
        assert_eq!(db.store.check_token(&issued.secret).await.unwrap(), None);
    }
    let listed = db.store.tokens().await.unwrap();
    assert_eq!(listed.len(), 4);
    assert!(
        listed
            .iter()
            .all(|t| t.revoked_at.is_some() && t.used_at.is_some())
    );
    assert_eq!(listed[0].label, "for worker");
    for unknown in ["", "psy_", "psy_guess", "' or true --", "a\0b"] {
        assert_eq!(db.store.check_token(unknown).await.unwrap(), None);
    }
    assert!(matches!(
        db.store.revoke_token(99).await,
        Err(StoreError::NotFound { what: "token", .. })
    ));
}

#[tokio::test]
async fn secrets_are_not_kept() {
    let db = TestDb::new().await;
    let issued = db.store.create_token(&token(Role::Admin)).await.unwrap();
    let access = db.store.check_token(&issued.secret).await.unwrap().unwrap();
    let session = db.store.create_session(access, LONG).await.unwrap();
    let csrf = db.store.check_session(&session).await.unwrap().unwrap().csrf;
    let mut connection = PgConnection::connect(db.url()).await.unwrap();
    let rows: Vec<String> =
        sqlx::query_scalar("select t::text from tokens t union all select s::text from sessions s")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(rows.len(), 2);
    for secret in [&issued.secret, &session, &csrf] {
        let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
        assert!(
            rows.iter()
                .all(|row| !row.contains(secret.as_str()) && !row.contains(&hex))
        );
    }
}

#[tokio::test]
async fn tokens_expire() {
    let db = TestDb::new().await;
    let short = NewToken {
        expires_in: Some(LONG),
        ..token(Role::View)
    };
    let issued = db.store.create_token(&short).await.unwrap();
    assert!(db.store.check_token(&issued.secret).await.unwrap().is_some());
    sql(&db, "update tokens set expires_at = now() - interval '1 second'").await;
    assert!(db.store.check_token(&issued.secret).await.unwrap().is_none());
}

#[tokio::test]
async fn a_session_outlives_its_login_link_and_not_its_revocation() {
    let db = TestDb::new().await;
    let link = NewToken {
        one_time: true,
        expires_in: Some(LONG),
        ..token(Role::Submit)
    };
    let issued = db.store.create_token(&link).await.unwrap();
    let access = db.store.check_token(&issued.secret).await.unwrap().unwrap();
    let secret = db.store.create_session(access, LONG).await.unwrap();
    sql(&db, "update tokens set expires_at = now() - interval '1 second'").await;
    let session = db.store.check_session(&secret).await.unwrap().unwrap();
    assert_eq!(session.access, access);
    assert!(session.csrf_matches(&session.csrf));
    assert!(!session.csrf_matches("") && !session.csrf_matches(&secret));
    let other = db.store.create_session(access, LONG).await.unwrap();
    let other_csrf = db.store.check_session(&other).await.unwrap().unwrap().csrf;
    assert!(!session.csrf_matches(&other_csrf), "each session has its own");

    db.store.delete_session(&other).await.unwrap();
    assert!(db.store.check_session(&other).await.unwrap().is_none());
    assert!(
        db.store.check_session(&issued.secret).await.unwrap().is_none(),
        "a token is no session"
    );
    assert!(
        db.store.check_token(&secret).await.unwrap().is_none(),
        "a session is no token"
    );
    db.store.revoke_token(issued.id).await.unwrap();
    assert!(db.store.check_session(&secret).await.unwrap().is_none());
}

#[tokio::test]
async fn sessions_expire_and_are_swept() {
    let db = TestDb::new().await;
    let issued = db.store.create_token(&token(Role::View)).await.unwrap();
    let access = db.store.check_token(&issued.secret).await.unwrap().unwrap();
    let secret = db.store.create_session(access, LONG).await.unwrap();
    sql(
        &db,
        "update sessions set expires_at = now() - interval '1 second'",
    )
    .await;
    assert!(db.store.check_session(&secret).await.unwrap().is_none());
    db.store.create_session(access, LONG).await.unwrap();
    assert_eq!(count(&db, "select count(*) from sessions").await, 1);
}
