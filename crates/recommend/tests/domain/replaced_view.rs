//! A view that a checkpoint of another process takes the place of, while a model answers from it: names count, not
//! indices.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Scope, TenantId};
use recommend::Recommend;
use recommend::service::{Algorithm, Query};
use recommend::trainer::Duties;
use recommend::views::Views;
use store::memory::MemoryEventLog;
use store::{EventLog, Stored};
use stream::Fold;
use tokio_util::sync::CancellationToken;

use crate::{entity, open};

const TITLES: [&str; 6] = ["red apple", "green apple", "red wine", "white wine", "steel bolt", "steel nut"];

/// What is like each entity by content, best first.
fn alike(recommend: &Recommend, scope: &Scope, titles: &[&str]) -> Vec<Vec<String>> {
    let like = |title: &&str| {
        let id = title.replace(' ', "-");
        let asked = recommend.views().of(scope).read().entities.find("item", &id).unwrap();
        let query = Query { count: 10, algorithm: Algorithm::ContentBased, ..Query::default() };
        let answer = recommend.service().similar_entities(scope, asked, &query, None).unwrap();
        let positive = answer.recommendations.iter().filter(|line| line.score > 1e-3);
        positive.map(|line| line.entity_id.clone()).collect()
    };
    titles.iter().map(like).collect()
}

#[tokio::test]
async fn answers_are_the_same_over_a_view_with_other_indices() {
    let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
    let log = Arc::new(MemoryEventLog::new(1));
    let events = TITLES.iter().map(|title| entity(&scope, title)).collect();
    log.append(&scope, &edge::ingest::EVENTS, events).await.unwrap();
    let mut recommend = open(&log, None).await;
    recommend.train(&scope, |_| ()).await.unwrap();
    let before = alike(&recommend, &scope, &TITLES);
    assert!(before[0].contains(&"green-apple".to_owned()), "{before:?}");

    // Another process saw the same in another order, and something more.
    let other = Views::default();
    let stored =
        |(offset, title): (usize, &&str)| Stored { offset: offset as u64, event: entity(&scope, title) };
    let batch: Vec<Stored> =
        ["bolt cutter"].iter().chain(TITLES.iter().rev()).enumerate().map(stored).collect();
    assert!(other.apply(0, &batch).is_empty());
    let damaged = other.encode()[1..].to_vec();
    assert!(recommend.views().decode(&damaged).is_err());
    assert_eq!(alike(&recommend, &scope, &TITLES), before, "a damaged checkpoint changes nothing");
    recommend.views().decode(&other.encode()).unwrap();
    assert_eq!(alike(&recommend, &scope, &TITLES), before, "at once");

    let stop = CancellationToken::new();
    recommend.start(Duties { trains: false, answers: true }, stop.clone());
    let knows = |recommend: &Recommend| {
        alike(recommend, &scope, &["steel bolt"])[0].contains(&"bolt-cutter".to_owned())
    };
    for _ in 0..100 {
        if knows(&recommend) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(knows(&recommend), "what came since is known after the next look");
    stop.cancel();
    recommend.stop().await;
}
