//! The `Records` port: documents by tenant, table and key, with secondary indexes and transactions.
//!
//! Rules every engine keeps:
//! - A commit is all or nothing, durable when it returns, and seen by every read after it.
//! - Every record has a version that grows with each write of that key and is never given to it again, even after
//!   a delete; [`Expect`] compares it in the commit.
//! - Lists are ordered by (index value, key), or by key alone; a cursor continues exactly where a page ended,
//!   whatever was written in between.
//! - No call can see or touch another tenant.

use std::collections::HashSet;
use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use kernel::{Error, Result, Scope, TenantId, codes};
use serde::{Deserialize, Serialize};

use crate::port::cursor;

/// The most writes one `commit` takes.
pub const MAX_COMMIT_WRITES: usize = 10_000;

/// The longest key and the longest text in an index, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// The largest body, in bytes.
pub const MAX_BODY_BYTES: usize = 16 << 20;

/// The most records one page holds.
pub const MAX_PAGE_RECORDS: usize = 10_000;

/// A table: a fixed name and the names of its indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// `a-z 0-9 _`, at most 40 characters.
    pub name: &'static str,
    /// The index names, same alphabet.
    pub indexes: &'static [&'static str],
}

/// A value in an index. Integers sort before texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IndexValue {
    /// A whole number, for example a time in milliseconds.
    Integer(i64),
    /// A text of at most 512 bytes, compared byte by byte.
    Text(String),
}

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: String,
    /// Its version, at least 1.
    pub version: u64,
    /// Its body.
    pub body: Bytes,
}

/// What must be true of a key for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// Nothing is there.
    Absent,
    /// Exactly this version is there.
    Version(u64),
}

/// One change of one record.
#[derive(Debug, Clone)]
pub enum Write {
    /// Creates or replaces.
    Put {
        /// The table.
        table: Table,
        /// The key, 1 to 512 bytes.
        key: String,
        /// The body.
        body: Bytes,
        /// Its place in the table's indexes; every name must be one of the table's, each at most once.
        indexes: Vec<(&'static str, IndexValue)>,
        /// What must be true.
        expect: Expect,
    },
    /// Removes; removing what is not there is fine unless `expect` says otherwise.
    Delete {
        /// The table.
        table: Table,
        /// The key.
        key: String,
        /// What must be true.
        expect: Expect,
    },
}

impl Write {
    /// The table it touches.
    #[must_use]
    pub fn table(&self) -> Table {
        match self {
            Self::Put { table, .. } | Self::Delete { table, .. } => *table,
        }
    }

    /// The key it touches.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// What must be true for it to happen.
    #[must_use]
    pub fn expect(&self) -> Expect {
        match self {
            Self::Put { expect, .. } | Self::Delete { expect, .. } => *expect,
        }
    }

    /// Checks the limits that no engine needs to know to hold. Every engine calls it before it writes.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for more than one write of a key, a bad key or a bad index; `TOO_LARGE` for too many
    /// writes or too large a body.
    pub fn check_all(writes: &[Self]) -> Result<()> {
        if writes.len() > MAX_COMMIT_WRITES {
            let message = format!("a commit has at most {MAX_COMMIT_WRITES} writes, not {}", writes.len());
            return Err(Error::new(codes::TOO_LARGE, message));
        }
        let mut seen = HashSet::new();
        for write in writes {
            write.check()?;
            if !seen.insert((write.table().name, write.key())) {
                return Err(invalid("key", format!("`{}` is written twice in one commit", write.key())));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        check_key(self.key())?;
        let Self::Put { table, body, indexes, .. } = self else { return Ok(()) };
        if body.len() > MAX_BODY_BYTES {
            let message = format!("a record has at most {MAX_BODY_BYTES} bytes, not {}", body.len());
            return Err(Error::new(codes::TOO_LARGE, message));
        }
        for (position, (name, value)) in indexes.iter().enumerate() {
            table.check_index(name)?;
            check_value(value)?;
            if indexes[..position].iter().any(|(earlier, _)| earlier == name) {
                return Err(invalid("indexes", format!("index `{name}` is given twice")));
            }
        }
        Ok(())
    }
}

impl Expect {
    /// Compares with the version that is there.
    ///
    /// # Errors
    /// `CONFLICT` naming the key.
    pub fn check(self, table: Table, key: &str, found: Option<u64>) -> Result<()> {
        let (holds, wanted) = match self {
            Self::Any => (true, String::new()),
            Self::Absent => (found.is_none(), "nothing".to_owned()),
            Self::Version(version) => (found == Some(version), format!("version {version}")),
        };
        if holds {
            return Ok(());
        }
        let found = found.map_or_else(|| "nothing".to_owned(), |version| format!("version {version}"));
        let message = format!("`{key}` of `{}` has {found} where {wanted} was expected", table.name);
        Err(Error::new(codes::CONFLICT, message).with_field("key"))
    }
}

impl Table {
    /// Checks that the table has the index.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` when it has not.
    pub fn check_index(&self, name: &str) -> Result<()> {
        if self.indexes.contains(&name) {
            return Ok(());
        }
        Err(invalid("indexes", format!("table `{}` has no index `{name}`", self.name)))
    }
}

fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(invalid("key", format!("a key has 1 to {MAX_KEY_BYTES} bytes, not {}", key.len())));
    }
    Ok(())
}

fn check_value(value: &IndexValue) -> Result<()> {
    match value {
        IndexValue::Text(text) if text.len() > MAX_KEY_BYTES => {
            Err(invalid("indexes", format!("a text in an index has at most {MAX_KEY_BYTES} bytes")))
        }
        _ => Ok(()),
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

/// Which records a list goes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every record of the table, by key.
    All,
    /// Keys that begin so, by key.
    Prefix(String),
    /// Records whose value in the named index is exactly this, by key.
    Equal(&'static str, IndexValue),
    /// Records whose value in the named index lies in `from ..= to`, by value and key.
    Between(&'static str, IndexValue, IndexValue),
}

/// A list request.
#[derive(Debug, Clone)]
pub struct Query {
    /// Which records.
    pub selection: Selection,
    /// Newest or largest first.
    pub descending: bool,
    /// Where an earlier page ended.
    pub cursor: Option<String>,
    /// Records at most, 1 to 10,000.
    pub limit: usize,
}

impl Query {
    /// The first page over `selection`, ascending.
    #[must_use]
    pub fn new(selection: Selection, limit: usize) -> Self {
        Self { selection, descending: false, cursor: None, limit }
    }

    /// Checks the query and reads its cursor. Every engine calls it before it reads.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a cursor of another query, an index the table does not have, or a bad limit.
    pub fn check(&self, table: Table) -> Result<Option<Position>> {
        if self.limit == 0 || self.limit > MAX_PAGE_RECORDS {
            return Err(invalid("limit", format!("a page has 1 to {MAX_PAGE_RECORDS} records")));
        }
        match &self.selection {
            Selection::All => {}
            Selection::Prefix(prefix) if prefix.len() > MAX_KEY_BYTES => {
                return Err(invalid("prefix", format!("a prefix has at most {MAX_KEY_BYTES} bytes")));
            }
            Selection::Prefix(_) => {}
            Selection::Equal(index, value) => {
                table.check_index(index)?;
                check_value(value)?;
            }
            Selection::Between(index, from, to) => {
                table.check_index(index)?;
                check_value(from)?;
                check_value(to)?;
            }
        }
        let Some(text) = &self.cursor else { return Ok(None) };
        let wrong = || invalid("cursor", "the cursor is not one of this query");
        let (signature, position): (u32, Position) = cursor::decode(text).ok_or_else(wrong)?;
        if signature != self.signature(table) || position.value.is_some() != self.selection.is_by_value() {
            return Err(wrong());
        }
        Ok(Some(position))
    }

    /// The cursor of the page that follows `last`.
    #[must_use]
    pub fn cursor_after(&self, table: Table, last: &Position) -> String {
        cursor::encode(self.signature(table), last)
    }

    // The limit may differ from page to page, everything else may not.
    fn signature(&self, table: Table) -> u32 {
        let text = format!("{} {} {:?}", table.name, self.descending, self.selection);
        crc32fast::hash(text.as_bytes())
    }
}

impl Selection {
    fn is_by_value(&self) -> bool {
        matches!(self, Self::Between(..))
    }
}

/// Where in a list a record stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The value in the index, for lists ordered by value.
    pub value: Option<IndexValue>,
    /// The key.
    pub key: String,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Pass it on to get the next page; none at the end.
    pub cursor: Option<String>,
}

/// A record with all that belongs to it, of any tenant and table, as a backup keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedRecord {
    /// Whose it is.
    pub tenant: TenantId,
    /// The table's name.
    pub table: String,
    /// Its key.
    pub key: String,
    /// Its version.
    pub version: u64,
    /// Its body.
    pub body: Bytes,
    /// Its place in the table's indexes, by the index's name.
    pub indexes: Vec<(String, IndexValue)>,
}

impl SavedRecord {
    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let indexes: usize = self.indexes.iter().map(|(name, _)| name.len() + 64).sum();
        self.tenant.as_str().len() + self.table.len() + self.key.len() + self.body.len() + indexes + 64
    }
}

/// The records of one moment, some at a time, in the order of tenant, table and key.
pub type RecordsSnapshot = BoxStream<'static, Result<Vec<SavedRecord>>>;

/// Tenant-scoped documents.
#[async_trait]
pub trait Records: Send + Sync + Debug {
    /// The record at `key`.
    async fn get(&self, scope: &Scope, table: Table, key: &str) -> Result<Option<Record>>;

    /// One page.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a cursor of another query, an index the table does not have, or a bad limit.
    async fn list(&self, scope: &Scope, table: Table, query: &Query) -> Result<Page>;

    /// Does every write, or none. Returns the new version of each put and 0 for each delete. A key is written at
    /// most once in a commit.
    ///
    /// # Errors
    /// `CONFLICT` when an expectation does not hold, naming the key; those of [`Write::check_all`].
    async fn commit(&self, scope: &Scope, writes: Vec<Write>) -> Result<Vec<u64>>;

    /// Removes every record of the scope's tenant in every table; returns how many went.
    async fn erase(&self, scope: &Scope) -> Result<u64>;

    /// Every record of every tenant, but for those of the tables `except`, as of one moment. It takes no scope because
    /// only backups read so, and each record names its tenant. An engine that cannot refuses.
    fn snapshot(&self, except: &[&str]) -> RecordsSnapshot {
        let _ = except;
        Box::pin(stream::once(std::future::ready(Err(not_able()))))
    }

    /// Writes records that [`Records::snapshot`] gave, of all tenants, with their versions; later versions are larger
    /// than all of these. For an engine without records: where there is one at a key, it must be the same one. At most
    /// [`MAX_COMMIT_WRITES`] at once. An engine that cannot refuses.
    async fn restore(&self, records: Vec<SavedRecord>) -> Result<()> {
        drop(records);
        Err(not_able())
    }
}

fn not_able() -> Error {
    Error::new(codes::VALIDATION_ERROR, "this engine's records cannot be backed up or restored")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table { name: "things", indexes: &["size"] };

    #[test]
    fn cursors_belong_to_their_query() {
        let mut query =
            Query::new(Selection::Between("size", IndexValue::Integer(1), IndexValue::Integer(9)), 10);
        let last = Position { value: Some(IndexValue::Integer(3)), key: "ünï".to_owned() };
        query.cursor = Some(query.cursor_after(TABLE, &last));
        assert_eq!(query.check(TABLE).unwrap(), Some(last));
        query.limit = 20;
        assert!(query.check(TABLE).is_ok(), "the limit may change between pages");
        query.descending = true;
        assert_eq!(query.check(TABLE).unwrap_err().field(), Some("cursor"));
        for garbage in ["", "f", "zz", "5b5d", "ff"] {
            query.cursor = Some(garbage.to_owned());
            assert_eq!(query.check(TABLE).unwrap_err().field(), Some("cursor"), "{garbage:?}");
        }
    }

    #[test]
    fn writes_are_checked() {
        let put = |key: &str, indexes: Vec<(&'static str, IndexValue)>| Write::Put {
            table: TABLE,
            key: key.to_owned(),
            body: Bytes::new(),
            indexes,
            expect: Expect::Any,
        };
        let size = |size| ("size", IndexValue::Integer(size));
        let check = |writes: Vec<Write>, field: Option<&str>| {
            let found = Write::check_all(&writes).err();
            assert_eq!(found.as_ref().and_then(Error::field), field, "{writes:?}");
        };
        check(vec![put("a", vec![size(1)]), put("b", vec![])], None);
        check(vec![put("", vec![])], Some("key"));
        check(vec![put(&"x".repeat(513), vec![])], Some("key"));
        check(vec![put("a", vec![]), put("a", vec![])], Some("key"));
        check(vec![put("a", vec![("colour", IndexValue::Integer(1))])], Some("indexes"));
        check(vec![put("a", vec![size(1), size(2)])], Some("indexes"));
        check(vec![put("a", vec![("size", IndexValue::Text("x".repeat(513)))])], Some("indexes"));
    }
}
