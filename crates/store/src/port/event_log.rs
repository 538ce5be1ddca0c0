//! The `EventLog` port: durable, ordered, replayable.
//!
//! Rules every engine keeps:
//! - `append` returns only when the events survive a crash of the process and of the machine.
//! - An event whose (tenant, source, id) the topic holds already is not written again; its first place is
//!   returned with [`Outcome::Duplicate`].
//! - Offsets of a partition start at 0, grow by one, and are never used twice, even after retention.
//! - Events with one partition key keep their order.
//! - Stored bytes that fail their checksum are an error of kind `Corrupted`, never skipped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Error, Event, Result, Scope, Timestamp, codes};

/// The most events one `append` takes.
pub const MAX_APPEND_BATCH: usize = 10_000;

/// A named stream of events, `a-z 0-9 . _ -`, for example `events` or `normalized.market.ticks.v1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Cow<'static, str>);

impl Topic {
    /// A name known at compile time.
    ///
    /// # Panics
    /// When the name is not lawful; use it in constants only.
    #[must_use]
    pub const fn fixed(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= 128, "a topic has 1 to 128 characters");
        let mut index = 0;
        while index < bytes.len() {
            assert!(is_lawful(bytes[index]), "a topic has only a-z 0-9 . _ -");
            index += 1;
        }
        Self(Cow::Borrowed(name))
    }

    /// Checks a name from outside.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` when it is empty, longer than 128 bytes or has another character.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || name.len() > 128 || !name.bytes().all(is_lawful) {
            let message =
                format!("a topic is 1 to 128 characters of a-z 0-9 . _ -, not `{}`", name.escape_debug());
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("topic"));
        }
        Ok(Self(Cow::Owned(name)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const fn is_lawful(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
}

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Debug for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&*self.0, formatter)
    }
}

/// Whether an event was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Written now.
    New,
    /// Written by an earlier `append`; the place is the earlier one.
    Duplicate,
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The partition it went to.
    pub partition: u32,
    /// Its place in the partition.
    pub offset: u64,
    /// Whether it was new.
    pub outcome: Outcome,
}

/// An event with its place.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its place in the partition.
    pub offset: u64,
    /// The event.
    pub event: Event,
}

/// The first offset that is still held and the next one that will be given. Equal when the partition is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The partition.
    pub partition: u32,
    /// The oldest event's offset.
    pub first: u64,
    /// One past the newest event's offset.
    pub next: u64,
}

/// How much one `read` may return. At least one event is returned where there is one.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Events at most.
    pub events: usize,
    /// Bytes of stored events at most.
    pub bytes: usize,
}

impl Default for ReadLimit {
    fn default() -> Self {
        Self { events: 4_096, bytes: 4 << 20 }
    }
}

/// What a topic keeps: an event stays when it is within every bound that is given, and where `before` says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Events whose own time is older than this may go.
    pub age: Option<Duration>,
    /// The oldest events may go until at most this many stay in each partition.
    pub events: Option<u64>,
    /// By partition, the first offset that stays whatever the other bounds say; all of a partition that is missing here
    /// stays. What a reader has not made durable elsewhere is kept by this.
    pub before: Option<BTreeMap<u32, u64>>,
}

impl Retention {
    /// Whether the oldest of `held` events, of this time, is to stay.
    #[must_use]
    pub fn keeps(&self, time: Timestamp, held: u64, now: Timestamp) -> bool {
        let age_ms = now.as_millisecond().saturating_sub(time.as_millisecond());
        let young =
            self.age.is_none_or(|limit| age_ms <= i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
        young && self.events.is_none_or(|limit| held <= limit)
    }

    /// The first offset of a partition that stays whatever the other bounds say.
    #[must_use]
    pub fn end(&self, partition: u32) -> u64 {
        self.before.as_ref().map_or(u64::MAX, |before| before.get(&partition).copied().unwrap_or(0))
    }
}

/// Checks what every engine refuses in an `append`.
///
/// # Errors
/// `TOO_LARGE` over [`MAX_APPEND_BATCH`], `TENANT_MISMATCH` when an event is of another tenant.
pub fn check_append(scope: &Scope, events: &[Event]) -> Result<()> {
    if events.len() > MAX_APPEND_BATCH {
        let message = format!("an append has at most {MAX_APPEND_BATCH} events, not {}", events.len());
        return Err(Error::new(codes::TOO_LARGE, message));
    }
    match events.iter().find(|event| event.tenant != *scope.tenant()) {
        None => Ok(()),
        Some(event) => {
            let message = format!("the scope is of `{}`, event `{}` is not", scope.tenant(), event.id);
            Err(Error::new(codes::TENANT_MISMATCH, message).with_field("tenantid"))
        }
    }
}

/// Checks what every engine refuses in a `restore` to a partition that is at `extent`.
///
/// # Errors
/// `TOO_LARGE` over [`MAX_APPEND_BATCH`], `CONFLICT` when the events do not go on where the partition ends.
pub fn check_restore(topic: &Topic, extent: Extent, events: &[Stored]) -> Result<()> {
    if events.len() > MAX_APPEND_BATCH {
        let message =
            format!("a restore has at most {MAX_APPEND_BATCH} events at once, not {}", events.len());
        return Err(Error::new(codes::TOO_LARGE, message));
    }
    let Some(first) = events.first().map(|stored| stored.offset) else { return Ok(()) };
    let is_empty = extent.first == extent.next;
    let goes_on = first == extent.next || (is_empty && first > extent.next);
    let has_gap = (first..).zip(events).any(|(offset, stored)| offset != stored.offset);
    if goes_on && !has_gap {
        return Ok(());
    }
    let message = format!(
        "partition {} of topic `{topic}` ends at {}, and the events to restore begin at {first}{}",
        extent.partition,
        extent.next,
        if has_gap { " with gaps" } else { "" }
    );
    Err(Error::new(codes::CONFLICT, message))
}

/// The error for a topic that has another number of partitions.
#[must_use]
pub fn other_partitions(topic: &Topic, found: usize, wanted: u32) -> Error {
    let message = format!("topic `{topic}` has {found} partitions here, and {wanted} where it comes from");
    Error::new(codes::CONFLICT, message)
}

/// Checks the name of a consumer group.
///
/// # Errors
/// `VALIDATION_ERROR` when it is empty, longer than 128 bytes or has control characters.
pub fn check_group(group: &str) -> Result<()> {
    if group.is_empty() || group.len() > 128 || group.chars().any(char::is_control) {
        let message = "a group is 1 to 128 bytes without control characters";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("group"));
    }
    Ok(())
}

/// The error for a partition that the topic does not have.
#[must_use]
pub fn no_partition(topic: &Topic, partition: u32, count: usize) -> Error {
    Error::new(
        codes::NOT_FOUND,
        format!("topic `{topic}` has {count} partitions, none is number {partition}"),
    )
}

/// What an engine can do beyond the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogCapabilities {
    /// It drops duplicates by itself, for as long as it holds the first one.
    pub deduplicates: bool,
    /// Its `retain` removes events at once (others do it in their own time).
    pub retains_at_once: bool,
    /// It takes a `restore`.
    pub restores: bool,
}

/// An append-only log of events in topics and partitions.
#[async_trait]
pub trait EventLog: Send + Sync + Debug {
    /// What this engine can do.
    fn capabilities(&self) -> LogCapabilities;

    /// Appends events of the scope's tenant, in order, and returns when they are durable: one place for each.
    ///
    /// # Errors
    /// `TENANT_MISMATCH` when an event is of another tenant, `TOO_LARGE` over [`MAX_APPEND_BATCH`]: none was
    /// written. `STORAGE_FULL` or `UNAVAILABLE`: send the same events again, those that were written are found as
    /// duplicates.
    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>>;

    /// Reads events of all tenants from `offset` on, oldest first; empty at the end. It takes no scope because
    /// only processors read the log, and each event names its tenant. An offset before the first held one
    /// starts at the first held one.
    ///
    /// # Errors
    /// `NOT_FOUND` for a partition the topic does not have; `CORRUPTED` naming topic, partition and offset.
    async fn read(&self, topic: &Topic, partition: u32, offset: u64, limit: ReadLimit)
    -> Result<Vec<Stored>>;

    /// The extent of every partition of a topic, by partition. A topic that nobody wrote to has empty ones.
    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>>;

    /// Returns when the partition was given an event at `offset` or later. Dropping the future is harmless.
    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()>;

    /// Remembers that `group` has done everything before `offset`.
    async fn commit(&self, group: &str, topic: &Topic, partition: u32, offset: u64) -> Result<()>;

    /// What `group` committed last; 0 where it never did.
    async fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Result<u64>;

    /// Removes the oldest events of each partition, up to the first one that `keep` holds on to, and returns how
    /// many went. An id whose event went may be appended again.
    async fn retain(&self, topic: &Topic, keep: Retention, now: Timestamp) -> Result<u64>;

    /// Puts events of all tenants where they stood in the log that they were read from, and returns when they are
    /// durable. A new topic is made with `partitions` partitions. The events go on where the partition ends; those of
    /// an empty one may begin later, and what was before them counts as gone by retention. Nobody else may append
    /// meanwhile. An engine that cannot refuses.
    ///
    /// # Errors
    /// Those of [`check_restore`]; `CONFLICT` when the topic has another number of partitions.
    async fn restore(
        &self,
        topic: &Topic,
        partitions: u32,
        partition: u32,
        events: Vec<Stored>,
    ) -> Result<()> {
        let _ = (topic, partitions, partition, events);
        Err(Error::new(codes::VALIDATION_ERROR, "this engine's log cannot be restored"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_checked() {
        let check = |name: &str, good: bool| assert_eq!(Topic::new(name).is_ok(), good, "{name:?}");
        check("normalized.market.ticks.v1", true);
        check("dead_letters", true);
        check("", false);
        check("Upper", false);
        check("a/b", false);
        check(&"x".repeat(129), false);
    }
}
