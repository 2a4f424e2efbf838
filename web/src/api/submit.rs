//! Submitting a study, and checking one: the form and the study file are two ways to write the same.

use axum::http::{StatusCode, header};
use axum::{extract::State, response::IntoResponse};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use spaces::{
    Catalog, SpecError, Study,
    study::{json_to_toml, read_study, resolve_study, study_from_toml, study_to_toml},
};
use utoipa::ToSchema;

use super::studies::show;
use crate::{AppState, Problem, ProblemBody, auth::Submitter, extract, views::StudyView};

/// A study, written in one of two ways.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StudyBody {
    /// As the form writes it: the JSON form of the study file.
    #[schema(value_type = Option<spaces::StudySpec>)]
    spec: Option<Json>,
    /// As a study file.
    toml: Option<String>,
}

/// A study in both ways, and what is wrong with it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckedStudy {
    /// For the form; null if the file is not TOML.
    #[schema(value_type = Option<spaces::StudySpec>)]
    spec: Option<Json>,
    /// As a study file; null if the form holds what a file cannot.
    toml: Option<String>,
    /// What is wrong, each with its place; empty if the study can be submitted.
    errors: Vec<SpecError>,
}

/// Check a study
///
/// Converts between the form and the study file, whether or not the study is right.
#[utoipa::path(post, path = "/studies/check", tag = "studies", security(("token" = ["submit"])),
    request_body = StudyBody, responses((status = 200, body = CheckedStudy)))]
pub(super) async fn check(
    _: Submitter,
    State(state): State<AppState>,
    extract::Json(body): extract::Json<StudyBody>,
) -> Result<axum::Json<CheckedStudy>, Problem> {
    let written = Written::read(body, &state.catalog)?;
    let errors = match written.study {
        Ok(study) => admit(&state, study).await?.err().unwrap_or_default(),
        Err(errors) => errors,
    };
    Ok(axum::Json(CheckedStudy {
        spec: written.spec,
        toml: written.toml,
        errors,
    }))
}

/// Submit a study
///
/// Its trials are proposed and leased at once.
#[utoipa::path(post, path = "/studies", tag = "studies", security(("token" = ["submit"])), request_body = StudyBody,
    responses(
        (status = 201, body = StudyView),
        (status = 409, description = "the name is in use", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "mistakes in the study, each at its place", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
pub(super) async fn create(
    _: Submitter,
    State(state): State<AppState>,
    extract::Json(body): extract::Json<StudyBody>,
) -> Result<impl IntoResponse, Problem> {
    let written = Written::read(body, &state.catalog)?;
    let study = written.study.map_err(Problem::bad_study)?;
    let spec = study.spec.clone();
    let fingerprint = admit(&state, study).await?.map_err(Problem::bad_study)?;
    let created = state.store.create_study(&spec, &fingerprint).await?;
    tracing::info!(
        study = created.id,
        name = created.name,
        "study '{}' was submitted",
        created.name
    );
    let location = [(header::LOCATION, format!("/api/v1/studies/{}", created.id))];
    let view = show(&state, created.id).await?;
    Ok((StatusCode::CREATED, location, axum::Json(view)))
}

/// A study as it was written, in both ways as far as that is possible.
struct Written {
    spec: Option<Json>,
    toml: Option<String>,
    study: Result<Study, Vec<SpecError>>,
}

impl Written {
    fn read(body: StudyBody, catalog: &Catalog) -> Result<Written, Problem> {
        match body {
            StudyBody {
                spec: Some(spec),
                toml: None,
            } => Ok(Written::from_form(spec, catalog)),
            StudyBody {
                spec: None,
                toml: Some(toml),
            } => Ok(Written::from_file(toml, catalog)),
            _ => Err(Problem::bad_request(
                "the body needs either 'spec' or 'toml'; send exactly one of them",
            )),
        }
    }

    fn from_form(json: Json, catalog: &Catalog) -> Written {
        let spec = read_study(&json);
        let toml = match &spec {
            Ok(spec) => Some(study_to_toml(spec)),
            // half a study is still a file, in which nothing typed so far is lost
            Err(_) => json_to_toml(&json),
        };
        Written {
            toml,
            study: spec.and_then(|spec| resolve_study(&spec, catalog)),
            spec: Some(json),
        }
    }

    fn from_file(toml: String, catalog: &Catalog) -> Written {
        let json: Option<Json> = toml_edit::de::from_str(&toml).ok();
        let spec = json.as_ref().and_then(|json| read_study(json).ok());
        let study = study_from_toml(&toml, catalog);
        Written {
            spec: match spec {
                Some(spec) => serde_json::to_value(spec).ok(),
                None => json,
            },
            toml: Some(toml),
            study,
        }
    }
}

/// What the machine says to a study; reads files, and so may take a while.
async fn admit(state: &AppState, study: Study) -> Result<Result<String, Vec<SpecError>>, Problem> {
    let admission = std::sync::Arc::clone(&state.admission);
    tokio::task::spawn_blocking(move || admission.admit(&study))
        .await
        .map_err(Problem::internal)
}
