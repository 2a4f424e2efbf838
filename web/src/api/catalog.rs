//! What a study can name.

use axum::{Json, extract::State};
use serde::Serialize;
use spaces::{CorpusInfo, MethodInfo, Metric, ParameterInfo, Preset, TechniqueInfo, metric};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{AppState, auth::Viewer};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Everything a study can name.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CatalogView {
    /// The version of this program.
    version: &'static str,
    /// Parameters, parents first.
    parameters: Vec<ParameterInfo>,
    /// Techniques, by family.
    techniques: Vec<TechniqueInfo>,
    /// Corpora.
    corpora: Vec<CorpusInfo>,
    /// Named spaces.
    presets: Vec<Preset>,
    /// Metrics that this build measures or computes.
    metrics: Vec<Metric>,
    /// Search methods.
    methods: Vec<MethodInfo>,
    /// Rules that decide how far trials are trained.
    rules: Vec<MethodInfo>,
}

/// Show the catalogue
///
/// Parameters, techniques, corpora, presets, metrics and methods that a study can name.
#[utoipa::path(get, path = "/catalog", tag = "server", security(("token" = ["view"])),
    responses((status = 200, body = CatalogView)))]
async fn show(_: Viewer, State(state): State<AppState>) -> Json<CatalogView> {
    let catalog = spaces::Catalog::clone(&state.catalog);
    Json(CatalogView {
        version: env!("CARGO_PKG_VERSION"),
        parameters: catalog.parameters,
        techniques: catalog.techniques,
        corpora: catalog.corpora,
        presets: catalog.presets,
        metrics: catalog
            .metrics
            .iter()
            .filter_map(|name| metric(name))
            .copied()
            .collect(),
        methods: catalog.methods,
        rules: catalog.rules,
    })
}
