//! The endpoints, one file for each resource. Wire types live beside their handler.
//!
//! The paths of the operators' guide (`/search`, `/index`) answer too, beside those under `/api/v1`. To add an endpoint: a
//! file with its request, response and handler, a line in [`routes`], a case in the tests.

pub mod embeddings;
pub mod fusion;
pub mod items;
pub mod openai;
pub mod reindex;
pub mod search;

use std::sync::Arc;

use kernel::{Error, Result, Scope, codes};
use utoipa_axum::router::OpenApiRouter;

use crate::service::Search;

/// Every route.
pub fn routes(search: Arc<Search>) -> OpenApiRouter {
    search::routes()
        .merge(items::routes())
        .merge(embeddings::routes())
        .merge(openai::routes())
        .merge(reindex::routes())
        .merge(fusion::routes())
        .with_state(search)
}

/// A request may name its tenant, which must be the credential's.
fn check_tenant(scope: &Scope, tenant: Option<&str>) -> Result<()> {
    match tenant {
        Some(tenant) if tenant != scope.tenant().as_str() => {
            let message = "the credential speaks for another tenant";
            Err(Error::new(codes::TENANT_MISMATCH, message).with_field("tenant_id"))
        }
        _ => Ok(()),
    }
}
