//! `GET /debug/pprof/profile?seconds=10`: where the process spends its CPU time, for administrators, in the form that
//! `pprof` reads. One profile at a time; nothing is measured when nobody asks.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use edge::{ApiResult, Caller, Params};
use kernel::{Error, Result, codes};
use pprof::ProfilerGuardBuilder;
use pprof::protos::Message;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::app::require_operator;
use crate::config::Config;

/// Samples a second of CPU time. A prime, so that work in a steady rhythm is not missed.
const FREQUENCY_HERTZ: i32 = 97;
/// Shorter than the longest request where that is not set.
const MAX_SECONDS: u64 = 25;
/// A stack is not taken within these, which hold locks that taking one needs.
const NOT_WITHIN: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// How long.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileParams {
    #[serde(default = "default_seconds")]
    seconds: u64,
}

fn default_seconds() -> u64 {
    10
}

/// The route.
pub(crate) fn routes(config: Config) -> Router {
    let state = (Arc::<Mutex<()>>::default(), Arc::new(config));
    Router::new().route("/debug/pprof/profile", get(profile)).with_state(state)
}

async fn profile(
    State((turn, config)): State<(Arc<Mutex<()>>, Arc<Config>)>,
    Caller(scope): Caller,
    Params(params): Params<ProfileParams>,
) -> ApiResult<Response> {
    require_operator(&scope, &config)?;
    if !(1..=MAX_SECONDS).contains(&params.seconds) {
        let message = format!("must be between 1 and {MAX_SECONDS}");
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("seconds").into());
    }
    let Ok(_turn) = turn.try_lock() else {
        let message = "a profile is being taken; ask again when it is done";
        return Err(Error::new(codes::CONFLICT, message).into());
    };
    let profiler = ProfilerGuardBuilder::default().frequency(FREQUENCY_HERTZ).blocklist(&NOT_WITHIN).build();
    let profiler = profiler.map_err(Error::internal)?;
    tokio::time::sleep(Duration::from_secs(params.seconds)).await;
    // Names are looked up in the debug information, which takes a while.
    let encode = move || -> Result<Vec<u8>> {
        let report = profiler.report().build().map_err(Error::internal)?;
        Ok(report.pprof().map_err(Error::internal)?.encode_to_vec())
    };
    let bytes = tokio::task::spawn_blocking(encode).await.map_err(Error::internal)??;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}
