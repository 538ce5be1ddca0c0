//! Jobs over fakes: what they answer, who goes on after a crash, what is refused, who sees them.

use futures::TryStreamExt;
use kernel::SeededEntropy;
use serde_json::{Value, json};
use store::memory::{MemoryRecords, memory_blobs};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::RuntimeSettings;
use crate::tests::{Home, home, scope};

struct Place {
    home: Home,
    records: Arc<dyn Records>,
    blobs: Arc<dyn Blobs>,
    settings: JobSettings,
}

async fn place() -> Place {
    let home = home(RuntimeSettings { max_batch_rows: 4, ..RuntimeSettings::default() });
    let version = home.factor("curve", 2.0).await;
    home.promote("curve", version).await;
    let (records, blobs) = (Arc::new(MemoryRecords::new()), Arc::new(memory_blobs()));
    Place { home, records, blobs, settings: JobSettings::default() }
}

impl Place {
    /// The jobs as a process with this name of its own sees them.
    fn process(&self, seed: u64) -> Jobs {
        let parts = JobParts {
            runtime: self.home.runtime.clone(),
            records: Arc::clone(&self.records),
            blobs: Arc::clone(&self.blobs),
            clock: Arc::clone(&self.home.clock) as _,
            entropy: Arc::new(SeededEntropy::new(seed)),
        };
        Jobs::new(parts, self.settings.clone(), &mut Registry::default())
    }

    async fn submit(&self, jobs: &Jobs, rows: &[Value]) -> Job {
        self.home.clock.advance(Duration::from_millis(1));
        let mut upload = jobs.begin(&self.home.scope, "curve", Selector::default()).await.unwrap();
        for row in rows {
            upload.push(row.to_string().as_bytes()).await.unwrap();
        }
        upload.finish().await.unwrap()
    }

    async fn lines(&self, jobs: &Jobs, id: &str) -> Vec<Value> {
        let pieces: Vec<_> = jobs.results(&self.home.scope, id).await.unwrap().try_collect().await.unwrap();
        let text = String::from_utf8(pieces.concat()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn blobs_left(&self) -> usize {
        self.blobs.list(&self.home.scope, "").await.unwrap().len()
    }
}

fn row(number: usize) -> Value {
    json!({"x": [number, 1]})
}

#[tokio::test]
async fn every_row_is_answered_in_its_place() {
    let place = place().await;
    let jobs = place.process(1);
    let mut rows: Vec<Value> = (0..2_500).map(row).collect();
    rows[7] = json!({"x": [1]});
    rows[8] = json!({"y": [1, 2]});
    let job = place.submit(&jobs, &rows).await;
    assert_eq!((job.status, job.rows, job.parts), (Status::Queued, 2_500, 3));
    // What is promoted meanwhile changes nothing.
    let second = place.home.factor("curve", 3.0).await;
    place.home.promote("curve", second).await;
    while jobs.round(&CancellationToken::new()).await.unwrap() {}
    let job = jobs.get(&place.home.scope, &job.id).await.unwrap();
    assert_eq!((job.status, job.rows_done, job.rows_failed), (Status::Completed, 2_500, 2));
    let lines = place.lines(&jobs, &job.id).await;
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["row"], number);
        match number {
            7 => assert_eq!(
                line["error"],
                json!({"code": "VALIDATION_ERROR", "message": "x: has 2 values, not 1"})
            ),
            8 => assert_eq!(line["error"]["message"], "x: is missing"),
            _ => assert_eq!(line["prediction"], json!([number as f64 * 2.0, 2.0])),
        }
    }
    assert_eq!((lines.len(), place.blobs_left().await), (2_500, 3), "inputs are dropped at the end");
}

#[tokio::test]
async fn another_process_goes_on_where_one_died() {
    let place = place().await;
    let (one, two) = (place.process(1), place.process(2));
    let rows: Vec<Value> = (0..3_000).map(row).collect();
    let job = place.submit(&one, &rows).await;
    let scope = &place.home.scope;
    let lease = format!("inference-job/{}", job.id);
    // One takes the job, answers a part of it, and is heard of no more.
    assert!(one.0.leases.acquire(scope, &lease, Duration::from_secs(30)).await.unwrap());
    let done = one.part(scope, &job).await.unwrap().unwrap();
    assert!(!two.round(&CancellationToken::new()).await.unwrap(), "one has it");
    place.home.clock.advance(Duration::from_secs(31));
    while two.round(&CancellationToken::new()).await.unwrap() {}
    let ended = two.get(scope, &job.id).await.unwrap();
    assert_eq!((ended.status, ended.rows_done), (Status::Completed, 3_000));
    // What the dead one would still write down is refused.
    assert_eq!(done.rows, 1_024);
    let stale = one.0.jobs.put(scope, &job, Expect::Version(1)).await.unwrap_err();
    assert_eq!(stale.code(), codes::CONFLICT);
    let lines = place.lines(&two, &job.id).await;
    assert!(lines.iter().enumerate().all(|(number, line)| line["row"] == number), "none twice, none lost");
    assert_eq!(lines.len(), 3_000);
}

#[tokio::test]
async fn a_cancelled_job_is_worked_on_no_more() {
    let place = place().await;
    let jobs = place.process(1);
    let scope = &place.home.scope;
    let job = place.submit(&jobs, &[row(1)]).await;
    let cancelled = jobs.cancel(scope, &job.id).await.unwrap();
    assert_eq!(cancelled.status, Status::Cancelled);
    assert!(!jobs.round(&CancellationToken::new()).await.unwrap());
    assert!(place.lines(&jobs, &job.id).await.is_empty());
    assert_eq!(jobs.cancel(scope, &job.id).await.unwrap(), cancelled, "once");
    let done = place.submit(&jobs, &[row(1)]).await;
    while jobs.round(&CancellationToken::new()).await.unwrap() {}
    assert_eq!(jobs.cancel(scope, &done.id).await.unwrap().status, Status::Completed);
}

#[tokio::test]
async fn a_job_whose_model_is_gone_fails_with_the_reason() {
    let place = place().await;
    let jobs = place.process(1);
    let scope = &place.home.scope;
    let job = place.submit(&jobs, &[row(1)]).await;
    let models = place.home.runtime.models();
    models.remove_alias(scope, "curve", "champion").await.unwrap();
    models.delete(scope, "curve").await.unwrap();
    place.home.runtime.look().await;
    while jobs.round(&CancellationToken::new()).await.unwrap() {}
    let failed = jobs.get(scope, &job.id).await.unwrap();
    assert_eq!(failed.status, Status::Failed);
    assert!(failed.error.unwrap().contains("curve"));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let mut place = place().await;
    place.settings = JobSettings { max_open_per_tenant: 2, max_mb: 1, ..JobSettings::default() };
    let jobs = place.process(1);
    let scope = place.home.scope.clone();
    let begin = async || jobs.begin(&scope, "curve", Selector::default()).await;
    for bad in ["[1]", "{\"x\":null}", "{", "7"] {
        let mut upload = begin().await.unwrap();
        upload.push(br#"{"x":[1,2]}"#).await.unwrap();
        assert!(upload.push(bad.as_bytes()).await.is_err(), "{bad}");
        drop(upload);
        tokio::task::yield_now().await;
    }
    assert_eq!(begin().await.unwrap().finish().await.unwrap_err().field(), Some("inputs"));
    tokio::task::yield_now().await;
    let mut upload = begin().await.unwrap();
    let large = json!({"x": vec![0.5; 100_000]}).to_string();
    upload.push(large.as_bytes()).await.unwrap();
    upload.push(large.as_bytes()).await.unwrap();
    assert_eq!(upload.push(large.as_bytes()).await.unwrap_err().code(), codes::TOO_LARGE);
    drop(upload);
    while jobs.open(&scope, 10).await.unwrap().len() + place.blobs_left().await > 0 {
        tokio::task::yield_now().await;
    }
    let missing = jobs.begin(&scope, "none", Selector::default()).await.unwrap_err();
    assert_eq!(missing.code(), codes::NOT_FOUND);
    for _ in 0..2 {
        place.submit(&jobs, &[row(1)]).await;
    }
    assert_eq!(begin().await.unwrap_err().code(), codes::OVERLOADED);
    while jobs.round(&CancellationToken::new()).await.unwrap() {}
    assert!(begin().await.is_ok(), "what ended is not open");
}

#[tokio::test]
async fn tenants_see_their_own_jobs() {
    let place = place().await;
    let jobs = place.process(1);
    let job = place.submit(&jobs, &[row(1)]).await;
    let other = scope("other");
    assert_eq!(jobs.get(&other, &job.id).await.unwrap_err().code(), codes::NOT_FOUND);
    assert_eq!(jobs.cancel(&other, &job.id).await.unwrap_err().code(), codes::NOT_FOUND);
    assert!(jobs.results(&other, &job.id).await.is_err());
    assert!(jobs.list(&other, None, 10).await.unwrap().0.is_empty());
    let second = place.submit(&jobs, &[row(1)]).await;
    let (first, cursor) = jobs.list(&place.home.scope, None, 1).await.unwrap();
    let (rest, _) = jobs.list(&place.home.scope, cursor, 10).await.unwrap();
    let ids: Vec<_> = first.iter().chain(&rest).map(|job| job.id.as_str()).collect();
    assert_eq!(ids, [second.id.as_str(), job.id.as_str()], "the newest first");
}

#[tokio::test]
async fn jobs_that_ended_are_kept_for_a_time() {
    let place = place().await;
    let jobs = place.process(1);
    let scope = &place.home.scope;
    let job = place.submit(&jobs, &[row(1)]).await;
    while jobs.round(&CancellationToken::new()).await.unwrap() {}
    // A process that died leaves what it took in.
    let upload = jobs.begin(scope, "curve", Selector::default()).await.unwrap();
    std::mem::forget(upload);
    jobs.sweep().await.unwrap();
    assert_eq!(jobs.list(scope, None, 10).await.unwrap().0.len(), 2);
    place.home.clock.advance(Duration::from_secs(3 * 3_600));
    jobs.sweep().await.unwrap();
    assert_eq!(jobs.list(scope, None, 10).await.unwrap().0, [jobs.get(scope, &job.id).await.unwrap()]);
    place.home.clock.advance(Duration::from_secs(168 * 3_600));
    jobs.sweep().await.unwrap();
    assert!(jobs.list(scope, None, 10).await.unwrap().0.is_empty());
    assert_eq!(place.blobs_left().await, 0);
}
