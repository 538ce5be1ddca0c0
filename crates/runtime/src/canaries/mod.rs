//! A version goes live step by step: as a canary that the gates take on and back, as one arm of an A/B test, or as a shadow
//! that is asked and not heard.
//!
//! One at a time for each model. It takes part in what asks for the alias `champion`; who names a version or another alias gets
//! that. Errors and slow answers are counted in the process that gives them and written down every second; losses are counted
//! with the truth that tells of them, in one transaction. Every process reads the gates, and the version of the record says who was
//! first to decide. Where the candidate fails, the champion answers: an experiment fails no request.
//!
//! It refuses candidates that take or give other tensors than the champion. To add something to compare: a tally in
//! `rollout::canary`, counted in [`running`].

mod answering;
mod documents;
mod ending;
mod metrics;
mod running;
mod starting;
mod tending;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use edge::AuditLog;
use kernel::{Clock, Entropy, Error, Permission, Result, Scope, TenantId, codes};
use models::registered::{CANARY, SHADOW};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use rollout::canary::{Plan, Reading, Seen};
use store::{Document, Expect, Query, Records, Repository, Selection, Tenants, Versioned, Write};

pub(crate) use self::documents::{Answers, Canary, Counted, Decision, Losses, Member, Mode, Outcome};
use self::documents::{TENANTS, key_of};
use self::metrics::CanaryMetrics;
pub use self::running::Asker;
pub(crate) use self::running::{Asked, Part, Running};
use crate::{Runtime, Selector};

/// Canaries of a model that are shown.
pub(crate) const SHOWN: usize = 50;
const PAGE: usize = 500;

/// What a caller wants to try.
#[derive(Debug, Clone)]
pub(crate) struct NewCanary {
    pub(crate) candidate: Selector,
    pub(crate) mode: Mode,
    pub(crate) outcome: Outcome,
    pub(crate) plan: Plan,
    pub(crate) slow_ms: u64,
    pub(crate) output: Option<String>,
    pub(crate) loss_scale: f64,
}

/// What canaries work with.
#[derive(Debug)]
pub(crate) struct Canaries {
    records: Arc<dyn Records>,
    canaries: Repository<Canary>,
    answers: Repository<Answers>,
    losses: Repository<Losses>,
    tenants: Tenants,
    audit: AuditLog,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pub(crate) metrics: CanaryMetrics,
    /// What this process counts under.
    process: String,
    /// One look at a time: what was listed first must not take the place of what was listed last.
    looking: tokio::sync::Mutex<()>,
    /// By tenant and name of the model.
    running: RwLock<HashMap<(TenantId, String), Arc<Running>>>,
}

impl Canaries {
    pub(crate) fn new(
        records: &Arc<dyn Records>,
        (audit, clock, entropy): (AuditLog, Arc<dyn Clock>, Arc<dyn Entropy>),
        registry: &mut Registry,
    ) -> Self {
        Self {
            canaries: Repository::new(Arc::clone(records)),
            answers: Repository::new(Arc::clone(records)),
            losses: Repository::new(Arc::clone(records)),
            tenants: Tenants::new(Arc::clone(records), TENANTS),
            records: Arc::clone(records),
            process: entropy.id(clock.now()).as_hyphenated().to_string(),
            audit,
            clock,
            entropy,
            metrics: CanaryMetrics::register(registry),
            looking: tokio::sync::Mutex::default(),
            running: RwLock::default(),
        }
    }

    /// The canary that a request for a champion takes part in.
    pub(crate) fn running(&self, scope: &Scope, model: &str) -> Option<Arc<Running>> {
        let running = self.running.read();
        if running.is_empty() {
            return None;
        }
        running.get(&(scope.tenant().clone(), model.to_owned())).cloned()
    }

    /// A draw for who does not say who they are.
    pub(crate) fn draw(&self) -> u64 {
        self.entropy.next_u64()
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Canaries of a model, newest first.
    pub(crate) async fn list(
        &self,
        scope: &Scope,
        model_id: &str,
        count: usize,
    ) -> Result<Vec<Versioned<Canary>>> {
        let query =
            Query { descending: true, ..Query::new(Selection::Prefix(format!("{model_id}/")), count) };
        Ok(self.canaries.list(scope, &query).await?.0)
    }

    async fn found(&self, scope: &Scope, model_id: &str, sequence: u64) -> Result<Versioned<Canary>> {
        let found = self.canaries.get(scope, &key_of(model_id, sequence)).await?;
        found.ok_or_else(|| Error::new(codes::NOT_FOUND, format!("the model had no canary {sequence}")))
    }

    /// What every process saw, together.
    pub(crate) async fn answers(&self, scope: &Scope, canary: &Canary) -> Result<Answers> {
        let all = Query::new(Selection::Prefix(format!("{}/", canary.key())), PAGE);
        let mut sum = Answers::default();
        for found in self.answers.list_all(scope, all).await? {
            sum.merge(&found.document);
        }
        Ok(sum)
    }

    /// What is seen of a canary now.
    async fn seen(&self, scope: &Scope, canary: &Canary) -> Result<Seen> {
        let Answers { mut control, mut candidate, mut by_step, .. } = self.answers(scope, canary).await?;
        if canary.outcome == Outcome::Truth {
            let losses = self.losses.get(scope, &canary.key()).await?;
            let losses = losses.map(|found| found.document).unwrap_or_default();
            (control.loss, candidate.loss, by_step) = (losses.control, losses.candidate, losses.by_step);
        }
        let elapsed_ms = self.now_ms().saturating_sub(canary.step_began_ms);
        Ok(Seen {
            control,
            candidate,
            since_step: by_step.get(&canary.percent).copied().unwrap_or(0),
            step_seconds: u64::try_from(elapsed_ms / 1_000).unwrap_or(0),
        })
    }

    /// What the gates say now; none of a shadow, which has none.
    pub(crate) async fn reading(&self, scope: &Scope, canary: &Canary) -> Result<Option<Reading>> {
        if canary.mode.gated().is_none() {
            return Ok(None);
        }
        Ok(Some(canary.plan.read(canary.percent, &self.seen(scope, canary).await?)))
    }

    /// Removes what processes counted for canaries of a model before this one. Subjects go by themselves, in time.
    async fn clear(&self, scope: &Scope, model_id: &str, before: &str) -> Result<()> {
        for table in [Answers::TABLE, Losses::TABLE] {
            loop {
                let query = Query::new(Selection::Prefix(format!("{model_id}/")), PAGE);
                let page = self.records.list(scope, table, &query).await?;
                let old =
                    page.records.into_iter().map(|record| record.key).filter(|key| key.as_str() < before);
                let delete = |key| Write::Delete { table, key, expect: Expect::Any };
                let writes: Vec<Write> = old.map(delete).collect();
                if writes.is_empty() {
                    break;
                }
                self.records.commit(scope, writes).await?;
            }
        }
        Ok(())
    }
}

impl Runtime {
    /// The canary of a model by its number.
    pub(crate) async fn canary(&self, scope: &Scope, model: &str, sequence: u64) -> Result<Canary> {
        scope.require(Permission::Read)?;
        let model_id = self.models().model(scope, model).await?.id;
        Ok(self.0.canaries.found(scope, &model_id, sequence).await?.document)
    }
}

/// The alias of what is tried.
fn alias_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Canary | Mode::Ab => CANARY,
        Mode::Shadow => SHADOW,
    }
}
