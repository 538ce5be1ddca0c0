//! Every point of every metric. Keys are in the order of time, step and value, so that a history is a range.

use kernel::{Result, Scope};
use serde::{Deserialize, Serialize};
use store::{Document, Query, Selection, Table};

use super::documents::sortable;
use super::{MetricPoint, Tracking};
use crate::limits::{check_key, invalid};

/// Points on one page of a history.
pub(super) const MAX_POINTS: usize = 10_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Point {
    pub run_id: String,
    pub point: MetricPoint,
}

impl Document for Point {
    const TABLE: Table = Table { name: "metric_points", indexes: &[] };

    fn key(&self) -> String {
        let MetricPoint { key, value, timestamp_ms, step, .. } = &self.point;
        // The sign last: digits of what is negative would sort the wrong way round.
        let digits = |number: i64| (number as u64) ^ (1 << 63);
        let (prefix, time, step) = (prefix(&self.run_id, key), digits(*timestamp_ms), digits(*step));
        format!("{prefix}{time:016x}{step:016x}{:016x}", digits(sortable(*value)))
    }
}

/// Keys of metrics may hold anything; a hash holds a place in a key of records.
fn prefix(run_id: &str, key: &str) -> String {
    format!("{run_id}/{}/", &blake3::hash(key.as_bytes()).to_hex()[..32])
}

pub(super) fn check_point(point: &MetricPoint, field: &str) -> Result<()> {
    check_key(&point.key, &format!("{field}.key"))?;
    if let Some(id) = &point.model_id {
        check_key(id, &format!("{field}.model_id"))?;
    }
    Ok(())
}

impl Tracking {
    /// A page of the points of a metric by time, and where the next begins.
    ///
    /// # Errors
    /// `NOT_FOUND` for the run; `VALIDATION_ERROR` for the token; those of the engine.
    pub async fn metric_history(
        &self,
        scope: &Scope,
        run_id: &str,
        key: &str,
        page_token: Option<String>,
        max_results: Option<usize>,
    ) -> Result<(Vec<MetricPoint>, Option<String>)> {
        check_key(key, "metric_key")?;
        let run = self.run(scope, run_id).await?;
        let limit = max_results.unwrap_or(MAX_POINTS).clamp(1, MAX_POINTS);
        let mut query = Query::new(Selection::Prefix(prefix(&run.id, key)), limit);
        query.cursor = page_token.filter(|token| !token.is_empty());
        let records = store::Repository::<Point>::new(std::sync::Arc::clone(&self.records));
        let (page, cursor) = records
            .list(scope, &query)
            .await
            .map_err(|error| if error.field() == Some("cursor") { not_a_token() } else { error })?;
        Ok((page.into_iter().map(|found| found.document.point).collect(), cursor))
    }
}

fn not_a_token() -> kernel::Error {
    invalid("page_token", "the page token is not one of this history")
}

impl Tracking {
    /// Removes every point of a run.
    pub(super) async fn remove_points(&self, scope: &Scope, run_id: &str) -> Result<()> {
        loop {
            let query = Query::new(Selection::Prefix(format!("{run_id}/")), MAX_POINTS);
            let page = self.records.list(scope, Point::TABLE, &query).await?;
            if page.records.is_empty() {
                return Ok(());
            }
            let delete = |record: store::Record| store::Write::Delete {
                table: Point::TABLE,
                key: record.key,
                expect: store::Expect::Any,
            };
            self.records.commit(scope, page.records.into_iter().map(delete).collect()).await?;
        }
    }
}
