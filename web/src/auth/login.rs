//! Logging in by link or by form, and out.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use axum::{
    Extension, Form, Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;
use store::Role;

use super::{Caller, cookie, csrf};
use crate::{
    error::Problem,
    extract::Query,
    pages::{self, Theme},
    state::AppState,
};

/// `/login` and `/logout`.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/login", get(by_link).post(by_form))
        .route("/logout", post(log_out))
}

/// The address of the login that leads on to the wanted page.
pub(super) fn address(wanted: &str) -> String {
    let next: String = wanted
        .bytes()
        .map(|b| match b {
            b'/' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect();
    format!("/login?next={next}")
}

#[derive(Debug, Deserialize)]
struct Login {
    #[serde(default)]
    token: String,
    #[serde(default)]
    next: String,
}

type Peer = Option<Extension<ConnectInfo<SocketAddr>>>;

/// `GET /login`: with a token, as a login link has it, logs in; without, shows the form.
async fn by_link(
    State(state): State<AppState>,
    peer: Peer,
    theme: Theme,
    Query(login): Query<Login>,
) -> Response {
    if login.token.is_empty() {
        return pages::login(&login.next, None, theme).into_response();
    }
    log_in(&state, peer, theme, login).await
}

/// `POST /login`: the form. Another site must not log its visitors in under a token of its own.
async fn by_form(
    State(state): State<AppState>,
    peer: Peer,
    theme: Theme,
    headers: HeaderMap,
    Form(login): Form<Login>,
) -> Response {
    if csrf::is_foreign(&headers) {
        let problem = Problem::forbidden("the form is not one of this server; log in from its own page");
        return (problem.status(), pages::login("", Some(problem.detail()), theme)).into_response();
    }
    log_in(&state, peer, theme, login).await
}

async fn log_in(state: &AppState, peer: Peer, theme: Theme, login: Login) -> Response {
    let address = peer.map(|Extension(ConnectInfo(socket))| socket.ip());
    match start_session(state, address, &login).await {
        Ok(secret) => {
            let cookie = cookie::set(&secret, state.settings.session, &state.settings.public_url);
            let next = Redirect::to(local(&login.next));
            ([(header::SET_COOKIE, cookie)], next).into_response()
        }
        Err(problem) if problem.status().is_server_error() => problem.into_response(),
        Err(problem) => {
            let page = pages::login(&login.next, Some(problem.detail()), theme);
            (problem.status(), page).into_response()
        }
    }
}

async fn start_session(state: &AppState, address: Option<IpAddr>, login: &Login) -> Result<String, Problem> {
    if let Some(wait) = state.attempts.wait(address, Instant::now()) {
        let seconds = wait.as_secs() + 1;
        return Err(Problem::too_many(
            format!("too many logins have failed from this address; wait {seconds} s and try again"),
            seconds,
        ));
    }
    let Some(access) = state.store.check_token(login.token.trim()).await? else {
        state.attempts.failed(address, Instant::now());
        return Err(Problem::unauthorized(
            "the token is unknown, expired, revoked or used up; ask for a new link or token",
        ));
    };
    let caller = Caller { access, csrf: None };
    caller.must(Role::View)?;
    Ok(state.store.create_session(access, state.settings.session).await?)
}

/// `POST /logout`: ends the session, if there is one.
async fn log_out(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, Problem> {
    if let Some(secret) = cookie::read(&headers)
        && let Some(session) = state.store.check_session(secret).await?
    {
        csrf::check(&headers, &session, &state.settings.public_url)?;
        state.store.delete_session(secret).await?;
    }
    let cookie = cookie::clear(&state.settings.public_url);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// The wanted page if it is one of ours, else the first one: a link must not lead to another server.
fn local(next: &str) -> &str {
    let plain = next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if plain && next.starts_with('/') && !next.starts_with("//") {
        next
    } else {
        "/"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_our_pages_only() {
        for ours in ["/", "/studies/a?x=loss&y=bytes", "/a//b"] {
            assert_eq!(local(ours), ours);
        }
        for other in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nb",
            "x",
        ] {
            assert_eq!(local(other), "/");
        }
        assert_eq!(address("/a?b=1&c=d"), "/login?next=/a%3Fb%3D1%26c%3Dd");
    }
}
