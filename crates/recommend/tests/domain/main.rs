//! The whole domain over stores in memory.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

mod answers;
mod background;
mod canaries;
mod candidates;
mod embedder;
mod erasures;
mod publish;
mod replaced_view;

use std::sync::Arc;

use kernel::{Clock, Event, EventDraft, Scope, SeededEntropy, SystemClock, Timestamp};
use privacy::{Erasures, Keyring, MasterKeys};
use recommend::algorithms::content::ItemEmbedder;
use recommend::{Recommend, RecommendParts, RecommendSettings};
use store::memory::{MemoryCache, MemoryEventLog, MemoryRecords, memory_blobs};
use store::{DeadLetters, EventLog};

/// The event of an item that is named by its title.
fn entity(scope: &Scope, title: &str) -> Event {
    let id = title.replace(' ', "-");
    let json = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"recommend.entity.put.v1",
            "data":{{"entity_id":"{id}","attributes":{{"title":"{title}"}}}}}}"#
    );
    serde_json::from_str::<EventDraft>(&json).unwrap().seal(scope, Timestamp::UNIX_EPOCH).unwrap()
}

/// One of many views, of twelve users and nine items.
fn interaction(scope: &Scope, id: usize) -> Event {
    let json = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"recommend.interaction.recorded.v1",
            "data":{{"user_id":"u-{}","entity_id":"e-{}","interaction_type":"view"}}}}"#,
        id % 12,
        id * 7 % 9
    );
    serde_json::from_str::<EventDraft>(&json).unwrap().seal(scope, Timestamp::UNIX_EPOCH).unwrap()
}

/// All in memory.
async fn parts(log: Arc<dyn EventLog>, clock: Arc<dyn Clock>) -> RecommendParts {
    let records = Arc::new(MemoryRecords::new());
    let entropy = Arc::new(SeededEntropy::new(1));
    let keyring =
        Keyring::open(records.clone(), MasterKeys::default(), false, entropy.clone()).await.unwrap();
    RecommendParts {
        erasures: Erasures::new(Arc::new(keyring), log.clone(), edge::ingest::EVENTS, clock.clone()),
        audit: edge::AuditLog::new(records.clone(), clock.clone()),
        log,
        records: records.clone(),
        blobs: Arc::new(memory_blobs()),
        cache: Arc::new(MemoryCache::new(clock.clone())),
        dead_letters: DeadLetters::new(records),
        holders: Vec::new(),
        clock,
        entropy,
        embedder: None,
        candidates: None,
        views: stream::ProjectorSettings::default(),
    }
}

async fn open(log: &Arc<MemoryEventLog>, embedder: Option<Arc<dyn ItemEmbedder>>) -> Recommend {
    let parts = RecommendParts { embedder, ..parts(log.clone(), Arc::new(SystemClock::new())).await };
    let mut settings = RecommendSettings::default();
    settings.schedule.incremental_update_interval_secs = 1;
    Recommend::open(parts, settings, &mut prometheus_client::registry::Registry::default()).await.unwrap()
}
