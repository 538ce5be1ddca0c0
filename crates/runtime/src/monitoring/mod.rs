//! Watches what is served: whether what comes in and goes out is like what a version learned from, and how right it was.
//!
//! - [`watch`]: a sample of what a version is asked and answers. [`windows`]: written down, and compared.
//! - [`predictions`]: predictions that were kept, and the truths that came later.
//!
//! A version without a reference is served all the same; so is one whose reference is no good, and the answer about its drift
//! says why. To add something to watch: its state in a file here, its writing in [`Runtime::watch_once`].

mod metrics;
pub(crate) mod predictions;
mod settings;
pub(crate) mod watch;
pub(crate) mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use edge::AuditLog;
use kernel::{Clock, Entropy, Result, Scope, TenantId, Timestamp};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use rollout::drift::document::ReferenceDocument;
use store::{Records, Table};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::metrics::MonitoringMetrics;
pub use self::predictions::TOO_MANY_PREDICTIONS;
use self::predictions::{Answered, Predictions};
pub use self::settings::MonitoringSettings;
use self::watch::{Batch, Watch, number};
use self::windows::Windows;
use crate::Runtime;
use crate::canaries::Member;
use crate::model::Signature;
use crate::shelf::Loaded;
use crate::tensor::{DataType, Tensor};

/// The tenants of which something is kept that grows too old: it is removed also when nobody asks for it any more.
const TENANTS: Table = Table { name: "prediction_tenants", indexes: &[] };
/// Between two looks for what is too old.
const SWEEP_PAUSE: Duration = Duration::from_secs(600);

/// What is seen of a version, or why nothing is: no reason where it has no reference.
pub(crate) type Watched = std::result::Result<Arc<Watch>, Option<String>>;

/// What watching works with.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) windows: Windows,
    pub(crate) predictions: Predictions,
    pub(crate) metrics: MonitoringMetrics,
    pub(crate) settings: MonitoringSettings,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    swept: Mutex<Option<Duration>>,
}

impl Monitor {
    pub(crate) fn new(
        records: &Arc<dyn Records>,
        (audit, clock, entropy): (AuditLog, Arc<dyn Clock>, Arc<dyn Entropy>),
        settings: MonitoringSettings,
        registry: &mut Registry,
    ) -> Self {
        let (now, random) = (Arc::clone(&clock), Arc::clone(&entropy));
        Self {
            windows: Windows::new(Arc::clone(records), audit),
            predictions: Predictions::new(Arc::clone(records), now, random, settings.clone()),
            metrics: MonitoringMetrics::register(registry),
            settings,
            clock,
            entropy,
            swept: Mutex::default(),
        }
    }

    /// The time by which windows begin and end.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Watches a version that is being loaded, by the reference among its files.
    pub(crate) fn watch(
        &self,
        model: &str,
        version: u64,
        reference: Option<&Bytes>,
        signature: &Signature,
    ) -> Watched {
        let document = ReferenceDocument::parse(reference.ok_or(None)?);
        let made = document.and_then(|found| Watch::new(model, found, signature, self.entropy.next_u64()));
        made.map(Arc::new).map_err(|fault| {
            warn!(model, version, error = %fault, "a model is served without being watched, for its reference is no good");
            Some(fault.to_string())
        })
    }

    /// Keeps a prediction; its id.
    pub(crate) async fn keep(
        &self,
        scope: &Scope,
        loaded: &Loaded,
        persistence: BTreeMap<String, f64>,
        outputs: &[Tensor],
        member: Option<(Member, Option<String>)>,
    ) -> Result<String> {
        let answered = Answered { outputs: numbers_of(outputs), persistence };
        predictions::check(&answered)?;
        let id = self.predictions.keep(scope, &loaded.place, answered, member).await?;
        self.metrics.kept.inc();
        Ok(id)
    }

    /// Whether an answer can be kept.
    pub(crate) fn can_keep(&self, outputs: &[Tensor]) -> bool {
        predictions::check(&Answered { outputs: numbers_of(outputs), persistence: BTreeMap::new() }).is_ok()
    }

    /// Writes down what was seen of a version. What an earlier try wrote, or not, is written again first, under its name.
    async fn flush(&self, loaded: &Loaded, watch: &Watch) -> Result<()> {
        let now = self.clock.now();
        let unwritten = watch.unwritten.lock().take();
        if let Some(batch) = unwritten {
            if batch.window < windows::over_until(now, &self.settings) {
                // It may be there, or compared and gone: to write it again could count it twice.
                warn!(model = %watch.model, rows = batch.rows.len(),
                    "rows of a model are left out, for it was not known in time whether they are written");
            } else {
                self.write(loaded, watch, batch).await?;
            }
        }
        let Some((seen, rows)) = watch.take() else { return Ok(()) };
        let (window, id) = (windows::window_of(now, &self.settings), self.entropy.id(now).to_string());
        self.write(loaded, watch, Batch { window, id, seen, rows }).await
    }

    async fn write(&self, loaded: &Loaded, watch: &Watch, batch: Batch) -> Result<()> {
        let scope = of_tenant(loaded.place.tenant.clone());
        let written = self.windows.write(&scope, &loaded.place, &batch).await;
        if written.is_err() {
            *watch.unwritten.lock() = Some(batch);
        }
        written
    }

    /// Compares what is over of a version; whether it drifts.
    async fn look(&self, loaded: &Loaded, watch: &Arc<Watch>) -> Result<bool> {
        let scope = of_tenant(loaded.place.tenant.clone());
        let looked = self.windows.look(&scope, &loaded.place, watch, self.clock.now(), &self.settings).await;
        match looked {
            Ok(Some((look, was_quiet))) => {
                let drifts = !look.drifted.is_empty();
                self.metrics.looked(if drifts { "drifted" } else { "quiet" });
                let (model, version) = (&watch.model, loaded.place.version);
                info!(%model, version, look = look.look, rows = look.rows, drifts, "a model was compared with its reference");
                if drifts && was_quiet {
                    warn!(%model, version, features = look.drifted.join(", "), "what a model is asked has drifted");
                }
                Ok(drifts)
            }
            Ok(None) => self.stands(&scope, loaded).await,
            Err(error) if windows::is_lost_race(&error) => self.stands(&scope, loaded).await,
            Err(error) => Err(error),
        }
    }

    async fn stands(&self, scope: &Scope, loaded: &Loaded) -> Result<bool> {
        let head = self.windows.head(scope, &loaded.place).await?;
        Ok(head.is_some_and(|head| head.document.is_drifting()))
    }

    /// Removes what is too old, now and then.
    async fn sweep(&self) {
        let now = self.clock.elapsed();
        let is_due = self.swept.lock().is_none_or(|swept| now.saturating_sub(swept) >= SWEEP_PAUSE);
        if !is_due {
            return;
        }
        *self.swept.lock() = Some(now);
        let tell = |what: &str, swept: Result<usize>| match swept {
            Ok(0) => {}
            Ok(removed) => debug!(what, removed, "what was too old is gone"),
            Err(error) => warn!(what, error = %error.chain(), "what is too old is not removed for now"),
        };
        tell("predictions", self.predictions.sweep().await);
        tell("sampled rows", self.windows.sweep(self.clock.now(), &self.settings).await);
    }
}

fn numbers_of(outputs: &[Tensor]) -> BTreeMap<String, Vec<f64>> {
    let numbers = |tensor: &Tensor| (0..tensor.values.len()).map(|at| number(&tensor.values, at)).collect();
    let outputs = outputs.iter().filter(|tensor| tensor.values.kind() != DataType::Bytes);
    outputs.map(|tensor| (tensor.name.clone(), numbers(tensor))).collect()
}

fn of_tenant(tenant: TenantId) -> Scope {
    Scope::system(tenant, "monitoring")
}

/// What persistence says of each output that continues an input of its name: the last value.
pub(crate) fn persistence(signature: &Signature, inputs: &[Tensor]) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    if signature.has_batch_axis {
        return found;
    }
    for tensor in inputs {
        let continues = signature.outputs.iter().any(|output| output.name == tensor.name);
        let last = tensor.values.len().checked_sub(1).map(|at| number(&tensor.values, at));
        if let Some(last) = last.filter(|last| continues && last.is_finite()) {
            found.insert(tensor.name.clone(), last);
        }
    }
    found
}

impl Runtime {
    /// Writes down and compares what is seen, until it is told to stop; then once more.
    pub(crate) async fn watch_on(&self, stop: &CancellationToken) {
        let pause = Duration::from_secs(self.0.monitor.settings.flush_secs);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => self.watch_once().await,
            }
        }
        for (loaded, watch) in self.watched() {
            if let Err(error) = self.0.monitor.flush(&loaded, &watch).await {
                warn!(error = %error.chain(), "what was seen last of a model is not written");
            }
        }
    }

    /// Writes down and compares once.
    pub async fn watch_once(&self) {
        let monitor = &self.0.monitor;
        let mut drifting = 0;
        for (loaded, watch) in self.watched() {
            let looked = match monitor.flush(&loaded, &watch).await {
                Ok(()) => monitor.look(&loaded, &watch).await,
                Err(error) => Err(error),
            };
            match looked {
                Ok(drifts) => {
                    watch.drifts.store(drifts, Ordering::Relaxed);
                    drifting += i64::from(drifts);
                }
                Err(error) => {
                    // What was known stands: an engine that is away ends no alert.
                    drifting += i64::from(watch.drifts.load(Ordering::Relaxed));
                    monitor.metrics.looked("failed");
                    warn!(model = %watch.model, error = %error.chain(), "a model is not compared with its reference for now");
                }
            }
        }
        monitor.metrics.drifting.set(drifting);
        monitor.sweep().await;
    }

    fn watched(&self) -> Vec<(Arc<Loaded>, Arc<Watch>)> {
        let all = self.0.shelf.all().into_iter();
        all.filter_map(|loaded| loaded.watched.clone().ok().map(|watch| (loaded, watch))).collect()
    }
}

#[cfg(test)]
mod meddled;
#[cfg(test)]
mod tests;
