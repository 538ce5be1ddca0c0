//! Notices what webhooks tell of, and writes the messages down.
//!
//! What was told last is a mark in the records, and a message is written in one transaction with its mark. So nothing is
//! told twice by two replicas, and what happens while a server is down is told when one is up again. Marks also keep
//! messages apart: between two looks many changes make one message.
//!
//! | message | when |
//! |---|---|
//! | `model.updated` | a version is served that is newer than the one told last |
//! | `trending.changed` | `trending_new_min` of the first `trending_top` were not there at the last message; looked at each `trending_interval_secs` |
//! | `canary.decided` | a canary went on or back; one message for each decision |
//! | `errors.threshold` | one server failed `errors_ratio` of a tenant's requests, `errors_requests_min` at least, in `errors_window_secs`; not again for `errors_pause_secs` |

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Error, Result, Scope, TenantId, Timestamp, codes};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Document, Expect, Records, Repository, Table, Versioned};

use crate::answers::{AnswerCounts, Window};
use crate::deliveries::{Deliveries, Happening};
use crate::metrics::WebhookMetrics;
use crate::settings::WebhookSettings;
use crate::subscriptions::{Kind, Subscriptions, Webhook};

/// The model that a tenant is served with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedModel {
    /// Its version.
    pub version: u64,
    /// When it was trained.
    pub trained_at: Timestamp,
}

/// An entity of the trending list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrendingEntity {
    /// Its type.
    pub entity_type: String,
    /// Its id.
    pub entity_id: String,
}

/// What was decided of a canary.
#[derive(Debug, Clone, PartialEq)]
pub struct CanaryDecision {
    /// Its number among those of the tenant, 1 for the first.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// The canary.
    pub canary: String,
    /// What the message says.
    pub data: Value,
}

/// What is looked at. The binary plugs in the domain that knows.
pub trait Observed: Send + Sync + Debug {
    /// The model that is served here now.
    fn model(&self, scope: &Scope) -> Option<ServedModel>;

    /// The first of the trending list, best first; may take a while.
    ///
    /// # Errors
    /// Those of the domain.
    fn trending(&self, scope: &Scope, count: usize) -> Result<Vec<TrendingEntity>>;

    /// Decisions of canaries after the one of this number, oldest first. Those that are no longer remembered are left out.
    ///
    /// # Errors
    /// Those of the domain.
    fn decisions(&self, scope: &Scope, after: u64) -> Result<Vec<CanaryDecision>>;
}

/// What was told last of a kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mark {
    kind: Kind,
    at: Timestamp,
    value: Value,
}

impl Document for Mark {
    const TABLE: Table = Table { name: "webhook_marks", indexes: &[] };

    fn key(&self) -> String {
        self.kind.name().to_owned()
    }
}

/// What this process remembers of a tenant, to ask the records less.
#[derive(Debug, Default)]
struct Seen {
    version: Option<u64>,
    /// The number of the decision that was told last.
    decision: Option<u64>,
    /// The last look at the trending list, by the clock's elapsed time.
    trending_at: Option<Duration>,
}

/// What a watcher works with.
#[derive(Debug, Clone)]
pub(crate) struct WatcherParts {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) observed: Arc<dyn Observed>,
    pub(crate) answers: Arc<AnswerCounts>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) deliveries: Deliveries,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Arc<WebhookSettings>,
    pub(crate) metrics: WebhookMetrics,
}

/// Looks and tells.
#[derive(Debug)]
pub(crate) struct Watcher {
    parts: WatcherParts,
    marks: Repository<Mark>,
    seen: Mutex<BTreeMap<TenantId, Seen>>,
}

impl Watcher {
    pub(crate) fn new(parts: WatcherParts) -> Self {
        Self { marks: Repository::new(Arc::clone(&parts.records)), parts, seen: Mutex::default() }
    }

    /// Looks at what is the same on every replica. One of them does it.
    pub(crate) async fn look(&self, scope: &Scope) -> Result<()> {
        self.look_at_model(scope).await?;
        self.look_at_canaries(scope).await?;
        self.look_at_trending(scope).await
    }

    async fn look_at_model(&self, scope: &Scope) -> Result<()> {
        let Some(model) = self.parts.observed.model(scope) else { return Ok(()) };
        if self.seen.lock().entry(scope.tenant().clone()).or_default().version == Some(model.version) {
            return Ok(());
        }
        let mark = self.marks.get(scope, Kind::ModelUpdated.name()).await?;
        let mut listening = self.parts.subscriptions.listening(scope, Kind::ModelUpdated).await?;
        let told = mark.as_ref().and_then(|mark| mark.document.value["version"].as_u64());
        match told {
            Some(told) if told >= model.version => listening.clear(),
            Some(_) => {}
            // The first look: what was trained before anyone listened is no news.
            None => listening.retain(|webhook| webhook.created_at < model.trained_at),
        }
        if told.is_none_or(|told| told < model.version) {
            let value = json!({"version": model.version, "trained_at": model.trained_at});
            let subject = Some(format!("model/{}", model.version));
            let happening = Happening { kind: Kind::ModelUpdated.name(), subject, data: value.clone() };
            self.tell(scope, &listening, Kind::ModelUpdated, happening, (mark, value)).await?;
        }
        self.seen.lock().entry(scope.tenant().clone()).or_default().version = Some(model.version);
        Ok(())
    }

    async fn look_at_canaries(&self, scope: &Scope) -> Result<()> {
        let kind = Kind::CanaryDecided;
        let seen = self.seen.lock().entry(scope.tenant().clone()).or_default().decision;
        if self.parts.observed.decisions(scope, seen.unwrap_or(0))?.is_empty() {
            return Ok(());
        }
        let mut told = 0;
        let listening = self.parts.subscriptions.listening(scope, kind).await?;
        loop {
            let mark = self.marks.get(scope, kind.name()).await?;
            let before = mark.as_ref().and_then(|mark| mark.document.value["number"].as_u64());
            told = told.max(before.unwrap_or(0));
            let Some(next) = self.parts.observed.decisions(scope, told)?.into_iter().next() else { break };
            // What was decided before a webhook was made is no news to it.
            let news: Vec<Webhook> =
                listening.iter().filter(|webhook| webhook.created_at <= next.at).cloned().collect();
            let subject = Some(format!("canary/{}", next.canary));
            let happening = Happening { kind: kind.name(), subject, data: next.data };
            self.tell(scope, &news, kind, happening, (mark, json!({"number": next.number}))).await?;
            told = next.number;
        }
        self.seen.lock().entry(scope.tenant().clone()).or_default().decision = Some(told);
        Ok(())
    }

    async fn look_at_trending(&self, scope: &Scope) -> Result<()> {
        let now = self.parts.clock.elapsed();
        let settings = &self.parts.settings;
        let interval = Duration::from_secs(settings.trending_interval_secs);
        let last = self.seen.lock().entry(scope.tenant().clone()).or_default().trending_at;
        if last.is_some_and(|last| now.saturating_sub(last) < interval) {
            return Ok(());
        }
        let kind = Kind::TrendingChanged;
        let mark = self.marks.get(scope, kind.name()).await?;
        let listening = self.parts.subscriptions.listening(scope, kind).await?;
        if listening.is_empty() {
            // Who listens later is not told of a difference to long ago.
            if let Some(mark) = mark {
                forgiving(self.marks.delete(scope, kind.name(), Expect::Version(mark.version)).await)?;
            }
        } else if mark.as_ref().is_none_or(|mark| !self.is_within(mark, interval)) {
            let (observed, own, top) =
                (Arc::clone(&self.parts.observed), scope.clone(), settings.trending_top);
            let list = tokio::task::spawn_blocking(move || observed.trending(&own, top));
            let list = list.await.map_err(Error::internal).flatten()?;
            self.compare(scope, &listening, mark, list).await?;
        }
        self.seen.lock().entry(scope.tenant().clone()).or_default().trending_at = Some(now);
        Ok(())
    }

    async fn compare(
        &self,
        scope: &Scope,
        listening: &[Webhook],
        mark: Option<Versioned<Mark>>,
        list: Vec<TrendingEntity>,
    ) -> Result<()> {
        let told = mark.as_ref().map(|mark| serde_json::from_value(mark.document.value.clone()));
        let told: Option<Vec<TrendingEntity>> = told.transpose().map_err(Error::internal)?;
        let entered: Vec<_> =
            list.iter().filter(|one| told.as_ref().is_some_and(|told| !told.contains(one))).collect();
        let is_first = told.is_none();
        if !is_first && entered.len() < self.parts.settings.trending_new_min {
            return Ok(());
        }
        let left: Vec<_> = told.iter().flatten().filter(|one| !list.contains(one)).collect();
        let data = json!({"entities": list, "entered": entered, "left": left});
        let listening = if is_first { &[] } else { listening };
        let happening = Happening { kind: Kind::TrendingChanged.name(), subject: None, data };
        self.tell(scope, listening, Kind::TrendingChanged, happening, (mark, json!(list))).await
    }

    /// Looks at what this server failed. Every replica does it.
    pub(crate) async fn look_at_errors(&self) -> Result<()> {
        let settings = &self.parts.settings;
        let length = Duration::from_secs(settings.errors_window_secs);
        let mut outcome = Ok(());
        for (tenant, window, lasted) in self.parts.answers.over(self.parts.clock.elapsed(), length) {
            let ratio = window.errors as f64 / window.requests.max(1) as f64;
            if window.requests < settings.errors_requests_min || ratio < settings.errors_ratio {
                continue;
            }
            let scope = Scope::system(tenant.clone(), "webhooks");
            if let Err(error) = self.tell_of_errors(&scope, (window, lasted), ratio).await {
                self.parts.answers.put_back(tenant, window);
                outcome = Err(error);
            }
        }
        outcome
    }

    async fn tell_of_errors(
        &self,
        scope: &Scope,
        (window, lasted): (Window, Duration),
        ratio: f64,
    ) -> Result<()> {
        let kind = Kind::ErrorsThreshold;
        let settings = &self.parts.settings;
        let listening = self.parts.subscriptions.listening(scope, kind).await?;
        let mark = self.marks.get(scope, kind.name()).await?;
        let pause = Duration::from_secs(settings.errors_pause_secs);
        if listening.is_empty() || mark.as_ref().is_some_and(|mark| self.is_within(mark, pause)) {
            return Ok(());
        }
        let data = json!({
            "requests": window.requests,
            "errors": window.errors,
            "ratio": ratio,
            "threshold": settings.errors_ratio,
            "window_secs": lasted.as_secs_f64().round(),
        });
        let happening = Happening { kind: kind.name(), subject: None, data };
        self.tell(scope, &listening, kind, happening, (mark, Value::Null)).await
    }

    fn is_within(&self, mark: &Versioned<Mark>, time: Duration) -> bool {
        let now = self.parts.clock.now();
        mark.document.at.checked_add(time).is_ok_and(|until| now < until)
    }

    /// Writes messages and the mark, or nothing where another replica was faster.
    async fn tell(
        &self,
        scope: &Scope,
        webhooks: &[Webhook],
        kind: Kind,
        happening: Happening,
        mark: (Option<Versioned<Mark>>, Value),
    ) -> Result<()> {
        let (before, value) = mark;
        let expect = before.map_or(Expect::Absent, |before| Expect::Version(before.version));
        let mark = Repository::write(&Mark { kind, at: self.parts.clock.now(), value }, expect)?;
        let written = self.parts.deliveries.enqueue(scope, webhooks, happening, vec![mark]).await;
        if let Ok(deliveries) = &written {
            self.parts.metrics.announced(kind, deliveries.len());
        }
        forgiving(written.map(drop))
    }
}

/// Another replica was faster: what it wrote stands.
fn forgiving(written: Result<()>) -> Result<()> {
    match written {
        Err(error) if error.code() == codes::CONFLICT => Ok(()),
        other => other,
    }
}
