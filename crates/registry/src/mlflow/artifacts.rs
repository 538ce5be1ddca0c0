//! Artifacts through this server: listed, taken in and given out part by part.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use edge::{ApiResult, BodyStream, Caller, Path};
use futures::stream;
use kernel::{Error, Permission, Result, Scope, codes};
use models::files::{ArtifactFile, Files, check_artifact_path, split_root};
use serde::Deserialize;
use serde_json::json;
use tracing::error;

use super::wire::{self, ARTIFACTS, Ask};
use super::{Answer, answer, done};
use crate::ModelRegistry;

/// Bytes of a refused file that are read before the answer.
const DRAINED_BYTES_MAX: usize = 8 << 20;

#[derive(Debug, Deserialize)]
pub(super) struct OfRun {
    #[serde(flatten)]
    id: super::runs::ByEither,
    path: Option<String>,
}

/// A folder, or none for the root.
fn folder(path: Option<&str>) -> Option<&str> {
    path.map(|path| path.trim_matches('/')).filter(|path| !path.is_empty())
}

pub(super) async fn of_run(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<OfRun>,
) -> Answer {
    let root = registry.tracking.run(&scope, asked.id.id()).await?.root();
    let listed = registry.files.list(&scope, &root, folder(asked.path.as_deref())).await?;
    answer(json!({"root_uri": format!("{ARTIFACTS}{root}"), "files": wire::files(&listed, None)}))
}

#[derive(Debug, Deserialize)]
pub(super) struct OfModel {
    artifact_directory_path: Option<String>,
}

pub(super) async fn of_logged_model(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Ask(asked): Ask<OfModel>,
) -> Answer {
    let root = registry.tracking.logged_model(&scope, &id).await?.root();
    let listed = registry.files.list(&scope, &root, folder(asked.artifact_directory_path.as_deref())).await?;
    answer(json!({"root_uri": format!("{ARTIFACTS}{root}"), "files": wire::files(&listed, None)}))
}

#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    path: Option<String>,
}

/// What lies in a folder below any root. Names are below that folder.
pub(super) async fn list(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Listing>,
) -> Answer {
    let Some(path) = folder(asked.path.as_deref()) else { return answer(json!({"files": []})) };
    let (root, below) = place(path)?;
    let listed = registry.files.list(&scope, root, below).await?;
    answer(json!({"files": wire::files(&listed, below)}))
}

fn place(path: &str) -> Result<(&str, Option<&str>)> {
    check_artifact_path(path)?;
    split_root(path)
        .ok_or_else(|| Error::new(codes::NOT_FOUND, "artifacts lie below a run, a logged model or a version"))
}

fn file_place(path: &str) -> Result<(&str, &str)> {
    let (root, below) = place(path)?;
    let below = below.ok_or_else(|| {
        Error::new(codes::VALIDATION_ERROR, "names a folder, not a file").with_field("path")
    })?;
    Ok((root, below))
}

pub(super) async fn download(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(path): Path<String>,
) -> ApiResult<Response> {
    let (root, below) = file_place(&path)?;
    let missing = || Error::new(codes::NOT_FOUND, "there is no artifact at that path");
    let file = registry.files.get(&scope, root, below).await?.ok_or_else(missing)?;
    // Before the answer begins, so that what is damaged or away has its own status.
    let first = registry.files.part(&scope, &file, 0).await?;
    let (size, etag) = (file.size_bytes, format!("\"{}\"", file.sha256));
    let mut response = Response::new(given(registry.files, scope, file, first));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::ETAG, HeaderValue::try_from(etag).map_err(Error::internal)?);
    Ok(response)
}

/// The parts of a file, each checked before it is sent. An answer that cannot go on breaks off.
fn given(files: Files, scope: Scope, file: ArtifactFile, first: Bytes) -> Body {
    let next = move |(number, part): (usize, Option<Bytes>)| {
        let (files, scope, file) = (files.clone(), scope.clone(), file.clone());
        async move {
            if let Some(part) = part {
                return Ok(Some((part, (number + 1, None))));
            }
            if number >= file.parts.len() {
                return Ok(None);
            }
            match files.part(&scope, &file, number).await {
                Ok(part) => Ok(Some((part, (number + 1, None)))),
                Err(cause) => {
                    error!(error = %cause.chain(), "an artifact could not be given out whole");
                    Err(cause)
                }
            }
        }
    };
    Body::from_stream(stream::try_unfold((0, Some(first)), next))
}

/// Reads on for a while: a client that is still sending would see a broken connection in place of the answer.
async fn drain(body: &mut BodyStream) {
    let mut left = DRAINED_BYTES_MAX;
    while let Ok(Some(bytes)) = body.next().await {
        let Some(rest) = left.checked_sub(bytes.len()) else { return };
        left = rest;
    }
}

pub(super) async fn upload(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(path): Path<String>,
    request: Request,
) -> Answer {
    scope.require(Permission::Write)?;
    edge::extract::check_encoding(request.headers())?;
    let (root, below) = file_place(&path)?;
    registry.tracking.require_writable(&scope, root).await?;
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let mut body = BodyStream::take_over(request, &scope)?;
    let mut upload = match registry.files.begin(root, below, announced) {
        Ok(upload) => upload,
        Err(error) => {
            drain(&mut body).await;
            return Err(error.into());
        }
    };
    let taken = async {
        while let Some(bytes) = body.next().await? {
            body.step(upload.push(&scope, &bytes)).await?;
        }
        Ok::<(), Error>(())
    };
    if let Err(broken) = taken.await {
        upload.abandon(&scope).await?;
        return Err(broken.into());
    }
    let file = body.step(upload.finish(&scope)).await?;
    answer(json!({"sha256": file.sha256, "file_size": file.size_bytes}))
}

pub(super) async fn delete(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(path): Path<String>,
) -> Answer {
    scope.require(Permission::Write)?;
    let (root, below) = place(path.trim_end_matches('/'))?;
    registry.tracking.require_writable(&scope, root).await?;
    registry.files.remove(&scope, root, below).await?;
    done()
}
