//! What goes on while a training runs.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Result, Scope, SystemClock, TenantId};
use recommend::trainer::Duties;
use recommend::{Recommend, RecommendParts, RecommendSettings};
use store::memory::{MemoryEventLog, memory_blobs};
use store::{BlobInfo, Blobs, EventLog, PutMode};
use tokio_util::sync::CancellationToken;

use crate::{interaction, parts};

/// Blobs that take no model of one tenant until the end.
#[derive(Debug)]
struct Stuck {
    inner: Arc<dyn Blobs>,
    is_stuck: AtomicBool,
}

#[async_trait]
impl Blobs for Stuck {
    async fn put(&self, scope: &Scope, path: &str, body: Bytes, mode: PutMode) -> Result<()> {
        if path.starts_with("models/") && scope.tenant().as_str() == "a" {
            self.is_stuck.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        self.inner.put(scope, path, body, mode).await
    }

    async fn get(&self, scope: &Scope, path: &str) -> Result<Bytes> {
        self.inner.get(scope, path).await
    }

    async fn get_range(&self, scope: &Scope, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(scope, path, range).await
    }

    async fn list(&self, scope: &Scope, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.inner.list(scope, prefix).await
    }

    async fn delete(&self, scope: &Scope, path: &str) -> Result<()> {
        self.inner.delete(scope, path).await
    }
}

async fn becomes(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: never");
}

#[tokio::test]
async fn a_training_holds_up_nothing_but_the_next_training() {
    let scope = |name: &str| Scope::system(TenantId::new(name).unwrap(), "test");
    let log = Arc::new(MemoryEventLog::new(1));
    let fill = async |tenant: &str| {
        let scope = scope(tenant);
        let events = (0..100).map(|id| interaction(&scope, id)).collect();
        log.append(&scope, &edge::ingest::EVENTS, events).await.unwrap()
    };
    fill("b").await;
    let blobs = Arc::new(Stuck { inner: Arc::new(memory_blobs()), is_stuck: AtomicBool::new(false) });
    let all = parts(log.clone(), Arc::new(SystemClock::new())).await;
    let parts = RecommendParts { blobs: Arc::clone(&blobs) as Arc<dyn Blobs>, ..all };
    let settings = r#"{"training": {"blend_users": 50, "algorithms": {"sequence": false}},
        "schedule": {"incremental_update_interval_secs": 1, "min_interactions": 50, "rebuild_growth": 5.0}}"#;
    let settings: RecommendSettings = serde_json::from_str(settings).unwrap();
    let other_parts = parts.clone();
    let mut registry = prometheus_client::registry::Registry::default();
    let mut recommend = Recommend::open(parts, settings.clone(), &mut registry).await.unwrap();
    recommend.train(&scope("b"), |_| ()).await.unwrap();
    let stop = CancellationToken::new();
    recommend.start(Duties { trains: true, answers: true }, stop.clone());
    fill("a").await;
    becomes("a training that gets stuck", || blobs.is_stuck.load(Ordering::Relaxed)).await;

    // A model that another replica trains for another tenant is served all the same.
    let mut registry = prometheus_client::registry::Registry::default();
    let other = Recommend::open(other_parts, settings, &mut registry).await.unwrap();
    assert_eq!(other.train(&scope("b"), |_| ()).await.unwrap().version, 2);
    becomes("a newer model", || recommend.model_version(&scope("b")) == Some(2)).await;
    other.stop().await;

    stop.cancel();
    // The training gives up, and is waited for.
    tokio::time::timeout(Duration::from_secs(30), recommend.stop()).await.unwrap();
}
