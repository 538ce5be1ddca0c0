//! The port.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Clock, Error, Event, Result, Scope, TenantId, Timestamp, codes};
use parking_lot::Mutex;
use store::recent::{Recalled, Recent, Row};
use store::{
    Appended, EventLog, Extent, LogCapabilities, ReadLimit, Retention, Stored, Topic, check_append,
    check_group,
};

use crate::append::{Appender, Landed};
use crate::config::Settings;
use crate::connect::{Clients, Figures};
use crate::cursor::{Cursors, Found, Taken, patience};
use crate::groups::Groups;
use crate::record::{Kind, Raw, Reading};
use crate::topics::Topics;

/// Why there is nothing to hand over.
enum Missed {
    /// The brokers say that there are records and hand over none. The client goes on.
    Silent(Error),
    /// The client is of no more use.
    Failed(Error),
}

impl From<Error> for Missed {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Whether the brokers hold a record and do not hand it over.
enum Withheld {
    /// It is passed over.
    Surely(Box<Raw>),
    /// It is asked for again, by another client where this one tried for long.
    Perhaps { is_client_old: bool },
}

/// How often a record is asked for, each time for as long as a request may take, before it may be passed over.
const SILENT_READS: u32 = 4;

/// How often it is looked for an offset that lies beyond what comes next.
const LOOKS_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// As many are decoded sooner than another thread is awake.
const MOST_BYTES_IN_PLACE: usize = 65_536;

/// After how many reads in a row from memory a client of brokers stops to follow.
const READS_UNTIL_LEFT: u32 = 8;

/// Topics of brokers.
#[derive(Debug)]
pub(crate) struct KafkaLog {
    clients: Clients,
    tenant: TenantId,
    topics: Topics,
    appender: Appender,
    cursors: Arc<Cursors>,
    groups: Groups,
    recent: Arc<Recent>,
    /// By partition, the offset that the brokers hold and do not hand over, and how often it was asked for.
    silent: Mutex<BTreeMap<(Topic, u32), (u64, u32)>>,
}

impl KafkaLog {
    pub(crate) fn open(settings: &Settings, tenant: TenantId, clock: Arc<dyn Clock>) -> Result<Self> {
        let clients = Clients::new(settings)?;
        Ok(Self {
            tenant,
            topics: Topics::new(clients.clone(), clock)?,
            appender: Appender::new(clients.clone())?,
            cursors: Cursors::new(clients.clone()),
            groups: Groups::new(clients.clone()),
            recent: Arc::new(Recent::new(settings.recent_bytes)),
            silent: Mutex::default(),
            clients,
        })
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.topics
    }

    pub(crate) fn figures(&self) -> Figures {
        self.clients.health.figures()
    }

    /// The cursor at `offset`, or at the first one after it that is held; none where that is the end or beyond it. One that was
    /// left where the `row` of reads from memory began is taken on.
    async fn cursor(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        row: Option<Row>,
        is_end_good: bool,
    ) -> Result<Option<Taken>> {
        let behind = row.map_or(offset, |row| row.from.min(offset));
        if let Some(taken) = self.cursors.at(topic, partition, behind..=offset) {
            return Ok(Some(taken));
        }
        let extent = self.extent(topic, partition).await?;
        let start = offset.max(extent.first);
        if start > extent.next || start == extent.next && !is_end_good {
            return Ok(None);
        }
        self.cursors.open(topic, self.topics.name(topic), partition, start).map(Some)
    }

    /// What the partition has, up to the limit.
    async fn collect(
        &self,
        topic: &Topic,
        partition: u32,
        taken: &mut Taken,
        limit: ReadLimit,
    ) -> Result<Vec<Raw>, Missed> {
        let most = limit.events.min(self.clients.settings().max_poll_records);
        let request = self.clients.settings().request_timeout();
        let cursor = taken.cursor();
        let (mut raws, mut bytes, mut end) = (Vec::new(), 0, None);
        while raws.len() < most {
            let found = match cursor.ready() {
                Some(found) => found?,
                None => {
                    let end = match end {
                        Some(end) => end,
                        None => *end.insert(self.extent(topic, partition).await?.next),
                    };
                    if cursor.place() >= end {
                        break;
                    }
                    match tokio::time::timeout(patience(cursor, request), cursor.next()).await {
                        Ok(found) => found?,
                        Err(_) if raws.is_empty() && !cursor.is_at_end() => {
                            return Err(Missed::Silent(self.is_silent(topic, partition)));
                        }
                        Err(_) => break,
                    }
                }
            };
            let Found::Record(raw) = found else {
                // The end is looked up after the broker said so, or what came since is read.
                match end {
                    Some(_) => break,
                    None => continue,
                }
            };
            if !raws.is_empty() && raw.bytes > limit.bytes.saturating_sub(bytes) {
                cursor.put_back(*raw);
                break;
            }
            bytes += raw.bytes;
            raws.push(*raw);
        }
        Ok(raws)
    }

    /// Refuses a partition that the topic does not have. What is kept of a topic that cannot be asked for may be of another.
    async fn check(&self, topic: &Topic, partition: u32) -> Result<()> {
        let checked = self.topics.check(topic, partition).await;
        checked.inspect_err(|_| self.recent.forget(topic, partition))
    }

    /// Where the partition begins and ends. Where that is before what was known of it, it is not what is kept of it.
    async fn extent(&self, topic: &Topic, partition: u32) -> Result<Extent> {
        let known = self.recent.end(topic, partition);
        let extent = self.topics.extent(topic, partition).await?;
        if extent.next < known {
            self.recent.forget(topic, partition);
        }
        Ok(extent)
    }

    /// What this process wrote a moment ago.
    fn recall(&self, topic: &Topic, partition: u32, offset: u64, limit: ReadLimit) -> Recalled {
        let most = limit.events.min(self.clients.settings().max_poll_records);
        let recalled = self.recent.read(topic, partition, offset, ReadLimit { events: most, ..limit });
        if recalled.events.is_empty() {
            return recalled;
        }
        if let Some(row) = recalled.row.filter(|row| row.reads.is_multiple_of(READS_UNTIL_LEFT)) {
            // It would fetch the same again.
            self.cursors.leave(topic, partition, row.from..offset);
        }
        self.clients.health.counters.recent.fetch_add(recalled.events.len() as u64, Ordering::Relaxed);
        recalled
    }

    /// The brokers have nothing from `offset` on. Where it was longer than that before they were asked, that was cut.
    fn has_nothing(&self, topic: &Topic, partition: u32, offset: u64, known: u64) {
        if known > offset {
            self.recent.forget(topic, partition);
        }
    }

    /// Returns when the brokers have an event at `offset` or later.
    async fn wait_at_brokers(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        loop {
            let row = self.recent.row(topic, partition);
            let Some(mut taken) = self.cursor(topic, partition, offset, row, true).await? else {
                tokio::time::sleep(LOOKS_AGAIN_AFTER).await;
                continue;
            };
            let waited = taken.cursor().wait().await;
            return waited.inspect_err(|_| {
                taken.discard();
                self.doubt(topic, partition);
            });
        }
    }

    /// Asks anew the next time, and believes nothing that is kept.
    fn doubt(&self, topic: &Topic, partition: u32) {
        self.topics.doubt(topic);
        self.recent.forget(topic, partition);
    }

    fn is_silent(&self, topic: &Topic, partition: u32) -> Error {
        let reason = self.clients.health.fails().map_or_else(String::new, |reason| format!(" ({reason})"));
        let message = format!("the brokers do not hand over partition {partition} of `{topic}`{reason}");
        Error::new(codes::UNAVAILABLE, message)
    }

    /// A record that the brokers hold and do not hand over, as some do with one that is larger than their answers. Where
    /// it was asked for often enough while they answered, and the one after it comes and it still does not, it is passed
    /// over as too large.
    async fn pass_over(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        taken: &mut Taken,
    ) -> Result<Withheld> {
        let extent = self.topics.extent(topic, partition).await?;
        let place = (topic.clone(), partition);
        let tries = {
            let mut silent = self.silent.lock();
            let known = silent.entry(place.clone()).or_insert((offset, 0));
            *known = if known.0 == offset { (offset, known.1 + 1) } else { (offset, 1) };
            known.1
        };
        // Every other time another client tries, so that none is stuck for long.
        let perhaps = Withheld::Perhaps { is_client_old: tries.is_multiple_of(2) };
        if tries < SILENT_READS || offset < extent.first || offset + 1 >= extent.next {
            return Ok(perhaps);
        }
        let request = self.clients.settings().request_timeout();
        let mut next = self.cursors.open(topic, self.topics.name(topic), partition, offset + 1)?;
        if !matches!(tokio::time::timeout(request, next.cursor().wait()).await, Ok(Ok(()))) {
            next.discard();
            return Ok(perhaps);
        }
        if tokio::time::timeout(request, taken.cursor().wait()).await.is_ok() {
            return Ok(perhaps);
        }
        self.silent.lock().remove(&place);
        Ok(Withheld::Surely(Box::new(Raw::withheld(offset))))
    }

    async fn decode(&self, topic: &Topic, partition: u32, raws: Vec<Raw>) -> Result<Vec<Stored>> {
        let reading = Reading { topic: topic.clone(), partition, tenant: self.tenant.clone() };
        let health = Arc::clone(&self.clients.health);
        let bytes: usize = raws.iter().map(|raw| raw.bytes).sum();
        let work = move || {
            let counters = &health.counters;
            counters.read.fetch_add(raws.len() as u64, Ordering::Relaxed);
            let event = |raw: Raw| {
                let offset = raw.offset;
                let (event, kind) = reading.event(raw);
                if kind != Kind::Event {
                    counters.foreign.fetch_add(1, Ordering::Relaxed);
                }
                if kind == Kind::Unusable {
                    counters.unusable.fetch_add(1, Ordering::Relaxed);
                    let (topic, partition) = (reading.topic.as_str(), reading.partition);
                    tracing::warn!(
                        topic,
                        partition,
                        offset,
                        "a record cannot be an event and is passed over"
                    );
                }
                Stored { offset, event }
            };
            raws.into_iter().map(event).collect::<Vec<_>>()
        };
        if bytes <= MOST_BYTES_IN_PLACE {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    fn capabilities(&self) -> LogCapabilities {
        LogCapabilities { deduplicates: false, retains_at_once: false, restores: false }
    }

    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        check_append(scope, &events)?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.topics.partitions(topic).await?;
        let sent = self.recent.send(topic);
        let landed = self.appender.append(&self.topics.name(topic), &events).await;
        let Landed { places, bytes, is_placed } = landed.inspect_err(|_| self.topics.doubt(topic))?;
        if let Some(sent) = sent.filter(|_| is_placed) {
            sent.keep(&places, events.into_iter().zip(bytes));
        }
        Ok(places)
    }

    async fn read(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>> {
        self.check(topic, partition).await?;
        let Recalled { events, row, end } = self.recall(topic, partition, offset, limit);
        if !events.is_empty() {
            return Ok(events);
        }
        let Some(mut taken) = self.cursor(topic, partition, offset, row, false).await? else {
            self.has_nothing(topic, partition, offset, end);
            return Ok(Vec::new());
        };
        let raws = match self.collect(topic, partition, &mut taken, limit).await {
            Ok(raws) => raws,
            // The client may be in the middle of a large record, and goes on.
            Err(Missed::Silent(error)) => match self.pass_over(topic, partition, offset, &mut taken).await? {
                Withheld::Surely(raw) => vec![*raw],
                Withheld::Perhaps { is_client_old: false } => return Err(error),
                Withheld::Perhaps { is_client_old: true } => {
                    taken.discard();
                    return Err(error);
                }
            },
            Err(Missed::Failed(error)) => {
                taken.discard();
                self.doubt(topic, partition);
                return Err(error);
            }
        };
        drop(taken);
        match raws.last() {
            Some(last) => {
                self.clients.health.answers();
                self.recent.reaches(topic, partition, offset, last.offset + 1);
            }
            None => self.has_nothing(topic, partition, offset, end),
        }
        self.decode(topic, partition, raws).await
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        self.topics.extents(topic).await
    }

    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.check(topic, partition).await?;
        loop {
            let news = self.recent.follow(topic, partition);
            // What comes from here on is not missed.
            let mut grown = std::pin::pin!(news.notified());
            if self.recent.end(topic, partition) > offset {
                return Ok(());
            }
            let patience = self.recent.patience(topic, partition, offset);
            if !patience.is_zero() {
                if tokio::time::timeout(patience, grown.as_mut()).await.is_ok() {
                    continue;
                }
                self.recent.waited_in_vain(topic, partition);
            }
            tokio::select! {
                biased;
                () = grown => {}
                waited = self.wait_at_brokers(topic, partition, offset) => return waited,
            }
        }
    }

    async fn commit(&self, group: &str, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        check_group(group)?;
        self.topics.check(topic, partition).await?;
        if !self.clients.settings().auto_commit {
            return Ok(());
        }
        self.groups.commit(group, self.topics.name(topic), partition, offset).await
    }

    async fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Result<u64> {
        check_group(group)?;
        self.topics.check(topic, partition).await?;
        self.groups.committed(group, self.topics.name(topic), partition).await
    }

    /// Removes nothing: how long records stay is the topic's own setting.
    async fn retain(&self, topic: &Topic, _: Retention, _: Timestamp) -> Result<u64> {
        self.topics.partitions(topic).await.map(|_| 0)
    }
}
