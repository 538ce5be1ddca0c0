//! How a server follows what others change: the changes of the last minute twice a second, and every key once a minute.
//!
//! The first finds a change by the clock of the server that made it, and misses those of a server whose clock is late. The
//! pass over every key finds them, and what is there no more. It reads a page a look, so that the database has little to do
//! at once however many keys there are. At its end the keys go that ended long ago.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kernel::{Result, Timestamp, codes};
use store::{Expect, IndexValue, Query, Selection};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Held, KeyRing, system};

/// Between two looks at what other replicas changed.
const REFRESH: Duration = Duration::from_millis(500);
/// What another replica changed is seen here after so long, unless the records are slow.
pub(super) const SEEN_AFTER: Duration = Duration::from_millis(REFRESH.as_millis() as u64 + 200);
/// Looks between the beginnings of two passes over every key.
const LOOKS_PER_PASS: u32 = 120;
/// Looks between two writes of when keys were used.
const LOOKS_PER_NOTE: u32 = 60;
/// How far the clocks of replicas may differ for a change to be seen by the next look.
const CLOCK_DIFFERENCE_MS: i64 = 60_000;
/// Keys that are read at once. Tests have many pages.
const PAGE: usize = if cfg!(test) { 40 } else { 1_000 };
/// Keys that ended so long ago are removed; the audit keeps what became of them.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Keys that are removed at the end of a pass.
const REMOVED_AT_ONCE: usize = 100;

/// How far a server has come in following the others.
#[derive(Debug)]
pub(super) struct Follower {
    since_ms: i64,
    looks: u32,
    /// What is still to be read in the pass over every key.
    pass: Option<Query>,
}

impl Default for Follower {
    fn default() -> Self {
        Self { since_ms: i64::MIN, looks: 0, pass: None }
    }
}

impl KeyRing {
    /// Follows what other replicas change, and notes when keys were used, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut follower = Follower::default();
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(REFRESH) => {}
            }
            match self.look(&mut follower).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    warn!(error = %error.chain(), "changes of keys are not seen for now");
                    failing = true;
                }
                Err(_) => {}
            }
        }
        if let Err(error) = self.note_use().await {
            warn!(error = %error.chain(), "the last use of keys was not noted");
        }
    }

    /// Takes in what changed since the look before, and a page of all keys where a pass is under way.
    pub(super) async fn look(&self, follower: &mut Follower) -> Result<()> {
        let began_ms = self.clock.now().as_millisecond();
        self.refresh(follower.since_ms).await?;
        follower.since_ms = began_ms.saturating_sub(CLOCK_DIFFERENCE_MS);
        follower.looks = follower.looks.wrapping_add(1);
        if follower.pass.is_none() && follower.looks.is_multiple_of(LOOKS_PER_PASS) {
            self.pass.fetch_add(1, Ordering::Relaxed);
            follower.pass = Some(Query::new(Selection::All, PAGE));
        }
        if let Some(query) = &mut follower.pass {
            query.cursor = self.take_page(query).await?;
            if query.cursor.is_none() {
                follower.pass = None;
                self.end_pass().await?;
            }
        }
        if follower.looks.is_multiple_of(LOOKS_PER_NOTE) {
            self.note_use().await?;
        }
        Ok(())
    }

    /// Takes in what changed since.
    pub(super) async fn refresh(&self, since_ms: i64) -> Result<()> {
        let changed =
            Selection::Between("changed_at", IndexValue::Integer(since_ms), IndexValue::Integer(i64::MAX));
        let mut query = Query::new(changed, PAGE);
        loop {
            query.cursor = self.take_page(&query).await?;
            if query.cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Takes a page in; where the next one begins.
    async fn take_page(&self, query: &Query) -> Result<Option<String>> {
        let (keys, cursor) = self.keys.list(&system(), query).await?;
        keys.into_iter().for_each(|found| self.hold(found));
        Ok(cursor)
    }

    /// Lets go of keys that are there no more, and removes those that ended long ago.
    async fn end_pass(&self) -> Result<()> {
        let pass = self.pass.load(Ordering::Relaxed);
        let ended: Vec<(String, u64)> = {
            let mut held = self.held.write();
            held.retain(|_, held| held.seen_in.load(Ordering::Relaxed) >= pass);
            let now = self.clock.now();
            let ended = held.values().filter(|held| held.is_long_ended(now)).take(REMOVED_AT_ONCE);
            ended.map(|held| (held.key.id.clone(), held.version)).collect()
        };
        for (id, version) in ended {
            match self.keys.delete(&system(), &id, Expect::Version(version)).await {
                Ok(()) => drop(self.held.write().remove(&id)),
                // Another replica was faster, or changed it; the next pass sees which.
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes down when keys were used.
    pub(super) async fn note_use(&self) -> Result<()> {
        let used: Vec<(String, i64)> = {
            let held = self.held.read();
            let fresh = held.values().filter(|held| held.is_fresh());
            fresh.map(|held| (held.key.id.clone(), held.used_ms.load(Ordering::Relaxed))).collect()
        };
        for (id, used_ms) in used {
            let Some(mut found) = self.keys.get(&system(), &id).await? else { continue };
            let used = Timestamp::from_millisecond(used_ms).ok();
            found.document.last_used_at = found.document.last_used_at.max(used);
            match self.keys.put(&system(), &found.document, Expect::Version(found.version)).await {
                Ok(version) => {
                    found.version = version;
                    self.hold(found);
                }
                // Another replica was faster; the next look tries again.
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Held {
    fn is_long_ended(&self, now: Timestamp) -> bool {
        let gone_at = self.key.ends_at().and_then(|at| at.checked_add(KEPT_FOR).ok());
        gone_at.is_some_and(|at| at <= now)
    }
}
