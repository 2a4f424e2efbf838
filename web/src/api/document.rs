//! The OpenAPI document, made from the handlers.

use axum::{Router, http::header, routing::get};
use utoipa::{
    OpenApi,
    openapi::{
        OpenApi as Document, Ref, RefOr, ResponseBuilder,
        content::ContentBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{AppState, ProblemBody};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Parsimony",
        description = "Searches language-model configurations for the best trade-offs between accuracy and cost. \
            Each operation needs a token of the role named in its security requirement: admin includes submit, submit \
            includes view, worker stands alone. Errors are application/problem+json.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(ProblemBody)),
    tags(
        (name = "studies", description = "Searches: submit, watch, steer"),
        (name = "trials", description = "Single configurations that are tried"),
        (name = "results", description = "Fronts, recommendations, exports"),
        (name = "optimize", description = "The search for trials that run elsewhere: ask and tell"),
        (name = "events", description = "Changes as they happen"),
        (name = "server", description = "What this server offers and who may use it"),
        (name = "worker", description = "What a worker says: lease, heartbeat, report, finish, release, files"),
    )
)]
struct Base;

/// Serves the document.
pub(super) fn router(paths: Document) -> Router<AppState> {
    let text = document(paths)
        .to_pretty_json()
        .expect("a document is plain data");
    let answer = move || async move { ([(header::CONTENT_TYPE, "application/json")], text) };
    Router::new().route("/api/openapi.json", get(answer))
}

/// Adds to the paths what they all share.
fn document(paths: Document) -> Document {
    let mut document = Base::openapi();
    document.merge(paths);
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A token of the role that the operation names. A browser's session cookie does too; with it, changes need \
             the header x-csrf-token.",
        ))
        .build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    for (path, item) in &mut document.paths.paths {
        let operations = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                operation.operation_id = Some(operation_id(method, path));
                add_problem(operation);
            }
        }
    }
    document
}

/// A name for generated clients: `get_studies_by_study_front`. Handlers' own names repeat from file to file.
fn operation_id(method: &str, path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "api" | "v1"));
    let words = parts.map(|part| match part.strip_prefix('{') {
        Some(parameter) => format!("_by_{}", parameter.trim_end_matches('}')),
        None => format!("_{}", part.replace(['-', '.'], "_")),
    });
    format!("{method}{}", words.collect::<String>())
}

/// Any operation may answer with a problem.
fn add_problem(operation: &mut Operation) {
    let body = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    let response = ResponseBuilder::new()
        .description("what is wrong, in one sentence with the remedy")
        .content("application/problem+json", body)
        .build();
    operation
        .responses
        .responses
        .insert("default".into(), RefOr::T(response));
}
