//! Files of trials, up and down.
//!
//! Bytes go straight into the object store while they are hashed, first under a name of their own, then under that of
//! their content: equal files are kept once, and no name that a worker gives ever becomes a path.

use std::{fmt::Write, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use object_store::{ObjectStoreExt, WriteMultipart, path::Path as ObjectPath};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use spaces::protocol::stage_file;
use store::Artifact;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::token;
use crate::{
    AppState, Problem,
    auth::Worker,
    extract::{Path, Query},
    views::ArtifactView,
};

/// Pieces of an upload; the smallest that S3 takes is 5 MiB.
const PIECE: usize = 8 << 20;
/// Pieces on their way at the same time.
const IN_FLIGHT: usize = 4;

pub(super) fn router() -> OpenApiRouter<AppState> {
    // the upload has a limit of its own
    OpenApiRouter::new()
        .routes(routes!(upload, download))
        .routes(routes!(stage))
        .layer(DefaultBodyLimit::disable())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UploadQuery {
    /// The lease.
    lease: String,
}

/// Upload a file of a trial
///
/// Of the running attempt, before its finish names it. The same name again replaces it.
#[utoipa::path(put, path = "/worker/trials/{id}/artifacts/{name}", tag = "worker", security(("token" = ["worker"])),
    params(("id" = i64, Path, description = "the trial's id"),
        ("name" = String, Path, description = "up to 100 letters, digits, '-', '_' and '.', not starting with '.'"),
        UploadQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = ArtifactView)))]
async fn upload(
    _: Worker,
    State(state): State<AppState>,
    Path((id, name)): Path<(i64, String)>,
    Query(query): Query<UploadQuery>,
    body: Body,
) -> Result<Json<ArtifactView>, Problem> {
    check_name(&name)?;
    let lease = token(id, &query.lease)?;
    // a lost lease is told before gigabytes are sent
    state
        .store
        .heartbeat(id, lease, state.settings.lease, None)
        .await?;
    let incoming = ObjectPath::from(format!("incoming/{}", Uuid::new_v4()));
    let stored = keep(&state, id, lease, &name, &incoming, body).await;
    if stored.is_err() {
        // it may not have come to exist
        let _ = state.objects.delete(&incoming).await;
    }
    stored.map(Json)
}

async fn keep(
    state: &AppState,
    trial: i64,
    lease: Uuid,
    name: &str,
    incoming: &ObjectPath,
    body: Body,
) -> Result<ArtifactView, Problem> {
    let (sha256, size) = receive(state, trial, lease, incoming, body).await?;
    let artifact = Artifact {
        name: name.to_owned(),
        size_bytes: i64::try_from(size).map_err(Problem::internal)?,
        sha256,
    };
    let _shared = state.files.read().await;
    state
        .objects
        .rename(incoming, &object_path(&artifact.sha256))
        .await
        .map_err(Problem::internal)?;
    state.store.put_artifact(trial, lease, &artifact).await?;
    Ok(ArtifactView {
        name: artifact.name,
        sha256: artifact.sha256,
        size_bytes: artifact.size_bytes,
    })
}

/// Writes the body to the object store while hashing it; returns its SHA-256 in hex and its size.
async fn receive(
    state: &AppState,
    trial: i64,
    lease: Uuid,
    to: &ObjectPath,
    mut body: Body,
) -> Result<(String, u64), Problem> {
    let writing = state.objects.put_multipart(to).await.map_err(Problem::internal)?;
    let mut writing = WriteMultipart::new_with_chunk_size(writing, PIECE);
    let (mut hash, mut size) = (Sha256::new(), 0u64);
    // a slow upload is a sign of life, too
    let beat = state.settings.lease / 3;
    let mut beats = tokio::time::interval_at(
        tokio::time::Instant::now() + beat,
        beat.max(Duration::from_millis(1)),
    );
    let received = loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            _ = beats.tick() => {
                match state.store.heartbeat(trial, lease, state.settings.lease, None).await {
                    Ok(_) => continue,
                    Err(e) => break Err(e.into()),
                }
            }
        };
        let bytes = match frame {
            None => break Ok(()),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(e)) => {
                break Err(Problem::bad_request(format!(
                    "the upload broke off: {e}; send it again"
                )));
            }
        };
        size += bytes.len() as u64;
        if size > state.settings.max_artifact_bytes {
            break Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                format!(
                    "the file is larger than the {} bytes that this server keeps; raise its limit",
                    state.settings.max_artifact_bytes
                ),
            ));
        }
        hash.update(&bytes);
        if let Err(e) = writing.wait_for_capacity(IN_FLIGHT).await {
            break Err(Problem::internal(e));
        }
        writing.put(bytes);
    };
    match received {
        Ok(()) => writing.finish().await.map_err(Problem::internal)?,
        Err(problem) => {
            if let Err(e) = writing.abort().await {
                tracing::warn!("an upload that broke off leaves something behind: {e}");
            }
            return Err(problem);
        }
    };
    Ok((hex(&hash.finalize()), size))
}

/// Download a file of a trial
///
/// Of its last attempt, or of the checkpoint that its training goes on from.
#[utoipa::path(get, path = "/worker/trials/{id}/artifacts/{name}", tag = "worker", security(("token" = ["worker"])),
    params(("id" = i64, Path, description = "the trial's id"),
        ("name" = String, Path, description = "the file's name in the bundle")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)))]
async fn download(
    _: Worker,
    State(state): State<AppState>,
    Path((id, name)): Path<(i64, String)>,
) -> Result<Response, Problem> {
    let detail = state.store.trial(id).await?;
    let mut found = detail.artifacts.into_iter().find(|a| a.name == name);
    if found.is_none() {
        let checkpoint = state.store.checkpoint(id).await?;
        found = checkpoint.into_iter().find(|a| a.name == name);
    }
    let artifact = found.ok_or_else(|| {
        Problem::not_found(format!(
            "trial {id} has no file '{name}'; its page lists the files it has"
        ))
    })?;
    send(&state, &artifact).await
}

/// Download the result of a stage
///
/// That any trial made and uploaded; 204 where none has.
#[utoipa::path(get, path = "/worker/stages/{key}", tag = "worker", security(("token" = ["worker"])),
    params(("key" = String, Path, description = "the name of everything that the result follows from")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 204)))]
async fn stage(
    _: Worker,
    State(state): State<AppState>,
    Path(key): Path<String>,
) -> Result<Response, Problem> {
    match state.store.stage(&stage_file(&key)).await? {
        Some(artifact) => send(&state, &artifact).await,
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

async fn send(state: &AppState, artifact: &Artifact) -> Result<Response, Problem> {
    let object = state
        .objects
        .get(&object_path(&artifact.sha256))
        .await
        .map_err(Problem::internal)?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, artifact.size_bytes.to_string()),
        (header::ETAG, format!("\"{}\"", artifact.sha256)),
    ];
    Ok((headers, Body::from_stream(object.into_stream())).into_response())
}

/// Where the bytes of that content are.
pub fn object_path(sha256: &str) -> ObjectPath {
    let (head, rest) = sha256.split_at(2);
    ObjectPath::from(format!("sha256/{head}/{rest}"))
}

fn check_name(name: &str) -> Result<(), Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=100).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.') {
        return Ok(());
    }
    Err(Problem::unprocessable(format!(
        "'{}' cannot name a file; use up to 100 letters, digits, '-', '_' and '.', not starting with '.'",
        name.escape_debug()
    )))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["model.safetensors", "config.json", "a", "README.md", "x-1_2..z"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(101);
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "..\\x",
            "a b",
            "ä",
            "a\0",
            "C:x",
            long.as_str(),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn content_decides_the_place() {
        let digest = hex(&Sha256::digest("abc"));
        assert_eq!(&digest[..8], "ba7816bf");
        assert_eq!(
            object_path(&digest).to_string(),
            format!("sha256/ba/{}", &digest[2..])
        );
    }
}
