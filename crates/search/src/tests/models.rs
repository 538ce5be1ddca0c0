//! A change of the model, servers that die in it or come late, another log, and what is remembered of texts.

use std::sync::atomic::{AtomicI64, Ordering};

use kernel::ManualClock;
use store::{Cache, Collection, MAX_APPEND_BATCH, Metric, Vectors};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::encoding::{Encoding, Rooms};
use crate::follower::Sink;
use crate::index::{Place, TextIndex};
use crate::meanings::{Meanings, current};
use crate::questions::JobState;
use crate::reindex::sink::JobSink;
use crate::reindex::{Jobs, Reindex};

const ITEMS: usize = 1_200;

/// Encodes so many texts and no more; counts them.
#[derive(Debug)]
struct Tiring {
    inner: FewWords,
    left: Arc<AtomicI64>,
}

impl Tiring {
    fn encoder(version: &str, left: i64) -> (Arc<dyn Encoder>, Arc<AtomicI64>) {
        let left = Arc::new(AtomicI64::new(left));
        (Arc::new(Self { inner: FewWords::new(version), left: Arc::clone(&left) }), left)
    }
}

impl Encoder for Tiring {
    fn identity(&self) -> &ModelIdentity {
        self.inner.identity()
    }

    fn encode(&self, texts: &[&str]) -> Result<Vec<Encoded>> {
        let count = i64::try_from(texts.len()).unwrap();
        if self.left.fetch_sub(count, Ordering::SeqCst) < count {
            self.left.fetch_add(count, Ordering::SeqCst);
            return Err(kernel::Error::new(codes::UNAVAILABLE, "tired"));
        }
        self.inner.encode(texts)
    }
}

fn of_version(version: &str) -> Arc<dyn Encoder> {
    Arc::new(FewWords::new(version))
}

fn opened(parts: SearchParts) -> Arc<Search> {
    let search = Search::new(parts, SearchSettings::default(), &mut Registry::default()).unwrap();
    search.start(true, true);
    Arc::new(search)
}

async fn fill(search: &Search) {
    let items: Vec<Change> = (0..ITEMS).map(|id| put(&id.to_string(), "boat")).collect();
    for some in items.chunks(MAX_APPEND_BATCH) {
        search.change(&desk(), some.to_vec()).await.unwrap();
    }
    search.change(&desk(), vec![put("car", "car")]).await.unwrap();
}

/// Waits until something holds of the jobs.
async fn until(
    search: &Search,
    holds: impl Fn(&[(String, JobState, f64)]) -> bool,
) -> Vec<(String, JobState, f64)> {
    for _ in 0..1_000 {
        let jobs = search.jobs(&desk()).await.unwrap();
        let told: Vec<_> =
            jobs.into_iter().map(|one| (one.job.model_version, one.state, one.progress)).collect();
        if holds(&told) {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the jobs do not get there");
}

async fn version_that_answers(
    search: &Search,
    query: &str,
) -> (Vec<String>, Option<String>, Option<&'static str>) {
    let answer = search.search(&desk(), question(query, true)).await.unwrap();
    let ids = ids(&answer).into_iter().map(str::to_owned).collect();
    (ids, answer.model.map(|model| model.version), answer.fallback)
}

#[test]
fn a_reindex_that_was_killed_goes_on_and_the_model_before_answers_until_its_end() {
    let world = World::new();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let search = world.open(Some("one"));
        fill(&search).await;
        until(&search, |jobs| jobs.iter().any(|job| job.1 == JobState::Serving)).await;
        search.stop().await;
    });
    let (tired, left) = Tiring::encoder("two", 700);
    let parts =
        SearchParts { encoder: Some(tired), previous_encoder: Some(of_version("one")), ..world.parts(None) };
    let id = runtime.block_on(async {
        let search = opened(parts);
        until(&search, |jobs| jobs[0].0 == "two" && (0.3..1.0).contains(&jobs[0].2)).await;
        assert_eq!(
            version_that_answers(&search, "vehicle").await,
            (vec!["car".to_owned()], Some("one".to_owned()), None)
        );
        // What is new gets vectors of both: the one that answers finds it, and the other will.
        search.change(&desk(), vec![put("new", "oak")]).await.unwrap();
        until(&search, |jobs| jobs[1].2 >= 1.0 && left.load(Ordering::SeqCst) < 64).await;
        assert_eq!(version_that_answers(&search, "tree").await.0, ["new"]);
        search.jobs(&desk()).await.unwrap()[0].job.id.clone()
    });
    // No task comes to its end.
    runtime.shutdown_background();
    let made_before = 700;
    let (fresh, left) = Tiring::encoder("two", i64::MAX);
    let parts = SearchParts {
        encoder: Some(fresh),
        previous_encoder: Some(of_version("one")),
        folder: None,
        ..world.parts(None)
    };
    Runtime::new().unwrap().block_on(async {
        let search = opened(parts);
        until(&search, |jobs| jobs[0].1 == JobState::Serving && jobs[1].1 == JobState::Superseded).await;
        assert_eq!(search.job(&desk(), &id).await.unwrap().state, JobState::Serving, "the same job");
        let made = usize::try_from(i64::MAX - left.load(Ordering::SeqCst)).unwrap();
        assert!(made < ITEMS && made + made_before >= ITEMS, "{made} were made after the crash");
        for _ in 0..300 {
            if version_that_answers(&search, "tree").await.1.as_deref() == Some("two") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (found, version, fallback) = version_that_answers(&search, "tree").await;
        assert_eq!((found, version.as_deref(), fallback), (vec!["new".to_owned()], Some("two"), None));
        assert_eq!(version_that_answers(&search, "vehicle").await.0, ["car"]);
        assert_eq!(search.stats(&desk()).await.unwrap().vectors, Some(ITEMS as u64 + 2));
        search.stop().await;
    });
}

#[tokio::test]
async fn one_of_several_servers_makes_the_vectors() {
    let world = World::new();
    let (encoder, left) = Tiring::encoder("one", i64::MAX);
    let server = |seed| {
        let entropy = Arc::new(SeededEntropy::new(seed));
        let parts = SearchParts {
            encoder: Some(Arc::clone(&encoder)),
            folder: None,
            is_alone: false,
            entropy,
            ..world.parts(None)
        };
        opened(parts)
    };
    let servers = [server(1), server(2), server(3)];
    fill(&servers[0]).await;
    let jobs = until(&servers[1], |jobs| jobs.iter().any(|job| job.1 == JobState::Serving)).await;
    settled(&servers[2]).await;
    let made = usize::try_from(i64::MAX - left.load(Ordering::SeqCst)).unwrap();
    // Queries are texts too; nobody asked yet.
    assert_eq!(made, ITEMS + 1, "{jobs:?}");
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_is_late_cannot_win() {
    let world = World::new();
    let index = TextIndex::in_memory(crate::algorithms::bm25::Bm25::default()).unwrap();
    let encoding = Encoding::new(of_version("one"), Rooms::default(), None);
    let meanings = Meanings::new(encoding, world.vectors.clone(), "search_late");
    let found = async |index: &TextIndex| -> Vec<String> {
        let found = meanings.nearest(&desk(), &[1.0, 0.5, 0.0, 0.0], 10, &Filter::default()).await.unwrap();
        current(&found, index).unwrap().into_iter().map(|(key, _)| key).collect()
    };
    let key = put("1", "x").key();
    index.apply(&[put("1", "boat")]).unwrap();
    let stop = CancellationToken::new();
    meanings.take(&desk(), vec![(9, put("1", "boat"))], &stop).await.unwrap();
    for late in [put("1", "car"), delete("1")] {
        meanings.take(&desk(), vec![(5, late)], &stop).await.unwrap();
        assert_eq!(found(&index).await, [key.as_str()]);
    }
    // The next change sweeps up what the late one left.
    meanings.take(&desk(), vec![(10, put("1", "boat"))], &stop).await.unwrap();
    assert_eq!(meanings.count(&desk()).await.unwrap(), 1);
    meanings.take(&desk(), vec![(11, delete("1"))], &stop).await.unwrap();
    assert_eq!(meanings.count(&desk()).await.unwrap(), 0, "a delete takes away what is older");
    index.apply(&[delete("1")]).unwrap();
    assert!(found(&index).await.is_empty());
}

#[tokio::test]
async fn who_lost_a_job_cannot_write_its_progress() {
    let world = World::new();
    let writer = world.open(None);
    writer.change(&desk(), (0..8).map(|id| put(&id.to_string(), "car")).collect()).await.unwrap();
    writer.stop().await;
    let extents = world.log.extents(&crate::log::ITEMS).await.unwrap();
    let partition = extents.iter().find(|extent| extent.next >= 4).unwrap().partition;
    let events = world.log.read(&crate::log::ITEMS, partition, 0, store::ReadLimit::default()).await.unwrap();
    let clock = Arc::new(SystemClock::new());
    let jobs = Jobs::new(world.records.clone(), clock.clone(), Arc::new(SeededEntropy::new(3)));
    let job: Reindex = jobs.aim(FewWords::new("one").identity(), false).await.unwrap();
    let take_over = async |holder: &str| {
        let encoding = Encoding::new(of_version("one"), Rooms::default(), None);
        let meanings = Meanings::new(encoding, world.vectors.clone(), "search_fenced");
        let fed = (world.log.as_ref() as &dyn EventLog, CancellationToken::new());
        let taken = JobSink::take_over(&job.id, holder, meanings, jobs.clone(), clock.clone(), fed).await;
        taken.unwrap().unwrap()
    };
    let first = take_over("one").await;
    let progress = |next: usize| {
        let mark = crate::log::mark_of(&events[next - 1].event);
        crate::index::Progress::from([(partition, Place { next: next as u64, mark })])
    };
    first.save(world.log.as_ref(), &progress(1)).await.unwrap();
    let second = take_over("two").await;
    assert_eq!(second.restore(world.log.as_ref()).await.unwrap(), progress(1));
    let refused = first.save(world.log.as_ref(), &progress(4)).await.unwrap_err();
    assert_eq!((refused.code(), first.is_lost()), (codes::CONFLICT, true));
    assert!(first.take(0, Vec::new()).await.is_err(), "nor make more vectors");
    assert_eq!(jobs.get(&job.id).await.unwrap().unwrap().document.progress, progress(1));
    second.save(world.log.as_ref(), &progress(2)).await.unwrap();
}

#[tokio::test]
async fn indexes_of_another_log_are_made_again_even_where_that_is_longer() {
    let mut world = World::new();
    let search = world.open(Some("one"));
    search.change(&desk(), vec![put("1", "car"), put("2", "oak")]).await.unwrap();
    settled(&search).await;
    search.stop().await;
    world.log = Arc::new(MemoryEventLog::new(2));
    let parts = SearchParts {
        folder: None,
        records: Arc::new(MemoryRecords::new()),
        vectors: Arc::new(MemoryVectors::default()),
        entropy: Arc::new(SeededEntropy::new(8)),
        ..world.parts(None)
    };
    let writer = opened(parts);
    writer.change(&desk(), (3..30).map(|id| put(&id.to_string(), "automobile")).collect()).await.unwrap();
    writer.stop().await;
    let search = world.open(Some("one"));
    until(&search, |jobs| jobs.len() == 1 && jobs[0].1 == JobState::Serving).await;
    settled(&search).await;
    let all = Question { limit: 100, ..question("vehicle", true) };
    let answer = search.search(&desk(), all).await.unwrap();
    assert_eq!(answer.results.len(), 27);
    check(&search, &desk(), question("oak car", false), &[]).await;
    assert_eq!(search.stats(&desk()).await.unwrap().vectors, Some(27));
    search.stop().await;
}

#[tokio::test]
async fn the_operator_has_vectors_made_again() {
    let world = World::new();
    let search = world.open(Some("one"));
    search.change(&desk(), vec![put("1", "car")]).await.unwrap();
    until(&search, |jobs| jobs.len() == 1 && jobs[0].1 == JobState::Serving).await;
    let other = scope("other", Permission::Admin);
    assert_eq!(ask(&search, other, "POST", "/api/v1/embed/reindex", None).await.0, StatusCode::FORBIDDEN);
    let writer = scope("desk", Permission::Write);
    assert_eq!(ask(&search, writer, "POST", "/api/v1/embed/reindex", None).await.0, StatusCode::FORBIDDEN);
    let (status, begun) = ask(&search, desk(), "POST", "/api/v1/embed/reindex", None).await;
    assert_eq!((status, &begun["status"]), (StatusCode::ACCEPTED, &json!("making")), "{begun}");
    until(&search, |jobs| jobs[0].1 == JobState::Serving && jobs[1].1 == JobState::Superseded).await;
    let id = begun["job_id"].as_str().unwrap();
    let (_, job) = ask(&search, desk(), "GET", &format!("/api/v1/embed/jobs/{id}"), None).await;
    assert_eq!(
        (&job["status"], &job["progress"], &job["model_version"]),
        (&json!("serving"), &json!(1.0), &json!("one"))
    );
    let (_, jobs) = ask(&search, desk(), "GET", "/api/v1/embed/jobs", None).await;
    assert_eq!(jobs.as_array().unwrap().len(), 2);
    assert_eq!(ask(&search, desk(), "GET", "/api/v1/embed/jobs/none", None).await.0, StatusCode::NOT_FOUND);
    check(&search, &desk(), question("vehicle", true), &["1"]).await;
    search.stop().await;
}

#[tokio::test]
async fn texts_are_encoded_once_for_each_tenant() {
    let world = World::new();
    let (encoder, left) = Tiring::encoder("one", 100);
    let search = opened(SearchParts { encoder: Some(encoder), ..world.parts(None) });
    let embed = async |tenant: &str, text: &str| {
        let scope = scope(tenant, Permission::Read);
        let (encoded, _) = search.embed(&scope, None, vec![text.to_owned(), "oak".to_owned()]).await.unwrap();
        encoded
    };
    let long = "car ".repeat(READS_MAX + 1);
    let first = embed("desk", &long).await;
    assert_eq!(left.load(Ordering::SeqCst), 98);
    assert_eq!(embed("desk", &long).await, first, "with its tokens and whether it was cut");
    assert_eq!(left.load(Ordering::SeqCst), 98);
    assert_eq!(embed("other", &long).await, first);
    assert_eq!(left.load(Ordering::SeqCst), 96, "another tenant learns nothing from what was asked before");
    embed("desk", "boat").await;
    assert_eq!(left.load(Ordering::SeqCst), 95, "what is new alone");
    // What is damaged is made again.
    let key = format!("search.embedding.one.{}", blake3::hash(b"oak").to_hex());
    world.cache.set(&desk(), &key, "damaged".into(), Duration::from_secs(60)).await.unwrap();
    embed("desk", "boat").await;
    assert_eq!(left.load(Ordering::SeqCst), 94);
    search.stop().await;
}

#[tokio::test]
async fn the_share_for_meaning_is_learned_on_judged_queries() {
    let world = World::new();
    let search = world.open(Some("one"));
    search.change(&desk(), vec![put("1", "car"), put("2", "vehicle tyre"), put("3", "boat")]).await.unwrap();
    let path = "/api/v1/search/fusion/learn";
    let judged = |id: &str| json!({"query": "vehicle", "judged": [{"entity_type": "note", "entity_id": id}]});
    for _ in 0..500 {
        if ask(&search, desk(), "POST", path, Some(json!({"queries": [judged("1")]}))).await.0
            == StatusCode::OK
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Words find the second alone, and meaning has the first before it.
    let (status, body) =
        ask(&search, desk(), "POST", path, Some(json!({"queries": vec![judged("1"); 10]}))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body["fusion"]["learned"].as_f64().unwrap() > 0.5, "{body}");
    let told = &body["ndcg_at_10"];
    assert_eq!(
        (&told["words"], &told["learned"], &told["learned_held_out"]),
        (&json!(0.0), &json!(1.0), &json!(1.0))
    );
    let (_, body) = ask(&search, desk(), "POST", path, Some(json!({"queries": [judged("2")]}))).await;
    assert_eq!(
        (&body["fusion"], &body["ndcg_at_10"]["learned_held_out"]),
        (&json!({"learned": 0.0}), &Value::Null)
    );
    let refused = async |scope: Scope, body: Value, status: StatusCode, field: &str| {
        let (found, body) = ask(&search, scope, "POST", path, Some(body)).await;
        assert_eq!((found, body["field"].as_str()), (status, Some(field)), "{body}");
    };
    refused(desk(), json!({"queries": []}), StatusCode::BAD_REQUEST, "queries").await;
    refused(desk(), json!({"queries": [{"query": "x", "judged": []}]}), StatusCode::BAD_REQUEST, "queries")
        .await;
    refused(
        desk(),
        json!({"queries": [{"query": " ", "judged": []}]}),
        StatusCode::BAD_REQUEST,
        "queries[0].query",
    )
    .await;
    refused(desk(), json!({"queries": [judged("404"), judged("405")]}), StatusCode::BAD_REQUEST, "queries")
        .await;
    let some = json!({"queries": [judged("1"), judged("404")]});
    assert_eq!(ask(&search, desk(), "POST", path, Some(some)).await.1["unknown_items"], 1);
    assert_eq!(body["unknown_items"], 0);
    // Another tenant learns from its own items: it has none.
    let other = scope("other", Permission::Read);
    refused(other, json!({"queries": [judged("1")]}), StatusCode::BAD_REQUEST, "queries").await;
    search.stop().await;
}

#[tokio::test]
async fn vectors_of_former_jobs_are_removed_after_a_while() {
    let world = World::new();
    let other = scope("other", Permission::Admin);
    let clock = Arc::new(ManualClock::at("2026-01-10T12:00:00Z".parse().unwrap()));
    let server = |model: &str, before: Option<&str>, seed| {
        opened(SearchParts {
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            previous_encoder: before.map(of_version),
            folder: None,
            ..world.parts(Some(model))
        })
    };
    let count = async |tenant: &Scope, job: &str| {
        let name: &'static str = Box::leak(format!("search_{}", job.replace('-', "_")).into_boxed_str());
        let collection = Collection { name, dimensions: MEANINGS.len() + 1, metric: Metric::Cosine };
        world.vectors.count(tenant, collection).await.unwrap()
    };
    let states = async |search: &Search| -> Vec<(String, JobState)> {
        let jobs = search.jobs(&desk()).await.unwrap();
        jobs.into_iter().map(|job| (job.job.model_version, job.state)).collect()
    };
    let look = async |search: &Search| {
        search.keeper.as_ref().unwrap().remove_former(&CancellationToken::new()).await.unwrap();
    };
    let kept = Duration::from_secs(SearchSettings::default().former_vectors_keep_secs);

    let search = server("one", None, 1);
    fill(&search).await;
    search.change(&other, vec![put("1", "oak")]).await.unwrap();
    until(&search, |jobs| jobs[0].1 == JobState::Serving && jobs[0].2 >= 1.0).await;
    let first = search.jobs(&desk()).await.unwrap()[0].job.id.clone();
    look(&search).await;
    clock.advance(2 * kept);
    look(&search).await;
    assert_eq!(count(&desk(), &first).await, ITEMS as u64 + 1, "what answers stays, however old");
    search.stop().await;

    let search = server("two", Some("one"), 2);
    until(&search, |jobs| jobs[0].0 == "two" && jobs[0].1 == JobState::Serving).await;
    look(&search).await;
    assert!(search.job(&desk(), &first).await.unwrap().job.superseded_at.is_some());
    clock.advance(kept - Duration::from_secs(1));
    look(&search).await;
    assert_eq!(count(&desk(), &first).await, ITEMS as u64 + 1, "not before its time");
    search.stop().await;

    // A change back takes the job up again, and its time begins anew.
    let search = server("one", Some("two"), 3);
    until(&search, |jobs| jobs.iter().any(|job| job.0 == "one" && job.1 == JobState::Serving)).await;
    assert_eq!(search.job(&desk(), &first).await.unwrap().job.superseded_at, None);
    search.stop().await;
    let search = server("two", Some("one"), 4);
    until(&search, |jobs| jobs.iter().any(|job| job.0 == "two" && job.1 == JobState::Serving)).await;
    while version_that_answers(&search, "vehicle").await.1.as_deref() != Some("two") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    look(&search).await;
    clock.advance(kept - Duration::from_secs(1));
    look(&search).await;
    assert_eq!(count(&desk(), &first).await, ITEMS as u64 + 1);

    // Cut off in the middle, it is no job that can be gone back to, and the next look goes on.
    clock.advance(Duration::from_secs(1));
    let cut_off = CancellationToken::new();
    cut_off.cancel();
    let jobs = search.keeper.as_ref().unwrap().jobs();
    let found = jobs.get(&first).await.unwrap().unwrap();
    let begun = Reindex { is_removing: true, ..found.document };
    jobs.put(&begun, store::Expect::Version(found.version)).await.unwrap();
    search.keeper.as_ref().unwrap().remove_former(&cut_off).await.unwrap();
    assert_eq!(count(&desk(), &first).await, ITEMS as u64 + 1, "a server that stops removes nothing");
    assert_eq!(states(&search).await[1], ("one".to_owned(), JobState::Removing));
    let elsewhere = jobs.clone();
    look(&search).await;
    assert_eq!((count(&desk(), &first).await, count(&other, &first).await), (0, 0), "of every tenant");
    assert_eq!(states(&search).await, [("two".to_owned(), JobState::Serving)]);
    let second = search.jobs(&desk()).await.unwrap()[0].job.id.clone();
    assert_eq!((count(&desk(), &second).await, count(&other, &second).await), (ITEMS as u64 + 1, 1));
    check(&search, &other, question("tree", true), &["1"]).await;
    search.stop().await;
    let anew = elsewhere.aim(FewWords::new("one").identity(), false).await.unwrap();
    assert_ne!(anew.id, first, "its vectors are made again");
}

#[tokio::test]
async fn a_job_whose_vectors_are_being_removed_is_not_gone_back_to() {
    let world = World::new();
    let clock = Arc::new(SystemClock::new());
    let jobs = Jobs::new(world.records.clone(), clock, Arc::new(SeededEntropy::new(3)));
    let (one, two) = (FewWords::new("one"), FewWords::new("two"));
    let job = jobs.aim(one.identity(), false).await.unwrap();
    jobs.aim(two.identity(), false).await.unwrap();
    assert_eq!(jobs.aim(one.identity(), false).await.unwrap().id, job.id, "while it is whole");
    jobs.aim(two.identity(), false).await.unwrap();
    let found = jobs.get(&job.id).await.unwrap().unwrap();
    let begun = Reindex { is_removing: true, ..found.document };
    jobs.put(&begun, store::Expect::Version(found.version)).await.unwrap();
    assert_ne!(jobs.aim(one.identity(), false).await.unwrap().id, job.id);
}
