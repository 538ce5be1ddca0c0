//! The HTTP edge, on which every domain mounts its routes.
//!
//! - [`auth`]: a credential becomes a [`kernel::Scope`]; nothing else can make one for a caller.
//! - [`audit`]: who changed what, in a chain of hashes.
//! - [`problem`]: every error is an RFC 9457 `application/problem+json` with a stable code.
//! - [`dialect`]: what clients of other protocols look for in it.
//! - [`browsers`]: pages of other origins, and answers that are compressed.
//! - [`extract`]: JSON bodies, addresses and query parameters whose faults name the field.
//! - [`ingest`]: the one way in for events: check, append durably, wait until the view shows them.
//! - [`http`]: events, dead letters, health, metrics.
//! - [`limits`]: how many requests a key and its tenant may send.
//! - [`middleware`]: request ids, metrics, time and size limits, load shedding.
//! - [`openapi`]: what every operation of the document has in common.
//! - [`streams`]: the places of streams in and out, and how slow they may be; [`BodyStream`]: a body taken in as one.
//! - [`server`]: listening, TLS, what connections may cost, and graceful shutdown.
//!
//! It refuses to know any domain: a domain hands in its routes and an [`ingest::EventOwner`] for its events.
//! To add an endpoint that belongs to no domain: a file in `http/`, one line in `http/mod.rs`.

pub mod audit;
pub mod auth;
mod body_stream;
pub mod browsers;
pub mod dialect;
pub mod extract;
pub mod http;
pub mod ingest;
mod leftover;
pub mod limits;
pub mod metrics;
pub mod middleware;
pub mod openapi;
pub mod problem;
mod sampled;
pub mod server;
pub mod streams;

pub use audit::AuditLog;
pub use auth::{ApiKey, Authenticator, Authenticators, Caller, KeyRing, StaticKey, StillProven};
pub use body_stream::BodyStream;
pub use extract::{Body, PageParams, Params, Path, check_range};
pub use ingest::{EventOwner, Ingest};
pub use limits::RateLimits;
pub use metrics::{AccessMetrics, HttpMetrics};
pub use problem::{ApiError, ApiResult, Problem};
pub use streams::AnswerStream;
