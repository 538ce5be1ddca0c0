//! The endpoints, one file for each resource. Wire types live beside their handler.
//!
//! To add one: a file with its request, response and handler, a line in [`routes`].

pub mod bars;
pub mod curves;
pub mod dead_letters;
pub mod export;
pub mod instruments;
mod lines;
pub mod prices;
pub mod projections;
pub mod spreads;
pub mod statistics;
pub mod stream;
pub mod ticks;
pub mod validate;

use std::sync::Arc;

use edge::Ingest;
use kernel::Timestamp;
use utoipa_axum::router::OpenApiRouter;

use crate::custom::Custom;
use crate::events::moment;
use crate::service::Service;
use crate::service::live::Live;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// Answers.
    pub service: Arc<Service>,
    /// What custom projections keep.
    pub custom: Arc<Custom>,
    /// Raw ticks.
    pub ingest: Ingest,
    /// Streams of prices and bars.
    pub live: Arc<Live>,
}

/// Every route of this domain.
pub fn routes(state: HttpState) -> OpenApiRouter {
    OpenApiRouter::new()
        .merge(ticks::routes())
        .merge(prices::routes())
        .merge(bars::routes())
        .merge(spreads::routes())
        .merge(statistics::routes())
        .merge(export::routes())
        .merge(stream::routes())
        .merge(curves::routes())
        .merge(projections::routes())
        .merge(instruments::routes())
        .merge(validate::routes())
        .merge(dead_letters::routes())
        .with_state(state)
}

/// Before everything that rows can hold.
fn earliest() -> Timestamp {
    moment(-store::MAX_TIME_NS / 1_000)
}

/// After everything that rows can hold.
fn latest() -> Timestamp {
    moment(store::MAX_TIME_NS / 1_000)
}
