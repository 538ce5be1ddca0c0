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

/// Begins stored outputs that are compressed. Others begin with the length of a topic, which is never zero.
const COMPRESSED: u8 = 0;
/// LZ4 makes at most so many bytes of one.
const MOST_COMPRESSED: usize = 255;

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

    /// What is stored of outputs that [`Output::write`] wrote one after the other: a record of a few MiB is written to disk
    /// several times before its outputs are delivered and it goes.
    pub(crate) fn pack(written: &[u8]) -> Vec<u8> {
        if written.is_empty() {
            return Vec::new();
        }
        let compressed = lz4_flex::block::compress_prepend_size(written);
        [&[COMPRESSED], compressed.as_slice()].concat()
    }

    /// Reads what [`Output::pack`] made, or what a release before it stored as it was written.
    pub(crate) fn unpack(packed: &[u8]) -> Result<Vec<Self>> {
        let Some(rest) = packed.strip_prefix(&[COMPRESSED]) else { return Self::read_all(packed) };
        let damaged = || Error::new(codes::CORRUPTED, "stored outputs cannot be read");
        let (length, rest) = lz4_flex::block::uncompressed_size(rest).map_err(|_| damaged())?;
        if length > rest.len().saturating_mul(MOST_COMPRESSED) {
            return Err(damaged());
        }
        Self::read_all(&lz4_flex::block::decompress(rest, length).map_err(|_| damaged())?)
    }

    fn read_all(mut bytes: &[u8]) -> Result<Vec<Self>> {
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

#[cfg(test)]
mod tests {
    use kernel::{TenantId, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn written(count: usize) -> Vec<u8> {
        let (mut bytes, tenant) = (Vec::new(), TenantId::new("desk").unwrap());
        for id in 0..count {
            let event = Event::new(&tenant, id.to_string(), "/test", "t", Timestamp::UNIX_EPOCH);
            Output { topic: Topic::new(format!("topic-{}", id % 3)).unwrap(), event }.write(&mut bytes);
        }
        bytes
    }

    fn shown(outputs: &[Output]) -> Vec<u8> {
        let mut bytes = Vec::new();
        outputs.iter().for_each(|output| _ = output.write(&mut bytes));
        bytes
    }

    #[test]
    fn outputs_are_unpacked_as_they_were_written() {
        for count in [0, 1, 2, 500] {
            let written = written(count);
            let packed = Output::pack(&written);
            assert_eq!(shown(&Output::unpack(&packed).unwrap()), written, "{count}");
            assert!(count < 10 || packed.len() < written.len() / 4, "{} of {}", packed.len(), written.len());
            assert_eq!(shown(&Output::unpack(&written).unwrap()), written, "as releases before wrote it");
        }
    }

    proptest! {
        #[test]
        fn damaged_outputs_are_refused_or_read_as_outputs(at in 0_usize..200, byte: u8, cut in 0_usize..200) {
            let mut packed = Output::pack(&written(20));
            let at = at % packed.len();
            packed[at] = byte;
            packed.truncate(packed.len() - cut % packed.len());
            if let Err(error) = Output::unpack(&packed) {
                prop_assert!([codes::CORRUPTED, codes::VALIDATION_ERROR].contains(&error.code()), "{error:?}");
            }
        }
    }
}
