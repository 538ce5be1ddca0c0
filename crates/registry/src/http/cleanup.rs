//! `POST /api/v1/artifacts/cleanup`: what is old and of no use, removed, or only told of.

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Body, Caller};
use kernel::{Error, ErrorKind, Permission};
use models::registered::CleanedUp;
use serde::{Deserialize, Serialize};
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::ModelRegistry;

pub(super) fn routes() -> OpenApiRouter<ModelRegistry> {
    OpenApiRouter::new().routes(routes!(clean_up))
}

/// What may go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ArtifactCleanup, example = json!({"days": 30, "dry_run": true}))]
pub struct CleanupRequest {
    /// Leave what is younger than so many days; 30 where missing.
    #[schema(maximum = 100_000)]
    days: u32,
    /// Tell what would be removed, and remove nothing.
    dry_run: bool,
}

impl Default for CleanupRequest {
    fn default() -> Self {
        Self { days: 30, dry_run: false }
    }
}

/// A version that was removed, or would be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RemovedModelVersion)]
pub struct VersionResponse {
    model: String,
    version: u64,
    bytes: u64,
}

/// A version that is old enough to be removed, and stays.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeptModelVersion)]
pub struct KeptResponse {
    model: String,
    version: u64,
    /// An alias points at it, a rollback would go to it, or it is the newest of its model.
    reason: String,
}

/// Uploads that broke off and that no file names.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RemovedUploads)]
pub struct UploadsResponse {
    uploads: u64,
    bytes: u64,
}

/// What was removed, or would be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ArtifactsCleanedUp)]
pub struct CleanupResponse {
    /// Whether nothing was removed.
    dry_run: bool,
    /// Versions without an alias.
    versions: Vec<VersionResponse>,
    /// Versions that are as old, and stay: what an alias points at, the newest of each model, and where a rollback would go to.
    kept: Vec<KeptResponse>,
    /// Runs that were deleted before, with their metrics and artifacts.
    runs: Vec<String>,
    uploads: UploadsResponse,
}

impl From<CleanedUp> for CleanupResponse {
    fn from(done: CleanedUp) -> Self {
        let versions = done.versions.into_iter().map(|removed| VersionResponse {
            model: removed.model,
            version: removed.version,
            bytes: removed.bytes,
        });
        let kept = done.kept.into_iter().map(|kept| KeptResponse {
            model: kept.model,
            version: kept.version,
            reason: kept.reason,
        });
        Self {
            dry_run: done.dry_run,
            versions: versions.collect(),
            kept: kept.collect(),
            runs: done.runs,
            uploads: UploadsResponse { uploads: done.uploads.uploads, bytes: done.uploads.bytes },
        }
    }
}

/// Remove versions without an alias and deleted runs that are old, and uploads that broke off.
///
/// Never what an alias points at, the newest version of a model, or the one that a rollback would go to: `kept` names those
/// that are old enough. Where it takes longer
/// than a request may, it goes on: ask again to see what is left.
#[utoipa::path(post, path = "/api/v1/artifacts/cleanup", tag = "models", operation_id = "clean_up_artifacts",
    request_body = CleanupRequest,
    responses((status = 200, body = CleanupResponse)))]
async fn clean_up(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Body(asked): Body<CleanupRequest>,
) -> ApiResult<Json<CleanupResponse>> {
    scope.require(Permission::Admin)?;
    // A caller that gives up leaves nothing half done.
    let work = tokio::spawn(async move {
        let done = registry.models.clean_up(&scope, asked.days, asked.dry_run).await;
        if let Err(error) = &done
            && error.kind() != ErrorKind::Invalid
        {
            // The caller may have gone.
            warn!(error = %error.chain(), "a clean-up of artifacts ended early; what it removed stays removed");
        }
        done
    });
    let done = work.await.map_err(Error::internal)??;
    Ok(Json(done.into()))
}
