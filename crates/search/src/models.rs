//! The encoders of a server: which there are, what they make of texts, and the jobs that make vectors again.
//!
//! It refuses to have one tenant decide on work for all: that is the operator's. To add a place that models come from: see
//! [`crate::sources`].

use std::path::{Path, PathBuf};
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
use crate::sources::ModelSource;

/// Letters of a name that is not known, in an error.
const NAME_SHOWN: usize = 200;

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

    /// The encoder of this name or version, or of a short name for it: the last step of its name, or the name of the folder, the
    /// registered model or the repository that it comes from. The one that answers where several have the name, or none is named.
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
        let paths = [&self.settings.model_path, &self.settings.previous_model_path];
        let in_short = || {
            let both = self.encodings.iter().zip(paths);
            let is_it = |encoding: &Encoding, path: &Option<PathBuf>| {
                short_names(&encoding.identity().name, path.as_deref()).iter().any(|short| short == name)
            };
            both.filter(move |(encoding, path)| is_it(encoding, path)).map(|(encoding, _)| encoding)
        };
        let found = named().find(is_active).or_else(|| named().next());
        found.or_else(|| in_short().find(is_active)).or_else(|| in_short().next()).ok_or_else(|| {
            let shown: String = name.chars().take(NAME_SHOWN).collect();
            let known: Vec<_> = self.models().map(|model| format!("`{}`", model.name)).collect();
            let message =
                format!("there is no model `{}` here; there is {}", shown.escape_debug(), known.join(", "));
            Error::new(codes::NOT_FOUND, message).with_field("model")
        })
    }

    /// Whether the vectors of the model of this name may have so many numbers (see [`Encoder::makes`]).
    ///
    /// # Errors
    /// As for [`Search::model`].
    pub fn makes(&self, name: Option<&str>, dimensions: usize) -> Result<bool> {
        Ok(self.encoding(name)?.makes(dimensions))
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

/// What callers may say in place of a name.
fn short_names(name: &str, path: Option<&Path>) -> Vec<String> {
    let mut found = vec![name.to_owned()];
    found.extend(path.and_then(|path| ModelSource::read(path).ok()).and_then(|source| match source {
        ModelSource::Folder(folder) => folder.file_name()?.to_str().map(str::to_owned),
        ModelSource::Registered { name, .. } => Some(name),
        ModelSource::Hub { repository, .. } => Some(repository),
    }));
    let last_steps: Vec<String> =
        found.iter().filter_map(|name| name.rsplit('/').next()).map(str::to_owned).collect();
    found.extend(last_steps);
    found.retain(|name| !name.is_empty());
    found
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
    open(settings, files, &settings.previous_name().unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_where_it_comes_from() {
        let check = |path: Option<&str>, expected: &[&str]| {
            let mut found = short_names("sentence-transformers/all-MiniLM-L6-v2", path.map(Path::new));
            found.retain(|name| !name.starts_with("sentence-transformers/") && name != "all-MiniLM-L6-v2");
            found.dedup();
            assert_eq!(found, expected, "{path:?}");
        };
        check(None, &[]);
        check(Some("/models/all-MiniLM-L6-v2/"), &[]);
        check(Some("/models/bge-small"), &["bge-small"]);
        check(Some("models:/team/words/3"), &["team/words", "words"]);
        check(Some("hf://owner/words@0123456789abcdef0123456789abcdef01234567"), &["owner/words", "words"]);
        assert!(short_names("a/b", None).contains(&"b".to_owned()));
        assert_eq!(short_names("b", Some(Path::new("/"))), ["b", "b"]);
    }
}
