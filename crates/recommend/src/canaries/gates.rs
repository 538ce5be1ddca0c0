//! Reads the gates, decides, and puts what was decided into the audit log.
//!
//! It refuses to decide by a view that is behind the log, and to let one look hold up the others for long: both are failed
//! looks, which are counted and tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edge::audit::Record;
use kernel::{Error, Result, Scope, TenantId, codes};
use rollout::canary::Reading;
use rollout::decision::decide;
use serde::{Deserialize, Serialize};
use store::{Document, Expect, Repository, Table};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Canaries, Note};
use crate::events::{CanaryDecided, Stage};
use crate::log_ends::log_ends;
use crate::views::{Canary, Decision};

/// Between two looks at the gates.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one look takes at most; with [`LEASE_FRESH`] less than the lease.
const LOOK_LASTS: Duration = Duration::from_secs(10);
/// How long a look waits for the view.
const CATCH_UP: Duration = Duration::from_secs(2);
const LEASE: &str = "canary";
const LEASE_LASTS: Duration = Duration::from_secs(30);
/// A lease that was taken so lately is not asked for again.
const LEASE_FRESH: Duration = Duration::from_secs(10);

/// How far decisions of a canary were told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    canary: String,
    decisions: u64,
}

impl Document for Told {
    const TABLE: Table = Table { name: "canary_marks", indexes: &[] };

    fn key(&self) -> String {
        self.canary.clone()
    }
}

impl Canaries {
    /// Writes what was shown and reads the gates, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let Some(waiting) = self.waiting.lock().take() else { return };
        // Beside the looks: one that takes long must not fill the queue.
        let writing = tokio::spawn(Arc::clone(&self).write_all_shown(waiting, stop.clone()));
        let mut next = tokio::time::interval(PAUSE);
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => break,
                _ = next.tick() => self.look_after_all().await,
            };
            match done {
                Ok(()) if std::mem::take(&mut is_failing) => info!("canaries are looked after again"),
                Err(error) if !std::mem::replace(&mut is_failing, true) => {
                    warn!(error = %error.chain(), "canaries are not looked after for now");
                }
                _ => {}
            }
        }
        if let Err(error) = writing.await {
            warn!(error = %error, "what canaries showed is not written any more");
        }
        self.give_up().await;
    }

    /// Looks after every tenant, whatever becomes of the others.
    pub(super) async fn look_after_all(&self) -> Result<()> {
        let tenants = self.parts.views.tenants();
        let scopes: Vec<Scope> = tenants.into_iter().map(|tenant| Scope::system(tenant, "canary")).collect();
        // Before anything that can fail: an alert asks for failed looks while one runs.
        let running = scopes.iter().filter(|scope| self.is_running(scope)).count();
        self.parts.metrics.running.set(running as i64);
        let mut done = Ok(());
        for scope in scopes {
            let looked = tokio::time::timeout(LOOK_LASTS, self.look_after(&scope)).await;
            let late = |_| Err(Error::new(codes::TIMED_OUT, "a look at the gates of a canary took too long"));
            if let Err(error) = looked.unwrap_or_else(late) {
                self.parts.metrics.failed_looks.inc();
                done = Err(error);
            }
        }
        done
    }

    fn is_running(&self, scope: &Scope) -> bool {
        let view = self.parts.views.of(scope);
        let view = view.read();
        view.canaries.in_force().is_some_and(|canary| canary.stage == Stage::Running)
    }

    fn running(&self, scope: &Scope) -> Option<Canary> {
        let view = self.parts.views.of(scope);
        let view = view.read();
        view.canaries.in_force().filter(|canary| canary.stage == Stage::Running).cloned()
    }

    /// Reads the gates and tells of what was decided, where there is something of that, and no other server does.
    async fn look_after(&self, scope: &Scope) -> Result<()> {
        let note = self.notes.lock().get(scope.tenant()).copied().unwrap_or_default();
        let running = self.running(scope);
        if running.is_none() && self.decided(scope) == note.told {
            return Ok(());
        }
        if !self.is_elected(scope, note).await? {
            return Ok(());
        }
        if let Some(canary) = running
            && let Some(reading) = self.complete_reading(scope, &canary).await?
            && let Some(decided) = decision(&canary, reading)
        {
            self.decide(scope, &decided).await?;
            let CanaryDecided { canary, stage, percent, reason, .. } = &decided;
            info!(tenant = %scope.tenant(), canary, ?stage, percent, reason, "a canary moved");
        }
        self.tell(scope, note.told).await
    }

    /// What the gates say, with all that the log holds by now: a window that closes before what is in it is folded would make
    /// losses of choices.
    async fn complete_reading(&self, scope: &Scope, canary: &Canary) -> Result<Option<Reading>> {
        let now = self.parts.clock.now();
        let ends = log_ends(&*self.parts.log).await?;
        self.parts.projector.reached(&ends, CATCH_UP).await?;
        self.reading_at(scope, canary, now).await
    }

    fn decided(&self, scope: &Scope) -> u64 {
        self.parts.views.of(scope).read().canaries.decided()
    }

    async fn is_elected(&self, scope: &Scope, note: Note) -> Result<bool> {
        let now = self.parts.clock.elapsed();
        if note.held_at.is_some_and(|at| now.saturating_sub(at) < LEASE_FRESH) {
            return Ok(true);
        }
        let is_held = self.parts.leases.acquire(scope, LEASE, LEASE_LASTS).await?;
        self.notes.lock().entry(scope.tenant().clone()).or_default().held_at = is_held.then_some(now);
        Ok(is_held)
    }

    async fn give_up(&self) {
        let held: Vec<TenantId> = self
            .notes
            .lock()
            .iter()
            .filter(|(_, note)| note.held_at.is_some())
            .map(|(of, _)| of.clone())
            .collect();
        for tenant in held {
            // It ends by itself.
            drop(self.parts.leases.release(&Scope::system(tenant, "canary"), LEASE).await);
        }
    }

    /// Puts into the audit log what is not there yet; this process knows it of the first `told` decisions.
    async fn tell(&self, scope: &Scope, told: u64) -> Result<()> {
        let (canaries, decided) = {
            let view = self.parts.views.of(scope);
            let view = view.read();
            if view.canaries.decided() == told {
                return Ok(());
            }
            let is_new = |canary: &&Canary| canary.decisions.last().is_some_and(|last| last.number > told);
            let canaries: Vec<Canary> = view.canaries.all().iter().filter(is_new).cloned().collect();
            (canaries, view.canaries.decided())
        };
        for canary in canaries {
            loop {
                let mark = self.told.get(scope, &canary.started.canary).await?;
                let told = mark.as_ref().map_or(0, |mark| mark.document.decisions);
                let Some(decision) = canary.decisions.get(told as usize) else { break };
                let next = Told { canary: canary.started.canary.clone(), decisions: told + 1 };
                let expect = mark.map_or(Expect::Absent, |mark| Expect::Version(mark.version));
                if decision.data.actor.is_some() {
                    // The operator's own entry is there already.
                    self.told.put(scope, &next, expect).await?;
                } else {
                    let writes = vec![Repository::write(&next, expect)?];
                    self.parts.audit.append_with(scope, record(decision)?, writes).await?;
                }
                self.parts.metrics.decided(decision.data.stage.decided());
            }
        }
        self.notes.lock().entry(scope.tenant().clone()).or_default().told = decided;
        Ok(())
    }
}

/// What a reading of a running canary decides; none where it waits.
fn decision(canary: &Canary, reading: Reading) -> Option<CanaryDecided> {
    let rollout::decision::Decision { stage, percent, reason } = decide(canary.started.mode, &reading)?;
    let sequence = canary.decisions.len() as u64 + 1;
    let canary = canary.started.canary.clone();
    Some(CanaryDecided { canary, sequence, stage, percent, actor: None, reason, reading: Some(reading) })
}

/// The audit's entry of a decision of the gates.
fn record(decision: &Decision) -> Result<Record> {
    let CanaryDecided { canary, sequence, stage, percent, reason, reading, .. } = &decision.data;
    let action = format!("canary.{}", stage.decided());
    let mut details = BTreeMap::from([
        ("sequence".to_owned(), sequence.to_string()),
        ("percent".to_owned(), percent.to_string()),
        ("reason".to_owned(), reason.clone()),
    ]);
    if let Some(reading) = reading {
        details.insert("evidence".to_owned(), serde_json::to_string(reading).map_err(Error::internal)?);
    }
    Ok(Record { action, subject: canary.clone(), details })
}
