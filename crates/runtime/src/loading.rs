//! Out of the registry into memory, and after aliases that move.
//!
//! One load at a time, off the threads that answer. A version that cannot be served is not tried again for [`PATIENCE`];
//! meanwhile the version that answered before goes on, and where this process knows none, the model's history does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kernel::{Error, Result, Scope, codes};
use models::registered::{RegisteredModel, RegisteredVersion};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::batcher::{BatchLimits, Batcher};
use crate::lines::{Asked, Line, Refused, Selector};
use crate::model::{Engine, MODEL_UNUSABLE, Model, Package, unusable};
use crate::monitoring::watch;
use crate::shelf::{Loaded, Place, millis};
use crate::trial::{self, Trial};
use crate::{Runtime, declared, missing};

/// A version that could not be served is tried again after so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory that a version takes for each byte of its files: as they are, and as they are made ready.
const MEMORY_FACTOR: u64 = 2;
/// Aliases that are looked after at once.
const LOOKS_AT_ONCE: usize = 8;
/// Changes of a model that are looked through for the version that answered before.
const HISTORY: usize = 100;
/// Versions before the newest that are tried.
const EARLIER: usize = 3;
/// The tag of a version that says `off` where its requests must not be put together.
const BATCHING_TAG: &str = "runtime.batching";

/// What answers for an alias.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standing {
    pub(crate) model: String,
    pub(crate) alias: String,
    /// Where it is in memory.
    pub(crate) version: Option<u64>,
    /// Why the newest does not answer.
    pub(crate) fault: Option<String>,
}

impl Runtime {
    /// Loads what answers, where nobody did meanwhile.
    pub(crate) async fn open(&self, scope: &Scope, asked: &Asked) -> Result<Arc<Loaded>> {
        let clock = &self.0.parts.clock;
        let (model, version) = self.resolve(scope, asked).await?;
        let line = self.0.lines.get_or_make(asked, clock.elapsed());
        let _turn = line.turn.lock().await;
        if let Some(place) = line.serving()
            && let Some(loaded) = self.0.shelf.get(&place, clock.elapsed())
        {
            return Ok(loaded);
        }
        let is_known = line.refused(version, clock.elapsed()).is_some();
        let error = match self.take(scope, &line, &model, version).await {
            Ok(loaded) => return Ok(loaded),
            Err(error) if is_lasting(&error) => error,
            Err(error) => return Err(error),
        };
        // Those of the history were tried when it was found out.
        let earlier = match is_known {
            true => answered(line.serving(), &model, version).into_iter().collect(),
            false => self.earlier(scope, asked, line.serving(), &model, version).await?,
        };
        for earlier in earlier {
            if let Ok(loaded) = self.load(scope, &model, earlier, None).await {
                warn!(model = %model.name, version = earlier, newest = version, error = %error.chain(),
                    "an earlier version of a model answers, for the one of its alias cannot be served");
                line.fall_back(&loaded.place);
                return Ok(loaded);
            }
        }
        Err(error)
    }

    /// What may answer in place of the `version` of an alias: what answers now, then what answered before, newest first. A caller
    /// who names a version means that one.
    pub(crate) async fn earlier(
        &self,
        scope: &Scope,
        asked: &Asked,
        serving: Option<Place>,
        model: &RegisteredModel,
        version: u64,
    ) -> Result<Vec<u64>> {
        let Selector::Alias(alias) = &asked.selector else { return Ok(Vec::new()) };
        let mut found: Vec<u64> = answered(serving, model, version).into_iter().collect();
        let known: BTreeSet<u64> = found.iter().copied().chain([version]).collect();
        found.extend(self.former(scope, model, alias, (EARLIER - found.len(), known)).await?);
        Ok(found)
    }

    /// What an alias pointed at before, newest first, but for some, and no more than a limit. What is gone and what no engine
    /// reads is left out, so that it takes no try from those that may answer.
    async fn former(
        &self,
        scope: &Scope,
        model: &RegisteredModel,
        alias: &str,
        (limit, mut seen): (usize, BTreeSet<u64>),
    ) -> Result<Vec<u64>> {
        let (changes, _) = self.0.parts.models.history(scope, &model.name, None, HISTORY).await?;
        let moved = changes.iter().filter(|change| change.alias.as_deref() == Some(alias));
        let mut found = Vec::new();
        for before in moved.filter_map(|change| change.from) {
            if found.len() == limit {
                break;
            }
            if seen.insert(before) && self.is_read(scope, model, before).await? {
                found.push(before);
            }
        }
        Ok(found)
    }

    /// Whether a version is there and an engine reads its format. Its files are not looked at.
    async fn is_read(&self, scope: &Scope, model: &RegisteredModel, version: u64) -> Result<bool> {
        match self.0.parts.models.version(scope, &model.name, version).await {
            Ok(found) => Ok(self.engine(&found).is_ok()),
            Err(error) if error.code() == codes::NOT_FOUND => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What answers for an alias, or would if it were asked for: the version that it points at, else the one before it that
    /// [`Runtime::open`] falls back to. None where there is none, so that nobody can be answered.
    ///
    /// # Errors
    /// Those of a load that may work later.
    pub(crate) async fn answering(
        &self,
        scope: &Scope,
        model: &RegisteredModel,
        alias: &str,
    ) -> Result<Option<Arc<Loaded>>> {
        let Some(version) = model.aliases.get(alias).copied() else { return Ok(None) };
        if self.is_read(scope, model, version).await?
            && let Some(loaded) = self.load_if_sound(scope, model, version).await?
        {
            return Ok(Some(loaded));
        }
        let asked = Asked::new(scope, &model.name, Selector::Alias(alias.to_owned()));
        let serving = self.0.lines.peek(&asked).and_then(|line| line.serving());
        for earlier in self.earlier(scope, &asked, serving, model, version).await? {
            if let Some(loaded) = self.load_if_sound(scope, model, earlier).await? {
                return Ok(Some(loaded));
            }
        }
        Ok(None)
    }

    /// The version in memory; none where it is gone or can never be served.
    async fn load_if_sound(
        &self,
        scope: &Scope,
        model: &RegisteredModel,
        version: u64,
    ) -> Result<Option<Arc<Loaded>>> {
        match self.load(scope, model, version, None).await {
            Ok(loaded) => Ok(Some(loaded)),
            Err(error) if is_lasting(&error) || error.code() == codes::NOT_FOUND => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Loads a version and lets it answer; notes where it cannot.
    async fn take(
        &self,
        scope: &Scope,
        line: &Line,
        model: &RegisteredModel,
        version: u64,
    ) -> Result<Arc<Loaded>> {
        let now = self.0.parts.clock.elapsed();
        if let Some(error) = line.refused(version, now) {
            return Err(error);
        }
        let beside = line.serving();
        match self.load(scope, model, version, beside.as_ref()).await {
            Ok(loaded) => {
                if line.serve(&loaded.place) {
                    info!(model = %model.name, version, "another version of a model answers");
                }
                Ok(loaded)
            }
            Err(error) => {
                warn!(model = %model.name, version, error = %error.chain(), "a version of a model cannot be served");
                if is_lasting(&error) {
                    *line.refused.lock() = Some(Refused::new(version, &error, now + PATIENCE));
                }
                Err(error)
            }
        }
    }

    async fn resolve(&self, scope: &Scope, asked: &Asked) -> Result<(RegisteredModel, u64)> {
        let model = self.0.parts.models.model(scope, &asked.model).await?;
        let version = match &asked.selector {
            Selector::Version(version) => {
                self.0.parts.models.version(scope, &asked.model, *version).await?.version
            }
            Selector::Alias(alias) => model.aliases.get(alias).copied().ok_or_else(|| missing(asked))?,
        };
        Ok((model, version))
    }

    /// Which version is meant, without loading it.
    pub(crate) async fn place_of(&self, scope: &Scope, model: &str, selector: Selector) -> Result<Place> {
        let asked = Asked::new(scope, model, selector);
        let (model, version) = self.resolve(scope, &asked).await?;
        Ok(Place { tenant: asked.tenant, model_id: model.id, version })
    }

    /// The version in memory, loaded where it is not.
    pub(crate) async fn load(
        &self,
        scope: &Scope,
        model: &RegisteredModel,
        version: u64,
        beside: Option<&Place>,
    ) -> Result<Arc<Loaded>> {
        let clock = &self.0.parts.clock;
        let place = Place { tenant: scope.tenant().clone(), model_id: model.id.clone(), version };
        let _place_to_load = self.0.loads.acquire().await.map_err(Error::internal)?;
        if let Some(loaded) = self.0.shelf.get(&place, clock.elapsed()) {
            return Ok(loaded);
        }
        let begun = clock.elapsed();
        let loaded = self.read(scope, &model.name, place, beside).await;
        self.0.metrics.loaded(&loaded);
        let loaded = loaded.map_err(|error| match error.code() {
            MODEL_UNUSABLE => unusable(format!(
                "version {version} of `{}` cannot be served: {}",
                model.name,
                error.message()
            ))
            .with_source(error),
            _ => error,
        })?;
        let took_ms = millis(clock.elapsed().saturating_sub(begun));
        info!(model = %model.name, version, platform = loaded.platform, batches = loaded.batches, took_ms,
            "a version of a model is ready");
        self.0.shelf.put(Arc::clone(&loaded));
        Ok(loaded)
    }

    /// Loads a version and lets it answer an example. It is not yet where requests find it.
    pub(crate) async fn read(
        &self,
        scope: &Scope,
        name: &str,
        place: Place,
        beside: Option<&Place>,
    ) -> Result<Arc<Loaded>> {
        let (settings, clock) = (&self.0.settings, &self.0.parts.clock);
        let version = self.0.parts.models.version(scope, name, place.version).await?;
        let engine = self.engine(&version)?;
        let size_bytes = version.size_bytes();
        if size_bytes > settings.max_model_mb << 20 {
            let message = format!(
                "it has {} MiB, and `runtime.max_model_mb` is {}",
                size_bytes >> 20,
                settings.max_model_mb
            );
            return Err(unusable(message));
        }
        let bytes = size_bytes.saturating_mul(MEMORY_FACTOR);
        let room = self.0.shelf.make_room(&place, beside, bytes, clock.elapsed()).await?;
        let package = self.package(scope, &version).await?;
        let platform = engine.platform();
        let reference = watch::reference_of(&package);
        let made = tokio::task::spawn_blocking(move || ready(engine.as_ref(), package)).await;
        let (model, trial) = made.map_err(|_| unusable("its engine failed at it"))??;
        declared::check(version.signature.as_deref(), model.signature())?;
        let watched = self.0.monitor.watch(name, place.version, reference.as_ref(), model.signature());
        let batches = trial == Trial::Independent
            && settings.max_batch_rows > 1
            && version.tags.get(BATCHING_TAG).is_none_or(|value| value != "off");
        let limits = BatchLimits {
            queue: settings.max_queued_requests,
            rows_max: if batches { settings.max_batch_rows } else { 1 },
            delay: Duration::from_millis(settings.batch_delay_ms),
            calls: settings.calls_per_model.min(model.calls()),
        };
        let batcher = Batcher::start(&model, limits, &self.0.processors, &self.0.metrics);
        let asked_ms = AtomicU64::new(millis(clock.elapsed()));
        Ok(Arc::new(Loaded { place, platform, model, batcher, batches, watched, room, asked_ms }))
    }

    pub(crate) fn engine(&self, version: &RegisteredVersion) -> Result<Arc<dyn Engine>> {
        if version.root.is_none() {
            return Err(unusable(
                "its files are not kept in the registry; the part that manages it serves it",
            ));
        }
        let paths: Vec<&str> = version.files.iter().map(|file| file.path.as_str()).collect();
        let found = self.0.parts.engines.iter().find(|engine| engine.claims(&paths)).cloned();
        found.ok_or_else(|| {
            let known: Vec<_> = self.0.parts.engines.iter().map(|engine| engine.platform()).collect();
            unusable(format!("no engine of this server reads its files; it has {}", known.join(", ")))
        })
    }

    /// The files, which are what their checksums say.
    async fn package(&self, scope: &Scope, version: &RegisteredVersion) -> Result<Package> {
        let (files, root) = (&self.0.parts.files, version.root.as_deref().unwrap_or_default());
        let mut found = BTreeMap::new();
        for listed in &version.files {
            let lost = || unusable(format!("its file `{}` is not there", listed.path));
            let file = files.get(scope, root, &listed.path).await?.ok_or_else(lost)?;
            if file.sha256 != listed.sha256 {
                return Err(unusable(format!("its file `{}` is another than was registered", listed.path)));
            }
            let bytes = files.read(scope, &file, listed.size_bytes).await?;
            found.insert(listed.path.clone(), Bytes::from(bytes));
        }
        Ok(Package { files: found })
    }

    /// Follows aliases and canaries, and watches what is served, until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let pause = Duration::from_millis(self.0.settings.refresh_ms);
        let following = async {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => self.look().await,
                }
            }
        };
        tokio::join!(following, self.watch_on(&stop), self.tend_on(&stop));
    }

    /// Looks once at where every alias points that somebody asked for lately, and drops what nobody did.
    pub async fn look(&self) {
        let since = self.0.parts.clock.elapsed().saturating_sub(self.idle());
        self.0.shelf.sweep(since);
        let lines = self.0.lines.sweep(since);
        futures::stream::iter(lines)
            .for_each_concurrent(
                LOOKS_AT_ONCE,
                |(asked, line)| async move { self.follow(&asked, &line).await },
            )
            .await;
    }

    /// Looks now at where the aliases of a tenant point that somebody asked for lately, and tries what does not answer again,
    /// whatever was found of it before. What answers since, by name and alias.
    pub(crate) async fn look_now(&self, scope: &Scope) -> Vec<Standing> {
        let lines = self.0.lines.of(scope.tenant()).into_iter();
        let named = lines.filter_map(|(asked, line)| match &asked.selector {
            Selector::Alias(alias) => Some((alias.clone(), asked, line)),
            Selector::Version(_) => None,
        });
        let looks = named.map(async |(alias, asked, line)| {
            let tried = self.try_again(scope, &asked, &line).await;
            // What is not there any more was let go.
            self.0.lines.peek(&asked)?;
            let serving = line.serving().filter(|place| self.0.shelf.peek(place).is_some());
            let fault = tried.err().map(|error| error.message().to_owned());
            Some(Standing { model: asked.model, alias, version: serving.map(|place| place.version), fault })
        });
        let found = futures::stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE);
        let mut found: Vec<Standing> = found.filter_map(std::future::ready).collect().await;
        found.sort();
        found
    }

    /// Loads what an alias points at, unless it answers.
    async fn try_again(&self, scope: &Scope, asked: &Asked, line: &Line) -> Result<()> {
        let (model, version) = match self.resolve(scope, asked).await {
            Err(error) if error.code() == codes::NOT_FOUND => {
                self.0.lines.remove(asked);
                return Err(error);
            }
            found => found?,
        };
        let _turn = line.turn.lock().await;
        let is_it = |place: &Place| place.version == version && place.model_id == model.id;
        if line.serving().filter(is_it).is_some_and(|place| self.0.shelf.peek(&place).is_some()) {
            return Ok(());
        }
        let before = line.refused.lock().take();
        let tried = self.take(scope, line, &model, version).await;
        // What failed for a moment says nothing new of the version.
        if tried.as_ref().is_err_and(|error| !is_lasting(error)) {
            *line.refused.lock() = before;
        }
        tried.map(drop)
    }

    async fn follow(&self, asked: &Asked, line: &Line) {
        let scope = Scope::system(asked.tenant.clone(), "runtime");
        match self.resolve(&scope, asked).await {
            Ok((model, version)) => {
                let is_it = |place: Place| place.version == version && place.model_id == model.id;
                let now = self.0.parts.clock.elapsed();
                if line.serving().is_none_or(is_it) || line.refused(version, now).is_some() {
                    return;
                }
                let _turn = line.turn.lock().await;
                // What went wrong is noted; what answered before goes on.
                drop(self.take(&scope, line, &model, version).await);
            }
            Err(error) if error.code() == codes::NOT_FOUND => self.0.lines.remove(asked),
            // What was deleted or renamed is answered no more; where the registry is away, what answers goes on.
            Err(_) => {}
        }
    }
}

/// The version that answered last, where it is of this model and another than the `newest`.
fn answered(serving: Option<Place>, model: &RegisteredModel, newest: u64) -> Option<u64> {
    serving.filter(|place| place.model_id == model.id && place.version != newest).map(|place| place.version)
}

/// Whether the same try fails again.
pub(crate) fn is_lasting(error: &Error) -> bool {
    error.code() == MODEL_UNUSABLE || error.code() == codes::CORRUPTED
}

/// Loads, and warms up.
fn ready(engine: &dyn Engine, package: Package) -> Result<(Arc<dyn Model>, Trial)> {
    let model = engine.load(package)?;
    let trial = trial::run(model.as_ref()).map_err(|cause| {
        unusable(format!("it fails at its first example: {}", cause.message())).with_source(cause)
    })?;
    Ok((Arc::from(model), trial))
}
