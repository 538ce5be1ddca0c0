//! A text that finds candidates: who is recommended then, in which order, and why.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Extension;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use edge::{Caller, HttpMetrics, Ingest};
use kernel::{Result, Scope, SeededEntropy, SystemClock};
use prometheus_client::registry::Registry;
use recommend::canaries::NewCanary;
use recommend::candidates::{Candidate, CandidateSource, Candidates};
use recommend::events::{ArmSettings, Mode};
use recommend::service::{Algorithm, Answer, Query};
use rollout::canary::Plan;
use serde_json::{Value, json};
use store::DeadLetters;
use store::memory::MemoryRecords;
use tower::ServiceExt;

use crate::answers::{Shop, ids, query, searching_shop, settings};

fn candidates(names: &[(&str, &str)]) -> Candidates {
    let candidate = |(place, (kind, id)): (usize, &(&str, &str))| Candidate {
        entity_type: (*kind).to_owned(),
        entity_id: (*id).to_owned(),
        score: 10.0 - place as f32,
    };
    Candidates { found: names.iter().enumerate().map(candidate).collect(), fallback: None }
}

/// Finds the same for every text, and remembers what it was asked.
#[derive(Debug, Default)]
struct Fixed {
    found: Mutex<Candidates>,
    asked: Mutex<Vec<(String, String, Option<String>)>>,
}

#[async_trait]
impl CandidateSource for Fixed {
    async fn find(&self, scope: &Scope, text: &str, entity_type: Option<&str>) -> Result<Candidates> {
        let asked = (scope.tenant().to_string(), text.to_owned(), entity_type.map(str::to_owned));
        self.asked.lock().unwrap().push(asked);
        Ok(self.found.lock().unwrap().clone())
    }
}

fn found(names: &[(&str, &str)], algorithm: Algorithm) -> Query {
    let candidates = Some(Arc::new(candidates(names)));
    Query { candidates, text: Some("x".to_owned()), explain: true, count: 10, ..query(algorithm) }
}

/// The parts make the score, and each line has what the text said.
fn check_explained(answer: &Answer) {
    for line in &answer.recommendations {
        let explanation = line.explanation.as_ref().unwrap();
        let sum: f32 = explanation.sources.iter().map(|share| share.contribution).sum();
        assert!((sum + explanation.boost - line.score).abs() < 1e-3, "{line:?}");
        let search: Vec<_> = explanation.sources.iter().filter(|share| share.source == "search").collect();
        assert_eq!(search.len(), 1, "{line:?}");
    }
    let scores: Vec<f32> = answer.recommendations.iter().map(|line| line.score).collect();
    assert!(scores.is_sorted_by(|one, two| one >= two), "{scores:?}");
}

#[tokio::test]
async fn what_a_text_finds_is_recommended_and_nothing_else() {
    let shop = searching_shop(settings(false), Arc::new(Fixed::default())).await;
    shop.train().await;
    let films = [("film", "film-7"), ("film", "none"), ("film", "film-9"), ("article", "article-1")];
    // Of an odd user, whose taste has the odd films.
    let answer = shop.user("user-1", &Query { include_seen: true, ..found(&films, Algorithm::Hybrid) });
    check_explained(&answer);
    let mut told = ids(&answer);
    told.sort_unstable();
    assert_eq!(told, ["article-1", "film-7", "film-9"], "what is no entity is passed over");
    let search = answer.search.as_ref().unwrap();
    assert_eq!((search.found, search.entities, search.fallback), (4, 3, None));
    let of = |id: &str| answer.recommendations.iter().find(|line| line.entity_id == id).unwrap();
    let said = of("film-7").explanation.as_ref().unwrap().sources.last().unwrap().clone();
    assert_eq!((said.source, said.raw), ("search", 10.0));
    assert!((said.contribution - 101f32.ln()).abs() < 1e-5, "{said:?}");
    let said = of("film-9").explanation.as_ref().unwrap().sources.last().unwrap().clone();
    assert_eq!(said.raw, 8.0);
    assert!(
        (said.contribution - (101f32 / 3.0).ln()).abs() < 1e-5,
        "the place that search gave it: {said:?}"
    );
    // What was seen is left out as ever.
    let seen = shop.user("user-1", &Query { include_seen: true, count: 40, ..query(Algorithm::Hybrid) });
    let unseen = shop.user("user-1", &Query { count: 40, ..query(Algorithm::Hybrid) });
    let one_seen = ids(&seen).into_iter().find(|id| !ids(&unseen).contains(id)).unwrap().to_owned();
    let answer = shop.user("user-1", &found(&[("film", &one_seen)], Algorithm::Hybrid));
    assert_eq!(answer.count, 0, "{answer:?}");
}

#[tokio::test]
async fn who_is_unknown_gets_what_search_says() {
    let shop = searching_shop(settings(false), Arc::new(Fixed::default())).await;
    let names = [("article", "article-2"), ("film", "film-3"), ("article", "article-0")];
    let order = ["article-2", "film-3", "article-0"];
    let check = |algorithm, fallback: Option<&str>, expected: &[&str]| {
        let answer = shop.user("nobody", &found(&names, algorithm));
        check_explained(&answer);
        assert_eq!((ids(&answer), answer.fallback), (expected.to_vec(), fallback), "{algorithm:?}");
        answer
    };
    let answer = check(Algorithm::Hybrid, Some("search"), &order);
    assert!(answer.recommendations.iter().all(|line| line.reason == "found for the query"), "{answer:?}");
    assert_eq!(answer.next_cursor, None);
    // What many chose comes first, and what nobody chose behind it, by search alone.
    check(Algorithm::Popular, Some("search"), &["film-3", "article-2", "article-0"]);
    check(Algorithm::Trending, Some("search"), &order);
    let nothing = shop.user("nobody", &found(&[], Algorithm::Hybrid));
    assert_eq!((nothing.count, nothing.fallback), (0, Some("search")));
}

#[tokio::test]
async fn what_may_not_be_shown_is_not_whatever_a_text_finds() {
    let shop = searching_shop(settings(false), Arc::new(Fixed::default())).await;
    let (before, after) = ("2025-01-01T00:00:00Z", "2030-01-01T00:00:00Z");
    let put = |id: &str, more: Value| {
        let mut data = json!({"entity_id": id, "entity_type": "film", "attributes": {"year": 1990}});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let films = [
        ("hidden", json!({"hidden": true})),
        ("future", json!({"available_from": after})),
        ("expired", json!({"available_until": before})),
        ("deleted", json!({})),
        ("shown", json!({})),
        ("filtered", json!({"attributes": {"year": 1970}})),
    ];
    for (id, more) in &films {
        shop.send("entity.put", before, put(id, more.clone())).await;
    }
    shop.send("entity.deleted", before, json!({"entity_id": "deleted", "entity_type": "film"})).await;
    let names = films.each_ref().map(|(id, _)| ("film", *id));
    for algorithm in [Algorithm::Hybrid, Algorithm::Latest, Algorithm::Popular] {
        let filter = Some(shop.compiled("attributes.year >= 1990"));
        let query = Query { filter, ..found(&names, algorithm) };
        let answer = shop.user("nobody", &query);
        assert_eq!(ids(&answer), ["shown"], "{algorithm:?}");
        assert_eq!(answer.search.unwrap().entities, 5, "what was deleted is no entity");
        let excluded = Query { exclude: vec!["shown".to_owned()], ..query };
        assert_eq!(shop.user("nobody", &excluded).count, 0, "{algorithm:?}");
    }
}

#[tokio::test]
async fn both_arms_of_a_canary_answer_a_text() {
    let source = Arc::new(Fixed::default());
    *source.found.lock().unwrap() = candidates(&[("film", "film-5"), ("film", "film-6")]);
    let shop = searching_shop(settings(false), source).await;
    let asked = NewCanary {
        name: Some("popular".to_owned()),
        mode: Mode::Canary,
        candidate: ArmSettings { algorithm: Some("popular".to_owned()), ..ArmSettings::default() },
        plan: Plan { steps_percent: vec![50, 100], ..Plan::default() },
        outcome_window_seconds: 60,
        slow_ms: 60_000,
    };
    shop.recommend.canaries().start(&shop.scope, asked).await.unwrap();
    let mut arms = BTreeSet::new();
    for user in 0..16 {
        let path = format!("/api/v1/recommendations/user/visitor-{user}?query=ice");
        let (status, answer) = get(&shop, &path).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let arm = answer["canary"]["arm"].as_str().unwrap().to_owned();
        let algorithm = if arm == "candidate" { "popular" } else { "hybrid" };
        assert_eq!(answer["algorithm"], algorithm, "{answer}");
        let lines = answer["recommendations"].as_array().unwrap();
        let told: BTreeSet<&str> = lines.iter().map(|line| line["entity_id"].as_str().unwrap()).collect();
        assert_eq!(told, BTreeSet::from(["film-5", "film-6"]), "{answer}");
        arms.insert(arm);
    }
    assert_eq!(arms.len(), 2, "{arms:?}");
}

async fn get(shop: &Shop, path: &str) -> (StatusCode, Value) {
    let parts = edge::ingest::IngestParts {
        log: shop.log.clone(),
        dead_letters: DeadLetters::new(Arc::new(MemoryRecords::new())),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SeededEntropy::new(2)),
        metrics: HttpMetrics::register(&mut Registry::default()),
    };
    let ingest = Ingest::new(parts, &[shop.recommend.owner()]);
    let router = shop.recommend.routes(ingest).split_for_parts().0;
    let router = router.layer(Extension(Caller(shop.scope.clone())));
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn requests_have_their_text_looked_for() {
    let source = Arc::new(Fixed::default());
    *source.found.lock().unwrap() =
        Candidates { fallback: Some("words alone"), ..candidates(&[("film", "film-5"), ("film", "film-6")]) };
    let shop = searching_shop(settings(false), source.clone()).await;
    let user = "/api/v1/recommendations/user/nobody";
    let (status, first) = get(&shop, &format!("{user}?query=sea%20ice&entity_type=film&count=1")).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    assert_eq!(first["search"]["fallback"], "words alone");
    assert_eq!(first["recommendations"][0]["entity_id"], "film-5");
    let cursor = first["next_cursor"].as_str().unwrap();
    let next = format!("{user}?query=sea%20ice&entity_type=film&count=1&cursor={cursor}");
    assert_eq!(get(&shop, &next).await.1["recommendations"][0]["entity_id"], "film-6");
    let (status, _) = get(&shop, &next.replace("ice", "air")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a cursor is of one text");
    get(&shop, "/api/v1/recommendations/popular?query=ice").await;
    let asked = source.asked.lock().unwrap().clone();
    let film = ("shop".to_owned(), "sea ice".to_owned(), Some("film".to_owned()));
    assert_eq!(asked, [film.clone(), film, ("shop".to_owned(), "ice".to_owned(), None)]);
    let (_, unknown) = get(&shop, "/api/v1/recommendations/popular?query=ice&entity_type=%00").await;
    assert_eq!((&unknown["count"], &unknown["search"]["found"]), (&0.into(), &0.into()), "{unknown}");
    assert_eq!(source.asked.lock().unwrap().len(), 3, "of a type that no entity has nobody is asked");
    let (_, plain) = get(&shop, user).await;
    assert_eq!(plain.get("search"), None);

    for text in ["%20", &"x".repeat(4_097)] {
        let (status, problem) = get(&shop, &format!("{user}?query={text}")).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &"query".into()), "{problem}");
    }
}

#[tokio::test]
async fn a_text_is_refused_where_nothing_searches() {
    let shop = Shop::new(settings(false)).await;
    let (status, problem) = get(&shop, "/api/v1/recommendations/user/ada?query=sea").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!((&problem["code"], &problem["field"]), (&"NO_SEARCH".into(), &"query".into()), "{problem}");
}
