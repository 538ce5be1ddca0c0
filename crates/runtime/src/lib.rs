//! Registered models, served.
//!
//! - [`Runtime`]: asks a version of a model by name and alias, loads it where it must, and follows the alias without failing
//!   a request: whoever holds the old version is answered by it.
//! - [`model`]: the two traits of an engine. [`engines`]: ONNX (feature `onnx`). The binary hands in native formats of the
//!   domains.
//! - [`tensor`]: what goes in and comes out.
//! - [`http`]: the Open Inference Protocol v2, and the guide's `/predict` and `/models`.
//!
//! It refuses inputs that are not what the model's signature says, versions whose files are damaged, and more work than fits
//! its queues and its memory. Where the version of an alias cannot be loaded, the one before answers, and every answer names
//! the version that made it. It keeps nothing: models lie in `models`, and are those of the caller's tenant.
//!
//! To add an engine: see [`model`]. To add an endpoint: a file in `http/`.

mod batcher;
pub mod engines;
#[cfg(test)]
mod fake;
pub mod http;
mod lines;
mod loading;
mod metrics;
pub mod model;
mod scalar;
mod settings;
mod shelf;
pub mod tensor;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Error, ErrorCode, ErrorKind, Permission, Result, Scope, codes};
use models::files::Files;
use models::registered::RegisteredModels;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

pub use crate::lines::Selector;
use crate::lines::{Asked, Lines};
use crate::metrics::RuntimeMetrics;
use crate::model::{Engine, Signature};
pub use crate::settings::RuntimeSettings;
use crate::shelf::{Loaded, Shelf};
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
    /// Time.
    pub clock: Arc<dyn Clock>,
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
    /// Calls at once.
    processors: Arc<Semaphore>,
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
}

impl Runtime {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: RuntimeParts, settings: RuntimeSettings, registry: &mut Registry) -> Self {
        let metrics = RuntimeMetrics::register(registry);
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let calls = if settings.calls == 0 { processors } else { settings.calls };
        Self(Arc::new(Inner {
            shelf: Shelf::new(settings.memory_mb << 20, metrics.clone()),
            parts,
            settings,
            lines: Lines::default(),
            metrics,
            processors: Arc::new(Semaphore::new(calls)),
            loads: Semaphore::new(1),
        }))
    }

    /// The model that is asked where a caller names none.
    #[must_use]
    pub fn default_model(&self) -> &str {
        &self.0.settings.default_model
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
        let begun = self.0.parts.clock.elapsed();
        let answered = self.answer(scope, model, selector, inputs).await;
        let took = self.0.parts.clock.elapsed().saturating_sub(begun);
        self.0.metrics.inferred(&answered, took);
        answered.map(|(version, outputs)| Inference { version, outputs, took })
    }

    async fn answer(
        &self,
        scope: &Scope,
        model: &str,
        selector: Selector,
        inputs: impl FnOnce(&Signature) -> Result<Vec<Tensor>>,
    ) -> Result<(u64, Vec<Tensor>)> {
        let loaded = self.loaded(scope, model, selector).await?;
        let signature = loaded.model.signature();
        let inputs = signature.check(inputs(signature)?)?;
        let outputs = loaded.batcher.ask(inputs).await?;
        if let Some(output) = outputs.iter().find(|output| !output.values.are_finite()) {
            let message = format!("the output `{}` of the model is not finite for these inputs", output.name);
            return Err(Error::new(NOT_FINITE, message));
        }
        Ok((loaded.place.version, outputs))
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
