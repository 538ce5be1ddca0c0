//! `/api/v1/models`: promotion, rollback, history, versions. Reading needs `read`, moving an alias `admin`.

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
        .with_state(registry)
}

/// Milliseconds since 1970 as a time; the beginning where they are out of range.
fn time(ms: i64) -> kernel::Timestamp {
    kernel::Timestamp::from_millisecond(ms).unwrap_or(kernel::Timestamp::UNIX_EPOCH)
}
