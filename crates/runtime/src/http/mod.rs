//! The runtime over HTTP. Everything needs `read`, for an inference changes nothing, but to keep a prediction, to tell its
//! truth, and to send or cancel a job: that needs `write`; and to begin or end a canary or to reload: that needs `admin`.
//!
//! - [`protocol`]: the Open Inference Protocol v2 (github.com/kserve/open-inference-protocol), with JSON tensors and the binary
//!   tensor data extension.
//! - [`predict`], [`jobs`], [`models`] and [`reload`]: what the clients of the operators' guide ask.
//! - [`drift`] and [`accuracy`]: what was seen of models that are served. [`canaries`]: versions that are tried.
//!
//! Probes of the protocol (`/v2/health/live`, `/v2/health/ready`) stand with the others, in `edge`.

pub mod accuracy;
pub(crate) mod binary;
pub mod canaries;
pub mod drift;
pub mod jobs;
pub mod models;
pub mod predict;
pub mod protocol;
pub mod reload;
mod wire;

use edge::dialect::Dialect;
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;

use crate::Runtime;
use crate::jobs::Jobs;

/// What the server calls itself.
pub(crate) const SERVER_NAME: &str = "watershed";

/// The routes.
pub fn routes(runtime: Runtime, jobs: Jobs) -> OpenApiRouter {
    OpenApiRouter::new()
        .merge(protocol::routes())
        .merge(predict::routes())
        .merge(models::routes())
        .merge(reload::routes())
        .merge(drift::routes())
        .merge(accuracy::routes())
        .merge(canaries::routes())
        .with_state(runtime)
        .merge(jobs::routes(jobs))
}

/// Problems of `/v2` have the member `error` too, which clients of the protocol show.
pub const DIALECT: Dialect = Dialect { is_ours, add };

fn is_ours(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

fn add(problem: &mut Map<String, Value>) {
    let message = problem.get("detail").cloned().unwrap_or_default();
    problem.insert("error".to_owned(), message);
}
