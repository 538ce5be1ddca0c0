//! Writes what canaries showed to the log.
//!
//! It refuses to let one person take others along: what cannot be written together is tried alone. It refuses to bring back
//! somebody who was forgotten: what was shown before an erasure and waits is dropped, of everyone, since nothing says of whom
//! the erasure is.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Event, Result, Scope, TenantId};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Canaries, Waiting, event};
use crate::events::kinds;

/// Written at once, at most.
const BATCH: usize = 500;
/// Events in a row that fail alone before the rest is given up: then it is the log and not the events.
const FAILURES_MAX: usize = 3;

impl Canaries {
    /// Writes what waits until `stop`, and then what is left.
    pub(super) async fn write_all_shown(
        self: Arc<Self>,
        mut waiting: Receiver<Waiting>,
        stop: CancellationToken,
    ) {
        let (mut batch, mut is_failing) = (Vec::new(), false);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = waiting.recv_many(&mut batch, BATCH) => {}
            }
            match self.write_shown(std::mem::take(&mut batch)).await {
                Ok(()) if std::mem::take(&mut is_failing) => info!("what canaries show counts again"),
                Err(error) if !std::mem::replace(&mut is_failing, true) => {
                    warn!(error = %error.chain(), "some of what canaries show does not count for now");
                }
                _ => {}
            }
        }
        waiting.close();
        while waiting.recv_many(&mut batch, BATCH).await > 0 {
            if let Err(error) = self.write_shown(std::mem::take(&mut batch)).await {
                warn!(error = %error.chain(), "what a canary showed last is not counted");
            }
        }
    }

    /// Writes what was shown, of every tenant, whatever becomes of the others.
    pub(super) async fn write_shown(&self, batch: Vec<Waiting>) -> Result<()> {
        let mut by_tenant: BTreeMap<TenantId, Vec<Waiting>> = BTreeMap::new();
        for one in batch {
            by_tenant.entry(one.tenant.clone()).or_default().push(one);
        }
        let mut done = Ok(());
        for (tenant, waiting) in by_tenant {
            let scope = Scope::system(tenant, "canary");
            let events = self.shown_events(&scope, waiting)?;
            if let Err(error) = self.append_shown(&scope, events).await {
                done = Err(error);
            }
        }
        done
    }

    /// The events of what was shown after the last erasure.
    fn shown_events(&self, scope: &Scope, waiting: Vec<Waiting>) -> Result<Vec<Event>> {
        let view = self.parts.views.of(scope);
        let erased_ms = view.read().erasures_ms().iter().max().copied();
        let mut events = Vec::with_capacity(waiting.len());
        for Waiting { tenant, at, shown } in waiting {
            if erased_ms.is_some_and(|erased_ms| at.as_millisecond() <= erased_ms) {
                self.parts.metrics.uncounted.inc();
                continue;
            }
            let id = self.parts.entropy.id(at).as_hyphenated().to_string();
            events.push(event(&tenant, kinds::CANARY_SHOWN, id, at, None, &shown)?);
        }
        Ok(events)
    }

    /// Writes all at once, or one by one: the log takes nothing of a person who is being forgotten just now.
    async fn append_shown(&self, scope: &Scope, events: Vec<Event>) -> Result<()> {
        let topic = edge::ingest::EVENTS;
        let append = |events| self.parts.log.append(scope, &topic, events);
        if events.is_empty() || append(events.clone()).await.is_ok() {
            return Ok(());
        }
        let (mut left, mut failures, mut done) = (events.into_iter(), 0, Ok(()));
        while failures < FAILURES_MAX
            && let Some(event) = left.next()
        {
            // One that was written with the others has the same id, and is there once.
            match append(vec![event]).await {
                Ok(_) => failures = 0,
                Err(error) => {
                    failures += 1;
                    self.parts.metrics.uncounted.inc();
                    done = Err(error);
                }
            }
        }
        self.parts.metrics.uncounted.inc_by(left.len() as u64);
        done
    }
}
