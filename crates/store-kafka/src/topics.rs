//! What the brokers say of topics: how many partitions, from where to where; topics that are made, and that vanish.
//!
//! How many partitions a topic has is believed for [`MOST_AGE`], so that a partition that is added is seen soon. It is asked
//! for anew before that, so that a topic in use is never waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Error, Result, codes};
use parking_lot::Mutex;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use store::{Extent, Topic, no_partition};
use tracing::{info, warn};

use crate::connect::{Clients, Health, Listener};
use crate::failure;

const MOST_AGE: Duration = Duration::from_secs(3);

/// How long a topic that was made may take to be seen.
const APPEARS_WITHIN: Duration = Duration::from_secs(10);

/// A topic that every cluster answers about, be it only that there is none.
const PROBE: &str = "__consumer_offsets";

#[derive(Debug, Clone, Copy)]
struct Known {
    partitions: u32,
    read_at: Duration,
    is_asked: bool,
}

pub(crate) struct Topics {
    clients: Clients,
    asker: Arc<BaseConsumer<Listener>>,
    known: Arc<Mutex<BTreeMap<Topic, Known>>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Topics").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Topics {
    pub(crate) fn new(clients: Clients, clock: Arc<dyn Clock>) -> Result<Self> {
        let asker = Arc::new(clients.asker()?);
        Ok(Self { clients, asker, known: Arc::default(), clock })
    }

    /// The name that the brokers know.
    pub(crate) fn name(&self, topic: &Topic) -> String {
        format!("{}{topic}", self.clients.settings().topic_prefix)
    }

    fn health(&self) -> &Health {
        &self.clients.health
    }

    /// Runs a question that blocks. The questions of librdkafka end by themselves.
    async fn ask<T: Send + 'static>(
        &self,
        doing: &str,
        question: impl FnOnce(&BaseConsumer<Listener>, Duration) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<Result<T, KafkaError>> {
        let (asker, limit) = (Arc::clone(&self.asker), self.clients.settings().request_timeout());
        let answer =
            tokio::task::spawn_blocking(move || question(&asker, limit)).await.map_err(Error::internal)?;
        match answer {
            Err(error) if !error.rdkafka_error_code().is_some_and(failure::is_unknown) => {
                Err(failure::of(doing, &error, self.health()))
            }
            answered => {
                self.health().answers();
                Ok(answered)
            }
        }
    }

    pub(crate) async fn ping(&self, limit: Duration) -> Result<()> {
        let limit = limit.min(self.clients.settings().request_timeout());
        let question =
            move |asker: &BaseConsumer<Listener>, _| asker.fetch_metadata(Some(PROBE), limit).map(|_| ());
        self.ask("asking the brokers", question).await.map(|_| ())
    }

    /// How many partitions the topic has; it is made where it never was there.
    pub(crate) async fn partitions(&self, topic: &Topic) -> Result<u32> {
        let now = self.clock.elapsed();
        let known = self.known.lock().get(topic).copied();
        let age = known.map_or(MOST_AGE, |known| now.saturating_sub(known.read_at));
        if let Some(known) = known.filter(|_| age < MOST_AGE) {
            if age >= MOST_AGE / 2 && !known.is_asked {
                self.ask_ahead(topic, now);
            }
            return Ok(known.partitions);
        }
        let found = match (self.count(topic).await?, known) {
            (Some(found), _) => found,
            (None, Some(_)) => return Err(failure::vanished(&self.name(topic))),
            (None, None) => self.make(topic).await?,
        };
        if let Some(before) = known.filter(|known| known.partitions != found) {
            warn!(%topic, before = before.partitions, now = found, "a topic has another number of partitions");
        }
        self.known.lock().insert(topic.clone(), Known { partitions: found, read_at: now, is_asked: false });
        Ok(found)
    }

    /// Asks how many partitions a topic has while nobody waits for it. What does not confirm what is known is left to who asks
    /// when that is too old.
    fn ask_ahead(&self, topic: &Topic, now: Duration) {
        if let Some(known) = self.known.lock().get_mut(topic) {
            known.is_asked = true;
        }
        let (asker, known) = (Arc::clone(&self.asker), Arc::clone(&self.known));
        let (topic, name, limit) =
            (topic.clone(), self.name(topic), self.clients.settings().request_timeout());
        tokio::task::spawn_blocking(move || {
            let found = count(&asker, &name, limit);
            // Whoever doubted it since asks anew.
            if let Some(known) = known.lock().get_mut(&topic).filter(|known| known.is_asked) {
                known.is_asked = false;
                if found.is_ok_and(|found| found == Some(known.partitions)) {
                    known.read_at = known.read_at.max(now);
                }
            }
        });
    }

    /// Asks anew the next time.
    pub(crate) fn doubt(&self, topic: &Topic) {
        if let Some(known) = self.known.lock().get_mut(topic) {
            (known.read_at, known.is_asked) = (Duration::ZERO, false);
        }
    }

    /// Refuses a partition that the topic does not have.
    pub(crate) async fn check(&self, topic: &Topic, partition: u32) -> Result<()> {
        let count = self.partitions(topic).await?;
        if partition < count { Ok(()) } else { Err(no_partition(topic, partition, count as usize)) }
    }

    async fn count(&self, topic: &Topic) -> Result<Option<u32>> {
        let name = self.name(topic);
        let question = move |asker: &BaseConsumer<Listener>, limit: Duration| count(asker, &name, limit);
        let answer = self.ask(&format!("asking for topic `{}`", self.name(topic)), question).await?;
        Ok(answer.unwrap_or(None))
    }

    async fn make(&self, topic: &Topic) -> Result<u32> {
        let (name, settings) = (self.name(topic), self.clients.settings());
        if !settings.create_topics {
            let message =
                format!("there is no topic `{name}`; make it, or let topics be made (`create_topics`)");
            return Err(Error::new(codes::UNAVAILABLE, message));
        }
        let doing = format!("making topic `{name}`");
        let replicas = if settings.replicas == 0 { -1 } else { i32::from(settings.replicas) };
        let partitions = i32::try_from(settings.partitions).unwrap_or(1);
        // The largest event with its envelope, which is more than the brokers' default.
        let most_bytes = (2 * kernel::MAX_EVENT_BYTES).to_string();
        let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(replicas))
            .set("max.message.bytes", &most_bytes);
        let options = AdminOptions::new().request_timeout(Some(settings.request_timeout()));
        let administrator = self.clients.administrator()?;
        let answers = administrator.create_topics([&new], &options).await;
        // Its threads are joined where that holds up nobody.
        tokio::task::spawn_blocking(move || drop(administrator));
        match answers.map_err(|error| failure::of(&doing, &error, self.health()))?.pop() {
            Some(Err((_, code))) if code != Code::TopicAlreadyExists => {
                return Err(failure::of(&doing, &KafkaError::AdminOp(code), self.health()));
            }
            _ => info!(topic = name, partitions, "a topic was made"),
        }
        let until = self.clock.elapsed() + APPEARS_WITHIN;
        loop {
            if let Some(found) = self.count(topic).await? {
                return Ok(found);
            }
            if self.clock.elapsed() >= until {
                return Err(Error::new(
                    codes::UNAVAILABLE,
                    format!("topic `{name}` was made and is not seen yet"),
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The first offset that one partition holds, and the next one that it will give.
    pub(crate) async fn extent(&self, topic: &Topic, partition: u32) -> Result<Extent> {
        let name = self.name(topic);
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let question =
            move |asker: &BaseConsumer<Listener>, limit| asker.fetch_watermarks(&name, number, limit);
        let answer = self.ask(&format!("asking how long topic `{}` is", self.name(topic)), question).await?;
        let Ok((first, next)) = answer else {
            self.doubt(topic);
            return Err(failure::vanished(&self.name(topic)));
        };
        Ok(Extent { partition, first: offset(first), next: offset(next) })
    }

    /// The same of all partitions.
    pub(crate) async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        let count = self.partitions(topic).await?;
        let name = self.name(topic);
        let question = move |asker: &BaseConsumer<Listener>, limit: Duration| {
            let ends = |which: Offset| -> Result<Vec<u64>, KafkaError> {
                let mut asked = TopicPartitionList::with_capacity(count as usize);
                asked.add_partition_range(&name, 0, i32::try_from(count).unwrap_or(i32::MAX) - 1);
                asked.set_all_offsets(which)?;
                let answer = asker.offsets_for_times(asked, limit)?;
                let mut found = vec![0; count as usize];
                for part in answer.elements() {
                    part.error()?;
                    let place = usize::try_from(part.partition()).ok().and_then(|place| found.get_mut(place));
                    if let (Some(place), Offset::Offset(at)) = (place, part.offset()) {
                        *place = offset(at);
                    }
                }
                Ok(found)
            };
            Ok(ends(Offset::Beginning)?.into_iter().zip(ends(Offset::End)?).collect::<Vec<_>>())
        };
        let answer = self.ask(&format!("asking how long topic `{}` is", self.name(topic)), question).await?;
        let Ok(found) = answer else {
            self.doubt(topic);
            return Err(failure::vanished(&self.name(topic)));
        };
        let extents = (0..).zip(found).map(|(partition, (first, next))| Extent { partition, first, next });
        Ok(extents.collect())
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        // Its threads are joined where that holds up nobody.
        let asker = Arc::clone(&self.asker);
        std::thread::spawn(move || drop(asker));
    }
}

/// How many partitions the brokers say that a topic has; none where there is no such topic.
fn count(asker: &BaseConsumer<Listener>, name: &str, limit: Duration) -> Result<Option<u32>, KafkaError> {
    let answer = asker.fetch_metadata(Some(name), limit)?;
    let Some(found) = answer.topics().iter().find(|found| found.name() == name) else { return Ok(None) };
    match found.error().map(Code::from) {
        Some(code) if failure::is_unknown(code) => Ok(None),
        Some(code) => Err(KafkaError::MetadataFetch(code)),
        None => Ok(u32::try_from(found.partitions().len()).ok().filter(|count| *count > 0)),
    }
}

fn offset(raw: i64) -> u64 {
    u64::try_from(raw).unwrap_or_default()
}
