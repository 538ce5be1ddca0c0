//! The endpoints, one file for each resource. All of them need the permission `admin`.

pub mod deliveries;
pub mod webhooks;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::Webhooks;

/// The routes.
pub fn routes(webhooks: Arc<Webhooks>) -> OpenApiRouter {
    webhooks::routes().merge(deliveries::routes()).with_state(webhooks)
}
