//! Tokens: who may call.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use store::{NewToken, Role};
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, Problem,
    auth::Admin,
    extract::{self, Path},
};

/// The longest life of a token that ends at all: a hundred years.
const LONGEST_S: f64 = 100.0 * 365.0 * 86_400.0;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(revoke))
}

/// Tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenList {
    /// The newest first, without their secrets.
    tokens: Vec<TokenView>,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenView {
    /// Its id.
    id: i64,
    /// `admin`, `submit`, `view` or `worker`.
    #[schema(value_type = String)]
    role: Role,
    /// Who or what holds it.
    label: String,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it ends; null until revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// Valid for a single login.
    one_time: bool,
    /// When it was last used, to the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    used_at: Option<OffsetDateTime>,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
}

/// A token to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenBody {
    /// `admin`, `submit`, `view` or `worker`.
    #[schema(value_type = String)]
    role: Role,
    /// Who or what will hold it.
    label: String,
    /// How long it is valid, in seconds; until revoked where nothing is said.
    #[serde(default)]
    expires_in_s: Option<f64>,
    /// Valid for a single login.
    #[serde(default)]
    one_time: bool,
}

/// A new token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IssuedTokenView {
    /// Its id.
    id: i64,
    /// What its holder sends. It is shown this once.
    secret: String,
    /// For a token of a person: the link that logs a browser in.
    login_url: Option<String>,
}

/// List tokens
#[utoipa::path(get, path = "/tokens", tag = "server", security(("token" = ["admin"])),
    responses((status = 200, body = TokenList)))]
async fn list(_: Admin, State(state): State<AppState>) -> Result<Json<TokenList>, Problem> {
    let view = |t: store::Token| TokenView {
        id: t.id,
        role: t.role,
        label: t.label,
        created_at: t.created_at,
        expires_at: t.expires_at,
        one_time: t.one_time,
        used_at: t.used_at,
        revoked_at: t.revoked_at,
    };
    let tokens = state.store.tokens().await?;
    Ok(Json(TokenList {
        tokens: tokens.into_iter().map(view).collect(),
    }))
}

/// Create a token
#[utoipa::path(post, path = "/tokens", tag = "server", security(("token" = ["admin"])), request_body = TokenBody,
    responses((status = 201, body = IssuedTokenView)))]
async fn create(
    _: Admin,
    State(state): State<AppState>,
    extract::Json(body): extract::Json<TokenBody>,
) -> Result<(StatusCode, Json<IssuedTokenView>), Problem> {
    if body.label.trim().is_empty() {
        return Err(Problem::unprocessable(
            "label: it is empty; say who or what will hold the token",
        ));
    }
    let expires_in = match body.expires_in_s {
        None => None,
        Some(s) if s > 0.0 && s <= LONGEST_S => Some(Duration::from_secs_f64(s)),
        Some(s) => {
            return Err(Problem::unprocessable(format!(
                "expires_in_s: {s} is not between 0 and {LONGEST_S}; leave it out for a token without an end"
            )));
        }
    };
    let token = NewToken {
        role: body.role,
        label: body.label,
        expires_in,
        one_time: body.one_time,
    };
    let issued = state.store.create_token(&token).await?;
    let login_url = (token.one_time && token.role != Role::Worker)
        .then(|| format!("{}/login?token={}", state.settings.public_url, issued.secret));
    Ok((
        StatusCode::CREATED,
        Json(IssuedTokenView {
            id: issued.id,
            secret: issued.secret,
            login_url,
        }),
    ))
}

/// Revoke a token
///
/// And the browser sessions that it began. Revoking twice is harmless.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "server", security(("token" = ["admin"])),
    params(("id" = i64, Path, description = "the token's id")), responses((status = 204, description = "revoked")))]
async fn revoke(_: Admin, State(state): State<AppState>, Path(id): Path<i64>) -> Result<StatusCode, Problem> {
    state.store.revoke_token(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
