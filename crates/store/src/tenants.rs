//! The tenants of which something is kept: records have no list of tenants, and what a server does in the background it does for
//! each of them.
//!
//! They are noted under the server's own tenant, before what they are noted for: one that is looked at for nothing is better
//! than one that is not. It refuses to forget one. To keep another list: a [`Table`] of its own, without indexes.

use std::collections::HashSet;
use std::sync::Arc;

use kernel::{Error, Result, Scope, TenantId, codes};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{Expect, Query, Records, Selection, Table, Write};

const PAGE: usize = 1_000;

#[derive(Serialize, Deserialize)]
struct Known {
    tenant: TenantId,
}

/// A list of tenants, which only grows.
#[derive(Debug)]
pub struct Tenants {
    records: Arc<dyn Records>,
    table: Table,
    /// Those that this process noted.
    noted: Mutex<HashSet<TenantId>>,
}

impl Tenants {
    /// The list in this table.
    #[must_use]
    pub fn new(records: Arc<dyn Records>, table: Table) -> Self {
        Self { records, table, noted: Mutex::default() }
    }

    /// Notes a tenant; durable when this returns.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn note(&self, tenant: &TenantId) -> Result<()> {
        if self.noted.lock().contains(tenant) {
            return Ok(());
        }
        let body = serde_json::to_vec(&Known { tenant: tenant.clone() }).map_err(Error::internal)?;
        let (table, key) = (self.table, tenant.to_string());
        let write = Write::Put { table, key, body: body.into(), indexes: Vec::new(), expect: Expect::Any };
        self.records.commit(&of_server(), vec![write]).await?;
        self.noted.lock().insert(tenant.clone());
        Ok(())
    }

    /// All of them, by name, whichever process noted them.
    ///
    /// # Errors
    /// Those of the engine; `CORRUPTED` where a record names no tenant.
    pub async fn all(&self) -> Result<Vec<TenantId>> {
        let mut query = Query::new(Selection::All, PAGE);
        let mut all = Vec::new();
        loop {
            let page = self.records.list(&of_server(), self.table, &query).await?;
            for record in page.records {
                let known: Known = serde_json::from_slice(&record.body).map_err(|cause| {
                    let message =
                        format!("record `{}` of table `{}` names no tenant", record.key, self.table.name);
                    Error::new(codes::CORRUPTED, message).with_source(cause)
                })?;
                all.push(known.tenant);
            }
            if page.cursor.is_none() {
                return Ok(all);
            }
            query.cursor = page.cursor;
        }
    }
}

fn of_server() -> Scope {
    Scope::system(TenantId::server(), "tenants")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryRecords;

    const TABLE: Table = Table { name: "shop_tenants", indexes: &[] };

    #[tokio::test]
    async fn every_process_reads_what_any_noted() {
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let (one, two) =
            (Tenants::new(Arc::clone(&records), TABLE), Tenants::new(Arc::clone(&records), TABLE));
        assert!(one.all().await.unwrap().is_empty());
        let names: Vec<TenantId> =
            (0..PAGE + 1).map(|number| TenantId::new(format!("shop-{number:04}")).unwrap()).collect();
        for name in names.iter().chain(&names[..1]) {
            one.note(name).await.unwrap();
        }
        two.note(&names[0]).await.unwrap();
        assert_eq!(two.all().await.unwrap(), names);
        let other = Tenants::new(records, Table { name: "other_tenants", indexes: &[] });
        assert!(other.all().await.unwrap().is_empty());
    }
}
