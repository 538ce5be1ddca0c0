//! Metrics of runs.

use axum::extract::State;
use edge::Caller;
use models::tracking::{Batch, MetricPoint};
use serde::Deserialize;
use serde_json::{Value, json};

use super::runs::ByEither;
use super::wire::{self, Ask, Pair};
use super::{Answer, answer, done};
use crate::ModelRegistry;

/// Points of each run in one bulk answer.
const BULK_POINTS: usize = 2_500;
const BULK_RUNS: usize = 100;

#[derive(Debug, Deserialize)]
pub(super) struct Metric {
    key: String,
    #[serde(deserialize_with = "wire::double")]
    value: f64,
    #[serde(default, deserialize_with = "wire::whole")]
    timestamp: Option<i64>,
    #[serde(default, deserialize_with = "wire::whole")]
    step: Option<i64>,
    model_id: Option<String>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

impl Metric {
    fn point(self) -> MetricPoint {
        let present = |text: Option<String>| text.filter(|text| !text.is_empty());
        MetricPoint {
            key: self.key,
            value: self.value,
            timestamp_ms: self.timestamp.unwrap_or(0),
            step: self.step.unwrap_or(0),
            model_id: present(self.model_id),
            dataset: present(self.dataset_name).zip(present(self.dataset_digest)),
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct LogMetric {
    #[serde(flatten)]
    id: ByEither,
    #[serde(flatten)]
    metric: Metric,
}

pub(super) async fn log_metric(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<LogMetric>,
) -> Answer {
    let batch = Batch { metrics: vec![asked.metric.point()], ..Batch::default() };
    registry.tracking.log(&scope, asked.id.id(), &batch).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct LogBatch {
    run_id: String,
    #[serde(default)]
    metrics: Vec<Metric>,
    #[serde(default)]
    params: Vec<Pair>,
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn log_batch(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<LogBatch>,
) -> Answer {
    let pairs = |pairs: Vec<Pair>| pairs.into_iter().map(|pair| (pair.key, pair.value)).collect();
    let batch = Batch {
        metrics: asked.metrics.into_iter().map(Metric::point).collect(),
        params: pairs(asked.params),
        tags: pairs(asked.tags),
    };
    registry.tracking.log(&scope, &asked.run_id, &batch).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct History {
    #[serde(flatten)]
    id: ByEither,
    metric_key: String,
    page_token: Option<String>,
    #[serde(default, deserialize_with = "wire::whole")]
    max_results: Option<i64>,
}

pub(super) async fn history(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<History>,
) -> Answer {
    let id = asked.id.id();
    let limit = asked.max_results.and_then(|most| usize::try_from(most).ok());
    let (points, next) =
        registry.tracking.metric_history(&scope, id, &asked.metric_key, asked.page_token, limit).await?;
    let points = points.iter().map(|point| wire::metric(point, id)).collect();
    answer(wire::page("metrics", points, next))
}

#[derive(Debug, Deserialize)]
pub(super) struct Bulk {
    #[serde(default, deserialize_with = "wire::texts")]
    run_ids: Vec<String>,
    metric_key: String,
    #[serde(default, deserialize_with = "wire::whole")]
    start_step: Option<i64>,
    #[serde(default, deserialize_with = "wire::whole")]
    end_step: Option<i64>,
}

pub(super) async fn history_of_runs(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Bulk>,
) -> Answer {
    edge::check_range(asked.run_ids.len(), 1, BULK_RUNS, "run_ids")?;
    let steps = asked.start_step.unwrap_or(i64::MIN)..=asked.end_step.unwrap_or(i64::MAX);
    let mut found: Vec<Value> = Vec::new();
    for id in &asked.run_ids {
        let (points, _) =
            registry.tracking.metric_history(&scope, id, &asked.metric_key, None, Some(BULK_POINTS)).await?;
        let points = points.iter().filter(|point| steps.contains(&point.step));
        found.extend(points.map(|point| wire::metric(point, id)));
    }
    answer(json!({"metrics": found}))
}
