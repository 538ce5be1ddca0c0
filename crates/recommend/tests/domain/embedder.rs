//! An embedder that is plugged in: what it says of entities reaches the trained model, and entities that come later.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Scope, TenantId};
use recommend::Recommend;
use recommend::algorithms::content::ItemEmbedder;
use recommend::attributes::{AttributeValue, Attributes};
use recommend::service::{Algorithm, Query};
use recommend::trainer::Duties;
use store::EventLog;
use store::memory::MemoryEventLog;
use tokio_util::sync::CancellationToken;

use crate::{entity, open};

/// Knows which words mean the same, and nothing of fruit.
#[derive(Debug)]
struct Synonyms;

impl ItemEmbedder for Synonyms {
    fn dimension(&self) -> usize {
        2
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

/// What is like the entity by content, best first.
fn like(recommend: &Recommend, scope: &Scope, id: &str) -> Vec<String> {
    let asked = recommend.views().of(scope).read().entities.find("item", id).unwrap();
    let query = Query { count: 10, algorithm: Algorithm::ContentBased, ..Query::default() };
    let answer = recommend.service().similar_entities(scope, asked, &query, None).unwrap();
    let positive = answer.recommendations.iter().filter(|line| line.score > 1e-3);
    positive.map(|line| line.entity_id.clone()).collect()
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
    let mut found = Vec::new();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        found = like(&recommend, &scope, "car");
        if found.len() == 2 {
            break;
        }
    }
    found.sort();
    assert_eq!(found, ["automobile", "motor-vehicle"], "what came after the training is embedded too");
    stop.cancel();
    recommend.stop().await;
}
