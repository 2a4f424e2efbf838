//! The page that asks for a token.

use maud::{Markup, html};

use super::layout::{Page, Theme};

/// The login page. `wanted` is where to go afterwards, `error` why the last attempt failed.
pub(crate) fn login(wanted: &str, error: Option<&str>, theme: Theme) -> Markup {
    let invalid = error.map(|_| "true");
    let content = html! {
        form.panel.login method="post" action="/login" {
            h1 { "Log in" }
            @if let Some(error) = error { p #login-error .alert role="alert" { (error) } }
            p.muted {
                "Open the link that the server printed when it started, or paste a token. "
                "A new one comes from " code { "parsimony token create" } " or an administrator."
            }
            label for="token" { "Token" }
            input #token name="token" type="password" autocomplete="current-password" required autofocus
                aria-invalid=[invalid] aria-describedby=[error.map(|_| "login-error")];
            input type="hidden" name="next" value=(wanted);
            p.actions { button.primary type="submit" { "Log in" } }
        }
    };
    Page {
        title: "Log in",
        script: "plain.js",
        style: Some("home.css"),
        narrow: true,
        theme,
        ..Page::default()
    }
    .render(&content)
}
