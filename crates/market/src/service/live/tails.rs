//! The newest events of partitions, read from the log once for all who follow them, and for as long as somebody does.
//!
//! A window holds what came last, within a bound of bytes; who is further behind reads the log itself, a few at a time, so
//! that many slow callers do not take the engine from the stages.
//!
//! It refuses to hide a fault: who follows a partition that cannot be read is told so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use kernel::{Error, Result, codes};
use parking_lot::{Mutex, RwLock};
use store::{EventLog, Extent, ReadLimit, Stored, Topic};
use stream::Repeats;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use super::retry::Retry;

/// Of one partition at once, for all who follow.
const BATCH: ReadLimit = ReadLimit { events: 256, bytes: 1 << 20 };
/// The same for one who is behind, who holds it alone.
const BEHIND: ReadLimit = ReadLimit { events: 256, bytes: 256 << 10 };
/// How far before a position it is looked for what may come again, over a log that keeps repeats.
const LOOK_BACK: u64 = 4_096;
/// The windows of all partitions of a topic together. Tests have little.
const WINDOWS_BYTES: usize = if cfg!(test) { 32 << 10 } else { 16 << 20 };
/// What an event takes beside its data.
const EVENT_BYTES: usize = 512;
/// Who is behind, and reads the log at the same time.
const READERS: usize = 8;
/// How often it is looked for partitions that were added.
const LOOKS_EVERY: Duration = Duration::from_secs(15);
/// After a log that was said to have more has nothing.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// The log, and what is followed of it.
#[derive(Debug)]
pub(super) struct Tails {
    log: Arc<dyn EventLog>,
    retry: Retry,
    readers: Semaphore,
    open: Mutex<BTreeMap<(Topic, u32), Weak<SharedTail>>>,
    looked: Mutex<BTreeMap<Topic, (Instant, Vec<Extent>)>>,
}

impl Tails {
    pub(super) fn new(log: Arc<dyn EventLog>, retry: Retry) -> Self {
        let (open, looked) = (Mutex::default(), Mutex::default());
        Self { log, retry, readers: Semaphore::new(READERS), open, looked }
    }

    pub(super) async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        self.log.extents(topic).await
    }

    /// The partitions that there were a short while ago, asked for once for all who follow.
    pub(super) async fn partitions(&self, topic: &Topic) -> Result<Vec<Extent>> {
        let now = Instant::now();
        if let Some((looked_at, extents)) = self.looked.lock().get(topic)
            && now.duration_since(*looked_at) < LOOKS_EVERY
        {
            return Ok(extents.clone());
        }
        let extents = self.log.extents(topic).await?;
        self.looked.lock().insert(topic.clone(), (now, extents.clone()));
        Ok(extents)
    }

    /// The tail of a partition, from its end on where nobody follows it yet.
    pub(super) fn share(&self, topic: &Topic, extent: Extent, partitions: usize) -> Arc<SharedTail> {
        let mut open = self.open.lock();
        let key = (topic.clone(), extent.partition);
        let found = open.get(&key).and_then(Weak::upgrade);
        if let Some(found) = found.filter(|found| !found.reached.borrow().has_failed) {
            return found;
        }
        open.retain(|_, tail| tail.strong_count() > 0);
        let window = Arc::new(RwLock::new(Window {
            first: extent.next,
            end: extent.next,
            events: VecDeque::new(),
            bytes: 0,
            most_bytes: WINDOWS_BYTES / partitions.max(1),
        }));
        let (reached, _) = watch::channel(Reached { end: extent.next, has_failed: false });
        let reader = TailReader {
            log: Arc::clone(&self.log),
            retry: self.retry,
            topic: topic.clone(),
            partition: extent.partition,
            window: Arc::clone(&window),
            reached: reached.clone(),
        };
        let task = tokio::spawn(reader.run(extent.next));
        let tail = Arc::new(SharedTail { window, reached, task });
        open.insert(key, Arc::downgrade(&tail));
        tail
    }

    /// What the log has from an offset on, for one who is behind. No turn is held between two tries.
    pub(super) async fn behind(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        repeats: Option<Repeats>,
    ) -> Result<Behind> {
        let name = topic.as_str();
        let repeats = match repeats {
            None if !self.log.capabilities().deduplicates => {
                let ask = || async {
                    let _turn = self.readers.acquire().await.map_err(Error::internal)?;
                    self::repeats(self.log.as_ref(), topic, partition, offset).await
                };
                Some(self.retry.patiently(name, partition, ask).await?)
            }
            repeats => repeats,
        };
        let ask = || async {
            let _turn = self.readers.acquire().await.map_err(Error::internal)?;
            self.log.read(topic, partition, offset, BEHIND).await
        };
        let batch = self.retry.patiently(name, partition, ask).await?;
        let first = batch.first().map(|stored| stored.offset);
        let mut held = offset;
        if first.is_none_or(|first| first > offset) {
            let ask = || self.log.extents(topic);
            let extents = self.retry.patiently(name, partition, ask).await?;
            // A broker has offsets that no event is at, and they are no loss.
            let begin = extents.iter().find(|extent| extent.partition == partition);
            let begin = begin.map_or(offset, |extent| extent.first);
            held = first.map_or(begin, |first| begin.min(first)).max(offset);
        }
        Ok(Behind { batch, held, repeats })
    }
}

/// What was read for one who is behind.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) batch: Vec<Stored>,
    /// Retention took what is before this.
    pub(super) held: u64,
    pub(super) repeats: Option<Repeats>,
}

async fn repeats(log: &dyn EventLog, topic: &Topic, partition: u32, until: u64) -> Result<Repeats> {
    let mut repeats = Repeats::default();
    let mut offset = until.saturating_sub(LOOK_BACK);
    while offset < until {
        let batch = log.read(topic, partition, offset, BATCH).await?;
        let Some(last) = batch.last().map(|stored| stored.offset) else { break };
        for stored in batch.iter().filter(|stored| stored.offset < until) {
            repeats.knows(&stored.event);
        }
        offset = last + 1;
    }
    Ok(repeats)
}

/// One partition, while somebody follows it.
#[derive(Debug)]
pub(super) struct SharedTail {
    window: Arc<RwLock<Window>>,
    reached: watch::Sender<Reached>,
    task: JoinHandle<()>,
}

impl Drop for SharedTail {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Reached {
    end: u64,
    has_failed: bool,
}

/// What of a partition is here, from an offset on.
#[derive(Debug)]
pub(super) enum Here {
    /// It begins later here; ask the log.
    Later,
    /// Nothing yet.
    Nothing,
    /// These, without repeats; they go up to the offset.
    Events(Vec<Arc<Stored>>, u64),
}

impl SharedTail {
    pub(super) fn from(&self, offset: u64) -> Result<Here> {
        if self.reached.borrow().has_failed {
            return Err(unreadable());
        }
        Ok(self.window.read().from(offset))
    }

    /// Returns when there is something at the offset or after it.
    pub(super) async fn wait(&self, offset: u64) -> Result<()> {
        let mut reached = self.reached.subscribe();
        let met = reached.wait_for(|reached| reached.end > offset || reached.has_failed).await;
        if met.map_err(Error::internal)?.has_failed { Err(unreadable()) } else { Ok(()) }
    }
}

fn unreadable() -> Error {
    Error::new(codes::UNAVAILABLE, "the topics of market data cannot be read now; connect again")
}

/// What came last, without gaps but for repeats.
#[derive(Debug)]
struct Window {
    /// From here on everything is in it.
    first: u64,
    end: u64,
    events: VecDeque<Arc<Stored>>,
    bytes: usize,
    most_bytes: usize,
}

impl Window {
    fn from(&self, offset: u64) -> Here {
        if offset < self.first {
            return Here::Later;
        }
        if offset >= self.end {
            return Here::Nothing;
        }
        let begin = self.events.partition_point(|stored| stored.offset < offset);
        let events: Vec<_> = self.events.range(begin..).take(BATCH.events).cloned().collect();
        let is_all = begin + events.len() == self.events.len();
        let end = events.last().filter(|_| !is_all).map_or(self.end, |last| last.offset + 1);
        Here::Events(events, end)
    }

    /// Takes in what begins at an offset.
    fn add(&mut self, begin: u64, events: impl Iterator<Item = Stored>, end: u64) {
        if begin > self.end {
            // Retention was faster. Who was not told of it yet reads the log.
            self.events.clear();
            (self.first, self.bytes) = (begin, 0);
        }
        for stored in events {
            self.bytes += bytes(&stored);
            self.events.push_back(Arc::new(stored));
        }
        self.end = end;
        while self.bytes > self.most_bytes {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= bytes(&oldest);
            self.first = oldest.offset + 1;
        }
    }
}

fn bytes(stored: &Stored) -> usize {
    EVENT_BYTES + stored.event.data.as_ref().map_or(0, |data| data.get().len())
}

/// Reads a partition on.
struct TailReader {
    log: Arc<dyn EventLog>,
    retry: Retry,
    topic: Topic,
    partition: u32,
    window: Arc<RwLock<Window>>,
    reached: watch::Sender<Reached>,
}

impl TailReader {
    async fn run(self, begin: u64) {
        if let Err(error) = self.read_on(begin).await {
            let (topic, partition) = (self.topic.as_str(), self.partition);
            warn!(topic, partition, error = %error.chain(), "streams end, because a topic cannot be read");
            self.reached.send_modify(|reached| reached.has_failed = true);
        }
    }

    async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.retry.patiently(self.topic.as_str(), self.partition, ask).await
    }

    async fn read_on(&self, begin: u64) -> Result<()> {
        let (log, topic, partition) = (self.log.as_ref(), &self.topic, self.partition);
        let mut known = match log.capabilities().deduplicates {
            true => None,
            false => Some(self.patiently(|| repeats(log, topic, partition, begin)).await?),
        };
        let mut next = begin;
        loop {
            self.patiently(|| log.wait(topic, partition, next)).await?;
            let batch = self.patiently(|| log.read(topic, partition, next, BATCH)).await?;
            let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let (begin, end) = (first.offset, last.offset + 1);
            let new = batch
                .into_iter()
                .filter(|stored| !known.as_mut().is_some_and(|known| known.knows(&stored.event)));
            self.window.write().add(begin, new, end);
            self.reached.send_modify(|reached| reached.end = end);
            next = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::{EventDraft, Scope, TenantId, Timestamp};

    use super::*;

    fn stored(offset: u64) -> Stored {
        let draft = EventDraft {
            specversion: Some("1.0".to_owned()),
            id: Some(offset.to_string()),
            source: Some("/test".to_owned()),
            kind: Some("t".to_owned()),
            ..EventDraft::default()
        };
        let scope = Scope::system(TenantId::new("desk").unwrap(), "test");
        Stored { offset, event: draft.seal(&scope, Timestamp::UNIX_EPOCH).unwrap() }
    }

    #[test]
    fn a_window_is_bounded_and_says_what_it_lacks() {
        let most_bytes = 3 * EVENT_BYTES;
        let mut window = Window { first: 5, end: 5, events: VecDeque::new(), bytes: 0, most_bytes };
        let check = |window: &Window, offset: u64, expected: Option<(&[u64], u64)>| {
            let found = match window.from(offset) {
                Here::Later => None,
                Here::Nothing => Some((Vec::new(), offset)),
                Here::Events(events, end) => Some((events.iter().map(|one| one.offset).collect(), end)),
            };
            let expected = expected.map(|(offsets, end)| (offsets.to_vec(), end));
            assert_eq!(found, expected, "from {offset} of {window:?}");
        };
        check(&window, 4, None);
        check(&window, 5, Some((&[], 5)));
        // 7 is a repeat, which is not there and not missing.
        window.add(5, [5, 6, 8].map(stored).into_iter(), 9);
        check(&window, 5, Some((&[5, 6, 8], 9)));
        check(&window, 7, Some((&[8], 9)));
        window.add(9, std::iter::once(stored(9)), 10);
        check(&window, 5, None);
        check(&window, 6, Some((&[6, 8, 9], 10)));
        // Retention took 10 and 11.
        window.add(12, std::iter::once(stored(12)), 13);
        check(&window, 10, None);
        check(&window, 12, Some((&[12], 13)));
        check(&window, 20, Some((&[], 20)));
        window.most_bytes = 1;
        window.add(13, std::iter::once(stored(13)), 14);
        assert_eq!((window.events.len(), window.bytes), (0, 0), "what is too large is not kept");
        check(&window, 13, None);
        check(&window, 14, Some((&[], 14)));
    }
}
