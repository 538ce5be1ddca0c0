//! `/api/v1/models`: promotion, rollback, history, versions; `/api/v1/feature-sets`; `/api/v1/artifacts/cleanup`. Reading needs
//! `read`, writing features `write`, moving an alias, forgetting an entity and cleaning up `admin`.

pub mod cleanup;
pub mod features;
pub mod history;
pub mod promotion;
pub mod versions;

pub use promotion::alias_of;
use utoipa_axum::router::OpenApiRouter;

use crate::ModelRegistry;

/// The routes.
pub fn routes(registry: ModelRegistry) -> OpenApiRouter {
    OpenApiRouter::new()
        .merge(versions::routes())
        .merge(history::routes())
        .merge(promotion::routes())
        .merge(features::routes())
        .merge(cleanup::routes())
        .with_state(registry)
}

/// Milliseconds since 1970 as a time; the beginning where they are out of range.
fn time(ms: i64) -> kernel::Timestamp {
    kernel::Timestamp::from_millisecond(ms).unwrap_or(kernel::Timestamp::UNIX_EPOCH)
}
