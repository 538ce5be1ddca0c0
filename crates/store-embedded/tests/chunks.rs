//! Events that were appended together are stored together; each is still found at its own place.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::Arc;

use kernel::{Event, Scope, SystemClock, TenantId, Timestamp};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use store::{EventLog, Outcome, ReadLimit, Retention, Topic};
use store_embedded::{EmbeddedStore, Options};

const TOPIC: Topic = Topic::fixed("events");
const PARTITIONS: u32 = 3;

fn scope() -> Scope {
    Scope::system(TenantId::new("shop").unwrap(), "test")
}

fn open(folder: &Path, recent_bytes: u64) -> Arc<dyn EventLog> {
    let options = Options { partitions: PARTITIONS, recent_bytes, ..Options::default() };
    EmbeddedStore::open(folder, options, Arc::new(SystemClock::new())).unwrap().event_log()
}

fn event(id: u64) -> Event {
    let event = Event::new(scope().tenant(), id.to_string(), "/test", "t", Timestamp::UNIX_EPOCH);
    Event { subject: Some("x".repeat(usize::try_from(id % 700).unwrap() + 1)), ..event }
}

/// What the log should hold: by partition the first offset that is held and every id.
#[derive(Debug, Default)]
struct Model {
    partitions: [(usize, Vec<u64>); PARTITIONS as usize],
}

impl Model {
    async fn append(&mut self, log: &dyn EventLog, ids: Vec<u64>) {
        let places = log.append(&scope(), &TOPIC, ids.iter().copied().map(event).collect()).await.unwrap();
        assert_eq!(places.len(), ids.len());
        for (place, id) in places.iter().zip(ids) {
            let held = &mut self.partitions[place.partition as usize].1;
            if place.outcome == Outcome::New {
                assert_eq!(place.offset, held.len() as u64);
                held.push(id);
            }
            assert_eq!(held[usize::try_from(place.offset).unwrap()], id);
        }
    }

    async fn check(&self, log: &dyn EventLog, random: &mut ChaCha8Rng) {
        for (partition, extent) in (0..).zip(log.extents(&TOPIC).await.unwrap()) {
            let (first, held) = &self.partitions[partition as usize];
            assert_eq!((extent.first, extent.next), (*first as u64, held.len() as u64));
            for _ in 0..4 {
                let offset = random.random_range(0..=held.len());
                let limit = ReadLimit { events: random.random_range(1..300), bytes: usize::MAX };
                let found = log.read(&TOPIC, partition, offset as u64, limit).await.unwrap();
                let from = offset.max(*first);
                let offsets = found.iter().map(|stored| stored.offset);
                assert!(offsets.eq((from as u64..).take(found.len())));
                let ids = found.iter().map(|stored| stored.event.id.parse::<u64>().unwrap());
                assert!(ids.eq(held[from..].iter().copied().take(found.len())));
                assert_eq!(found.is_empty(), from == held.len(), "{offset} of {}", held.len());
                assert!(
                    found
                        .iter()
                        .zip(&held[from..])
                        .all(|(stored, id)| stored.event.to_json() == event(*id).to_json())
                );
            }
        }
    }

    async fn retain(&mut self, log: &dyn EventLog, newest: u64) {
        let keep = Retention { events: Some(newest), ..Retention::default() };
        log.retain(&TOPIC, keep, Timestamp::UNIX_EPOCH).await.unwrap();
        for (first, held) in &mut self.partitions {
            *first = (*first).max(held.len().saturating_sub(usize::try_from(newest).unwrap()));
        }
    }
}

async fn run(seed: u64, recent_bytes: u64) {
    let (folder, mut model) = (tempfile::tempdir().unwrap(), Model::default());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut log = open(folder.path(), recent_bytes);
    let mut next = 0;
    for _ in 0..25 {
        match random.random_range(0..10) {
            0 => {
                drop(log);
                log = open(folder.path(), recent_bytes);
            }
            1 => model.retain(log.as_ref(), random.random_range(0..900)).await,
            _ => {
                let count = [1, 3, 60, 90, 600][random.random_range(0..5)];
                // Some are there already, and some come twice.
                let mut ids: Vec<u64> = (next..next + count).collect();
                next += count;
                if next > 100 && random.random_bool(0.3) {
                    ids.extend((0..30).map(|_| random.random_range(next - 100..next)));
                }
                if random.random_bool(0.1) {
                    ids.rotate_left(usize::try_from(count / 2).unwrap());
                }
                model.append(log.as_ref(), ids).await;
            }
        }
        model.check(log.as_ref(), &mut random).await;
    }
}

#[tokio::test]
async fn what_is_sent_by_several_at_once_is_there_once() {
    for round in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), 0);
        let append = |first: u64| {
            let (log, scope) = (Arc::clone(&log), scope());
            let ids = (first..first + 90).chain(first..first + 5);
            async move { log.append(&scope, &TOPIC, ids.map(event).collect()).await.unwrap() }
        };
        let (one, two, three) = tokio::join!(append(0), append(45 + round), append(20));
        let is_new = |place: &&store::Appended| place.outcome == Outcome::New;
        let new = [one, two, three].iter().flatten().filter(is_new).count() as u64;
        assert_eq!(new, 135 + round);
        let mut ids = Vec::new();
        for extent in log.extents(&TOPIC).await.unwrap() {
            let found = log.read(&TOPIC, extent.partition, 0, ReadLimit::default()).await.unwrap();
            ids.extend(found.into_iter().map(|stored| stored.event.id.parse::<u64>().unwrap()));
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..135 + round).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn each_event_is_found_at_its_place() {
    for seed in 0..4 {
        run(seed, 0).await;
        run(seed, 1 << 20).await;
    }
}
