//! `GET /health`, `GET /ready`, `GET /metrics`: for probes and scrapers, without a credential. The probes answer to the
//! other names that operators know too: `/healthz`, `/health/live`, `/live`; `/readyz`, `/health/ready`; and to those of the Open
//! Inference Protocol, in its form: `/v2/health/live`, `/v2/health/ready`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kernel::Error;
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::ApiError;
use crate::middleware::method_not_allowed;

/// Something that must work for the server to be ready.
pub trait Check: Send + Sync + Debug {
    /// Its name in the answer.
    fn name(&self) -> &'static str;

    /// Nothing when it works, else why not. Must not block.
    fn fault(&self) -> Option<String>;

    /// Whether the server is not ready without it; otherwise the probe only tells.
    fn is_needed(&self) -> bool {
        true
    }
}

/// What the probes look at.
#[derive(Debug, Clone)]
pub struct Health {
    checks: Arc<Vec<Arc<dyn Check>>>,
    stopping: CancellationToken,
    registry: Arc<Registry>,
}

impl Health {
    /// Ready while every check passes and `stopping` is not cancelled.
    #[must_use]
    pub fn new(checks: Vec<Arc<dyn Check>>, stopping: CancellationToken, registry: Arc<Registry>) -> Self {
        Self { checks: Arc::new(checks), stopping, registry }
    }

    /// Whether the server is ready, as `/ready` says.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        readiness(self).0 == StatusCode::OK
    }
}

/// The answer of `/ready`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `unavailable`.
    pub status: &'static str,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Each check and what it found.
    pub checks: BTreeMap<&'static str, String>,
}

/// Where a server that is not ready says so.
pub(crate) const PROBES: [&str; 4] = ["/ready", "/readyz", "/health/ready", INFERENCE_READY];

const INFERENCE_READY: &str = "/v2/health/ready";

/// The routes.
pub fn routes(health: Health) -> Router {
    let names = PROBES.into_iter().filter(|path| *path != INFERENCE_READY);
    let readiness = names.fold(Router::new(), |router, path| router.route(path, get(ready)));
    readiness
        .route("/health", get(alive))
        .route("/healthz", get(alive))
        .route("/health/live", get(alive))
        .route("/live", get(alive))
        .route("/v2/health/live", get(inference_live))
        .route(INFERENCE_READY, get(inference_ready))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(health)
}

async fn alive() -> &'static str {
    "OK"
}

async fn inference_live() -> Json<Value> {
    Json(json!({"live": true}))
}

async fn inference_ready(State(health): State<Health>) -> Response {
    let (code, readiness) = readiness(&health);
    (code, Json(json!({"ready": code == StatusCode::OK, "reason": readiness.reason}))).into_response()
}

async fn ready(State(health): State<Health>) -> Response {
    let (code, readiness) = readiness(&health);
    (code, Json(readiness)).into_response()
}

fn readiness(health: &Health) -> (StatusCode, Readiness) {
    let stopping = health.stopping.is_cancelled();
    let shutdown = if stopping { "in_progress" } else { "not_started" };
    let mut checks = BTreeMap::from([("shutdown", shutdown.to_owned())]);
    let mut reason = stopping.then(|| "the server is shutting down".to_owned());
    for check in health.checks.iter() {
        let fault = check.fault();
        if let Some(fault) = fault.as_ref().filter(|_| check.is_needed()) {
            reason.get_or_insert_with(|| format!("{}: {fault}", check.name()));
        }
        checks.insert(check.name(), fault.unwrap_or_else(|| "running".to_owned()));
    }
    let (code, status) = match reason {
        None => (StatusCode::OK, "ready"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    (code, Readiness { status, reason, checks })
}

async fn metrics(State(health): State<Health>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &health.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => ApiError(Error::internal(error)).into_response(),
    }
}
