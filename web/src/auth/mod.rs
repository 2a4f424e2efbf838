//! Who calls, and what that allows.
//!
//! Programs send `Authorization: Bearer TOKEN`. Browsers send the session cookie that a login gave them and, with every
//! request that changes something, the session's CSRF token. A handler names the role it needs by its first argument:
//! [`Viewer`], [`Submitter`], [`Admin`] or [`Worker`]; a page takes [`PageViewer`], which leads to the login.

mod attempts;
mod cookie;
mod csrf;
mod login;

use axum::{
    extract::FromRequestParts,
    http::{Method, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use store::{Access, Role};

pub(crate) use self::{attempts::Attempts, login::router};
use crate::{error::Problem, state::AppState};

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The token, and what it allows.
    pub(crate) access: Access,
    /// What a browser's session must send along with changes; none for a bearer token.
    pub(crate) csrf: Option<String>,
}

impl Caller {
    /// Whether the role includes `needed`: admin has everything, submit includes view, worker stands alone.
    pub(crate) fn may(&self, needed: Role) -> bool {
        match self.access.role {
            Role::Admin => true,
            Role::Submit => matches!(needed, Role::Submit | Role::View),
            Role::View => needed == Role::View,
            Role::Worker => needed == Role::Worker,
        }
    }

    fn must(self, needed: Role) -> Result<Caller, Problem> {
        if self.may(needed) {
            return Ok(self);
        }
        Err(Problem::forbidden(format!(
            "this needs the role '{}', but the token has the role '{}'; use a token of that role",
            needed.label(),
            self.access.role.label()
        )))
    }
}

/// A caller that may read.
#[derive(Debug)]
pub(crate) struct Viewer;

/// A caller that may submit and steer studies.
#[derive(Debug)]
pub(crate) struct Submitter(pub(crate) Caller);

/// A caller that may do everything.
#[derive(Debug)]
pub(crate) struct Admin;

/// A caller that works on trials.
#[derive(Debug)]
pub(crate) struct Worker;

/// A person who may read, at a page; whoever is not logged in is sent to the login and back.
#[derive(Clone, Debug)]
pub(crate) struct PageViewer(pub(crate) Caller);

macro_rules! needs {
    ($($extractor:ident: $role:ident),*) => {$(
        impl FromRequestParts<AppState> for $extractor {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
                identify(parts, state).await?.must(Role::$role).map(|_| $extractor)
            }
        }
    )*};
}

needs!(Viewer: View, Admin: Admin, Worker: Worker);

impl FromRequestParts<AppState> for Submitter {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        identify(parts, state).await?.must(Role::Submit).map(Submitter)
    }
}

impl FromRequestParts<AppState> for PageViewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        let caller = match identify(parts, state).await {
            Ok(caller) => caller,
            Err(e) if e.status() == axum::http::StatusCode::UNAUTHORIZED => {
                let wanted = parts.uri.path_and_query().map_or("/", |p| p.as_str());
                return Err(Redirect::to(&login::address(wanted)).into_response());
            }
            Err(e) => return Err(e.into_response()),
        };
        caller
            .must(Role::View)
            .map(PageViewer)
            .map_err(IntoResponse::into_response)
    }
}

/// Finds out who calls.
async fn identify(parts: &Parts, state: &AppState) -> Result<Caller, Problem> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let secret = value.to_str().ok().and_then(bearer).ok_or_else(|| {
            Problem::unauthorized("the authorization header is not 'Bearer TOKEN'; send it in that form")
        })?;
        let access = state.store.check_token(secret).await?.ok_or_else(|| {
            Problem::unauthorized(
                "the token is unknown, expired, revoked or used up; ask an administrator for a new one",
            )
        })?;
        return Ok(Caller { access, csrf: None });
    }
    let Some(secret) = cookie::read(&parts.headers) else {
        return Err(Problem::unauthorized(
            "no token was sent; log in, or send the header 'authorization: Bearer TOKEN'",
        ));
    };
    let session = state
        .store
        .check_session(secret)
        .await?
        .ok_or_else(|| Problem::unauthorized("the session is over; log in again"))?;
    if !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        csrf::check(&parts.headers, &session, &state.settings.public_url)?;
    }
    Ok(Caller {
        access: session.access,
        csrf: Some(session.csrf),
    })
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_include_what_they_say() {
        let allowed = |role| {
            let caller = Caller {
                access: Access { token: 1, role },
                csrf: None,
            };
            Role::ALL.map(|needed| caller.may(needed))
        };
        // admin, submit, view, worker
        assert_eq!(allowed(Role::Admin), [true, true, true, true]);
        assert_eq!(allowed(Role::Submit), [false, true, true, false]);
        assert_eq!(allowed(Role::View), [false, false, true, false]);
        assert_eq!(allowed(Role::Worker), [false, false, false, true]);
    }

    #[test]
    fn only_bearer_is_read() {
        assert_eq!(bearer("Bearer psy_x"), Some("psy_x"));
        assert_eq!(bearer("bearer  psy_x "), Some("psy_x"));
        assert_eq!(bearer("Basic psy_x"), None);
        assert_eq!(bearer("psy_x"), None);
    }
}
