//! Registered models, served.
//!
//! - [`Runtime`]: asks a version of a model by name and alias, loads it where it must, and follows the alias without failing
//!   a request: whoever holds the old version is answered by it.
//! - [`model`]: the two traits of an engine. [`engines`]: ONNX (feature `onnx`). The binary hands in native formats of the
//!   domains.
//! - [`tensor`]: what goes in and comes out.
//! - [`canaries`]: a version goes live step by step, or answers beside as a shadow.
//! - [`jobs`]: many rows at once, answered in the background, by whichever process is there.
//! - [`monitoring`]: drift against what a version learned from, and truths that come later.
//! - [`http`]: the Open Inference Protocol v2, and the guide's `/predict` and `/models`; `grpc` (feature `grpc`): the same
//!   protocol in its other form.
//!
//! It refuses inputs that are not what the model's signature says, versions whose files are damaged, and more work than fits
//! its queues and its memory. Where the version of an alias cannot be loaded, the one before answers, and every answer names
//! the version that made it. Models lie in `models`, and are those of the caller's tenant; what it keeps itself is what it
//! watches, and jobs.
//!
//! To add an engine: see [`model`]. To add an endpoint: a file in `http/`.

mod batcher;
pub mod canaries;
mod declared;
pub mod engines;
mod examining;
#[cfg(test)]
mod fake;
mod gate;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod http;
pub mod jobs;
mod lines;
mod loading;
mod metrics;
pub mod model;
pub mod monitoring;
mod processors;
mod scalar;
mod settings;
mod shelf;
pub mod tensor;
mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edge::AuditLog;
use kernel::{Clock, Entropy, Error, ErrorCode, ErrorKind, Permission, Result, Scope, codes};
use models::files::Files;
use models::registered::{CHAMPION, RegisteredModels};
use prometheus_client::registry::Registry;
use rollout::canary::Arm;
use store::Records;
use tokio::sync::Semaphore;

use crate::canaries::{Asker, Canaries};
pub use crate::examining::{Examined, Finding};
pub use crate::gate::TRIAL_TAG;
pub use crate::lines::Selector;
use crate::lines::{Asked, Lines};
use crate::metrics::RuntimeMetrics;
use crate::model::{Engine, Signature};
use crate::monitoring::Monitor;
use crate::processors::Processors;
pub use crate::settings::{Device, JobSettings, OnnxEngine, OnnxRuntimeSettings, RuntimeSettings};
use crate::shelf::{Loaded, Place, Shelf};
use crate::tensor::Tensor;

/// The model answered with what is no number.
pub const NOT_FINITE: ErrorCode = ErrorCode {
    name: "NOT_FINITE",
    kind: ErrorKind::Invalid,
    title: "The model's answer to these inputs is not a number",
};

/// What the runtime works with.
#[derive(Debug, Clone)]
pub struct RuntimeParts {
    /// Models, versions, aliases.
    pub models: RegisteredModels,
    /// Their files.
    pub files: Files,
    /// What loads them, in the order in which they are asked.
    pub engines: Vec<Arc<dyn Engine>>,
    /// What is watched.
    pub records: Arc<dyn Records>,
    /// Drift that was found.
    pub audit: AuditLog,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids of predictions.
    pub entropy: Arc<dyn Entropy>,
}

/// The runtime of every tenant.
#[derive(Debug, Clone)]
pub struct Runtime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: RuntimeParts,
    settings: RuntimeSettings,
    lines: Lines,
    shelf: Shelf,
    metrics: RuntimeMetrics,
    monitor: Monitor,
    canaries: Canaries,
    processors: Arc<Processors>,
    /// Loads at once.
    loads: Semaphore,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// The version that made it.
    pub version: u64,
    /// In the order of the model's signature.
    pub outputs: Vec<Tensor>,
    /// From the request to the answer.
    pub took: Duration,
    /// Under which it waits for its truth, where it was to be kept.
    pub prediction_id: Option<String>,
    /// The arm of a canary or an A/B test that it came from.
    pub arm: Option<Arm>,
}

impl Inference {
    /// The output that a request wants by this name.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the wish by its number where the model gives none of this name.
    pub(crate) fn output(&self, number: usize, name: &str) -> Result<Tensor> {
        let found = self.outputs.iter().find(|tensor| tensor.name == name);
        found.cloned().ok_or_else(|| {
            let message = format!("the model gives no `{}`", name.escape_debug());
            Error::new(codes::VALIDATION_ERROR, message).with_field(format!("outputs[{number}].name"))
        })
    }
}

/// A version that answers now.
#[derive(Debug, Clone)]
pub struct Described {
    /// The version.
    pub version: u64,
    /// What serves it.
    pub platform: &'static str,
    /// What it takes and gives.
    pub signature: Signature,
    /// Whether requests are put together.
    pub batches: bool,
    /// Whether a row is a request by itself.
    pub takes_rows_alone: bool,
}

impl Runtime {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: RuntimeParts, settings: RuntimeSettings, registry: &mut Registry) -> Self {
        let metrics = RuntimeMetrics::register(registry);
        let ambient = (parts.audit.clone(), Arc::clone(&parts.clock), Arc::clone(&parts.entropy));
        let canaries = Canaries::new(&parts.records, ambient.clone(), registry);
        let monitor = Monitor::new(&parts.records, ambient, settings.monitoring.clone(), registry);
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let calls = if settings.calls == 0 { processors } else { settings.calls };
        Self(Arc::new(Inner {
            shelf: Shelf::new(settings.memory_mb << 20, metrics.clone()),
            parts,
            settings,
            lines: Lines::default(),
            metrics,
            monitor,
            canaries,
            processors: Arc::new(Processors::new(calls, Processors::threads_here())),
            loads: Semaphore::new(1),
        }))
    }

    /// The model that is asked where a caller names none.
    #[must_use]
    pub fn default_model(&self) -> &str {
        &self.0.settings.default_model
    }

    /// Examples that are put into one call of a model, at most.
    pub(crate) fn max_batch_rows(&self) -> usize {
        self.0.settings.max_batch_rows
    }

    /// Asks a model.
    ///
    /// # Errors
    /// As [`Runtime::infer_with`].
    pub async fn infer(
        &self,
        scope: &Scope,
        model: &str,
        selector: Selector,
        inputs: Vec<Tensor>,
    ) -> Result<Inference> {
        self.infer_with(scope, model, selector, |_| Ok(inputs)).await
    }

    /// Asks a model for inputs that are made for its signature.
    ///
    /// # Errors
    /// `NOT_FOUND` for the model, version or alias; `VALIDATION_ERROR` for inputs; `MODEL_UNUSABLE` where no version can be
    /// loaded; `OVERLOADED` for too much work; `NOT_FINITE`; those of the engines.
    pub async fn infer_with(
        &self,
        scope: &Scope,
        model: &str,
        selector: Selector,
        inputs: impl FnOnce(&Signature) -> Result<Vec<Tensor>>,
    ) -> Result<Inference> {
        self.infer_for(scope, model, selector, &Asker::default(), inputs).await
    }

    /// The same for somebody: where they say who they are, they stay in the same arm of a canary, and where the prediction is to
    /// be kept it is written down, so that a truth may be joined to it later.
    ///
    /// # Errors
    /// As [`Runtime::infer_with`]; `PERMISSION_DENIED` where it is to be kept and the caller may not write;
    /// `TOO_MANY_PREDICTIONS`.
    pub async fn infer_for(
        &self,
        scope: &Scope,
        model: &str,
        selector: Selector,
        asker: &Asker,
        inputs: impl FnOnce(&Signature) -> Result<Vec<Tensor>>,
    ) -> Result<Inference> {
        if asker.keeps {
            scope.require(Permission::Write)?;
        }
        let begun = self.0.parts.clock.elapsed();
        let answered = self.answer(scope, model, selector, asker, inputs).await;
        let took = self.0.parts.clock.elapsed().saturating_sub(begun);
        self.0.metrics.inferred(&answered, took);
        answered.map(|answered| Inference { took, ..answered })
    }

    async fn answer(
        &self,
        scope: &Scope,
        model: &str,
        selector: Selector,
        asker: &Asker,
        inputs: impl FnOnce(&Signature) -> Result<Vec<Tensor>>,
    ) -> Result<Inference> {
        let is_champion = matches!(&selector, Selector::Alias(alias) if alias == CHAMPION);
        let loaded = self.loaded(scope, model, selector).await?;
        let signature = loaded.model.signature();
        let inputs = signature.check(inputs(signature)?)?;
        let persistence = if asker.keeps {
            let filled = loaded.model.filled(&inputs);
            monitoring::persistence(signature, filled.as_ref().unwrap_or(&inputs))
        } else {
            BTreeMap::new()
        };
        let asked = canaries::Asked { asker, persistence };
        let running = if is_champion { self.0.canaries.running(scope, model) } else { None };
        match running.filter(|running| running.is_control(&loaded.place)) {
            Some(running) => self.answer_in(&running, (scope, model), &loaded, asked, inputs).await,
            None => {
                let outputs = outputs_of(&loaded, inputs).await?;
                self.told(scope, &loaded, asked, None, outputs).await
            }
        }
    }

    /// What is told of an answer: it is kept first, where it is to be.
    async fn told(
        &self,
        scope: &Scope,
        loaded: &Loaded,
        asked: canaries::Asked<'_>,
        part: Option<canaries::Part<'_>>,
        outputs: Vec<Tensor>,
    ) -> Result<Inference> {
        let canaries::Asked { asker, persistence } = asked;
        let prediction_id = match asker.keeps {
            true => {
                let member = part.and_then(|part| part.running.member(part.arm, asker, part.failed));
                Some(self.0.monitor.keep(scope, loaded, persistence, &outputs, member).await?)
            }
            false => None,
        };
        let arm = part.map(|part| part.arm);
        let version = loaded.place.version;
        Ok(Inference { version, outputs, took: Duration::ZERO, prediction_id, arm })
    }

    /// What answers now; loads it where it must.
    ///
    /// # Errors
    /// As [`Runtime::infer`].
    pub async fn describe(&self, scope: &Scope, model: &str, selector: Selector) -> Result<Described> {
        let loaded = self.loaded(scope, model, selector).await?;
        Ok(Described {
            version: loaded.place.version,
            platform: loaded.platform,
            signature: loaded.model.signature().clone(),
            batches: loaded.batches,
            takes_rows_alone: loaded.model.takes_rows_alone(),
        })
    }

    async fn loaded(&self, scope: &Scope, model: &str, selector: Selector) -> Result<Arc<Loaded>> {
        scope.require(Permission::Read)?;
        let (asked, now) = (Asked::new(scope, model, selector), self.0.parts.clock.elapsed());
        if let Some(line) = self.0.lines.get(&asked, now)
            && let Some(place) = line.serving()
            && let Some(loaded) = self.0.shelf.get(&place, now)
        {
            return Ok(loaded);
        }
        self.open(scope, &asked).await
    }

    /// Which version answers, or would; none is loaded.
    pub(crate) async fn standing_place(
        &self,
        scope: &Scope,
        model: &str,
        selector: Selector,
    ) -> Result<Place> {
        scope.require(Permission::Read)?;
        let asked = Asked::new(scope, model, selector.clone());
        match self.0.lines.peek(&asked).and_then(|line| line.serving()) {
            Some(place) => Ok(place),
            None => self.place_of(scope, model, selector).await,
        }
    }

    /// The version of an alias that answers now, where one is in memory, and why its newest does not, where that is so.
    pub(crate) fn standing(
        &self,
        scope: &Scope,
        model: &str,
        selector: Selector,
    ) -> (Option<u64>, Option<String>) {
        let asked = Asked::new(scope, model, selector);
        let Some(line) = self.0.lines.peek(&asked) else { return (None, None) };
        let serving = line.serving().filter(|place| self.0.shelf.peek(place).is_some());
        let refused = line.refused.lock().as_ref().map(|refused| refused.error().to_string());
        (serving.map(|place| place.version), refused)
    }

    pub(crate) fn models(&self) -> &RegisteredModels {
        &self.0.parts.models
    }

    fn idle(&self) -> Duration {
        Duration::from_secs(self.0.settings.idle_secs)
    }
}

/// Asks a version that is in memory.
async fn outputs_of(loaded: &Loaded, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let watch = loaded.watched.as_ref().ok();
    let seen = watch.map(|watch| {
        let filled = loaded.model.filled(&inputs);
        watch.asked(filled.as_ref().unwrap_or(&inputs))
    });
    let outputs = loaded.batcher.ask(inputs).await?;
    if let Some(output) = outputs.iter().find(|output| !output.values.are_finite()) {
        let message = format!("the output `{}` of the model is not finite for these inputs", output.name);
        return Err(Error::new(NOT_FINITE, message));
    }
    if let (Some(watch), Some(seen)) = (watch, seen) {
        watch.answered(seen, &outputs);
    }
    Ok(outputs)
}

/// There is no such version or alias.
fn missing(asked: &Asked) -> Error {
    let shown: String = asked.selector.to_string().chars().take(100).collect();
    let message = format!(
        "the registered model `{}` has no alias `{}`; promote a version",
        asked.model,
        shown.escape_debug()
    );
    Error::new(codes::NOT_FOUND, message)
}

#[cfg(test)]
mod tests;
