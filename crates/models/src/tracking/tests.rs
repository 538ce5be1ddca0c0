//! Experiments and runs on the fakes: nothing lost by those who log at once, every point once, the same at every page.

use std::collections::BTreeMap;

use kernel::{ManualClock, SeededEntropy, TenantId, Timestamp};
use store::memory::MemoryRecords;

use super::*;
use crate::files::FileLimits;
use crate::limits::{ALREADY_EXISTS, INVALID_STATE};

fn home() -> (Tracking, Scope) {
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) =
        (Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)), Arc::new(SeededEntropy::new(1)));
    let limits = FileLimits { file_bytes: 1_000, part_bytes: 64 };
    let blobs = Arc::new(store::memory::memory_blobs());
    let files = Files::new(Arc::clone(&records), blobs, Arc::clone(&clock), Arc::clone(&entropy), limits);
    let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
    (Tracking::new(records, files, clock, entropy), scope)
}

async fn run(tracking: &Tracking, scope: &Scope) -> Run {
    let new = NewRun { experiment_id: DEFAULT_EXPERIMENT.to_owned(), ..NewRun::default() };
    tracking.create_run(scope, new).await.unwrap()
}

fn point(key: &str, value: f64, timestamp_ms: i64, step: i64) -> MetricPoint {
    MetricPoint { key: key.to_owned(), value, timestamp_ms, step, model_id: None, dataset: None }
}

#[tokio::test]
async fn names_of_experiments_are_unique() {
    let (tracking, scope) = home();
    let made = tracking.create_experiment(&scope, "curves", BTreeMap::new()).await.unwrap();
    for name in ["curves", "Default"] {
        let refused = tracking.create_experiment(&scope, name, BTreeMap::new()).await.unwrap_err();
        assert_eq!(refused.code(), ALREADY_EXISTS, "{name}");
    }
    tracking.delete_experiment(&scope, &made.id).await.unwrap();
    let new = NewRun { experiment_id: made.id.clone(), ..NewRun::default() };
    assert!(tracking.create_run(&scope, new).await.is_err());
    assert!(
        tracking.create_experiment(&scope, "curves", BTreeMap::new()).await.is_err(),
        "it can be restored"
    );
    tracking.restore_experiment(&scope, &made.id).await.unwrap();
    tracking.rename_experiment(&scope, &made.id, "bends").await.unwrap();
    assert_eq!(tracking.experiment_named(&scope, "bends").await.unwrap().id, made.id);
    assert_eq!(tracking.experiment_named(&scope, "curves").await.unwrap_err().code(), codes::NOT_FOUND);
    assert_eq!(tracking.experiment_named(&scope, "Default").await.unwrap().id, DEFAULT_EXPERIMENT);
    tracking.tag_experiment(&scope, DEFAULT_EXPERIMENT, "team", Some("search")).await.unwrap();
    let search = Search { filter: "tags.team = 'search'".to_owned(), max_results: 10, ..Search::default() };
    let found = tracking.search_experiments(&scope, ViewType::All, &search).await.unwrap();
    assert_eq!(found.subjects.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["Default"]);
    let refused = tracking.delete_experiment(&scope, DEFAULT_EXPERIMENT).await.unwrap_err();
    assert_eq!(refused.code(), INVALID_STATE);
}

#[tokio::test]
async fn the_latest_point_counts_and_all_are_kept() {
    let (tracking, scope) = home();
    let run = run(&tracking, &scope).await;
    let metrics = vec![
        point("loss", 3.0, 10, 1),
        point("loss", 1.0, 30, 3),
        point("loss", f64::NAN, 20, 2),
        point("loss", 2.0, -5, -1),
        point("loss", 3.0, 10, 1),
        point("other", f64::NEG_INFINITY, 0, 0),
    ];
    let batch = Batch { metrics, ..Batch::default() };
    for _ in 0..2 {
        tracking.log(&scope, &run.id, &batch).await.unwrap();
    }
    let found = tracking.run(&scope, &run.id).await.unwrap();
    assert_eq!((found.metrics["loss"].value, found.metrics["loss"].step), (1.0, 3));
    let (mut token, mut times) = (None, Vec::new());
    loop {
        let (points, next) = tracking.metric_history(&scope, &run.id, "loss", token, Some(2)).await.unwrap();
        times.extend(points.iter().map(|point| point.timestamp_ms));
        token = next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(times, [-5, 10, 20, 30]);
    let refused = tracking.metric_history(&scope, &run.id, "loss", Some("x".to_owned()), None).await;
    assert_eq!(refused.unwrap_err().field(), Some("page_token"));
}

#[tokio::test]
async fn who_logs_at_once_loses_nothing() {
    let (tracking, scope) = home();
    let run = run(&tracking, &scope).await;
    let log = |number: u32| {
        let (tracking, scope, id) = (tracking.clone(), scope.clone(), run.id.clone());
        async move {
            let params = vec![(format!("p{number}"), number.to_string())];
            let metrics = vec![point("step", f64::from(number), 0, i64::from(number))];
            tracking.log(&scope, &id, &Batch { params, metrics, ..Batch::default() }).await
        }
    };
    let outcomes = futures::future::join_all((0..20).map(log)).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let found = tracking.run(&scope, &run.id).await.unwrap();
    assert_eq!((found.params.len(), found.metrics["step"].step), (20, 19));
}

#[tokio::test]
async fn a_parameter_never_changes_and_a_deleted_run_takes_nothing() {
    let (tracking, scope) = home();
    let run = run(&tracking, &scope).await;
    let param =
        |value: &str| Batch { params: vec![("rate".to_owned(), value.to_owned())], ..Batch::default() };
    tracking.log(&scope, &run.id, &param("0.1")).await.unwrap();
    tracking.log(&scope, &run.id, &param("0.1")).await.unwrap();
    assert_eq!(tracking.log(&scope, &run.id, &param("0.2")).await.unwrap_err().field(), Some("params"));
    tracking.delete_run(&scope, &run.id).await.unwrap();
    assert_eq!(tracking.log(&scope, &run.id, &param("0.1")).await.unwrap_err().code(), INVALID_STATE);
    let search = Search { max_results: 10, ..Search::default() };
    let found = async |view| {
        let experiments = [DEFAULT_EXPERIMENT.to_owned()];
        tracking.search_runs(&scope, &experiments, view, &search).await.unwrap().subjects.len()
    };
    assert_eq!((found(ViewType::ActiveOnly).await, found(ViewType::DeletedOnly).await), (0, 1));
    tracking.restore_run(&scope, &run.id).await.unwrap();
    assert_eq!(found(ViewType::ActiveOnly).await, 1);
    for (key, value) in [("", "x"), ("a\n", "x"), ("a", &"x".repeat(6_001))] {
        let batch = Batch { params: vec![(key.to_owned(), value.to_owned())], ..Batch::default() };
        assert_eq!(tracking.log(&scope, &run.id, &batch).await.unwrap_err().code(), codes::VALIDATION_ERROR);
    }
    let other = Scope::system(TenantId::new("other").unwrap(), "test");
    assert_eq!(tracking.run(&other, &run.id).await.unwrap_err().code(), codes::NOT_FOUND);
    assert_eq!(tracking.run(&scope, "../x").await.unwrap_err().code(), codes::NOT_FOUND);
}

#[tokio::test]
async fn a_logged_model_has_its_metrics() {
    let (tracking, scope) = home();
    let run = run(&tracking, &scope).await;
    let new = NewLoggedModel { experiment_id: DEFAULT_EXPERIMENT.to_owned(), ..NewLoggedModel::default() };
    let model = tracking.create_logged_model(&scope, new).await.unwrap();
    let metric = MetricPoint { model_id: Some(model.id.clone()), ..point("loss", 0.5, 1, 1) };
    let gone = MetricPoint { model_id: Some("m-gone".to_owned()), ..point("other", 0.5, 1, 1) };
    tracking.log(&scope, &run.id, &Batch { metrics: vec![metric, gone], ..Batch::default() }).await.unwrap();
    let status = LoggedModelStatus::LoggedModelReady;
    tracking.finalize_logged_model(&scope, &model.id, status).await.unwrap();
    let experiments = [DEFAULT_EXPERIMENT.to_owned()];
    let filter = "metrics.loss < 1 AND status = 'READY'".to_owned();
    let search = Search { filter, max_results: 10, ..Search::default() };
    let found = tracking.search_logged_models(&scope, &experiments, &search).await.unwrap();
    assert_eq!(found.subjects[0].metrics["loss"].1, run.id);
    tracking.delete_logged_model(&scope, &model.id).await.unwrap();
    assert!(tracking.logged_model(&scope, &model.id).await.is_err());
}
