//! The whole of search over stores in memory and indexes in a folder: what is put is found, by whom, how soon, and again
//! after a crash.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::{Extension, Router};
use edge::Caller;
use kernel::{Clock, Permission, Result, Scope, SeededEntropy, SystemClock, TenantId, codes};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use store::EventLog;
use store::memory::{MemoryCache, MemoryEventLog, MemoryRecords, MemoryVectors};
use tower::ServiceExt;

mod models;
mod rebuilding;
mod reranking;
mod stopping;

use crate::encoder::{Encoded, Encoder, ModelIdentity};
use crate::follower::Sink;
use crate::index::{Filter, Library};
use crate::items::{Change, Item, ItemName};
use crate::questions::{Answer, Question};
use crate::rebuilding::Gauge;
use crate::words::Words;
use crate::{Search, SearchParts, SearchSettings, http};

/// Words of one meaning share a dimension.
const MEANINGS: [&[&str]; 3] = [&["car", "automobile", "vehicle"], &["boat", "ship"], &["tree", "oak"]];
const READS_MAX: usize = 8;
/// How long a rebuild is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A word of which the encoder has no token.
const UNHEARD: &str = "unheard";

/// Knows what a few words mean.
#[derive(Debug)]
struct FewWords(ModelIdentity);

impl FewWords {
    fn new(version: &str) -> Self {
        let (name, version) = ("few-words".to_owned(), version.to_owned());
        Self(ModelIdentity { name, version, dimensions: MEANINGS.len() + 1, tokens_max: READS_MAX })
    }
}

impl Encoder for FewWords {
    fn identity(&self) -> &ModelIdentity {
        &self.0
    }

    fn encode(&self, texts: &[&str]) -> Result<Vec<Encoded>> {
        let encode = |text: &&str| {
            let words: Vec<&str> = text.split_whitespace().collect();
            let mut vector = vec![0.0; MEANINGS.len() + 1];
            for word in words.iter().take(READS_MAX).filter(|word| **word != UNHEARD) {
                let meaning =
                    MEANINGS.iter().position(|words| words.contains(word)).unwrap_or(MEANINGS.len());
                vector[meaning] += 1.0;
            }
            Encoded { vector, tokens: words.len().min(READS_MAX), is_truncated: words.len() > READS_MAX }
        };
        Ok(texts.iter().map(encode).collect())
    }
}

/// What outlives a process.
struct World {
    log: Arc<MemoryEventLog>,
    vectors: Arc<MemoryVectors>,
    records: Arc<MemoryRecords>,
    cache: Arc<MemoryCache>,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let vectors = Arc::new(MemoryVectors::default());
        let (log, records) = (Arc::new(MemoryEventLog::new(2)), Arc::new(MemoryRecords::new()));
        let cache = Arc::new(MemoryCache::new(Arc::new(SystemClock::new())));
        Self { log, vectors, records, cache, folder: tempfile::tempdir().unwrap() }
    }

    fn parts(&self, encoder: Option<&str>) -> SearchParts {
        SearchParts {
            log: self.log.clone(),
            vectors: self.vectors.clone(),
            records: self.records.clone(),
            cache: self.cache.clone(),
            previous_encoder: None,
            reranker: None,
            operator: TenantId::new("desk").unwrap(),
            is_alone: true,
            encoder: encoder.map(|version| Arc::new(FewWords::new(version)) as Arc<dyn Encoder>),
            clock: Arc::new(SystemClock::new()) as Arc<dyn Clock>,
            entropy: Arc::new(SeededEntropy::new(7)),
            folder: Some(self.folder.path().join("search")),
        }
    }

    fn open(&self, encoder: Option<&str>) -> Arc<Search> {
        let settings = SearchSettings {
            synonyms: vec![vec!["usd".into(), "dollar".into()]],
            ..SearchSettings::default()
        };
        let search = Search::new(self.parts(encoder), settings, &mut Registry::default()).unwrap();
        search.start(true, true);
        Arc::new(search)
    }
}

#[expect(clippy::disallowed_methods, reason = "a test speaks for callers")]
fn scope(tenant: &str, permission: Permission) -> Scope {
    Scope::proven(TenantId::new(tenant).unwrap(), "test", permission)
}

fn desk() -> Scope {
    scope("desk", Permission::Admin)
}

fn put(id: &str, text: &str) -> Change {
    let item = json!({"entity_type": "note", "entity_id": id, "text": text, "tags": [format!("tag-{id}")]});
    Change::Put(Box::new(serde_json::from_value::<Item>(item).unwrap()))
}

fn delete(id: &str) -> Change {
    let name = json!({"entity_type": "note", "entity_id": id});
    Change::Delete(serde_json::from_value::<ItemName>(name).unwrap())
}

fn question(query: &str, semantic: bool) -> Question {
    Question { semantic, similarity_min: 0.5, ..Question::new(query.to_owned(), 10) }
}

fn ids(answer: &Answer) -> Vec<&str> {
    answer.results.iter().map(|result| result.item.entity_id.as_str()).collect()
}

async fn check(search: &Search, scope: &Scope, question: Question, expected: &[&str]) {
    let query = question.query.clone();
    assert_eq!(ids(&search.search(scope, question).await.unwrap()), expected, "{query}");
}

/// Waits until every text has its vector.
async fn settled(search: &Search) {
    for _ in 0..500 {
        let stats = search.stats(&desk()).await.unwrap();
        if stats.lag == 0 && stats.vector_lag.unwrap_or(0) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the indexes do not follow");
}

#[tokio::test]
async fn what_is_put_is_found_by_its_tenant_alone() {
    let world = World::new();
    let search = world.open(None);
    assert!(search.change(&desk(), vec![put("1", "car fast"), put("2", "boat fast")]).await.unwrap());
    check(&search, &desk(), question("fast car", false), &["1", "2"]).await;
    check(&search, &scope("other", Permission::Read), question("fast car", false), &[]).await;
    search.change(&desk(), vec![delete("1"), put("2", "tree")]).await.unwrap();
    check(&search, &desk(), question("fast", false), &[]).await;
    check(&search, &desk(), question("the", false), &[]).await;
    let answer = search.search(&desk(), question("tree", true)).await.unwrap();
    assert_eq!((ids(&answer), answer.semantic), (vec!["2"], false));
    assert!(answer.fallback.is_some_and(|reason| reason.contains("no encoder")));
    let refused = search.change(&scope("desk", Permission::Read), vec![put("3", "x")]).await.unwrap_err();
    assert_eq!(refused.code(), codes::PERMISSION_DENIED);
    let refused = search.rebuild(&scope("desk", Permission::Write), PATIENCE).await.unwrap_err();
    assert_eq!(refused.code(), codes::PERMISSION_DENIED);
}

#[tokio::test]
async fn meaning_finds_what_words_do_not() {
    let world = World::new();
    let search = world.open(Some("one"));
    let texts = [put("1", "car"), put("2", "oak"), put("3", "automobile tyre")];
    search.change(&desk(), texts.to_vec()).await.unwrap();
    settled(&search).await;
    check(&search, &desk(), question("vehicle", false), &[]).await;
    check(&search, &desk(), question("vehicle", true), &["1", "3"]).await;
    check(&search, &desk(), question("car vehicle", true), &["1", "3"]).await;
    let filter =
        Filter { tags: vec!["tag-3".to_owned()], types: vec!["note".to_owned()], ..Filter::default() };
    check(&search, &desk(), Question { filter, ..question("vehicle", true) }, &["3"]).await;
    check(&search, &scope("other", Permission::Read), question("vehicle", true), &[]).await;
    check(&search, &desk(), question(UNHEARD, true), &[]).await;
    let unknown = search.search(&desk(), question(UNHEARD, true)).await.unwrap();
    assert!(!unknown.semantic && unknown.fallback.is_some_and(|why| why.contains("knows no word")));
    search.change(&desk(), vec![delete("1")]).await.unwrap();
    check(&search, &desk(), question("vehicle", true), &["3"]).await;
    let explained =
        search.search(&desk(), Question { explains: true, ..question("automobile", true) }).await.unwrap();
    let why = explained.results[0].explanation.clone().unwrap();
    assert_eq!(why.words.len(), 1);
    assert!(why.bm25.is_some() && why.cosine.is_some());
    assert_eq!(why.lexical.unwrap() + why.semantic.unwrap(), explained.results[0].score);
    // Another model makes all vectors anew, from the log.
    search.stop().await;
    let search = world.open(Some("two"));
    settled(&search).await;
    let answer = search.search(&desk(), question("vehicle", true)).await.unwrap();
    assert_eq!(ids(&answer), ["3"]);
    assert_eq!(answer.model.unwrap().version, "two");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

/// One bit of each file of each segment.
fn damage_segments(folder: &Path) {
    for entry in std::fs::read_dir(folder.join("t-desk/1")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "idx" || extension == "store") {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[0] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

#[tokio::test]
async fn an_index_is_whole_again_after_any_crash() {
    let world = World::new();
    let folder = world.folder.path().join("search");
    let search = world.open(None);
    search.change(&desk(), vec![put("1", "car"), put("2", "boat")]).await.unwrap();
    // The folder as a crash would leave it before the next changes.
    let left = world.folder.path().join("left");
    copy(&folder, &left);
    search.change(&desk(), vec![put("3", "car"), delete("1")]).await.unwrap();
    search.stop().await;
    drop(search);
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("within a segment", damage_segments),
        ("behind", |_| ()),
        ("no progress", |folder| std::fs::remove_file(folder.join("progress")).unwrap()),
        ("damaged", |folder| std::fs::write(folder.join("t-desk/1/meta.json"), "{").unwrap()),
        ("other format", |folder| std::fs::write(folder.join("format"), "0").unwrap()),
    ];
    for (name, damage) in damages {
        std::fs::remove_dir_all(&folder).unwrap();
        copy(&left, &folder);
        damage(&folder);
        let search = world.open(None);
        settled(&search).await;
        let answer = search.search(&desk(), question("car boat", false)).await.unwrap();
        let mut found = ids(&answer);
        found.sort_unstable();
        assert_eq!(found, ["2", "3"], "{name}");
        search.stop().await;
    }
}

#[tokio::test]
async fn an_index_is_built_again_while_it_answers() {
    let world = World::new();
    let search = world.open(None);
    for id in 0..50 {
        search.change(&desk(), vec![put(&id.to_string(), "car")]).await.unwrap();
    }
    let answers = async {
        let mut least = u64::MAX;
        for _ in 0..50 {
            least = least.min(search.search(&desk(), question("car", false)).await.unwrap().total);
            tokio::task::yield_now().await;
        }
        least
    };
    let scope = desk();
    let (rebuilt, least) = tokio::join!(search.rebuild(&scope, PATIENCE), answers);
    assert_eq!((rebuilt.unwrap().changes, least), (50, 50));
    search.change(&desk(), vec![put("50", "car")]).await.unwrap();
    assert_eq!(search.search(&desk(), question("car", false)).await.unwrap().total, 51);
    let stats = search.stats(&desk()).await.unwrap();
    assert_eq!((stats.index.items, stats.lag), (51, 0));
    // One generation is left.
    let folders = std::fs::read_dir(world.folder.path().join("search/t-desk")).unwrap();
    assert_eq!(folders.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(), 1);
    search.stop().await;
    let library =
        Library::new(Some(world.folder.path().join("search")), crate::algorithms::bm25::Bm25::default());
    library.load().unwrap();
    assert_eq!(library.of(&desk()).unwrap().stats().unwrap().items, 51);
}

#[tokio::test]
async fn without_a_folder_indexes_are_made_again_from_the_log() {
    let world = World::new();
    for round in 1..3 {
        let parts = SearchParts { folder: None, ..world.parts(None) };
        let search = Search::new(parts, SearchSettings::default(), &mut Registry::default()).unwrap();
        search.start(true, true);
        search.change(&desk(), vec![put(&round.to_string(), "car")]).await.unwrap();
        assert_eq!(search.search(&desk(), question("car", false)).await.unwrap().total, round);
        assert_eq!(search.rebuild(&desk(), PATIENCE).await.unwrap().changes, round);
        assert_eq!(search.search(&desk(), question("car", false)).await.unwrap().total, round);
        search.stop().await;
    }
    assert!(!world.folder.path().join("search").exists());
}

#[tokio::test]
async fn odd_questions_are_refused_and_texts_marked() {
    let world = World::new();
    let search = world.open(None);
    search.change(&desk(), vec![put("1", "the <dollar> falls")]).await.unwrap();
    let refused = async |question: Question, field: &str| {
        let error = search.search(&desk(), question).await.unwrap_err();
        assert_eq!(error.field(), Some(field));
    };
    refused(question(" ", false), "query").await;
    refused(question(&"x".repeat(5_000), false), "query").await;
    refused(Question { limit: 0, ..question("x", false) }, "limit").await;
    refused(Question { limit: 101, ..question("x", false) }, "limit").await;
    refused(Question { similarity_min: f32::NAN, ..question("x", false) }, "similarity_threshold").await;
    let answer =
        search.search(&desk(), Question { highlights: true, ..question("USD", false) }).await.unwrap();
    assert_eq!(answer.results[0].highlight.as_deref(), Some("the &lt;<em>dollar</em>&gt; falls"));
}

async fn ask(
    search: &Arc<Search>,
    scope: Scope,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let router: Router = http::routes(Arc::clone(search)).split_for_parts().0.layer(Extension(Caller(scope)));
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let response = router.oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test]
async fn the_guides_requests_are_answered() {
    let world = World::new();
    let search = world.open(Some("one"));
    let item = json!({"entity_type": "curve", "entity_id": "1", "text": "car curve", "metadata": {"n": 1}, "tags": ["a"]});
    let (status, body) = ask(&search, desk(), "POST", "/index", Some(item)).await;
    assert_eq!(
        (status, &body["status"], &body["entity_id"]),
        (StatusCode::OK, &json!("indexed"), &json!("1"))
    );
    settled(&search).await;
    for path in ["/search?tenant_id=desk", "/api/v1/search"] {
        let asked = json!({"query": "curve", "filters": {"type": "curve", "tags": ["a"], "metadata": {"n": 1}}, "facets": true});
        let (status, body) = ask(&search, desk(), "POST", path, Some(asked)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let found = (&body["results"][0]["entity_id"], &body["total"], &body["query"], &body["semantic"]);
        assert_eq!(found, (&json!("1"), &json!(1), &json!("curve"), &json!(true)));
        assert_eq!(body["facets"]["types"]["curve"], 1);
        assert!(body["latency_ms"].is_number() && body["results"][0]["metadata"]["n"] == 1);
    }
    let (status, body) =
        ask(&search, desk(), "POST", "/search?tenant_id=other", Some(json!({"query": "x"}))).await;
    assert_eq!((status, &body["code"]), (StatusCode::FORBIDDEN, &json!("TENANT_MISMATCH")));
    let (status, body) = ask(&search, desk(), "GET", "/index/stats", None).await;
    assert_eq!((status, &body["items"], &body["vectors"]), (StatusCode::OK, &json!(1), &json!(1)));
    let (status, body) = ask(&search, desk(), "POST", "/index/rebuild", None).await;
    assert_eq!((status, &body["changes"]), (StatusCode::OK, &json!(1)));
    let (status, _) = ask(&search, desk(), "DELETE", "/api/v1/search/index/curve/1", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn of_several_items_the_one_that_is_refused_is_named() {
    let world = World::new();
    let search = world.open(None);
    let check = async |second: Value, status: StatusCode, field: &str| {
        let mut item = json!({"entity_type": "t", "entity_id": "2", "text": "gas"});
        item.as_object_mut().unwrap().extend(second.as_object().unwrap().clone());
        let many = json!({"items": [{"entity_type": "t", "entity_id": "1", "text": "x"}, item]});
        for path in ["/index/bulk", "/api/v1/search/index/bulk"] {
            let (found, body) = ask(&search, desk(), "POST", path, Some(many.clone())).await;
            assert_eq!((found, body["field"].as_str()), (status, Some(field)), "{body}");
        }
    };
    check(json!({"text": ""}), StatusCode::BAD_REQUEST, "items[1].text").await;
    check(json!({"text": "x".repeat(262_145)}), StatusCode::BAD_REQUEST, "items[1].text").await;
    check(json!({"tags": [""]}), StatusCode::BAD_REQUEST, "items[1].tags").await;
    check(json!({"entity_type": "t".repeat(201)}), StatusCode::BAD_REQUEST, "items[1].entity_type").await;
    check(json!({"metadata": {"a": "x".repeat(70_000)}}), StatusCode::BAD_REQUEST, "items[1].metadata").await;
    check(json!({"tenant_id": "other"}), StatusCode::FORBIDDEN, "items[1].tenant_id").await;
    check(json!({"text": 7}), StatusCode::BAD_REQUEST, "items[1].text").await;
    let (_, body) = ask(&search, desk(), "GET", "/index/stats", None).await;
    assert_eq!(body["items"], 0, "where one is refused, none is taken");
    let bad = json!({"items": [{"entity_type": "t", "entity_id": "1", "text": ""}]});
    let reader = scope("desk", Permission::Read);
    let (status, _) = ask(&search, reader, "POST", "/index/bulk", Some(bad)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn texts_can_be_left_out_of_results() {
    let world = World::new();
    let search = world.open(None);
    search.change(&desk(), vec![put("1", "the curve steepened")]).await.unwrap();
    let check = async |asked: Value, text: Option<&str>| {
        let (status, body) = ask(&search, desk(), "POST", "/api/v1/search", Some(asked)).await;
        assert_eq!((status, body["results"][0]["text"].as_str()), (StatusCode::OK, text), "{body}");
        assert_eq!(body["results"][0]["highlight"], "the <em>curve</em> steepened");
    };
    check(json!({"query": "curve", "highlight": true}), Some("the curve steepened")).await;
    let without = json!({"query": "curve", "highlight": true, "include_text": false});
    check(without, None).await;
}

#[tokio::test]
async fn vectors_are_given_as_clients_ask() {
    let world = World::new();
    let search = world.open(Some("one"));
    let asked = json!({"model": "few-words", "input": ["car", "boat ".repeat(20)]});
    let (status, body) = ask(&search, desk(), "POST", "/v1/embeddings", Some(asked)).await;
    assert_eq!((status, &body["object"], &body["truncated"]), (StatusCode::OK, &json!("list"), &json!([1])));
    assert_eq!(body["data"][0]["embedding"], json!([1.0, 0.0, 0.0, 0.0]));
    assert_eq!(body["usage"]["prompt_tokens"], 9);
    let asked = json!({"model": "one", "input": "car", "encoding_format": "base64"});
    let (_, body) = ask(&search, desk(), "POST", "/v1/embeddings", Some(asked)).await;
    assert_eq!(body["data"][0]["embedding"], "AACAPwAAAAAAAAAAAAAAAA==");
    let check = async |asked: Value, status: StatusCode, field: &str| {
        let (found, body) = ask(&search, desk(), "POST", "/v1/embeddings", Some(asked)).await;
        assert_eq!((found, body["field"].as_str()), (status, Some(field)), "{body}");
    };
    check(json!({"model": "other", "input": "x"}), StatusCode::NOT_FOUND, "model").await;
    check(json!({"model": "one", "input": []}), StatusCode::BAD_REQUEST, "input").await;
    check(json!({"model": "one", "input": ["x", " "]}), StatusCode::BAD_REQUEST, "input[1]").await;
    check(json!({"model": "one", "input": "x", "dimensions": 3}), StatusCode::BAD_REQUEST, "dimensions")
        .await;
    let asked = json!({"items": [{"text": "oak", "type": "note", "id": "1"}]});
    let (status, body) = ask(&search, desk(), "POST", "/api/v1/embed", Some(asked)).await;
    assert_eq!((status, &body["count"], &body["model_version"]), (StatusCode::OK, &json!(1), &json!("one")));
    for path in ["/api/v1/embed", "/api/v1/embed/batch"] {
        let asked = json!({"items": [{"text": "oak", "tenant_id": "other"}]});
        assert_eq!(ask(&search, desk(), "POST", path, Some(asked)).await.0, StatusCode::FORBIDDEN);
        let (status, body) =
            ask(&search, desk(), "POST", path, Some(json!({"items": [{"text": "oak"}]}))).await;
        assert_eq!((status, &body["vectors"]), (StatusCode::OK, &json!([[0.0, 0.0, 1.0, 0.0]])));
    }
    let (_, body) = ask(&search, desk(), "GET", "/api/v1/embed/models", None).await;
    assert_eq!(body[0], json!({"name": "few-words", "version": "one", "dimension": 4, "max_length": 8}));
    let without = World::new();
    let asked = json!({"items": [{"text": "oak"}]});
    let (status, _) = ask(&without.open(None), desk(), "POST", "/api/v1/embed", Some(asked)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_rebuild_between_taking_in_and_remembering_loses_nothing() {
    let world = World::new();
    let library = Arc::new(Library::new(None, crate::algorithms::bm25::Bm25::default()));
    let words = Words::new(Arc::clone(&library));
    let gauge = Gauge::default();
    let early = words.rebuild(world.log.as_ref(), desk().tenant(), &gauge, || ()).await.unwrap_err();
    assert_eq!(early.code(), codes::UNAVAILABLE);
    words.restore(world.log.as_ref()).await.unwrap();
    let writer = world.open(None);
    writer.change(&desk(), vec![put("1", "car"), put("2", "car")]).await.unwrap();
    writer.stop().await;
    for extent in world.log.extents(&crate::log::ITEMS).await.unwrap() {
        let limit = store::ReadLimit::default();
        let batch = world.log.read(&crate::log::ITEMS, extent.partition, 0, limit).await.unwrap();
        words.take(extent.partition, batch).await.unwrap();
    }
    assert_eq!(words.rebuild(world.log.as_ref(), desk().tenant(), &gauge, || ()).await.unwrap(), 2);
    assert_eq!(library.of(&desk()).unwrap().stats().unwrap().items, 2);
}

#[tokio::test]
async fn what_is_put_while_an_index_is_built_again_is_found() {
    let world = World::new();
    let search = world.open(None);
    search.change(&desk(), vec![put("first", "car")]).await.unwrap();
    let puts = async {
        for id in 0..60 {
            search.change(&desk(), vec![put(&id.to_string(), "car")]).await.unwrap();
        }
    };
    let rebuilds = async {
        for _ in 0..8 {
            search.rebuild(&desk(), PATIENCE).await.unwrap();
        }
    };
    tokio::join!(puts, rebuilds);
    assert_eq!(search.search(&desk(), question("car", false)).await.unwrap().total, 61);
}

#[tokio::test]
async fn a_folder_of_something_else_is_left_alone() {
    let world = World::new();
    let folder = world.folder.path().join("search");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("letter.txt"), "dear").unwrap();
    let bm25 = crate::algorithms::bm25::Bm25::default();
    let refused = Library::new(Some(folder.clone()), bm25).load().unwrap_err();
    assert_eq!((refused.code(), refused.field()), (codes::VALIDATION_ERROR, Some("search.index_dir")));
    assert_eq!(std::fs::read(folder.join("letter.txt")).unwrap(), b"dear");
    std::fs::remove_file(folder.join("letter.txt")).unwrap();
    let first = Library::new(Some(folder.clone()), bm25);
    first.load().unwrap();
    let second = Library::new(Some(folder), bm25);
    assert_eq!(second.load().unwrap_err().code(), codes::UNAVAILABLE, "one process at a time");
    first.close();
    second.load().unwrap();
}

#[tokio::test]
async fn one_process_makes_vectors_for_those_that_answer() {
    let world = World::new();
    let open = |answers, makes| {
        let search =
            Search::new(world.parts(Some("one")), SearchSettings::default(), &mut Registry::default())
                .unwrap();
        search.start(answers, makes);
        Arc::new(search)
    };
    let answering = open(true, false);
    answering.change(&desk(), vec![put("1", "car")]).await.unwrap();
    let answer = answering.search(&desk(), question("vehicle", true)).await.unwrap();
    assert!(answer.results.is_empty() && answer.fallback.is_some_and(|why| why.contains("being made")));
    assert_eq!(answering.stats(&desk()).await.unwrap().vector_lag, Some(1));
    let making = open(false, true);
    assert!(making.has_caught_up(), "what answers nothing is ready");
    settled(&answering).await;
    check(&answering, &desk(), question("vehicle", true), &["1"]).await;
    // The item as it is now decides, whatever its vector was made with.
    making.stop().await;
    let mut other = put("1", "car");
    if let Change::Put(item) = &mut other {
        item.tags = ["other".to_owned()].into();
    }
    answering.change(&desk(), vec![other]).await.unwrap();
    let filter = Filter { tags: vec!["tag-1".to_owned()], ..Filter::default() };
    check(&answering, &desk(), Question { filter, ..question("vehicle", true) }, &[]).await;
    answering.stop().await;
}

#[tokio::test]
async fn many_tenants_have_few_segments() {
    let world = World::new();
    let parts = SearchParts { folder: None, ..world.parts(None) };
    let search = Search::new(parts, SearchSettings::default(), &mut Registry::default()).unwrap();
    search.start(true, true);
    // More than keep the memory of writing: each write takes it from another.
    let tenants: Vec<Scope> = (0..3).map(|id| scope(&format!("t{id}"), Permission::Admin)).collect();
    for id in 0..12 {
        for tenant in &tenants {
            search.change(tenant, vec![put(&id.to_string(), "car")]).await.unwrap();
        }
    }
    for tenant in &tenants {
        let index = search.stats(tenant).await.unwrap().index;
        assert_eq!(index.items, 12);
        assert!(index.segments < 12, "{} segments", index.segments);
    }
    search.stop().await;
}
