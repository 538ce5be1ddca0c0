//! Whether the server lives and is ready: for probes, without a credential, as `/v2/health` of HTTP.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use edge::ApiResult;
use edge::http::health::Health;
use kernel::{Error, codes};

use super::framing::call;
use super::health::health_check_response::ServingStatus;
use super::health::{HealthCheckRequest, HealthCheckResponse};
use super::inference::{ServerLiveRequest, ServerLiveResponse, ServerReadyRequest, ServerReadyResponse};

/// The routes of probes, which stand with those of HTTP.
pub fn probes(health: Health) -> Router {
    Router::new()
        .route("/inference.GRPCInferenceService/ServerLive", post(live))
        .route("/inference.GRPCInferenceService/ServerReady", post(ready))
        .route("/grpc.health.v1.Health/Check", post(check))
        .method_not_allowed_fallback(edge::middleware::method_not_allowed)
        .with_state(health)
}

async fn live(request: Request) -> ApiResult<Response> {
    call(request, async |ServerLiveRequest {}| Ok(ServerLiveResponse { live: true })).await
}

async fn ready(State(health): State<Health>, request: Request) -> ApiResult<Response> {
    call(request, async |ServerReadyRequest {}| Ok(ServerReadyResponse { ready: health.is_ready() })).await
}

async fn check(State(health): State<Health>, request: Request) -> ApiResult<Response> {
    let answer = async |asked: HealthCheckRequest| {
        if !matches!(asked.service.as_str(), "" | "inference.GRPCInferenceService") {
            let message = format!("there is no service `{}`", asked.service.escape_debug());
            return Err(Error::new(codes::NOT_FOUND, message));
        }
        let status = if health.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(HealthCheckResponse { status: status.into() })
    };
    call(request, answer).await
}
