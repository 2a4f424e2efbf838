//! A trial's bundle as one file.

use std::io::{self, Write};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use serde::Deserialize;
use store::Artifact;
use tokio::{io::AsyncReadExt, sync::mpsc};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use zip::{CompressionMethod, ZipWriter, result::ZipError, write::SimpleFileOptions};

use super::{
    limits::limits,
    recommend::{recommend, rule},
};
use crate::{
    AppState, Problem,
    auth::Viewer,
    extract::{Path, Query},
    worker::object_path,
};

/// Pieces between the object store and the archive; each is at most a few MiB.
const IN_FLIGHT: usize = 4;
const PIECE: usize = 256 << 10;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(trial)).routes(routes!(study))
}

/// Export a trial
///
/// Its bundle as a zip archive: weights, tokenizer, configuration with provenance.
#[utoipa::path(get, path = "/trials/{id}/export", tag = "results", security(("token" = ["view"])),
    params(("id" = i64, Path, description = "the trial's id")),
    responses((status = 200, content_type = "application/zip", body = Vec<u8>)))]
async fn trial(_: Viewer, State(state): State<AppState>, Path(id): Path<i64>) -> Result<Response, Problem> {
    export(&state, id).await
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExportQuery {
    /// `knee`, `trial:ID`, `min:METRIC` or `max:METRIC`; the knee where nothing is said.
    pick: Option<String>,
    /// A limit beside those of the study, such as `model_bytes<=4 MiB`; may be given several times.
    #[serde(default, rename = "where")]
    limit: Vec<String>,
}

/// Export the recommended trial
///
/// Refused where no trial keeps the limits.
#[utoipa::path(get, path = "/studies/{study}/export", tag = "results", security(("token" = ["view"])),
    params(("study" = String, Path, description = "name or id"), ExportQuery),
    responses((status = 200, content_type = "application/zip", body = Vec<u8>)))]
async fn study(
    _: Viewer,
    State(state): State<AppState>,
    Path(study): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Problem> {
    let rule = rule(query.pick.as_deref())?;
    let chosen = recommend(&state, &study, &rule, &limits(&query.limit)?).await?;
    if !chosen.relax.is_empty() {
        return Err(Problem::new(StatusCode::CONFLICT, "limits-broken", chosen.reason));
    }
    export(&state, chosen.trial.id).await
}

async fn export(state: &AppState, id: i64) -> Result<Response, Problem> {
    let detail = state.store.trial(id).await?;
    if detail.artifacts.is_empty() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "no-files",
            format!(
                "trial {id} is {} and has no files to export; choose a trial that is done",
                detail.trial.state.label()
            ),
        ));
    }
    let study = state.store.study(detail.trial.study).await?;
    let name = format!("{}-trial-{}", study.name, detail.trial.number);
    let file = archive(state, &name, detail.artifacts).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (
            header::CONTENT_LENGTH,
            file.metadata().map_err(Problem::internal)?.len().to_string(),
        ),
        // names of studies are plain ASCII without quotes
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}.zip\""),
        ),
    ];
    Ok((headers, stream_of(tokio::fs::File::from_std(file))).into_response())
}

/// The files in a folder of that name, as an archive in a nameless file on the disk.
///
/// An archive cannot be written asynchronously, and the object store cannot be read otherwise: a bounded channel lies
/// between, so a few pieces are in memory and no more. Nothing is compressed: weights hardly can be.
async fn archive(state: &AppState, folder: &str, artifacts: Vec<Artifact>) -> Result<std::fs::File, Problem> {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let folder = folder.to_owned();
    let writing = tokio::task::spawn_blocking(move || write_archive(&folder, receiver));
    let reading = async {
        for artifact in artifacts {
            let object = state.objects.get(&object_path(&artifact.sha256)).await?;
            if sender
                .send(Part::File(artifact.name, object.meta.size))
                .await
                .is_err()
            {
                break; // the writer's own error says why
            }
            let mut pieces = object.into_stream();
            while let Some(piece) = pieces.try_next().await? {
                if sender.send(Part::Piece(piece)).await.is_err() {
                    break;
                }
            }
        }
        let _ = sender.send(Part::End).await;
        drop(sender);
        Ok::<(), object_store::Error>(())
    };
    let read = reading.await;
    let written = writing.await.map_err(Problem::internal)?;
    read.map_err(Problem::internal)?;
    written.map_err(Problem::internal)
}

enum Part {
    File(String, u64),
    Piece(Bytes),
    End,
}

fn write_archive(folder: &str, mut parts: mpsc::Receiver<Part>) -> Result<std::fs::File, ZipError> {
    let mut archive = ZipWriter::new(tempfile::tempfile()?);
    while let Some(part) = parts.blocking_recv() {
        match part {
            Part::File(name, size) => {
                let options = SimpleFileOptions::default()
                    .compression_method(CompressionMethod::Stored)
                    .large_file(size >= u64::from(u32::MAX));
                archive.start_file(format!("{folder}/{name}"), options)?;
            }
            Part::Piece(bytes) => archive.write_all(&bytes)?,
            Part::End => {
                let mut file = archive.finish()?;
                io::Seek::rewind(&mut file)?;
                return Ok(file);
            }
        }
    }
    // the reader gave up, and says why
    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

fn stream_of(file: tokio::fs::File) -> Body {
    let pieces = stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE];
        let n = file.read(&mut piece).await?;
        piece.truncate(n);
        Ok::<_, io::Error>((n > 0).then_some((Bytes::from(piece), file)))
    });
    Body::from_stream(pieces.boxed())
}
