//! Where outputs go: at least once, each with an id that never changes, so that once is what is left of it.
//!
//! To add a sink: [`Sink`], which must take the same outputs again after a failure without doing anything twice,
//! by (tenant, source, id). [`LogSink`] leaves that to the log.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use kernel::{Error, Event, Result, Scope, codes};
use store::{EventLog, MAX_APPEND_BATCH, Topic};

/// Topics and tenants that are written at the same time.
const APPENDS_AT_ONCE: usize = 8;

/// One output of a topology.
#[derive(Debug, Clone)]
pub struct Output {
    /// Where it is to go.
    pub topic: Topic,
    /// What it says.
    pub event: Event,
}

impl Output {
    /// Appends its stored form; the length of its event.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) -> usize {
        let topic = self.topic.as_str().as_bytes();
        bytes.push(u8::try_from(topic.len()).expect("a topic has at most 128 bytes"));
        bytes.extend_from_slice(topic);
        let place = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        serde_json::to_writer(&mut *bytes, &self.event).expect("every part of an event has a JSON form");
        let length = bytes.len() - place - 4;
        let stored = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        bytes[place..place + 4].copy_from_slice(&stored);
        length
    }

    /// Reads what [`Output::write`] wrote, one after the other.
    pub(crate) fn read_all(mut bytes: &[u8]) -> Result<Vec<Self>> {
        let damaged = || Error::new(codes::CORRUPTED, "a stored output cannot be read");
        let mut outputs = Vec::new();
        while let Some((length, rest)) = bytes.split_first() {
            let (topic, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(damaged)?;
            let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (event, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
            let topic = std::str::from_utf8(topic).map_err(|_| damaged())?;
            outputs.push(Self { topic: Topic::new(topic)?, event: Event::from_json(event)? });
            bytes = rest;
        }
        Ok(outputs)
    }
}

/// Takes outputs.
#[async_trait]
pub trait Sink: Send + Sync + Debug {
    /// Takes outputs in order and returns when they are durable. The same ones may come again.
    ///
    /// # Errors
    /// Whatever it is, the same outputs are sent again, and nothing after them before that.
    async fn deliver(&self, outputs: Vec<Output>) -> Result<()>;
}

/// Appends outputs to their topics.
#[derive(Debug)]
pub struct LogSink {
    log: Arc<dyn EventLog>,
}

impl LogSink {
    /// Over a log. One that does not drop duplicates by itself keeps what comes again after a failure: see
    /// [`crate::Repeats`].
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self { log }
    }
}

#[async_trait]
impl Sink for LogSink {
    async fn deliver(&self, outputs: Vec<Output>) -> Result<()> {
        // By topic and tenant, each in order: between two of them there is no order to keep.
        let mut groups: Vec<(Topic, Vec<Vec<Event>>)> = Vec::new();
        for Output { topic, event } in outputs {
            let same = |(other, batches): &(Topic, Vec<Vec<Event>>)| {
                *other == topic && batches[0][0].tenant == event.tenant
            };
            let Some(place) = groups.iter().rposition(same) else {
                groups.push((topic, vec![vec![event]]));
                continue;
            };
            let batches = &mut groups[place].1;
            match batches.last_mut().filter(|batch| batch.len() < MAX_APPEND_BATCH) {
                Some(batch) => batch.push(event),
                None => batches.push(vec![event]),
            }
        }
        let append = |(topic, batches): (Topic, Vec<Vec<Event>>)| async move {
            for batch in batches {
                let scope = Scope::system(batch[0].tenant.clone(), "stream");
                self.log.append(&scope, &topic, batch).await?;
            }
            Ok(())
        };
        // At the same time, so that they wait for one disk or broker together.
        let written = futures::stream::iter(groups.into_iter().map(append)).buffer_unordered(APPENDS_AT_ONCE);
        written.collect::<Vec<Result<()>>>().await.into_iter().collect()
    }
}
