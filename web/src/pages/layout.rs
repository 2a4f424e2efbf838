//! The frame of every page: head, navigation, status line.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use maud::{DOCTYPE, Markup, html};
use store::Role;

use crate::{assets, auth::Caller};

/// The colours a browser has asked for, by the cookie that the switch sets; none leaves it to the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Theme(Option<&'static str>);

impl Theme {
    /// Reads the cookie.
    pub(crate) fn of(headers: &HeaderMap) -> Theme {
        let cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|v| v.to_str().ok());
        let chosen = cookies
            .flat_map(|line| line.split(';'))
            .find_map(|pair| match pair.trim() {
                "theme=dark" => Some("dark"),
                "theme=light" => Some("light"),
                _ => None,
            });
        Theme(chosen)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Theme {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Theme::of(&parts.headers))
    }
}

/// What differs between pages.
#[derive(Default)]
pub(super) struct Page<'a> {
    /// Stands before the product's name in the title.
    pub(super) title: &'a str,
    /// The module that fills the page, such as `study.js`.
    pub(super) script: &'a str,
    /// A style sheet of its own, such as `study.css`.
    pub(super) style: Option<&'a str>,
    /// The address of the navigation's entry that is this page.
    pub(super) here: &'a str,
    /// For text: a column that is easy to read.
    pub(super) narrow: bool,
    pub(super) theme: Theme,
    /// Whoever is logged in.
    pub(super) caller: Option<&'a Caller>,
    /// The study that the module reads.
    pub(super) study: Option<&'a str>,
    /// The study's revision before the module reads anything: from here on it listens.
    pub(super) revision: Option<i64>,
    /// The trial that the module reads.
    pub(super) trial: Option<i64>,
    /// The trials that the module reads.
    pub(super) trials: Option<&'a str>,
}

impl Page<'_> {
    /// The whole document around `content`.
    pub(super) fn render(&self, content: &Markup) -> Markup {
        let role = self.caller.map(|c| c.access.role.label());
        let csrf = self.caller.and_then(|c| c.csrf.as_deref());
        html! {
            (DOCTYPE)
            html lang="en" data-theme=[self.theme.0] {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    @if let Some(csrf) = csrf { meta name="csrf" content=(csrf); }
                    title { (self.title) " · Parsimony" }
                    link rel="icon" type="image/svg+xml" href=(assets::url("icons/parsimony.svg"));
                    @for sheet in ["base.css", "layout.css", "parts.css"].into_iter().chain(self.style) {
                        link rel="stylesheet" href=(assets::url(&format!("css/{sheet}")));
                    }
                    script type="module" src=(assets::url(&format!("js/{}", self.script))) {}
                }
                body data-role=[role] data-study=[self.study] data-revision=[self.revision] data-trial=[self.trial] data-trials=[self.trials] {
                    a.skip href="#main" { "Skip to the content" }
                    (self.top())
                    main #main .narrow[self.narrow] {
                        div #status .hush role="status" {}
                        p #connection .lost hidden role="status" { "Connection lost. Retrying; what is shown may be out of date." }
                        p #alert .alert role="alert" hidden {}
                        (content)
                    }
                }
            }
        }
    }

    fn top(&self) -> Markup {
        let entry = |href: &str, text: &str| {
            let current = (href == self.here).then_some("page");
            html! { a href=(href) aria-current=[current] { (text) } }
        };
        html! {
            header.top {
                a.brand href="/" { img src=(assets::url("icons/parsimony.svg")) alt=""; "Parsimony" }
                nav aria-label="Main" {
                    @if let Some(caller) = self.caller {
                        (entry("/", "Studies"))
                        @if caller.may(Role::Submit) { (entry("/new", "New study")) }
                        (entry("/about", "About"))
                    }
                }
                div.tools {
                    button #theme .plain type="button" aria-pressed="false" aria-label="Dark theme" title="Dark theme" { "◐" }
                    @if self.caller.is_some_and(|c| c.csrf.is_some()) {
                        button #logout .plain type="button" { "Log out" }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_known_themes_reach_the_page() {
        let with = |cookie| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_static(cookie));
            Theme::of(&headers)
        };
        assert_eq!(with("a=b; theme=dark"), Theme(Some("dark")));
        assert_eq!(with("theme=\"><script>"), Theme(None));
    }

    #[test]
    fn what_a_user_wrote_is_escaped() {
        let page = Page {
            title: "<b>&",
            study: Some("\"><script>"),
            script: "study.js",
            ..Page::default()
        };
        let text = page.render(&html! { h1 { "<i>" } }).into_string();
        assert!(text.contains("<title>&lt;b&gt;&amp; · Parsimony</title>"));
        assert!(!text.contains("<script>") && !text.contains("<i>"));
    }
}
