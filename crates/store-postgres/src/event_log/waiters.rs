//! Who waits for events, and what wakes them: an append of this process, a notification of another one, or a look at
//! the database now and then, which finds what a lost notification would have told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use kernel::{Entropy, Error, Result};
use parking_lot::Mutex;
use store::{Appended, Outcome, Topic, backoff};
use tokio::sync::{Notify, watch};
use tokio_postgres::AsyncMessage;

use crate::config::{Settings, duration};
use crate::database::{Background, connect_alone};
use crate::event_log::topics::Topics;
use crate::failure::Failure;

// Notifications that come closer together are answered by one look.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(5);

// How soon a look that failed is made again, at most.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

// How often the connection that only listens is asked whether it lives: one that was lost without a word says nothing.
const LISTENER_BEAT: Duration = Duration::from_secs(5);

type Place = (Topic, u32);

/// The next offset of each partition that somebody waits for, as far as it is known here.
#[derive(Debug)]
pub(super) struct Waiters {
    channel: String,
    // Tells this process's own notifications from others'.
    sender: String,
    partitions: Arc<Partitions>,
    _tasks: [Background; 2],
}

#[derive(Debug, Default)]
struct Partitions {
    next_offsets: Mutex<HashMap<Place, watch::Sender<u64>>>,
    look: Notify,
}

impl Partitions {
    fn told(&self, topic: &Topic, partition: u32, next: u64) {
        if let Some(known) = self.next_offsets.lock().get(&(topic.clone(), partition)) {
            known.send_if_modified(|known| {
                let is_new = next > *known;
                *known = next.max(*known);
                is_new
            });
        }
    }

    /// The topics that somebody waits for; those that nobody does are forgotten.
    fn topics(&self) -> Vec<Topic> {
        let mut next_offsets = self.next_offsets.lock();
        next_offsets.retain(|_, known| known.receiver_count() > 0);
        let mut topics: Vec<Topic> = next_offsets.keys().map(|(topic, _)| topic.clone()).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }
}

impl Waiters {
    /// Starts listening and looking.
    pub(super) fn start(topics: Arc<Topics>, settings: &Settings, entropy: &Arc<dyn Entropy>) -> Arc<Self> {
        let partitions = Arc::<Partitions>::default();
        let channel = format!("watershed_{}", settings.schema);
        let sender = format!("{:016x}", entropy.next_u64());
        let listener = Listener {
            settings: settings.clone(),
            channel: channel.clone(),
            sender: sender.clone(),
            partitions: Arc::clone(&partitions),
        };
        let tasks = [
            Background::start(listener.run(Arc::clone(entropy))),
            Background::start(look(topics, Arc::clone(&partitions), duration(settings.poll_seconds))),
        ];
        Arc::new(Self { channel, sender, partitions, _tasks: tasks })
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// What tells other processes that a topic has new events.
    pub(super) fn notice(&self, topic: &Topic) -> String {
        format!("{} {topic}", self.sender)
    }

    /// Tells this process's waiters of events that are durable now.
    pub(super) fn publish(&self, topic: &Topic, places: &[Appended]) {
        let mut next_offsets = HashMap::new();
        for place in places.iter().filter(|place| place.outcome == Outcome::New) {
            next_offsets.insert(place.partition, place.offset + 1);
        }
        for (partition, next) in next_offsets {
            self.partitions.told(topic, partition, next);
        }
    }

    pub(super) async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        let mut next = {
            let mut next_offsets = self.partitions.next_offsets.lock();
            let known =
                next_offsets.entry((topic.clone(), partition)).or_insert_with(|| watch::Sender::new(0));
            known.subscribe()
        };
        if *next.borrow() <= offset {
            self.partitions.look.notify_one();
        }
        next.wait_for(|next| *next > offset).await.map_err(Error::internal)?;
        Ok(())
    }
}

/// Looks at the database while somebody waits: when told to, and every now and then.
async fn look(topics: Arc<Topics>, partitions: Arc<Partitions>, every: Duration) {
    loop {
        let _ = tokio::time::timeout(every, partitions.look.notified()).await;
        let waited_for = partitions.topics();
        if waited_for.is_empty() {
            continue;
        }
        match topics.next_offsets(&waited_for).await {
            Ok(found) => {
                found.iter().for_each(|(topic, partition, next)| partitions.told(topic, *partition, *next));
                tokio::time::sleep(LOOK_AT_MOST_EVERY).await;
            }
            Err(error) => {
                tracing::debug!(cause = error.chain(), "the database was not looked at for new events");
                // What it was to look for may be there all the same.
                partitions.look.notify_one();
                tokio::time::sleep(every.min(LOOK_AGAIN_AFTER)).await;
            }
        }
    }
}

/// Listens on a connection of its own, and again when it is lost.
struct Listener {
    settings: Settings,
    channel: String,
    sender: String,
    partitions: Arc<Partitions>,
}

impl Listener {
    async fn run(self, entropy: Arc<dyn Entropy>) {
        let mut attempts = 0;
        loop {
            match self.listen(&mut attempts).await {
                Ok(()) => tracing::debug!("the connection that listens for events was closed"),
                Err(error) => tracing::debug!(cause = error.chain(), "nothing listens for events"),
            }
            tokio::time::sleep(backoff(attempts, &*entropy)).await;
            attempts = attempts.saturating_add(1);
        }
    }

    /// Returns when the connection ends.
    async fn listen(&self, attempts: &mut u32) -> Result<()> {
        let (client, mut connection) = connect_alone(&self.settings).await?;
        let (notices, mut noticed) = mpsc::unbounded();
        let _connection = Background::start(async move {
            let mut messages = futures::stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(notice) = message
                    && notices.unbounded_send(notice).is_err()
                {
                    break;
                }
            }
        });
        let statement = format!("LISTEN \"{}\"", self.channel);
        let listen = client.batch_execute(&statement);
        let limit = duration(self.settings.acquire_timeout_seconds);
        let listening = tokio::time::timeout(limit, listen).await.map_err(|_| Failure::silent().error)?;
        listening.map_err(|cause| Failure::from(cause).error)?;
        *attempts = 0;
        // What came before this connection listened.
        self.partitions.look.notify_one();
        loop {
            match tokio::time::timeout(LISTENER_BEAT, noticed.next()).await {
                Ok(Some(notice)) => {
                    let is_own = notice.payload().split(' ').next() == Some(&*self.sender);
                    if !is_own {
                        self.partitions.look.notify_one();
                    }
                }
                Ok(None) => return Ok(()),
                Err(_) => {
                    let asked = tokio::time::timeout(limit, client.batch_execute("SELECT 1")).await;
                    let asked = asked.map_err(|_| Failure::silent().error)?;
                    asked.map_err(|cause| Failure::from(cause).error)?;
                }
            }
        }
    }
}
