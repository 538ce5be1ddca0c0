//! MLflow's REST API (mlflow.org/docs/latest/api_reference/rest-api.html), as its client of version 3 asks it.
//!
//! Searching, reading and downloading need `read`; logging, uploading and registering `write`; moving aliases and
//! deleting models and versions `admin`. Errors are problems as everywhere, with MLflow's `error_code` and `message`.
//!
//! It refuses artifacts that are kept elsewhere. Traces, prompts and gateways are not found. To add an endpoint: a line in
//! [`ENDPOINTS`]' table, a handler in its resource's file.

mod artifacts;
mod errors;
mod experiments;
mod logged_models;
mod metrics;
mod model_versions;
mod registered_models;
mod runs;
mod server;
mod wire;

use axum::routing::{MethodFilter, on};
use axum::{Router, middleware};
use edge::ApiResult;
use models::tracking::Search;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ModelRegistry;
pub use errors::DIALECT;

macro_rules! endpoints {
    ($($method:ident $path:literal $permission:ident $handler:path;)*) => {
        /// Every endpoint: method, path, and the permission that it needs.
        pub const ENDPOINTS: &[(&str, &str, &str)] =
            &[$((stringify!($method), $path, stringify!($permission)),)*];

        fn table() -> Router<ModelRegistry> {
            Router::new()$(.route(
                $path,
                on(MethodFilter::$method, $handler).layer(middleware::from_fn(needs::$permission)),
            ))*
        }
    };
}

endpoints! {
    GET "/version" read server::version;
    GET "/api/3.0/mlflow/server-info" read server::info;
    GET "/api/3.0/mlflow/server-features" read server::features;
    POST "/api/2.0/mlflow/experiments/create" write experiments::create;
    GET "/api/2.0/mlflow/experiments/get" read experiments::get;
    GET "/api/2.0/mlflow/experiments/get-by-name" read experiments::get_by_name;
    POST "/api/2.0/mlflow/experiments/search" read experiments::search;
    GET "/api/2.0/mlflow/experiments/search" read experiments::search;
    POST "/api/2.0/mlflow/experiments/delete" write experiments::delete;
    POST "/api/2.0/mlflow/experiments/restore" write experiments::restore;
    POST "/api/2.0/mlflow/experiments/update" write experiments::update;
    POST "/api/2.0/mlflow/experiments/set-experiment-tag" write experiments::set_tag;
    POST "/api/2.0/mlflow/experiments/delete-experiment-tag" write experiments::delete_tag;
    POST "/api/2.0/mlflow/experiments/search-datasets" read experiments::search_datasets;
    POST "/api/2.0/mlflow/runs/create" write runs::create;
    GET "/api/2.0/mlflow/runs/get" read runs::get;
    POST "/api/2.0/mlflow/runs/update" write runs::update;
    POST "/api/2.0/mlflow/runs/delete" write runs::delete;
    POST "/api/2.0/mlflow/runs/restore" write runs::restore;
    POST "/api/2.0/mlflow/runs/search" read runs::search;
    POST "/api/2.0/mlflow/runs/log-metric" write metrics::log_metric;
    POST "/api/2.0/mlflow/runs/log-parameter" write runs::log_param;
    POST "/api/2.0/mlflow/runs/set-tag" write runs::set_tag;
    POST "/api/2.0/mlflow/runs/delete-tag" write runs::delete_tag;
    POST "/api/2.0/mlflow/runs/log-batch" write metrics::log_batch;
    POST "/api/2.0/mlflow/runs/log-inputs" write runs::log_inputs;
    POST "/api/2.0/mlflow/runs/outputs" write runs::log_outputs;
    POST "/api/2.0/mlflow/runs/log-model" write runs::log_model;
    GET "/api/2.0/mlflow/metrics/get-history" read metrics::history;
    GET "/api/2.0/mlflow/metrics/get-history-bulk-interval" read metrics::history_of_runs;
    GET "/api/2.0/mlflow/artifacts/list" read artifacts::of_run;
    POST "/api/2.0/mlflow/logged-models" write logged_models::create;
    POST "/api/2.0/mlflow/logged-models/search" read logged_models::search;
    GET "/api/2.0/mlflow/logged-models/{id}" read logged_models::get;
    PATCH "/api/2.0/mlflow/logged-models/{id}" write logged_models::finalize;
    DELETE "/api/2.0/mlflow/logged-models/{id}" write logged_models::delete;
    PATCH "/api/2.0/mlflow/logged-models/{id}/tags" write logged_models::set_tags;
    DELETE "/api/2.0/mlflow/logged-models/{id}/tags/{key}" write logged_models::delete_tag;
    POST "/api/2.0/mlflow/logged-models/{id}/params" write logged_models::log_params;
    GET "/api/2.0/mlflow/logged-models/{id}/artifacts/directories" read artifacts::of_logged_model;
    POST "/api/2.0/mlflow/registered-models/create" write registered_models::create;
    GET "/api/2.0/mlflow/registered-models/get" read registered_models::get;
    GET "/api/2.0/mlflow/registered-models/search" read registered_models::search;
    PATCH "/api/2.0/mlflow/registered-models/update" write registered_models::update;
    POST "/api/2.0/mlflow/registered-models/rename" admin registered_models::rename;
    DELETE "/api/2.0/mlflow/registered-models/delete" admin registered_models::delete;
    POST "/api/2.0/mlflow/registered-models/get-latest-versions" read registered_models::latest_versions;
    GET "/api/2.0/mlflow/registered-models/get-latest-versions" read registered_models::latest_versions;
    POST "/api/2.0/mlflow/registered-models/set-tag" write registered_models::set_tag;
    DELETE "/api/2.0/mlflow/registered-models/delete-tag" write registered_models::delete_tag;
    GET "/api/2.0/mlflow/registered-models/alias" read registered_models::version_of_alias;
    POST "/api/2.0/mlflow/registered-models/alias" admin registered_models::set_alias;
    DELETE "/api/2.0/mlflow/registered-models/alias" admin registered_models::delete_alias;
    POST "/api/2.0/mlflow/model-versions/create" write model_versions::create;
    GET "/api/2.0/mlflow/model-versions/get" read model_versions::get;
    GET "/api/2.0/mlflow/model-versions/search" read model_versions::search;
    PATCH "/api/2.0/mlflow/model-versions/update" write model_versions::update;
    DELETE "/api/2.0/mlflow/model-versions/delete" admin model_versions::delete;
    POST "/api/2.0/mlflow/model-versions/transition-stage" admin model_versions::transition;
    GET "/api/2.0/mlflow/model-versions/get-download-uri" read model_versions::download_uri;
    POST "/api/2.0/mlflow/model-versions/set-tag" write model_versions::set_tag;
    DELETE "/api/2.0/mlflow/model-versions/delete-tag" write model_versions::delete_tag;
    GET "/api/2.0/mlflow-artifacts/artifacts" read artifacts::list;
    GET "/api/2.0/mlflow-artifacts/artifacts/{*path}" read artifacts::download;
    PUT "/api/2.0/mlflow-artifacts/artifacts/{*path}" write artifacts::upload;
    DELETE "/api/2.0/mlflow-artifacts/artifacts/{*path}" write artifacts::delete;
}

/// Refuses who lacks the permission that the table names, before anything of the request is looked at.
mod needs {
    use axum::extract::Request;
    use axum::middleware::Next;
    use axum::response::{IntoResponse, Response};
    use edge::{ApiError, Caller};
    use kernel::Permission;

    macro_rules! needs {
        ($($name:ident $permission:ident;)*) => {
            $(pub(super) async fn $name(Caller(scope): Caller, request: Request, next: Next) -> Response {
                match scope.require(Permission::$permission) {
                    Ok(()) => next.run(request).await,
                    Err(error) => ApiError(error).into_response(),
                }
            })*
        };
    }

    needs! {
        read Read;
        write Write;
        admin Admin;
    }
}

/// The routes.
pub fn routes(registry: ModelRegistry) -> Router {
    table().with_state(registry)
}

/// What is answered.
type Answer = ApiResult<axum::Json<Value>>;

fn answer(value: Value) -> Answer {
    Ok(axum::Json(value))
}

fn done() -> Answer {
    answer(json!({}))
}

/// The fields of every search.
#[derive(Debug, Default, Deserialize)]
struct SearchFields {
    #[serde(default)]
    filter: Option<String>,
    #[serde(default, deserialize_with = "wire::texts")]
    order_by: Vec<String>,
    #[serde(default)]
    page_token: Option<String>,
    #[serde(default, deserialize_with = "wire::whole")]
    max_results: Option<i64>,
}

impl SearchFields {
    fn search(self, default: usize, most: usize) -> kernel::Result<Search> {
        let max_results = match self.max_results {
            None | Some(0) => default,
            Some(wanted) => {
                let wanted = usize::try_from(wanted).unwrap_or(0);
                edge::check_range(wanted, 1, most, "max_results")?;
                wanted
            }
        };
        let (order_by, page_token) = (self.order_by, self.page_token);
        Ok(Search { filter: self.filter.unwrap_or_default(), order_by, page_token, max_results })
    }
}
