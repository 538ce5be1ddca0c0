//! What the clock said to the bars: punctuations, said again where they were said.
//!
//! They stand in the enriched ticks of live, and not in the raw ones. Each is put behind the same enriched tick: outputs
//! have ids that follow from what made them, so that a replay has the same. Where the rules of now no longer make that
//! tick, it is put before the first one that came later than it was said.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use kernel::{Error, Event, Result, TenantId};
use serde::Deserialize;
use store::{EventLog, Extent, ReadLimit, Stored};
use stream::{Punctuation, Source};

use super::replay::ScratchSource;
use crate::topology::ENRICHED_TICKS;

/// Places between two ticks, for what was said between them.
const BITS: u32 = 24;
const LAST: u64 = (1 << BITS) - 1;

/// By the offset of the enriched tick before which they stand, in order.
pub(super) type Marks = BTreeMap<u64, Vec<Event>>;

/// Something that was said.
struct Said {
    event: Event,
    now_ms: i64,
    /// The id of the tick before it.
    behind: Option<String>,
    place: Option<u64>,
}

/// Finds what was said to a tenant in a partition of `log` before `told`, and where it belongs in `enriched`.
pub(super) async fn find(
    log: &dyn EventLog,
    tenant: &TenantId,
    partition: u32,
    told: u64,
    enriched: &ScratchSource,
) -> Result<Marks> {
    let mut said = heard(log, tenant, partition, told).await?;
    if said.is_empty() {
        return Ok(Marks::new());
    }
    place_by_tick(&mut said, enriched).await?;
    if said.iter().any(|one| one.place.is_none()) {
        place_by_time(&mut said, enriched).await?;
    }
    let (mut marks, mut least) = (Marks::new(), 0);
    for one in said {
        let place = one.place.unwrap_or(0).max(least);
        least = place;
        marks.entry(place).or_default().push(one.event);
    }
    if marks.values().any(|marks| marks.len() as u64 >= LAST) {
        return Err(Error::internal("more was said between two ticks than a backfill can say again"));
    }
    Ok(marks)
}

async fn heard(log: &dyn EventLog, tenant: &TenantId, partition: u32, told: u64) -> Result<Vec<Said>> {
    let extents = log.extents(&ENRICHED_TICKS).await?;
    let (mut said, mut behind) = (Vec::<Said>::new(), None);
    let Some(extent) = extents.into_iter().find(|extent| extent.partition == partition) else {
        return Ok(said);
    };
    let mut offset = extent.first;
    while offset < told {
        let batch = log.read(&ENRICHED_TICKS, partition, offset, ReadLimit::default()).await?;
        let Some(last) = batch.last() else { break };
        offset = last.offset + 1;
        for Stored { offset, event } in batch {
            if offset >= told || event.tenant != *tenant {
                continue;
            }
            match Punctuation::of(&event) {
                Ok(Some(one)) if one.partition == partition => {
                    // Of what was said behind one tick the last says it all.
                    said.pop_if(|before| {
                        before.behind == behind && before.now_ms <= one.now_ms && one.is_idle
                    });
                    said.push(Said { now_ms: one.now_ms, behind: behind.clone(), place: None, event });
                }
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => behind = Some(event.id),
            }
        }
    }
    Ok(said)
}

async fn place_by_tick(said: &mut [Said], enriched: &ScratchSource) -> Result<()> {
    let mut wanted: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, one) in said.iter().enumerate() {
        if let Some(behind) = &one.behind {
            wanted.entry(behind.clone()).or_default().push(index);
        }
    }
    let mut offset = 0;
    while !wanted.is_empty() {
        let batch = enriched.events(offset, ReadLimit::default()).await?;
        let Some(last) = batch.last() else { break };
        offset = last.offset + 1;
        for stored in batch {
            for index in wanted.remove(&stored.event.id).unwrap_or_default() {
                said[index].place = Some(stored.offset + 1);
            }
        }
    }
    Ok(())
}

async fn place_by_time(said: &mut [Said], enriched: &ScratchSource) -> Result<()> {
    #[derive(Deserialize)]
    struct Came {
        ingested_at: i64,
    }
    let mut open: Vec<&mut Said> = said.iter_mut().filter(|one| one.place.is_none()).collect();
    open.sort_by_key(|one| std::cmp::Reverse(one.now_ms));
    let mut offset = 0;
    while !open.is_empty() {
        let batch = enriched.events(offset, ReadLimit::default()).await?;
        let Some(last) = batch.last() else { break };
        offset = last.offset + 1;
        for stored in &batch {
            let came_us = stored.event.data_as::<Came>()?.ingested_at;
            while let Some(one) = open.pop_if(|one| one.now_ms.saturating_mul(1_000) < came_us) {
                one.place = Some(stored.offset);
            }
        }
    }
    for one in open {
        one.place = Some(offset);
    }
    Ok(())
}

/// Enriched ticks with the marks between them. The tick at `offset` stands at `offset << BITS | LAST`, and what was said
/// before it at the places before that.
#[derive(Debug)]
pub(super) struct Marked {
    ticks: ScratchSource,
    marks: Marks,
}

impl Marked {
    pub(super) fn new(ticks: ScratchSource, marks: Marks) -> Self {
        Self { ticks, marks }
    }

    /// The place after the last.
    pub(super) async fn end(&self) -> Result<u64> {
        let end = self.ticks.extent().await?.next;
        let behind = self.marks.get(&end).map_or(0, Vec::len) as u64;
        Ok((end << BITS) + behind)
    }

    fn said_before(&self, offset: u64, skip: u64, found: &mut Vec<Stored>) {
        let said = self.marks.get(&offset).map_or(&[][..], Vec::as_slice);
        let places = (0..).zip(said).skip_while(|(place, _)| *place < skip);
        found.extend(
            places.map(|(place, event)| Stored { offset: (offset << BITS) | place, event: event.clone() }),
        );
    }
}

#[async_trait]
impl Source for Marked {
    async fn read(&self, _: u32, at: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        let (from, skip) = (at >> BITS, at & LAST);
        let mut found = Vec::new();
        let ticks = self.ticks.events(from, limit).await?;
        if ticks.is_empty() {
            self.said_before(from, skip, &mut found);
        }
        for Stored { offset, event } in ticks {
            self.said_before(offset, if offset == from { skip } else { 0 }, &mut found);
            found.push(Stored { offset: (offset << BITS) | LAST, event });
        }
        Ok(found)
    }

    async fn extents(&self) -> Result<Vec<Extent>> {
        let extent = self.ticks.extent().await?;
        Ok(vec![Extent { partition: extent.partition, first: extent.first << BITS, next: self.end().await? }])
    }

    async fn wait(&self, partition: u32, at: u64) -> Result<()> {
        self.ticks.wait(partition, at >> BITS).await
    }
}
