//! A trained model that cannot be published is kept, and published later without another training.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Error, Result, Scope, SystemClock, TenantId, codes};
use prometheus_client::registry::Registry;
use recommend::{Recommend, RecommendParts, RecommendSettings};
use store::memory::{MemoryEventLog, memory_blobs};
use store::{BlobInfo, Blobs, EventLog, PutMode};

use crate::{interaction, parts};

/// Blobs that take no model for so many tries.
#[derive(Debug)]
struct Away {
    inner: Arc<dyn Blobs>,
    left: AtomicUsize,
}

#[async_trait]
impl Blobs for Away {
    async fn put(&self, scope: &Scope, path: &str, body: Bytes, mode: PutMode) -> Result<()> {
        let is_model = path.starts_with("models/");
        let left = self.left.load(Ordering::Relaxed);
        if is_model && left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            return Err(Error::new(codes::UNAVAILABLE, "the store is away"));
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

fn count(registry: &Registry, outcome: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let series = format!("recommend_trainings_total{{outcome=\"{outcome}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(series.as_str())).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_publish_that_fails_wastes_no_training() {
    let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
    let log = Arc::new(MemoryEventLog::new(1));
    let events = (0..100).map(|id| interaction(&scope, id)).collect();
    log.append(&scope, &edge::ingest::EVENTS, events).await.unwrap();
    let blobs = Arc::new(Away { inner: Arc::new(memory_blobs()), left: AtomicUsize::new(2) });
    let parts = RecommendParts {
        blobs: Arc::clone(&blobs) as Arc<dyn Blobs>,
        ..parts(log.clone(), Arc::new(SystemClock::new())).await
    };
    let mut registry = Registry::default();
    let quick = r#"{"training": {"blend_users": 50, "algorithms": {"sequence": false}}}"#;
    let settings: RecommendSettings = serde_json::from_str(quick).unwrap();
    let recommend = Recommend::open(parts, settings, &mut registry).await.unwrap();
    for tries in 1..=2 {
        let error = recommend.train(&scope, |_| ()).await.unwrap_err();
        assert_eq!(error.code(), codes::UNAVAILABLE);
        assert_eq!((count(&registry, "trained"), count(&registry, "unpublished")), (1, tries));
        assert_eq!(recommend.model_version(&scope), None);
    }
    assert_eq!(recommend.train(&scope, |_| ()).await.unwrap().version, 1);
    assert_eq!((count(&registry, "trained"), recommend.model_version(&scope)), (1, Some(1)));
    // Nothing is left of it: the next one is trained.
    assert_eq!(recommend.train(&scope, |_| ()).await.unwrap().version, 2);
    assert_eq!((count(&registry, "trained"), count(&registry, "failed")), (2, 0));
    // As often as it fails, it is not tried for ever.
    blobs.left.store(12, Ordering::Relaxed);
    for _ in 0..12 {
        assert!(recommend.train(&scope, |_| ()).await.is_err());
    }
    assert_eq!(count(&registry, "trained"), 3);
    assert_eq!(recommend.train(&scope, |_| ()).await.unwrap().version, 3);
    assert_eq!(count(&registry, "trained"), 4);
    recommend.stop().await;
}
