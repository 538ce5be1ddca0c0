//! Whose messages may come one way. A message names its tenant, and a name proves nothing.

use kernel::TenantId;

use super::rejection::{Rejection, RejectionCode};

/// Which tenant a message may speak for.
#[derive(Debug, Clone, Copy)]
pub enum Tenancy<'a> {
    /// This one: the sender proved it. A message that names another is refused, one that names none is its own.
    Only(&'a TenantId),
    /// The one that it names: an internal topic to which only trusted producers write. It must name one.
    Named,
}

impl Tenancy<'_> {
    pub(super) fn tenant(self, named: Option<&str>, field: &str) -> Result<TenantId, Rejection> {
        match (self, named) {
            (Self::Only(tenant), None) => Ok(tenant.clone()),
            (Self::Only(tenant), Some(named)) if tenant.as_str() == named => Ok(tenant.clone()),
            (Self::Only(tenant), Some(named)) => {
                let message = format!("the sender speaks for `{tenant}`, not for `{named}`");
                Err(Rejection::new(RejectionCode::TenantMismatch, field, message))
            }
            (Self::Named, None) => {
                Err(Rejection::new(RejectionCode::Missing, field, "is missing; a tick needs it"))
            }
            (Self::Named, Some(named)) => TenantId::new(named)
                .map_err(|fault| Rejection::new(RejectionCode::BadName, field, fault.message().to_owned())),
        }
    }
}
