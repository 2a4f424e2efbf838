//! Who may call the server: tokens and the browser sessions that grow from them.
//!
//! A secret is 256 random bits behind `psy_`; only its SHA-256 is kept, and looking that up leaks no more than whether it exists.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{FromRow, Row, postgres::PgRow};
use time::OffsetDateTime;

use crate::{Result, Store, StoreError, row};

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Read, and submit and steer studies.
    Submit,
    /// Read.
    View,
    /// The worker protocol.
    Worker,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Admin, Role::Submit, Role::View, Role::Worker];

    /// The name as stored and shown.
    pub fn label(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Submit => "submit",
            Role::View => "view",
            Role::Worker => "worker",
        }
    }

    /// Reads a name back.
    pub fn from_label(label: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|r| r.label() == label)
    }
}

/// A token to be created.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it allows.
    pub role: Role,
    /// Who or what will hold it.
    pub label: String,
    /// How long it is valid; `None` until revoked.
    pub expires_in: Option<Duration>,
    /// Valid for one [`Store::check_token`] only, such as a login link.
    pub one_time: bool,
}

/// A new token's secret, which is shown once and not kept.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The token's id.
    pub id: i64,
    /// What its holder sends.
    pub secret: String,
}

/// What a valid token gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The token's id.
    pub token: i64,
    /// What it allows.
    pub role: Role,
}

/// A token as listed.
#[derive(Clone, Debug, Serialize)]
pub struct Token {
    /// Its id.
    pub id: i64,
    /// What it allows.
    pub role: Role,
    /// Who or what holds it.
    pub label: String,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// Valid for a single use.
    pub one_time: bool,
    /// When it was last used, to the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    pub used_at: Option<OffsetDateTime>,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

impl FromRow<'_, PgRow> for Token {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Token {
            id: row.try_get("id")?,
            role: row::label(row, "role", Role::from_label)?,
            label: row.try_get("label")?,
            created_at: row.try_get("created_at")?,
            expires_at: row.try_get("expires_at")?,
            one_time: row.try_get("one_time")?,
            used_at: row.try_get("used_at")?,
            revoked_at: row.try_get("revoked_at")?,
        })
    }
}

/// A browser that has logged in.
#[derive(Clone, Debug)]
pub struct Session {
    /// The token it logged in with, and what that allows.
    pub access: Access,
    /// What its forms must send along; derived from the session's secret, so nothing of it is kept.
    pub csrf: String,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

impl Session {
    /// Whether a form came from our own page.
    pub fn csrf_matches(&self, given: &str) -> bool {
        // digests are compared, so the time taken says nothing about the text
        digest(given) == digest(&self.csrf)
    }
}

impl Store {
    /// Creates a token. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn create_token(&self, token: &NewToken) -> Result<IssuedToken> {
        let secret = new_secret();
        let id = sqlx::query_scalar(
            "insert into tokens (role, hash, label, expires_at, one_time)
            values ($1, $2, $3, now() + make_interval(secs => $4), $5)
            returning id",
        )
        .bind(token.role.label())
        .bind(digest(&secret))
        .bind(row::clean(&token.label))
        .bind(token.expires_in.map(|d| d.as_secs_f64()))
        .bind(token.one_time)
        .fetch_one(&self.pool)
        .await?;
        Ok(IssuedToken { id, secret })
    }

    /// What the secret allows; `None` if it is unknown, expired, revoked or used up. Uses up a one-time token.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn check_token(&self, secret: &str) -> Result<Option<Access>> {
        // of two who come at once with a one-time token, the second waits for the first one's row, then finds it used
        let row = sqlx::query(
            "with valid as (
                select id, role, one_time from tokens
                where hash = $1 and revoked_at is null and (expires_at is null or expires_at > now())
            ), used as (
                update tokens t set used_at = now() from valid v
                where t.id = v.id and (t.used_at is null or not t.one_time and t.used_at < now() - interval '1 minute')
                returning t.id
            )
            select id, role from valid where not one_time or exists (select 1 from used)",
        )
        .bind(digest(secret))
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.as_ref().map(read_access).transpose()?)
    }

    /// Ends a token and the sessions that grew from it. Revoking twice is harmless.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn revoke_token(&self, id: i64) -> Result<()> {
        let revoked = sqlx::query("update tokens set revoked_at = coalesce(revoked_at, now()) where id = $1")
            .bind(id)
            .execute(&self.pool)
            .await?;
        if revoked.rows_affected() == 0 {
            return Err(StoreError::NotFound {
                what: "token",
                name: id.to_string(),
            });
        }
        Ok(())
    }

    /// Every token, the newest first; no secrets.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn tokens(&self) -> Result<Vec<Token>> {
        Ok(sqlx::query_as(
            "select id, role, label, created_at, expires_at, one_time, used_at, revoked_at from tokens order by id desc",
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Starts a session of the token's role; returns the secret for its cookie. Old sessions are swept on the way.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn create_session(&self, access: Access, lasts: Duration) -> Result<String> {
        let secret = new_secret();
        sqlx::query("delete from sessions where expires_at < now()")
            .execute(&self.pool)
            .await?;
        sqlx::query(
            "insert into sessions (hash, token_id, expires_at) values ($1, $2, now() + make_interval(secs => $3))",
        )
        .bind(digest(&secret))
        .bind(access.token)
        .bind(lasts.as_secs_f64())
        .execute(&self.pool)
        .await?;
        Ok(secret)
    }

    /// The session of that secret; `None` if it is unknown, over, or its token was revoked.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn check_session(&self, secret: &str) -> Result<Option<Session>> {
        let row = sqlx::query(
            "select t.id, t.role, s.expires_at
            from sessions s join tokens t on t.id = s.token_id
            where s.hash = $1 and s.expires_at > now() and t.revoked_at is null",
        )
        .bind(digest(secret))
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Session {
            access: read_access(&row)?,
            csrf: BASE64_URL_SAFE_NO_PAD.encode(digest(&format!("csrf {secret}"))),
            expires_at: row.try_get("expires_at")?,
        }))
    }

    /// Ends a session, if there is one of that secret.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn delete_session(&self, secret: &str) -> Result<()> {
        sqlx::query("delete from sessions where hash = $1")
            .bind(digest(secret))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn read_access(row: &PgRow) -> sqlx::Result<Access> {
    Ok(Access {
        token: row.try_get("id")?,
        role: row::label(row, "role", Role::from_label)?,
    })
}

fn new_secret() -> String {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).expect("an operating system without random numbers cannot keep secrets");
    format!("psy_{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

fn digest(secret: &str) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}
