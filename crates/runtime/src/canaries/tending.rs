//! Follows what runs, writes down what was seen, reads the gates and decides.
//!
//! Every process does, for each tenant that ever had a canary: the version of the record says who was first to decide. A look that
//! fails is counted and made again; meanwhile what is known goes on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Error, Result, Scope, TenantId, codes};
use models::registered::CHAMPION;
use rollout::decision::{Stage, decide};
use store::{Document, Expect, IndexValue, Query, Selection, Versioned};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::documents::{Canary, Decision, RUNNING};
use super::{PAGE, Running};
use crate::{Runtime, Selector};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one look at a tenant takes at most: others wait for it.
const LOOK_LASTS: Duration = Duration::from_secs(10);

impl Runtime {
    /// Looks after canaries until it is told to stop; then what was seen is written once more.
    pub(crate) async fn tend_on(&self, stop: &CancellationToken) {
        let mut is_failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(PAUSE) => {}
            }
            match self.tend_once().await {
                Ok(()) if std::mem::take(&mut is_failing) => {
                    info!("canaries of versions are looked after again");
                }
                Err(error) if !std::mem::replace(&mut is_failing, true) => {
                    warn!(error = %error.chain(), "canaries of versions are not looked after for now");
                }
                _ => {}
            }
        }
        for running in self.all_running() {
            if let Err(error) = self.flush(&running).await {
                warn!(error = %error.chain(), "what was seen last of a canary is not written");
            }
        }
    }

    /// Looks after every tenant once, whatever becomes of the others.
    pub async fn tend_once(&self) -> Result<()> {
        let canaries = &self.0.canaries;
        let tenants = match canaries.tenants.all().await {
            Ok(tenants) => tenants,
            Err(error) => {
                canaries.metrics.failed_looks.inc();
                return Err(error);
            }
        };
        let mut done = Ok(());
        for tenant in tenants {
            let late = |_| Err(Error::new(codes::TIMED_OUT, "a look at canaries of versions took too long"));
            let looked = tokio::time::timeout(LOOK_LASTS, self.tend_tenant(&tenant)).await;
            if let Err(error) = looked.unwrap_or_else(late) {
                canaries.metrics.failed_looks.inc();
                done = Err(error);
            }
        }
        canaries.metrics.running.set(canaries.running.read().len() as i64);
        done
    }

    /// Follows what runs of a tenant, and looks at each.
    pub(super) async fn tend_tenant(&self, tenant: &TenantId) -> Result<()> {
        let (canaries, scope) = (&self.0.canaries, Scope::system(tenant.clone(), "canary"));
        let _look = canaries.looking.lock().await;
        let all = Selection::Between(RUNNING, IndexValue::Integer(i64::MIN), IndexValue::Integer(i64::MAX));
        let found = canaries.canaries.list_all(&scope, Query::new(all, PAGE)).await?;
        self.follow_canaries(&scope, &found);
        let mut done = Ok(());
        for found in found {
            match self.look_at(&scope, &found).await {
                Ok(()) => {}
                // Another process was faster.
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => done = Err(error),
            }
        }
        done
    }

    /// From now on requests take part in what runs, and in nothing else.
    fn follow_canaries(&self, scope: &Scope, found: &[Versioned<Canary>]) {
        let canaries = &self.0.canaries;
        let tenant = scope.tenant();
        let known: HashMap<String, Arc<Running>> = {
            let running = canaries.running.read();
            let ours = running.iter().filter(|((of, _), _)| of == tenant);
            ours.map(|(_, running)| (running.canary.key(), Arc::clone(running))).collect()
        };
        let mut now = Vec::new();
        for Versioned { document: canary, .. } in found {
            let place = (tenant.clone(), canary.model.clone());
            let running = match known.get(&canary.key()) {
                Some(known) if known.canary == *canary => Arc::clone(known),
                Some(known) => Arc::new(known.moved(canary.clone())),
                None => Arc::new(Running::new(tenant.clone(), canary.clone(), &canaries.process)),
            };
            now.push((place, running));
        }
        for (_, running) in &now {
            self.keep_ready(scope, running);
        }
        let mut running = canaries.running.write();
        running.retain(|(of, _), _| of != tenant);
        running.extend(now);
    }

    /// Has the candidate in memory also where few ask it, and loads it before its first request; no look waits for that.
    fn keep_ready(&self, scope: &Scope, running: &Arc<Running>) {
        let candidate = Selector::Version(running.candidate());
        let (runtime, scope, model) = (self.clone(), scope.clone(), running.canary.model.clone());
        // Where it cannot be loaded, who asks it is told so, and it counts.
        tokio::spawn(async move { drop(runtime.describe(&scope, &model, candidate).await) });
    }

    fn all_running(&self) -> Vec<Arc<Running>> {
        self.0.canaries.running.read().values().cloned().collect()
    }

    /// Writes down what this process saw, where there is more of it.
    async fn flush(&self, running: &Running) -> Result<()> {
        let seen = {
            let mut seen = running.seen.lock();
            std::mem::take(&mut seen.1).then(|| seen.0.clone())
        };
        let Some(seen) = seen else { return Ok(()) };
        let scope = Scope::system(running.tenant.clone(), "canary");
        let written = self.0.canaries.answers.put(&scope, &seen, Expect::Any).await;
        if written.is_err() {
            running.seen.lock().1 = true;
        }
        written.map(drop)
    }

    async fn look_at(&self, scope: &Scope, found: &Versioned<Canary>) -> Result<()> {
        let (canaries, canary) = (&self.0.canaries, &found.document);
        if let Some(running) = canaries.running(scope, &canary.model) {
            self.flush(&running).await?;
        }
        let Some(decision) = self.decision(scope, found).await? else { return Ok(()) };
        let key = canary.key();
        let canary = self.settle(scope, found, decision).await?;
        let (stage, percent) = (canary.stage, canary.percent);
        let reason = canary.decisions.last().map_or("", |decision| &decision.reason);
        info!(tenant = %scope.tenant(), model = %canary.model, candidate = canary.candidate, ?stage, percent, reason,
            "a canary of a version moved");
        // At once here; within a second elsewhere.
        let place = (scope.tenant().clone(), canary.model.clone());
        let mut running = canaries.running.write();
        if let Some(known) = running.get(&place).filter(|known| known.canary.key() == key).cloned() {
            match stage {
                Stage::Running => drop(running.insert(place, Arc::new(known.moved(canary)))),
                Stage::Complete | Stage::RolledBack => drop(running.remove(&place)),
            }
        }
        Ok(())
    }

    /// What is to be decided of a canary that runs; none where it waits.
    async fn decision(&self, scope: &Scope, found: &Versioned<Canary>) -> Result<Option<Decision>> {
        let canary = &found.document;
        let decision = |stage, percent, reason: String, reading| Decision {
            at_ms: self.0.canaries.now_ms(),
            stage,
            percent,
            actor: None,
            reason,
            reading,
        };
        let back = |reason: String| Ok(Some(decision(Stage::RolledBack, 0, reason, None)));
        let model = match self.models().model(scope, &canary.model).await {
            Ok(model) if model.id == canary.model_id => model,
            Ok(_) => return back("the model was renamed or made anew".to_owned()),
            Err(error) if error.code() == codes::NOT_FOUND => {
                return back("the model is gone".to_owned());
            }
            Err(error) => return Err(error),
        };
        let champion = model.aliases.get(CHAMPION).copied();
        if champion == Some(canary.candidate) {
            let reason = "the champion is the candidate".to_owned();
            return Ok(Some(decision(Stage::Complete, 100, reason, None)));
        }
        if champion != Some(canary.control) {
            return back("the champion is no longer the version that it is compared with".to_owned());
        }
        if self.point_canary(scope, found, &model).await {
            // The record is another now.
            return Ok(None);
        }
        let (Some(mode), Some(reading)) =
            (canary.mode.gated(), self.0.canaries.reading(scope, canary).await?)
        else {
            return Ok(None);
        };
        Ok(decide(mode, &reading)
            .map(|found| decision(found.stage, found.percent, found.reason, Some(reading))))
    }
}
