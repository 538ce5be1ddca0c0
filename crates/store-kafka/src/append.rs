//! Writing: many records on their way at once, answered in the order in which they were given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kernel::{Error, Event, Result, codes};
use parking_lot::Mutex;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::future_producer::{Delivery, DeliveryFuture};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer, PurgeConfig};
use store::{Appended, Outcome};
use tracing::info;

use crate::connect::{Clients, Listener};
use crate::failure;
use crate::record::{Written, headers};

type Sender = FutureProducer<Listener>;

/// How long a caller waits before it looks again whether the client's queue has room.
const PAUSE: Duration = Duration::from_millis(5);

/// What became of an append.
#[derive(Debug)]
pub(crate) struct Landed {
    pub places: Vec<Appended>,
    /// The length of each record.
    pub bytes: Vec<usize>,
    /// Whether every offset is known. That of a record that an earlier try had written is not.
    pub is_placed: bool,
}

pub(crate) struct Appender {
    clients: Clients,
    sender: Mutex<Arc<Sender>>,
}

impl std::fmt::Debug for Appender {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Appender").finish_non_exhaustive()
    }
}

impl Appender {
    pub(crate) fn new(clients: Clients) -> Result<Self> {
        let sender = Mutex::new(Arc::new(clients.producer()?));
        Ok(Self { clients, sender })
    }

    /// Writes events in order and returns when each is acknowledged by every copy that is in step. Where one fails, what
    /// was already on its way may have been written.
    pub(crate) async fn append(&self, topic: &str, events: &[Event]) -> Result<Landed> {
        let sender = Arc::clone(&self.sender.lock());
        let headers = headers();
        let landed = Landed {
            places: Vec::with_capacity(events.len()),
            bytes: Vec::with_capacity(events.len()),
            is_placed: true,
        };
        let mut flight = Flight { sent: VecDeque::new(), landed, failure: None };
        for event in events {
            let Written { key, value } = Written::of(event);
            flight.landed.bytes.push(value.len());
            let mut record = FutureRecord::to(topic).key(&key).payload(&value).headers(headers.clone());
            loop {
                match sender.send_result(record) {
                    Ok(sent) => break flight.sent.push_back(sent),
                    Err((KafkaError::MessageProduction(Code::QueueFull), again)) => {
                        record = again;
                        flight.make_room().await;
                    }
                    Err((error, _)) => {
                        flight.failure.get_or_insert(error);
                        break;
                    }
                }
            }
            if flight.failure.is_some() {
                break;
            }
        }
        while flight.land().await {}
        let counters = &self.clients.health.counters;
        counters.appended.fetch_add(flight.landed.places.len() as u64, Ordering::Relaxed);
        let Some(error) = flight.failure else {
            self.clients.health.answers();
            return Ok(flight.landed);
        };
        counters
            .append_failures
            .fetch_add((events.len() - flight.landed.places.len()) as u64, Ordering::Relaxed);
        self.replace_if_broken(&sender, &error)?;
        Err(self.explain(topic, &error))
    }

    fn explain(&self, topic: &str, error: &KafkaError) -> Error {
        match error.rdkafka_error_code() {
            Some(code) if failure::is_unknown(code) => failure::vanished(topic),
            Some(Code::MessageTimedOut | Code::PurgeQueue | Code::PurgeInflight) => {
                let error = failure::of(&format!("writing to topic `{topic}`"), error, &self.clients.health);
                let message = format!("{}; what is sent again may stand twice", error.message());
                Error::new(codes::UNAVAILABLE, message).with_source(error)
            }
            _ => failure::of(&format!("writing to topic `{topic}`"), error, &self.clients.health),
        }
    }

    /// A client that met a fatal error is of no more use, and one whose records timed out goes on under an epoch of its
    /// own making (KIP-360), which not every broker takes. What it still holds fails, and is sent again by its callers.
    fn replace_if_broken(&self, broken: &Arc<Sender>, error: &KafkaError) -> Result<()> {
        let fatal = broken.client().fatal_error().map(|(_, reason)| reason);
        if fatal.is_none() && error.rdkafka_error_code() != Some(Code::MessageTimedOut) {
            return Ok(());
        }
        let mut current = self.sender.lock();
        if Arc::ptr_eq(&current, broken) {
            let reason = fatal.as_deref().unwrap_or("records timed out");
            info!(server = "kafka", reason, "the client that writes is made anew");
            *current = Arc::new(self.clients.producer()?);
            let broken = Arc::clone(broken);
            tokio::task::spawn_blocking(move || broken.purge(PurgeConfig::default().queue().inflight()));
        }
        Ok(())
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        // Its threads are joined where that holds up nobody.
        let sender = Arc::clone(&self.sender.lock());
        std::thread::spawn(move || drop(sender));
    }
}

/// Records on their way.
struct Flight {
    sent: VecDeque<DeliveryFuture>,
    landed: Landed,
    failure: Option<KafkaError>,
}

impl Flight {
    /// Waits for the oldest one; false when none is left.
    async fn land(&mut self) -> bool {
        let Some(oldest) = self.sent.pop_front() else { return false };
        match oldest.await {
            Ok(Ok(Delivery { partition, offset, .. })) => {
                self.landed.is_placed &= offset >= 0;
                self.landed.places.push(Appended {
                    partition: u32::try_from(partition).unwrap_or_default(),
                    offset: u64::try_from(offset).unwrap_or_default(),
                    outcome: Outcome::New,
                });
            }
            Ok(Err((error, _))) => {
                self.failure.get_or_insert(error);
            }
            Err(_) => {
                self.failure.get_or_insert(KafkaError::Canceled);
            }
        }
        true
    }

    async fn make_room(&mut self) {
        if !self.land().await {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
