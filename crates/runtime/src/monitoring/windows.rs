//! What was seen of a version, written down in parts, and compared with its reference once for each window.
//!
//! Every server writes what it saw since its last write as a part of its own, so nothing counts twice. Any server that
//! has the version in memory compares: it joins the parts of windows that are over, of all servers, and in one transaction takes
//! them away and advances the head, if that is still the one that it read. So there is one look for a window however
//! many servers there are, and the number of looks, on which the level of each rests, outlives the process. The audit of a
//! drift is of the same transaction. Parts that wait too long, and those of versions that are served no more, are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use edge::AuditLog;
use edge::audit::Record;
use kernel::{Error, Result, Scope, Timestamp, codes};
use rollout::drift::{self, DriftReport};
use serde::{Deserialize, Serialize};
use store::{
    Document, Expect, IndexValue, Query, Records, Repository, Selection, Table, Tenants, Versioned, Write,
};

use super::settings::MonitoringSettings;
use super::watch::{Batch, ROWS_MAX, SampledRows, Watch, cut};
use super::{TENANTS, of_tenant};
use crate::shelf::Place;

/// Parts that one look joins; more wait for the next.
const PARTS_MAX: usize = 2_000;
const PAGE: usize = 100;
/// Parts that are removed at once.
const SWEEP: usize = 50;
/// Parts that may wait before they are joined into one.
const LOOSE_PARTS: usize = 16;
/// Parts that are read at once to tell how many rows wait.
const FEW: usize = 10;
/// Looks that are remembered.
const HISTORY: usize = 50;

/// What one server saw between two writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Part {
    model_id: String,
    version: u64,
    /// When its window begins, in seconds since 1970.
    window: i64,
    id: String,
    seen: u64,
    /// By hash; what was missing is null.
    rows: Vec<(u64, Vec<Option<f64>>)>,
}

fn prefix(model_id: &str, version: u64) -> String {
    format!("{model_id}/{version:020}/")
}

impl Document for Part {
    const TABLE: Table = Table { name: "drift_parts", indexes: &["window"] };

    fn key(&self) -> String {
        format!("{}{:020}/{}", prefix(&self.model_id, self.version), self.window.max(0), self.id)
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("window", IndexValue::Integer(self.window))]
    }
}

/// A look, without its numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Look {
    pub(crate) look: u64,
    pub(crate) at: Timestamp,
    /// The begin of the first window.
    pub(crate) from: Timestamp,
    /// The end of the last.
    pub(crate) until: Timestamp,
    /// Rows that were asked.
    pub(crate) seen: u64,
    /// Of these, in the comparison.
    pub(crate) rows: usize,
    /// Features that drifted.
    pub(crate) drifted: Vec<String>,
}

/// What is known of a version.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) model_id: String,
    pub(crate) version: u64,
    pub(crate) looks: u64,
    /// Newest first.
    pub(crate) history: Vec<Look>,
    pub(crate) last: Option<DriftReport>,
}

impl Head {
    pub(crate) fn is_drifting(&self) -> bool {
        self.history.first().is_some_and(|look| !look.drifted.is_empty())
    }
}

impl Document for Head {
    const TABLE: Table = Table { name: "drift_heads", indexes: &[] };

    fn key(&self) -> String {
        format!("{}/{:020}", self.model_id, self.version)
    }
}

/// The windows of every tenant.
#[derive(Debug)]
pub(crate) struct Windows {
    records: Arc<dyn Records>,
    parts: Repository<Part>,
    heads: Repository<Head>,
    tenants: Tenants,
    audit: AuditLog,
}

/// Parts that were joined.
#[derive(Debug, Default)]
struct Joined {
    /// By key and version.
    parts: Vec<(String, u64)>,
    first: i64,
    last: i64,
    seen: u64,
    rows: SampledRows,
}

impl Joined {
    fn take_in(&mut self, part: Versioned<Part>) {
        let Versioned { version, document: part } = part;
        self.first = if self.parts.is_empty() { part.window } else { self.first.min(part.window) };
        self.last = self.last.max(part.window);
        self.parts.push((part.key(), version));
        self.seen += part.seen;
        let values = |row: Vec<Option<f64>>| row.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect();
        self.rows.extend(part.rows.into_iter().map(|(key, row)| (key, values(row))));
        cut(&mut self.rows);
    }

    fn deletes(&self) -> impl Iterator<Item = Write> {
        let delete = |(key, version): &(String, u64)| Write::Delete {
            table: Part::TABLE,
            key: key.clone(),
            expect: Expect::Version(*version),
        };
        self.parts.iter().map(delete)
    }
}

impl Windows {
    pub(crate) fn new(records: Arc<dyn Records>, audit: AuditLog) -> Self {
        Self {
            tenants: Tenants::new(Arc::clone(&records), TENANTS),
            audit,
            parts: Repository::new(Arc::clone(&records)),
            heads: Repository::new(Arc::clone(&records)),
            records,
        }
    }

    /// What is known of a version.
    pub(crate) async fn head(&self, scope: &Scope, place: &Place) -> Result<Option<Versioned<Head>>> {
        let empty = Head { model_id: place.model_id.clone(), version: place.version, ..Head::default() };
        self.heads.get(scope, &empty.key()).await
    }

    /// Writes what was seen as a part, also where an earlier try did.
    pub(crate) async fn write(&self, scope: &Scope, place: &Place, batch: &Batch) -> Result<()> {
        self.tenants.note(scope.tenant()).await?;
        let Batch { window, id, seen, rows } = batch;
        let part = part(place, *window, id.clone(), *seen, rows);
        self.parts.put(scope, &part, Expect::Any).await.map(drop)
    }

    /// Compares the windows that are over with the reference, once each and where they have enough rows; the look, and
    /// whether the one before it found no drift.
    ///
    /// # Errors
    /// Those of the engine; `CONFLICT` where another server was faster.
    pub(crate) async fn look(
        &self,
        scope: &Scope,
        place: &Place,
        watch: &Arc<Watch>,
        now: Timestamp,
        settings: &MonitoringSettings,
    ) -> Result<Option<(Look, bool)>> {
        let until = over_until(now, settings);
        if watch.looked_until.load(Ordering::Relaxed) >= until {
            return Ok(None);
        }
        // Before the parts: who takes parts away changes the head, so that nobody else counts them.
        let found = self.head(scope, place).await?;
        let joined = self.joined(scope, place, until).await?;
        let is_all = joined.parts.len() < PARTS_MAX;
        let expect = found.as_ref().map_or(Expect::Absent, |found| Expect::Version(found.version));
        let head = found.map_or_else(
            || Head { model_id: place.model_id.clone(), version: place.version, ..Head::default() },
            |found| found.document,
        );
        let mut looked = None;
        if joined.rows.len() >= settings.rows_min {
            looked = Some(self.compare(scope, watch, (head, expect), joined, (now, settings)).await?);
        } else if joined.parts.len() > LOOSE_PARTS {
            self.tie(scope, place, (&head, expect), &joined).await?;
        }
        if is_all {
            watch.looked_until.store(until, Ordering::Relaxed);
        }
        Ok(looked)
    }

    async fn compare(
        &self,
        scope: &Scope,
        watch: &Arc<Watch>,
        (head, expect): (Head, Expect),
        joined: Joined,
        (now, settings): (Timestamp, &MonitoringSettings),
    ) -> Result<(Look, bool)> {
        let was_quiet = !head.is_drifting();
        let (columns, number, level) = (watch.columns_of(&joined.rows), head.looks + 1, settings.drift());
        let watched = Arc::clone(watch);
        let compare = move || drift::check(&watched.reference, &columns, number, &level);
        let report = tokio::task::spawn_blocking(compare).await.map_err(Error::internal)?;
        let window_secs = i64::try_from(settings.window_secs).unwrap_or(i64::MAX);
        let drifted = report.features.iter().filter(|one| one.drifted).map(|one| one.feature.clone());
        let look = Look {
            look: number,
            at: now,
            from: time(joined.first),
            until: time(joined.last.saturating_add(window_secs)),
            seen: joined.seen,
            rows: joined.rows.len(),
            drifted: drifted.collect(),
        };
        let mut history = head.history;
        history.insert(0, look.clone());
        history.truncate(HISTORY);
        let head = Head { looks: number, history, last: Some(report), ..head };
        let mut writes = vec![Repository::write(&head, expect)?];
        writes.extend(joined.deletes());
        if was_quiet && !look.drifted.is_empty() {
            let (action, subject) = ("model.drifted".to_owned(), watch.model.clone());
            let record = Record { action, subject, details: details(head.version, &look) };
            self.audit.append_with(scope, record, writes).await?;
        } else {
            self.records.commit(scope, writes).await?;
        }
        Ok((look, was_quiet))
    }

    /// The parts of a version whose windows began before `until`.
    async fn joined(&self, scope: &Scope, place: &Place, until: i64) -> Result<Joined> {
        let mut joined = Joined::default();
        let mut query = Query::new(Selection::Prefix(prefix(&place.model_id, place.version)), PAGE);
        loop {
            let (parts, cursor) = self.parts.list(scope, &query).await?;
            let count = parts.len();
            let over: Vec<_> = parts.into_iter().filter(|part| part.document.window < until).collect();
            let is_end = over.len() < count || cursor.is_none();
            over.into_iter().for_each(|part| joined.take_in(part));
            if is_end || joined.parts.len() >= PARTS_MAX {
                return Ok(joined);
            }
            query.cursor = cursor;
        }
    }

    /// The distinct rows of which the next look is made, so far and as far as they are written, and when its last window ends.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn waiting(
        &self,
        scope: &Scope,
        place: &Place,
        now: Timestamp,
        settings: &MonitoringSettings,
    ) -> Result<(usize, Timestamp)> {
        let window_secs = i64::try_from(settings.window_secs).unwrap_or(i64::MAX);
        let until = over_until(now, settings).saturating_add(window_secs);
        let mut keys = BTreeSet::new();
        let mut query = Query::new(Selection::Prefix(prefix(&place.model_id, place.version)), FEW);
        // More are not compared, and need not be counted.
        for _ in 0..PARTS_MAX / FEW {
            let (parts, cursor) = self.parts.list(scope, &query).await?;
            let parts = parts.into_iter().map(|part| part.document).filter(|part| part.window < until);
            keys.extend(parts.flat_map(|part| part.rows).map(|(key, _)| key));
            if cursor.is_none() || keys.len() >= ROWS_MAX {
                break;
            }
            query.cursor = cursor;
        }
        Ok((keys.len().min(ROWS_MAX), time(until)))
    }

    /// Puts one part in the place of many that wait.
    async fn tie(
        &self,
        scope: &Scope,
        place: &Place,
        (head, expect): (&Head, Expect),
        joined: &Joined,
    ) -> Result<()> {
        // The name of the newest, which no later one can have.
        let newest = joined.parts.last().and_then(|(key, _)| key.rsplit('/').next()).unwrap_or_default();
        let tied = part(place, joined.first, format!("{newest}-tied"), joined.seen, &joined.rows);
        let mut writes = vec![Repository::write(head, expect)?, Repository::write(&tied, Expect::Absent)?];
        writes.extend(joined.deletes());
        self.records.commit(scope, writes).await.map(drop)
    }

    /// Removes parts that waited too long, of every tenant; how many.
    pub(crate) async fn sweep(&self, now: Timestamp, settings: &MonitoringSettings) -> Result<usize> {
        let before = now.as_second().saturating_sub(settings.wait_secs());
        let old = Selection::Between("window", IndexValue::Integer(i64::MIN), IndexValue::Integer(before));
        let query = Query::new(old, SWEEP);
        let mut removed = 0;
        for scope in self.tenants.all().await?.into_iter().map(of_tenant) {
            loop {
                let page = self.records.list(&scope, Part::TABLE, &query).await?;
                let count = page.records.len();
                if count == 0 {
                    break;
                }
                let delete = |key: String| Write::Delete { table: Part::TABLE, key, expect: Expect::Any };
                let writes = page.records.into_iter().map(|part| delete(part.key)).collect();
                self.records.commit(&scope, writes).await?;
                removed += count;
                if count < SWEEP {
                    break;
                }
            }
        }
        Ok(removed)
    }
}

fn part(place: &Place, window: i64, id: String, seen: u64, rows: &SampledRows) -> Part {
    let value = |value: &f64| value.is_finite().then_some(*value);
    let rows = rows.iter().map(|(key, row)| (*key, row.iter().map(value).collect())).collect();
    Part { model_id: place.model_id.clone(), version: place.version, window, id, seen, rows }
}

/// When the window of a time begins.
pub(crate) fn window_of(now: Timestamp, settings: &MonitoringSettings) -> i64 {
    let window_secs = i64::try_from(settings.window_secs).unwrap_or(i64::MAX);
    now.as_second() - now.as_second().rem_euclid(window_secs)
}

/// Windows that begin before this are over, and every server has written what it saw of them.
pub(crate) fn over_until(now: Timestamp, settings: &MonitoringSettings) -> i64 {
    let grace = i64::try_from(settings.flush_secs * 2).unwrap_or(i64::MAX);
    window_of(time(now.as_second().saturating_sub(grace)), settings)
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Whether another server did it first.
pub(crate) fn is_lost_race(error: &Error) -> bool {
    error.code() == codes::CONFLICT
}

/// What goes to the audit of a look.
fn details(version: u64, look: &Look) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("version".to_owned(), version.to_string()),
        ("look".to_owned(), look.look.to_string()),
        ("rows".to_owned(), look.rows.to_string()),
        ("features".to_owned(), look.drifted.join(", ")),
    ])
}
