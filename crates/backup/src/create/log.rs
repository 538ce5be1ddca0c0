//! Ships the log: the segments that are new, and the last one anew while it is small.

use kernel::{Error, Event, Result, codes};
use store::{Extent, ReadLimit, Topic};

use super::Maker;
use crate::part::add_event;
use crate::{Manifest, Mark, PartitionPart, Segment, Step, TopicPart};

/// A segment has about as many bytes before it is compressed. Tests have many.
const SEGMENT_BYTES: usize = if cfg!(test) { 2_000 } else { 16 << 20 };

impl From<&Event> for Mark {
    fn from(event: &Event) -> Self {
        Self {
            tenant: event.tenant.clone(),
            source: event.source.clone(),
            id: event.id.clone(),
            time: event.time,
        }
    }
}

impl Maker<'_> {
    /// Every topic, up to where it ends now.
    pub(super) async fn log(&mut self, before: Option<&Manifest>) -> Result<Vec<TopicPart>> {
        let mut topics = Vec::new();
        let mut ends = Vec::new();
        for topic in self.rules.topics.clone() {
            let extents = self.source.log.extents(&topic).await?;
            ends.push((topic, extents));
        }
        let total =
            ends.iter().flat_map(|(_, extents)| extents).map(|extent| extent.next - extent.first).sum();
        for (topic, extents) in ends {
            let held = before
                .and_then(|manifest| manifest.topics.iter().find(|held| held.topic == topic.as_str()))
                .filter(|held| held.partitions.iter().any(|partition| partition.next > 0));
            if held.is_some_and(|held| held.partitions.len() != extents.len()) {
                return Err(self.another_log(&topic));
            }
            let mut partitions = Vec::with_capacity(extents.len());
            for extent in extents {
                let held = held.and_then(|held| held.partitions.get(extent.partition as usize));
                partitions.push(self.partition(&topic, extent, held, total).await?);
            }
            topics.push(TopicPart { topic: topic.as_str().to_owned(), partitions });
        }
        Ok(topics)
    }

    fn another_log(&self, topic: &Topic) -> Error {
        let message = format!(
            "the backups in {} are of another log than this one (topic `{topic}`), or of one that went on after \
             this one was restored; give this one a place of its own",
            self.vault.name()
        );
        Error::new(codes::CONFLICT, message)
    }

    async fn partition(
        &mut self,
        topic: &Topic,
        extent: Extent,
        held: Option<&PartitionPart>,
        total: u64,
    ) -> Result<PartitionPart> {
        let mut segments = Vec::new();
        if let Some(held) = held {
            self.check_same(topic, extent, held).await?;
            if held.next == extent.next && self.is_in_vault(&held.segments) {
                return Ok(held.clone());
            }
            // What retention took since cannot be sent again; what is missing from the vault is.
            let is_kept = |segment: &&Segment| segment.is_full || segment.first < extent.first;
            let full: Vec<Segment> = held.segments.iter().filter(is_kept).cloned().collect();
            let from = full.iter().rposition(|segment| !self.is_in_vault(std::slice::from_ref(segment)));
            segments = if from.is_some() { Vec::new() } else { full };
        }
        let mut start = segments.last().map_or(0, |segment| segment.next);
        if start < extent.first {
            // Retention took what is between. The views hold it, which `views::check` makes sure of.
            segments.clear();
            start = extent.first;
        }
        let last = self.ship(topic, extent, start, &mut segments, total).await?;
        let last = last.or_else(|| held.and_then(|held| held.last.clone()));
        Ok(PartitionPart { next: extent.next, last, segments })
    }

    pub(crate) fn is_in_vault(&self, segments: &[Segment]) -> bool {
        segments.iter().all(|segment| self.known.get(&segment.part.blake3) == Some(&segment.part))
    }

    /// Whether the log is the one that the backup before was made of: it goes on from its last event.
    async fn check_same(&self, topic: &Topic, extent: Extent, held: &PartitionPart) -> Result<()> {
        if held.next > extent.next {
            return Err(self.another_log(topic));
        }
        let Some(mark) = &held.last else { return Ok(()) };
        if held.next <= extent.first {
            return Ok(());
        }
        let limit = ReadLimit { events: 1, ..ReadLimit::default() };
        let found = self.source.log.read(topic, extent.partition, held.next - 1, limit).await?;
        match found.first() {
            Some(stored) if Mark::from(&stored.event) == *mark => Ok(()),
            _ => Err(self.another_log(topic)),
        }
    }

    /// Sends the events from `start` to the end; returns the last one.
    async fn ship(
        &mut self,
        topic: &Topic,
        extent: Extent,
        start: u64,
        segments: &mut Vec<Segment>,
        total: u64,
    ) -> Result<Option<Mark>> {
        let (mut raw, mut first, mut offset, mut last) = (Vec::new(), start, start, None);
        while offset < extent.next {
            let batch = self.source.log.read(topic, extent.partition, offset, ReadLimit::default()).await?;
            for stored in batch.iter().take_while(|stored| stored.offset < extent.next) {
                if stored.offset != offset {
                    let message = "retention took events while they were read; try again";
                    return Err(Error::new(codes::UNAVAILABLE, message));
                }
                add_event(&mut raw, &stored.event)?;
                offset += 1;
                if raw.len() >= SEGMENT_BYTES {
                    let part = self.put(std::mem::take(&mut raw)).await?;
                    segments.push(Segment { first, next: offset, is_full: true, part });
                    first = offset;
                }
            }
            let Some(stored) = batch.iter().rfind(|stored| stored.offset < extent.next) else {
                return Err(Error::new(codes::UNAVAILABLE, "the log ends before it said; try again"));
            };
            last = Some(Mark::from(&stored.event));
            (self.tell)(Step { what: "events", done: offset - extent.first.min(offset), total });
        }
        if !raw.is_empty() {
            let part = self.put(raw).await?;
            segments.push(Segment { first, next: offset, is_full: false, part });
        }
        Ok(last)
    }
}
