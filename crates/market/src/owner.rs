//! What the domain tells the edge of raw ticks: which it takes, and what it notes on them.
//!
//! It refuses a message that speaks for another tenant, and what is no JSON object. Anything else is taken, so that it is
//! durable: what is no tick by the mapping of now becomes a dead letter of the stage `normalization`, and is replayed
//! once the mapping is mended.
//!
//! [`BrokerTicks`] does the same for records that others write to the topic itself, where nobody was asked beforehand. They
//! name their tenant (or are of the one of the settings), and when they came is when the broker or the producer says, but
//! never later than now: a producer whose clock is ahead does not make its ticks believed.

use std::sync::Arc;

use async_trait::async_trait;
use edge::EventOwner;
use kernel::{Clock, Error, Event, Result, Scope, Timestamp, codes};
use serde_json::Value;
use store::{Appended, EventLog, Extent, ReadLimit, Stored, Topic};
use stream::{LogSource, PLACE, PUNCTUATION, REPLAY_OF, Source};

use crate::algorithms::ticks::{RejectionCode, Tenancy};
use crate::events::{RECEIVED_AT, kinds};
use crate::settings::Rules;
use crate::topology::RAW_TICKS;

/// What the source of an event begins with that a log made of a record which is none.
const RECORDS: &str = "/kafka/";

/// The owner of raw ticks.
#[derive(Debug)]
pub struct MarketOwner {
    rules: Arc<Rules>,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
}

impl MarketOwner {
    /// By these rules, for ticks that go to this log.
    #[must_use]
    pub fn new(rules: Arc<Rules>, log: Arc<dyn EventLog>, clock: Arc<dyn Clock>) -> Self {
        Self { rules, log, clock }
    }
}

#[async_trait]
impl EventOwner for MarketOwner {
    fn kinds(&self) -> &'static [&'static str] {
        &[kinds::RAW_TICK]
    }

    fn topic(&self) -> Topic {
        RAW_TICKS
    }

    fn log(&self) -> Option<Arc<dyn EventLog>> {
        Some(Arc::clone(&self.log))
    }

    fn admit(&self, scope: &Scope, event: &mut Event) -> Result<()> {
        if event.extensions.contains_key(REPLAY_OF) {
            return Err(Error::new(codes::INVALID_EVENT, "is for the server alone").with_field(REPLAY_OF));
        }
        let now = self.clock.now();
        complete(&self.rules, scope, event, now)
    }

    async fn settled(&self, _: &[Appended]) {
        // The stages run on their own, maybe in another process.
    }
}

/// The raw ticks of a topic that others write to.
#[derive(Debug)]
pub struct BrokerTicks {
    source: LogSource,
    rules: Arc<Rules>,
    clock: Arc<dyn Clock>,
}

impl BrokerTicks {
    /// Those in this log.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, rules: Arc<Rules>, clock: Arc<dyn Clock>) -> Self {
        Self { source: LogSource::new(log, RAW_TICKS), rules, clock }
    }
}

#[async_trait]
impl Source for BrokerTicks {
    async fn read(&self, partition: u32, offset: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        let mut found = self.source.read(partition, offset, limit).await?;
        let now = self.clock.now();
        found.iter_mut().for_each(|stored| adopt(&self.rules, &mut stored.event, now));
        Ok(found)
    }

    async fn extents(&self) -> Result<Vec<Extent>> {
        self.source.extents().await
    }

    async fn wait(&self, partition: u32, offset: u64) -> Result<()> {
        self.source.wait(partition, offset).await
    }
}

/// Makes a raw message of what somebody wrote to the topic. What is none stays what it is, for the dead letters.
fn adopt(rules: &Rules, event: &mut Event, now: Timestamp) {
    // What only the server may say: how far time has come, and what was taken before.
    if event.kind == PUNCTUATION {
        kinds::RAW_TICK.clone_into(&mut event.kind);
    }
    event.extensions.remove(PLACE);
    let received = when_written(event).unwrap_or(now).min(now);
    let scope = Scope::system(event.tenant.clone(), "market");
    if complete(rules, &scope, event, received).is_err() {
        event.extensions.insert(RECEIVED_AT.to_owned(), Value::String(received.to_string()));
    }
}

/// When a raw message came in, where it says so. The time of a record that is no event is when it was written; the time of an
/// event is when that happened.
pub(crate) fn when_written(event: &Event) -> Option<Timestamp> {
    let noted = event.extensions.get(RECEIVED_AT).and_then(Value::as_str).and_then(|text| text.parse().ok());
    noted.or_else(|| event.source.starts_with(RECORDS).then_some(event.time))
}

/// Notes on a raw message when it came, and, where it is a tick, when it happened and which instrument it is about. For
/// every way in.
///
/// # Errors
/// `TENANT_MISMATCH`; `INVALID_EVENT` for data that are no JSON object.
pub fn complete(rules: &Rules, scope: &Scope, event: &mut Event, received: Timestamp) -> Result<()> {
    let message = event.data.as_ref().map_or("null", |data| data.get());
    if !message.starts_with('{') {
        let error = Error::new(codes::INVALID_EVENT, "must be a JSON object, the message of a feed");
        return Err(error.with_field("data"));
    }
    let tenancy = Tenancy::Only(scope.tenant());
    let found =
        rules.read(message.as_bytes(), tenancy, |tick, _| (tick.occurred_us, tick.instrument.to_string()));
    match found {
        Ok((occurred_us, instrument)) => {
            event.time = Timestamp::from_microsecond(occurred_us).unwrap_or(event.time);
            event.subject.get_or_insert_with(|| instrument.clone());
            event.partition_key.get_or_insert(instrument);
        }
        Err(fault) if fault.code == RejectionCode::TenantMismatch => return Err(fault.into()),
        Err(_) => {}
    }
    event.extensions.insert(RECEIVED_AT.to_owned(), Value::String(received.to_string()));
    Ok(())
}
