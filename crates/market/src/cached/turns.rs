//! Turns: whose things come into the next batch, so that nothing waits for ever behind what is due again.

use std::collections::BTreeMap;

use kernel::TenantId;

/// Where a batch begins. Each goes on where the last one had no more room: with a slow cache what was written first is due again
/// before all was written, and would take the place of the rest for ever.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whose turn it is.
    first: Option<TenantId>,
    /// Of tenants for whose names there was no room, the last that was looked at.
    names: BTreeMap<TenantId, String>,
}

impl Turns {
    /// These, which are sorted, from the one on whose turn it is.
    pub(super) fn of(&self, mut tenants: Vec<TenantId>) -> Vec<TenantId> {
        let first = self.first.as_ref().map_or(0, |first| tenants.partition_point(|tenant| tenant < first));
        tenants.rotate_left(first);
        tenants
    }

    /// The name after which the names of a tenant are looked at; those before it and itself come last.
    pub(super) fn after(&self, tenant: &TenantId) -> Option<&str> {
        self.names.get(tenant).map(String::as_str)
    }

    /// All names of a tenant were looked at.
    pub(super) fn finish(&mut self, tenant: &TenantId) {
        self.names.remove(tenant);
    }

    /// The batch is full at one of these tenants.
    pub(super) fn stop(&mut self, tenants: &[TenantId], at: usize) {
        // Who had all of a batch waits for the others; who had only what they left goes on.
        let first = if at == 0 { 1 % tenants.len() } else { at };
        self.first = Some(tenants[first].clone());
    }

    /// The batch is full with this name of one of these tenants.
    pub(super) fn stop_behind(&mut self, name: String, tenants: &[TenantId], at: usize) {
        self.stop(tenants, at);
        self.names.insert(tenants[at].clone(), name);
    }
}
