//! Columns that something happens to while they are read. To have something else happen: a [`Meddler`].

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Result, Scope};
use store::{Aggregation, Bucket, ColumnPage, ColumnRow, ColumnScan, ColumnTable, Columns, TimeRange};

/// What happens.
#[async_trait]
pub(crate) trait Meddler: Debug + Send + Sync {
    /// Before a page is read; an error is the answer.
    async fn before_page(&self) -> Result<()> {
        Ok(())
    }

    /// When one was read.
    async fn read(&self, _page: &mut ColumnPage) {}

    /// Before series are listed.
    async fn before_series(&self) {}
}

/// Columns, and what happens to them.
#[derive(Debug)]
pub(crate) struct Meddled<M> {
    pub(crate) columns: Arc<dyn Columns>,
    pub(crate) meddler: M,
}

#[async_trait]
impl<M: Meddler> Columns for Meddled<M> {
    async fn append(&self, scope: &Scope, table: ColumnTable, rows: Vec<ColumnRow>) -> Result<u64> {
        self.columns.append(scope, table, rows).await
    }

    async fn scan(&self, scope: &Scope, table: ColumnTable, scan: &ColumnScan) -> Result<ColumnPage> {
        self.meddler.before_page().await?;
        let mut page = self.columns.scan(scope, table, scan).await?;
        self.meddler.read(&mut page).await;
        Ok(page)
    }

    async fn revisions(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: &str,
        time_ns: i64,
        id: &str,
    ) -> Result<Vec<ColumnRow>> {
        self.columns.revisions(scope, table, series, time_ns, id).await
    }

    async fn latest(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: &[&str],
        as_of_ns: i64,
    ) -> Result<Vec<ColumnRow>> {
        self.columns.latest(scope, table, series, as_of_ns).await
    }

    async fn aggregate(&self, scope: &Scope, table: ColumnTable, asked: &Aggregation) -> Result<Vec<Bucket>> {
        self.columns.aggregate(scope, table, asked).await
    }

    async fn series(
        &self,
        scope: &Scope,
        table: ColumnTable,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        self.meddler.before_series().await;
        self.columns.series(scope, table, after, limit).await
    }

    async fn delete(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: Option<&str>,
        range: TimeRange,
    ) -> Result<u64> {
        self.columns.delete(scope, table, series, range).await
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        self.columns.erase(scope).await
    }
}
