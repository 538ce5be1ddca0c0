//! The endpoints, one file for each resource. Wire types live beside their handler.
//!
//! To add one: a file with its request, response and handler, a line in [`routes`].

pub mod bars;
pub mod dead_letters;
pub mod instruments;
pub mod prices;
pub mod ticks;
pub mod validate;

use std::sync::Arc;

use edge::Ingest;
use kernel::Timestamp;
use utoipa_axum::router::OpenApiRouter;

use crate::service::Service;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// Answers.
    pub service: Arc<Service>,
    /// Raw ticks.
    pub ingest: Ingest,
}

/// Every route of this domain.
pub fn routes(state: HttpState) -> OpenApiRouter {
    OpenApiRouter::new()
        .merge(ticks::routes())
        .merge(prices::routes())
        .merge(bars::routes())
        .merge(instruments::routes())
        .merge(validate::routes())
        .merge(dead_letters::routes())
        .with_state(state)
}

fn moment(time_us: i64) -> Timestamp {
    Timestamp::from_microsecond(time_us).unwrap_or_default()
}
