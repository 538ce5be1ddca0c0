//! The encoders of a server: which there are, what they make of texts, and the jobs that make vectors again.
//!
//! It refuses to have one tenant decide on work for all: that is the operator's. To add a place that models come from: see
//! [`crate::sources`].

use std::sync::Arc;
use std::time::Duration;

use kernel::{Error, ErrorCode, ErrorKind, Permission, Result, Scope, codes};
use store::{Extent, Leases};
use tracing::info;

use crate::encoder::{CrossEncoder, Encoded, Encoder, ModelFiles, ModelIdentity, Reranker, SentenceEncoder};
use crate::encoding::{Encoding, Remembering, Rooms};
use crate::log::ITEMS;
use crate::metrics::SearchMetrics;
use crate::questions::{JobState, JobStatus};
use crate::reindex::keeper::{Keeper, KeeperParts};
use crate::reindex::{Direction, Jobs, Reindex};
use crate::service::{Search, SearchParts};
use crate::settings::SearchSettings;

/// Nothing makes vectors here.
pub const NO_ENCODER: ErrorCode =
    ErrorCode { name: "NO_ENCODER", kind: ErrorKind::NotFound, title: "This server has no sentence encoder" };

impl Search {
    /// Has all vectors made again by the model of the settings, beside those that answer until they are complete.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for who is no administrator of the operator's tenant, because it is work for all tenants;
    /// `NO_ENCODER`; those of the records.
    pub async fn reindex(&self, scope: &Scope) -> Result<JobStatus> {
        scope.require(Permission::Admin)?;
        if *scope.tenant() != self.parts.operator {
            let message = "this is for administrators of the operator's tenant (`auth.tenant`)";
            return Err(Error::new(codes::PERMISSION_DENIED, message));
        }
        let (Some(keeper), Some(wanted)) = (&self.keeper, self.encodings.first()) else {
            return Err(no_encoder());
        };
        let job = keeper.jobs().aim(wanted.identity(), true).await?;
        info!(job = job.id, "all vectors are to be made again");
        Ok(self.standing(keeper).await?.of(job))
    }

    /// The re-index jobs, the newest first.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; those of the records and the log.
    pub async fn jobs(&self, scope: &Scope) -> Result<Vec<JobStatus>> {
        scope.require(Permission::Read)?;
        let Some(keeper) = &self.keeper else { return Ok(Vec::new()) };
        let (jobs, standing) = (keeper.jobs().list().await?, self.standing(keeper).await?);
        Ok(jobs.into_iter().map(|job| standing.of(job)).collect())
    }

    /// One re-index job.
    ///
    /// # Errors
    /// `NOT_FOUND`; as for [`Search::jobs`].
    pub async fn job(&self, scope: &Scope, id: &str) -> Result<JobStatus> {
        scope.require(Permission::Read)?;
        let missing = || Error::new(codes::NOT_FOUND, "there is no such job").with_field("id");
        let keeper = self.keeper.as_ref().ok_or_else(missing)?;
        let job = keeper.jobs().get(id).await?.ok_or_else(missing)?;
        Ok(self.standing(keeper).await?.of(job.document))
    }

    async fn standing(&self, keeper: &Keeper) -> Result<Standing> {
        let direction = keeper.jobs().direction().await?.unwrap_or_default();
        Ok(Standing { direction, extents: self.parts.log.extents(&ITEMS).await? })
    }

    /// The encoders, the one that is to answer first.
    pub fn models(&self) -> impl Iterator<Item = &ModelIdentity> {
        self.encodings.iter().map(Encoding::identity)
    }

    /// The encoder of this name or version; the one that answers where several have the name, or none is named.
    ///
    /// # Errors
    /// `NOT_FOUND` for another model; `NO_ENCODER`.
    pub fn model(&self, name: Option<&str>) -> Result<&ModelIdentity> {
        self.encoding(name).map(Encoding::identity)
    }

    fn encoding(&self, name: Option<&str>) -> Result<&Encoding> {
        let wanted = self.encodings.first().ok_or_else(no_encoder)?;
        let active = self.keeper.as_ref().and_then(|keeper| keeper.active());
        let active = active.map(|active| active.meanings.encoding().identity().version.clone());
        let is_active = |encoding: &&Encoding| Some(&encoding.identity().version) == active.as_ref();
        let Some(name) = name else {
            return Ok(self.encodings.iter().find(is_active).unwrap_or(wanted));
        };
        let is_named = |identity: &ModelIdentity| name == identity.name || name == identity.version;
        let named = || self.encodings.iter().filter(|encoding| is_named(encoding.identity()));
        named().find(is_active).or_else(|| named().next()).ok_or_else(|| {
            let message = format!(
                "there is no model `{}` here; there is `{}`",
                name.escape_debug(),
                wanted.identity().name
            );
            Error::new(codes::NOT_FOUND, message).with_field("model")
        })
    }

    /// The vectors of texts, by the model of this name (see [`Search::model`]), and what made them.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND` for another model; `NO_ENCODER`; `OVERLOADED`.
    pub async fn embed(
        &self,
        scope: &Scope,
        model: Option<&str>,
        texts: Vec<String>,
    ) -> Result<(Vec<Encoded>, &ModelIdentity)> {
        scope.require(Permission::Read)?;
        let encoding = self.encoding(model)?;
        let (count, began) = (texts.len(), self.parts.clock.elapsed());
        let encoded = encoding.encode(scope, texts).await?;
        self.metrics.encoded(count, self.parts.clock.elapsed().saturating_sub(began));
        Ok((encoded, encoding.identity()))
    }
}

/// What jobs are compared with.
struct Standing {
    direction: Direction,
    extents: Vec<Extent>,
}

impl Standing {
    fn of(&self, job: Reindex) -> JobStatus {
        let state = if job.is_removing {
            JobState::Removing
        } else if self.direction.serving.as_ref() == Some(&job.id) {
            JobState::Serving
        } else if self.direction.goal == job.id {
            JobState::Making
        } else {
            JobState::Superseded
        };
        let (lag, all) = job.lag(&self.extents);
        let progress = if all == 0 { 1.0 } else { 1.0 - lag as f64 / all as f64 };
        JobStatus { job, state, progress }
    }
}

pub(crate) fn no_encoder() -> Error {
    Error::new(NO_ENCODER, "no encoder is configured; set search.model_path")
}

/// The encoders, the one that is to answer first; a version once.
pub(crate) fn encodings(
    parts: &SearchParts,
    settings: &SearchSettings,
    metrics: &SearchMetrics,
    rooms: &Rooms,
) -> Vec<Encoding> {
    let remembering = (settings.embedding_cache_ttl_secs > 0).then(|| Remembering {
        cache: Arc::clone(&parts.cache),
        time_to_live: Duration::from_secs(settings.embedding_cache_ttl_secs),
        metrics: metrics.clone(),
    });
    let wanted = parts.encoder.iter();
    let is_another = |previous: &&Arc<dyn Encoder>| {
        parts.encoder.as_ref().is_some_and(|wanted| wanted.identity().version != previous.identity().version)
    };
    wanted
        .chain(parts.previous_encoder.iter().filter(is_another))
        .map(|encoder| Encoding::new(Arc::clone(encoder), rooms.clone(), remembering.clone()))
        .collect()
}

pub(crate) fn keeper(
    parts: &SearchParts,
    settings: &SearchSettings,
    encodings: &[Encoding],
    metrics: &SearchMetrics,
) -> Keeper {
    // What a crash left of its own leases is its own, where it is alone.
    let holder =
        if parts.is_alone { "alone".to_owned() } else { format!("{:016x}", parts.entropy.next_u64()) };
    let (records, clock) = (Arc::clone(&parts.records), Arc::clone(&parts.clock));
    Keeper::new(KeeperParts {
        jobs: Jobs::new(Arc::clone(&records), Arc::clone(&clock), Arc::clone(&parts.entropy)),
        leases: Leases::new(records, Arc::clone(&clock), holder.clone()),
        holder,
        encodings: encodings.to_vec(),
        vectors: Arc::clone(&parts.vectors),
        log: Arc::clone(&parts.log),
        clock,
        metrics: metrics.clone(),
        keeps_former: Duration::from_secs(settings.former_vectors_keep_secs),
    })
}

/// The encoder of these files.
///
/// # Errors
/// Those of [`SentenceEncoder::new`].
pub fn encoder_of(settings: &SearchSettings, files: &ModelFiles) -> Result<Arc<dyn Encoder>> {
    open(settings, files, &settings.model_name)
}

/// The same of the model that answers until the vectors of the other are complete.
///
/// # Errors
/// As for [`encoder_of`].
pub fn previous_encoder_of(settings: &SearchSettings, files: &ModelFiles) -> Result<Arc<dyn Encoder>> {
    open(settings, files, settings.previous_model_name.as_ref().unwrap_or(&settings.model_name))
}

fn open(settings: &SearchSettings, files: &ModelFiles, name: &str) -> Result<Arc<dyn Encoder>> {
    let encoder = SentenceEncoder::new(files, name, settings.batch_tokens, settings.threads)?;
    let ModelIdentity { name, version, dimensions, .. } = encoder.identity();
    info!(name, version, dimensions, "sentence encoder is open");
    Ok(Arc::new(encoder))
}

/// The cross-encoder of these files.
///
/// # Errors
/// Those of [`CrossEncoder::new`].
pub fn reranker_of(settings: &SearchSettings, files: &ModelFiles) -> Result<Arc<dyn Reranker>> {
    let name = &settings.rerank_model_name;
    let reranker = CrossEncoder::new(files, name, settings.batch_tokens, settings.threads)?;
    let ModelIdentity { name, version, .. } = reranker.identity();
    info!(name, version, "cross-encoder is open");
    Ok(Arc::new(reranker))
}
