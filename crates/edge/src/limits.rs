//! How many requests a key and its tenant may send: refused with 429 and told when to come again.
//!
//! Both limits are charged in one call, both or none. Every answer says where the tighter one stands
//! (`RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`). No header lets anyone pass them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kernel::{Actor, Error, ErrorCode, ErrorKind, Result, Scope};
use store::{Limit, Limiter, Rate, Standing, Verdict};

use crate::{ApiError, Caller};

/// A key or tenant sent more requests than it may.
pub const RATE_LIMIT_EXCEEDED: ErrorCode = ErrorCode {
    name: "RATE_LIMIT_EXCEEDED",
    kind: ErrorKind::Busy,
    title: "More requests than the limit lets pass",
};

static LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// The limits of every key and tenant.
#[derive(Debug, Clone)]
pub struct RateLimits {
    limiter: Arc<dyn Limiter>,
    key: Rate,
    tenant: Rate,
}

impl RateLimits {
    /// Counted by `limiter`: so much for each key, so much for all keys of a tenant together.
    #[must_use]
    pub fn new(limiter: Arc<dyn Limiter>, key: Rate, tenant: Rate) -> Self {
        Self { limiter, key, tenant }
    }

    async fn take(&self, scope: &Scope) -> Result<Verdict> {
        let credential = match scope.actor() {
            Actor::Caller(name) => name.as_str(),
            Actor::System(part) => part,
        };
        let limits = [Limit { key: credential, rate: self.key }, Limit { key: "tenant", rate: self.tenant }];
        self.limiter.take(scope, &limits, 1).await
    }

    /// The limit that is nearest to its end, with where it stands.
    fn tightest(&self, verdict: &Verdict) -> Option<(Rate, Standing)> {
        let stands = [self.key, self.tenant].into_iter().zip(verdict.standings.iter().copied());
        stands.min_by_key(|(_, standing)| (std::cmp::Reverse(standing.retry_after), standing.remaining))
    }
}

/// Middleware that refuses what is over a limit. It stands behind [`crate::auth::require`].
pub async fn limit(
    State(limits): State<RateLimits>,
    caller: Option<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let Some(Caller(scope)) = caller else { return next.run(request).await };
    let verdict = match limits.take(&scope).await {
        Ok(verdict) => verdict,
        Err(error) => return ApiError(error).into_response(),
    };
    let tightest = limits.tightest(&verdict);
    let mut response = if verdict.admitted {
        next.run(request).await
    } else {
        let wait = tightest.map_or(Duration::ZERO, |(_, standing)| standing.retry_after);
        refused(wait)
    };
    if let Some((rate, standing)) = tightest {
        let headers = response.headers_mut();
        headers.insert(LIMIT.clone(), HeaderValue::from(rate.burst()));
        headers.insert(REMAINING.clone(), HeaderValue::from(standing.remaining));
        headers.insert(RESET.clone(), HeaderValue::from(seconds(standing.reset_after)));
    }
    response
}

fn refused(wait: Duration) -> Response {
    let seconds = seconds(wait).max(1);
    let message = format!("more requests than this key or its tenant may send; come again in {seconds} s");
    let mut response = ApiError(Error::new(RATE_LIMIT_EXCEEDED, message)).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// Whole seconds, rounded up: who waits them does not come too early.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
