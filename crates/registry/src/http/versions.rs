//! `GET /api/v1/models/{name}/versions`: the versions of a model with their checksums, signature and lineage.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Caller, PageParams, Params, Path};
use kernel::Timestamp;
use models::registered::{RegisteredModel, RegisteredVersion};
use models::tracking::Search;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::time;
use crate::ModelRegistry;

pub(super) fn routes() -> OpenApiRouter<ModelRegistry> {
    OpenApiRouter::new().routes(routes!(versions))
}

/// A file of a version.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelFile)]
pub struct FileResponse {
    path: String,
    size_bytes: u64,
    /// In hexadecimal digits.
    sha256: String,
}

/// What a version was made from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelLineage)]
pub struct LineageResponse {
    /// The run that made it.
    #[serde(skip_serializing_if = "String::is_empty")]
    run_id: String,
    /// The code: a commit or a release.
    #[serde(skip_serializing_if = "Option::is_none")]
    code_version: Option<String>,
    /// The program.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The data sets, each as `name@digest`.
    data: Vec<String>,
}

/// One version.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelVersion)]
pub struct VersionResponse {
    name: String,
    version: u64,
    /// `None`, `Staging`, `Production` or `Archived`.
    stage: &'static str,
    aliases: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    created_by: String,
    description: String,
    /// Over all files.
    checksum: String,
    files: Vec<FileResponse>,
    /// What goes in and comes out, as the model says.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    lineage: LineageResponse,
    /// How good it was when it was made.
    metrics: BTreeMap<String, f64>,
    tags: BTreeMap<String, String>,
}

impl VersionResponse {
    fn of(version: RegisteredVersion, model: &RegisteredModel) -> Self {
        let files = version.files.into_iter().map(|file| FileResponse {
            path: file.path,
            size_bytes: file.size_bytes,
            sha256: file.sha256,
        });
        Self {
            stage: model.stage(version.version).name(),
            aliases: model.aliases_of(version.version),
            name: version.model,
            version: version.version,
            created_at: time(version.created_ms),
            created_by: version.user_id,
            description: version.description,
            checksum: version.checksum,
            files: files.collect(),
            signature: version.signature,
            lineage: LineageResponse {
                run_id: version.run_id,
                code_version: version.lineage.code_version,
                source: version.lineage.source,
                data: version.lineage.data,
            },
            metrics: version.metrics,
            tags: version.tags,
        }
    }
}

/// A page of versions, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelVersionPage)]
pub struct VersionsResponse {
    versions: Vec<VersionResponse>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List the versions of a model, newest first.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions", tag = "models", operation_id = "list_model_versions",
    params(("name" = String, Path, description = "The registered model."),
        PageParams),
    responses((status = 200, body = VersionsResponse)))]
async fn versions(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Params(params): Params<PageParams>,
) -> ApiResult<Json<VersionsResponse>> {
    let (page_token, max_results) = params.checked()?;
    let model = registry.models.model(&scope, &name).await?;
    let search = Search {
        // A doubled quote is one.
        filter: format!("name = '{}'", model.name.replace('\'', "''")),
        order_by: vec!["version_number DESC".to_owned()],
        page_token,
        max_results,
    };
    let page = registry.models.search_versions(&scope, &search).await?;
    let versions = page.subjects.into_iter().map(|version| VersionResponse::of(version, &model)).collect();
    Ok(Json(VersionsResponse { versions, next_cursor: page.next }))
}
