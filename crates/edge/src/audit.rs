//! Who changed what, in an order that nobody can change unseen: each entry holds the hash of the one before.
//!
//! One chain for each tenant. An entry and the new head are written in one transaction that expects the old head,
//! so that replicas cannot fork a chain. A chain that was rewritten from some entry on is found by comparing its
//! head with one that was noted elsewhere.
//!
//! It refuses to change or remove an entry, and to hold secrets: whoever appends names things and never quotes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Clock, Error, Permission, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::{Document, Expect, Query, Records, Repository, Selection, Table, Write};

/// Others who append at the same time, at most, before an append gives up.
const ATTEMPTS: usize = 32;
const PAGE: usize = 1_000;
const HEAD: &str = "head";

/// What was done to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// For example `key.revoked`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// More about it.
    pub details: BTreeMap<String, String>,
}

/// One entry of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// 1 for the first.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Who: the name of a credential, or `system:` and the part of Watershed.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// More about it.
    pub details: BTreeMap<String, String>,
    /// The hash of the entry before; empty for the first.
    pub previous: String,
    /// BLAKE3 over the entry as JSON with an empty `hash`.
    pub hash: String,
}

impl Entry {
    fn sealed(mut self) -> Result<Self> {
        self.hash = String::new();
        let bytes = serde_json::to_vec(&self).map_err(Error::internal)?;
        self.hash = blake3::hash(&bytes).to_hex().to_string();
        Ok(self)
    }
}

impl Document for Entry {
    const TABLE: Table = Table { name: "audit", indexes: &[] };

    fn key(&self) -> String {
        format!("{:020}", self.sequence)
    }
}

/// The end of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number of entries.
    pub sequence: u64,
    /// The hash of the last.
    pub hash: String,
}

impl Document for Head {
    const TABLE: Table = Table { name: "audit_heads", indexes: &[] };

    fn key(&self) -> String {
        HEAD.to_owned()
    }
}

/// The chains of every tenant.
#[derive(Debug, Clone)]
pub struct AuditLog {
    records: Arc<dyn Records>,
    entries: Repository<Entry>,
    heads: Repository<Head>,
    clock: Arc<dyn Clock>,
}

impl AuditLog {
    /// Over an engine.
    #[must_use]
    pub fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>) -> Self {
        let (entries, heads) = (Repository::new(Arc::clone(&records)), Repository::new(Arc::clone(&records)));
        Self { records, entries, heads, clock }
    }

    /// Appends an entry; it is durable when this returns.
    ///
    /// # Errors
    /// Those of the engine; `CONFLICT` when too many others append at the same time.
    pub async fn append(&self, scope: &Scope, record: Record) -> Result<Entry> {
        self.append_with(scope, record, Vec::new()).await
    }

    /// The same in one transaction with other writes: an entry that a mark of them says to be there is there.
    ///
    /// # Errors
    /// As [`AuditLog::append`]; `CONFLICT` also where what the other writes expect does not hold.
    pub async fn append_with(&self, scope: &Scope, record: Record, writes: Vec<Write>) -> Result<Entry> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.try_append(scope, &record, &writes).await {
                Err(error) if error.code() == codes::CONFLICT => last = Some(error),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| Error::internal("no attempt was made")))
    }

    async fn try_append(&self, scope: &Scope, record: &Record, others: &[Write]) -> Result<Entry> {
        let found = self.heads.get(scope, HEAD).await?;
        let expect = found.as_ref().map_or(Expect::Absent, |found| Expect::Version(found.version));
        let head = found.map(|found| found.document).unwrap_or_default();
        let entry = Entry {
            sequence: head.sequence + 1,
            at: self.clock.now(),
            actor: scope.actor().to_string(),
            action: record.action.clone(),
            subject: record.subject.clone(),
            details: record.details.clone(),
            previous: head.hash,
            hash: String::new(),
        }
        .sealed()?;
        let head = Head { sequence: entry.sequence, hash: entry.hash.clone() };
        let mut writes = vec![Repository::write(&head, expect)?, Repository::write(&entry, Expect::Absent)?];
        writes.extend_from_slice(others);
        self.records.commit(scope, writes).await?;
        Ok(entry)
    }

    /// One page, newest first, and the cursor of the next.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; those of [`Records::list`].
    pub async fn list(
        &self,
        scope: &Scope,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Entry>, Option<String>)> {
        scope.require(Permission::Admin)?;
        let query = Query { descending: true, cursor, ..Query::new(Selection::All, limit) };
        let (entries, cursor) = self.entries.list(scope, &query).await?;
        Ok((entries.into_iter().map(|entry| entry.document).collect(), cursor))
    }

    /// Whether an entry of the chain has this hash.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; those of the engine.
    pub async fn holds(&self, scope: &Scope, hash: &str) -> Result<bool> {
        scope.require(Permission::Admin)?;
        let mut query = Query::new(Selection::All, PAGE);
        loop {
            let (entries, cursor) = self.entries.list(scope, &query).await?;
            match cursor {
                _ if entries.iter().any(|entry| entry.document.hash == hash) => return Ok(true),
                Some(cursor) => query.cursor = Some(cursor),
                None => return Ok(false),
            }
        }
    }

    /// Checks the whole chain of the scope's tenant and returns its head.
    ///
    /// # Errors
    /// `CORRUPTED` naming the first entry that is missing or was changed; `PERMISSION_DENIED`; those of the engine.
    pub async fn verify(&self, scope: &Scope) -> Result<Head> {
        scope.require(Permission::Admin)?;
        // Read first: entries that come meanwhile are beyond it.
        let head = self.heads.get(scope, HEAD).await?.map(|found| found.document).unwrap_or_default();
        let mut reached = Head::default();
        let mut query = Query::new(Selection::All, PAGE);
        loop {
            let (entries, cursor) = self.entries.list(scope, &query).await?;
            for entry in entries.into_iter().map(|found| found.document) {
                if entry.sequence <= head.sequence {
                    reached = follow(&reached, entry)?;
                }
            }
            match cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => break,
            }
        }
        if reached == head {
            Ok(head)
        } else {
            Err(broken(reached.sequence + 1, "the chain does not reach its head"))
        }
    }
}

fn follow(before: &Head, entry: Entry) -> Result<Head> {
    let sequence = before.sequence + 1;
    if entry.sequence != sequence {
        return Err(broken(sequence, "it is missing"));
    }
    if entry.previous != before.hash {
        return Err(broken(sequence, "it does not follow the one before"));
    }
    let written = entry.hash.clone();
    let hash = entry.sealed()?.hash;
    if hash == written { Ok(Head { sequence, hash }) } else { Err(broken(sequence, "it was changed")) }
}

fn broken(sequence: u64, reason: &str) -> Error {
    Error::new(codes::CORRUPTED, format!("the audit log is broken at entry {sequence}: {reason}"))
}

#[cfg(test)]
mod tests {
    use kernel::{ManualClock, TenantId};
    use store::memory::MemoryRecords;

    use super::*;

    async fn chain(entries: usize) -> (Arc<dyn Records>, AuditLog, Scope) {
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::default());
        let audit = AuditLog::new(Arc::clone(&records), Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        for entry in 0..entries {
            let record =
                Record { action: "tested".to_owned(), subject: entry.to_string(), details: BTreeMap::new() };
            audit.append(&scope, record).await.unwrap();
        }
        (records, audit, scope)
    }

    #[tokio::test]
    async fn a_whole_chain_is_verified() {
        for entries in [0, 1, 5] {
            let (_, audit, scope) = chain(entries).await;
            assert_eq!(audit.verify(&scope).await.unwrap().sequence, entries as u64);
        }
    }

    #[tokio::test]
    async fn every_change_is_found() {
        let change = |key: &'static str, change: fn(&mut Entry)| async move {
            let (records, audit, scope) = chain(5).await;
            let mut entry: Entry = audit.entries.get(&scope, key).await.unwrap().unwrap().document;
            change(&mut entry);
            records.commit(&scope, vec![Repository::write(&entry, Expect::Any).unwrap()]).await.unwrap();
            audit.verify(&scope).await.unwrap_err()
        };
        let third = "00000000000000000003";
        let changed = change(third, |entry| entry.subject = "other".to_owned()).await;
        assert!(changed.to_string().contains("entry 3: it was changed"), "{changed}");
        let resealed = change(third, |entry| {
            entry.subject = "other".to_owned();
            *entry = entry.clone().sealed().unwrap();
        });
        let resealed = resealed.await;
        assert!(resealed.to_string().contains("entry 4: it does not follow"), "{resealed}");
        for (key, fault) in
            [(third, "entry 3: it is missing"), ("00000000000000000005", "entry 5: the chain")]
        {
            let (records, audit, scope) = chain(5).await;
            let write = Write::Delete { table: Entry::TABLE, key: key.to_owned(), expect: Expect::Any };
            records.commit(&scope, vec![write]).await.unwrap();
            let error = audit.verify(&scope).await.unwrap_err();
            assert!(error.to_string().contains(fault), "{error}");
        }
    }
}
