//! An embedder that is plugged in: what it says of entities reaches the trained model, and entities that come later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kernel::{Scope, SystemClock, TenantId};
use recommend::algorithms::content::ItemEmbedder;
use recommend::attributes::{AttributeValue, Attributes};
use recommend::service::{Algorithm, Query};
use recommend::trainer::Duties;
use recommend::{Recommend, RecommendParts, RecommendSettings};
use store::EventLog;
use store::memory::MemoryEventLog;
use tokio_util::sync::CancellationToken;

use crate::{entity, open, parts};

/// Knows which words mean the same, and nothing of fruit.
#[derive(Debug)]
struct Synonyms;

impl ItemEmbedder for Synonyms {
    fn dimension(&self) -> usize {
        2
    }

    fn version(&self) -> &'static str {
        "synonyms"
    }

    fn embed(&self, attributes: &Attributes) -> Option<Vec<f32>> {
        let Some(AttributeValue::Text(title)) = attributes.get("title") else { return None };
        match title.as_str() {
            "car" | "automobile" | "motor vehicle" => Some(vec![1.0, 0.0]),
            "ship" | "boat" => Some(vec![0.0, 1.0]),
            _ => None,
        }
    }
}

/// The same, counting what it is asked.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl ItemEmbedder for Counting {
    fn dimension(&self) -> usize {
        Synonyms.dimension()
    }

    fn version(&self) -> &'static str {
        "synonyms"
    }

    fn embed(&self, attributes: &Attributes) -> Option<Vec<f32>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Synonyms.embed(attributes)
    }
}

/// Another embedder, whose vectors are as long.
#[derive(Debug, Default)]
struct Another(Counting);

impl ItemEmbedder for Another {
    fn dimension(&self) -> usize {
        self.0.dimension()
    }

    fn version(&self) -> &'static str {
        "another"
    }

    fn embed(&self, attributes: &Attributes) -> Option<Vec<f32>> {
        self.0.embed(attributes)
    }
}

/// What is like the entity by content, best first.
fn like(recommend: &Recommend, scope: &Scope, id: &str) -> Vec<String> {
    let asked = recommend.views().of(scope).read().entities.find("item", id).unwrap();
    let query = Query { count: 10, algorithm: Algorithm::ContentBased, ..Query::default() };
    let answer = recommend.service().similar_entities(scope, asked, &query, None).unwrap();
    let positive = answer.recommendations.iter().filter(|line| line.score > 1e-3);
    positive.map(|line| line.entity_id.clone()).collect()
}

/// Waits until there are two.
async fn two_like_a_car(recommend: &Recommend, scope: &Scope) -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        found = like(recommend, scope, "car");
        if found.len() == 2 {
            break;
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn an_embedder_says_what_words_do_not() {
    let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
    let log = Arc::new(MemoryEventLog::new(1));
    let titles = ["car", "automobile", "ship", "boat", "banana"];
    let events = titles.iter().map(|title| entity(&scope, title)).collect();
    log.append(&scope, &edge::ingest::EVENTS, events).await.unwrap();

    let plain = open(&log, None).await;
    plain.train(&scope, |_| ()).await.unwrap();
    assert!(!like(&plain, &scope, "car").contains(&"automobile".to_owned()), "no word is shared");
    plain.stop().await;

    let mut recommend = open(&log, Some(Arc::new(Synonyms))).await;
    recommend.train(&scope, |_| ()).await.unwrap();
    assert_eq!(like(&recommend, &scope, "car"), ["automobile"]);
    assert_eq!(like(&recommend, &scope, "ship"), ["boat"]);
    let stop = CancellationToken::new();
    recommend.start(Duties { trains: true, answers: true }, stop.clone());
    log.append(&scope, &edge::ingest::EVENTS, vec![entity(&scope, "motor vehicle")]).await.unwrap();
    let found = two_like_a_car(&recommend, &scope).await;
    assert_eq!(found, ["automobile", "motor-vehicle"], "what came after the training is embedded too");
    stop.cancel();
    recommend.stop().await;
}

#[tokio::test]
async fn a_start_does_not_wait_for_an_embedder() {
    let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
    let log = Arc::new(MemoryEventLog::new(1));
    let append = async |titles: &[&str]| {
        let events = titles.iter().map(|title| entity(&scope, title)).collect();
        log.append(&scope, &edge::ingest::EVENTS, events).await.unwrap();
    };
    append(&["car", "automobile", "ship", "boat", "banana"]).await;
    let parts = parts(log.clone(), Arc::new(SystemClock::new())).await;
    let open = async |embedder: Arc<dyn ItemEmbedder>| {
        let parts = RecommendParts { embedder: Some(embedder), ..parts.clone() };
        let mut settings = RecommendSettings::default();
        settings.schedule.incremental_update_interval_secs = 1;
        let mut metrics = prometheus_client::registry::Registry::default();
        Recommend::open(parts, settings, &mut metrics).await.unwrap()
    };
    let recommend = open(Arc::new(Synonyms)).await;
    recommend.train(&scope, |_| ()).await.unwrap();
    recommend.stop().await;
    append(&["motor vehicle"]).await;
    // One of another version says nothing until the next training.
    let another = Arc::new(Another::default());
    let mut recommend = open(another.clone()).await;
    let stop = CancellationToken::new();
    recommend.start(Duties { trains: false, answers: true }, stop.clone());
    let knows_more = || recommend.service().served(&scope).unwrap().current().unwrap().catalogue().is_some();
    for _ in 0..100 {
        if knows_more() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(knows_more());
    assert_eq!(
        (like(&recommend, &scope, "car"), another.0.0.load(Ordering::SeqCst)),
        (vec!["automobile".to_owned()], 0)
    );
    stop.cancel();
    recommend.stop().await;
    let counting = Arc::new(Counting::default());
    let mut recommend = open(counting.clone()).await;
    assert_eq!(counting.0.load(Ordering::SeqCst), 0, "it answers before anything is embedded again");
    assert_eq!(like(&recommend, &scope, "car"), ["automobile"]);
    let stop = CancellationToken::new();
    recommend.start(Duties { trains: false, answers: true }, stop.clone());
    assert_eq!(two_like_a_car(&recommend, &scope).await, ["automobile", "motor-vehicle"]);
    stop.cancel();
    recommend.stop().await;
}
