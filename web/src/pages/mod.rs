//! The pages: what stands still is written here, what lives is filled in by the modules under `ui/js`.
//!
//! Each page is one file and one line below. Nothing a user wrote reaches a page but through the template's escaping.

mod about;
mod compare;
mod home;
mod layout;
mod login;
mod new_study;
mod not_found;
mod study;
mod trial;

use axum::{Router, routing::get};

pub(crate) use self::{layout::Theme, login::login};
use crate::state::AppState;

/// Every page, and the files that pages load.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/", get(home::show))
        .route("/new", get(new_study::show))
        .route("/studies/{name}", get(study::show))
        .route("/trials/{id}", get(trial::show))
        .route("/compare", get(compare::show))
        .route("/about", get(about::show))
        .merge(crate::assets::router())
        .fallback(not_found::show)
}
