//! The questions that search answers: what is found for a query, what an index holds, what a text's vector is; and the
//! changes that it takes.
//!
//! A change is durable before it is acknowledged, and shown before that too, unless the index takes longer than
//! [`PATIENCE`]. A search by meaning that cannot be one says so in its answer ([`Answer::fallback`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edge::http::health::Check;
use kernel::{Clock, Entropy, Error, Permission, Result, Scope, TenantId, codes};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use store::{Cache, EventLog, MAX_APPEND_BATCH, Records, Vectors};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::algorithms::fusion::Fusion;
use crate::analysis::{Analyzer, Synonyms};
use crate::encoder::{Encoded, Encoder, ModelIdentity, Reranker};
use crate::encoding::{Encoding, Rooms};
use crate::follower::Follower;
use crate::index::{Found, IndexStats, Library, TextQuery};
use crate::items::Change;
use crate::log::{ITEMS, event_of};
use crate::meanings::Meant;
use crate::metrics::SearchMetrics;
use crate::models::{encodings, keeper};
use crate::questions::{Answer, Question, Stats};
use crate::rebuilding::{Ending, Gauge, Rebuild, Rebuilds};
use crate::reindex::keeper::{Active, Keeper};
use crate::reranking::{CANDIDATES_MAX, Reranking, no_reranker};
use crate::settings::SearchSettings;
use crate::showing::Showing;
use crate::words::{Words, blocking};

/// How long a writer waits for the index.
const PATIENCE: Duration = Duration::from_secs(1);
/// Searches that run at the same time; more are refused.
const SEARCHES_AT_ONCE: usize = 128;
/// Between two looks at whether an index has caught up.
const LOOK: Duration = Duration::from_millis(5);
const NO_MEANING: &str = "no encoder is configured; words alone were looked for";
const FEW_MEANINGS: &str = "vectors are still being made; what has none was found by its words alone";
const UNKNOWN: &str = "the encoder knows no word of the query; words alone were looked for";
const MEANING_AWAY: &str = "meaning cannot be looked for at the moment; words alone were";
/// Results of each ranking before they are fused.
const DEPTH: usize = 100;
/// The most results of one search.
pub const RESULTS_MAX: usize = 100;
/// The longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 4_096;

/// What search works with.
#[derive(Debug, Clone)]
pub struct SearchParts {
    /// Where changes go.
    pub log: Arc<dyn EventLog>,
    /// Where vectors are kept.
    pub vectors: Arc<dyn Vectors>,
    /// Where re-index jobs and their leases are kept.
    pub records: Arc<dyn Records>,
    /// Where what was encoded is remembered.
    pub cache: Arc<dyn Cache>,
    /// Makes vectors; search is by words alone without one.
    pub encoder: Option<Arc<dyn Encoder>>,
    /// Answers until the vectors of `encoder` are complete, where it did before.
    pub previous_encoder: Option<Arc<dyn Encoder>>,
    /// Puts the best of what was found in order, where a search asks for it.
    pub reranker: Option<Arc<dyn Reranker>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub entropy: Arc<dyn Entropy>,
    /// The folder of the indexes, of this process alone; they are in memory without one.
    pub folder: Option<PathBuf>,
    /// Whose administrators may have all vectors made again.
    pub operator: TenantId,
    /// Whether no other process works on the same records.
    pub is_alone: bool,
}

/// The running search.
#[derive(Debug)]
pub struct Search {
    pub(crate) parts: SearchParts,
    pub(crate) settings: SearchSettings,
    synonyms: Synonyms,
    analyzer: Analyzer,
    pub(crate) library: Arc<Library>,
    words: Arc<Words>,
    rebuilds: Arc<Rebuilds>,
    /// The first is the one that is to answer.
    pub(crate) encodings: Vec<Encoding>,
    reranking: Option<Reranking>,
    /// Nothing where there is no encoder.
    pub(crate) keeper: Option<Arc<Keeper>>,
    followers: std::sync::OnceLock<Followers>,
    /// Searches that run.
    room: Arc<Semaphore>,
    pub(crate) metrics: SearchMetrics,
}

#[derive(Debug)]
struct Followers {
    words: Option<Follower>,
    keeper: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Search {
    /// Over these parts; [`Search::start`] reads what is there.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for settings that make no sense.
    pub fn new(parts: SearchParts, settings: SearchSettings, registry: &mut Registry) -> Result<Self> {
        settings.validate()?;
        let analyzer = Analyzer::default();
        let synonyms = Synonyms::new(&settings.synonyms, &analyzer)?;
        let library = Arc::new(Library::new(parts.folder.clone(), settings.bm25));
        let words = Arc::new(Words::new(Arc::clone(&library)));
        let (followers, metrics) = (std::sync::OnceLock::new(), SearchMetrics::register(registry));
        let room = Arc::new(Semaphore::new(SEARCHES_AT_ONCE));
        let rooms = Rooms::default();
        let encodings = encodings(&parts, &settings, &metrics, &rooms);
        let reranking = parts.reranker.clone().map(Reranking::new);
        let keeper =
            (!encodings.is_empty()).then(|| Arc::new(keeper(&parts, &settings, &encodings, &metrics)));
        Ok(Self {
            parts,
            settings,
            synonyms,
            analyzer,
            library,
            words,
            rebuilds: Arc::default(),
            encodings,
            reranking,
            keeper,
            followers,
            room,
            metrics,
        })
    }

    /// What puts the best of what was found in order, where there is one.
    #[must_use]
    pub fn reranker(&self) -> Option<Arc<dyn Reranker>> {
        self.parts.reranker.clone()
    }

    /// The encoder that is to answer, where there is one.
    #[must_use]
    pub fn encoder(&self) -> Option<Arc<dyn Encoder>> {
        self.parts.encoder.clone()
    }

    /// Begins to follow the log: `answers` with an index of words, `makes_vectors` for all processes. One at least has to;
    /// of several, one makes them.
    pub fn start(&self, answers: bool, makes_vectors: bool) {
        let log = || Arc::clone(&self.parts.log);
        self.followers.get_or_init(|| {
            let stop = CancellationToken::new();
            let keeper = self.keeper.as_ref().map(|keeper| {
                let run = Arc::clone(keeper).run(makes_vectors, stop.clone());
                tokio::spawn(run)
            });
            Followers {
                words: answers.then(|| Follower::start(log(), Arc::clone(&self.words) as _)),
                keeper: Mutex::new(keeper),
                stop,
            }
        });
    }

    /// [`Search::start`], and waits until it has caught up, for a while: what is short is there when the first question comes.
    pub async fn begin(&self, answers: bool, makes_vectors: bool, patience: Duration) {
        self.start(answers, makes_vectors);
        let settled = async {
            while !self.has_caught_up() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(patience, settled).await.is_err() {
            info!("the index of words is still being read from the log");
        }
    }

    /// Stops following; the indexes are on disk.
    pub async fn stop(&self) {
        if let Some(followers) = self.followers.get() {
            followers.stop.cancel();
            if let Some(words) = &followers.words {
                words.stop().await;
            }
            let keeper = followers.keeper.lock().take();
            if let Some(keeper) = keeper
                && let Err(error) = keeper.await
            {
                warn!(%error, "the task that keeps vectors failed");
            }
        }
        let library = Arc::clone(&self.library);
        if let Err(error) = blocking(move || {
            library.close();
            Ok(())
        })
        .await
        {
            warn!(error = %error.chain(), "the search indexes were not closed well");
        }
    }

    /// Whether a question can be answered from all that the log held at the start, where this process answers any.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        self.followers
            .get()
            .is_some_and(|followers| followers.words.as_ref().is_none_or(Follower::has_caught_up))
    }

    /// Takes changes in; they are durable when it returns. Whether they show already.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR` for an item that breaks a limit; those of the log.
    pub async fn change(&self, scope: &Scope, changes: Vec<Change>) -> Result<bool> {
        scope.require(Permission::Write)?;
        changes.iter().try_for_each(Change::check)?;
        let now = self.parts.clock.now();
        let event = |change: &Change| {
            let id = self.parts.entropy.id(now).as_hyphenated().to_string();
            event_of(scope, change, id, now)
        };
        let events = changes.iter().map(event).collect::<Result<Vec<_>>>()?;
        let mut places = Vec::with_capacity(events.len());
        let mut events = events.into_iter();
        while events.len() > 0 {
            let some = events.by_ref().take(MAX_APPEND_BATCH).collect();
            places.extend(self.parts.log.append(scope, &ITEMS, some).await?);
        }
        self.metrics.changed(changes.len());
        let Some(words) = self.followers.get().and_then(|followers| followers.words.as_ref()) else {
            return Ok(false);
        };
        match words.reached(&places, PATIENCE).await {
            Ok(()) => Ok(true),
            Err(error) => {
                warn!(error = %error.chain(), "acknowledged before the index shows it");
                Ok(false)
            }
        }
    }

    /// Looks for items.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR` for a question out of its limits; those of the index and the vectors.
    pub async fn search(&self, scope: &Scope, question: Question) -> Result<Answer> {
        scope.require(Permission::Read)?;
        let began = self.parts.clock.elapsed();
        let answer = self.answer(scope, question).await;
        let took = self.parts.clock.elapsed().saturating_sub(began);
        self.metrics.searched(answer.as_ref().ok().map(|answer| answer.results.len()), took);
        answer
    }

    async fn answer(&self, scope: &Scope, question: Question) -> Result<Answer> {
        check(&question)?;
        let reranking = self.reranking_for(&question)?;
        let _waiting = reranking.map(Reranking::wait).transpose()?;
        let overloaded = |_| Error::new(codes::OVERLOADED, "too many searches run; try again later");
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(overloaded)?;
        let Some(index) = self.library.of(scope) else {
            let (_, fallback) = self.meaning(scope, &question).await?;
            return Ok(Answer { fallback, ..Answer::default() });
        };
        let (query, words) = (self.text_query(&question), Arc::clone(&index));
        let by_words = blocking(move || {
            // A query of stop words alone has nothing to look for by words.
            let has_words = !query.meanings.is_empty();
            let found = if has_words { words.search(&query)? } else { Found::default() };
            // Work goes on after who asked for it has gone: so does its place.
            Ok((found, room))
        });
        // Side by side: each of them keeps a processor busy.
        let (by_words, by_meaning) = tokio::join!(by_words, self.meaning(scope, &question));
        let ((found, room), (semantic, fallback)) = (by_words?, by_meaning?);
        let is_semantic = semantic.is_some();
        let (semantic, model) = semantic.unzip();
        let semantic = semantic.unwrap_or_default();
        let showing = Showing {
            index,
            analyzer: self.analyzer,
            fusion: question.fusion.unwrap_or(self.settings.fusion),
            question,
            is_semantic,
        };
        let find = move || showing.shortlist(found, &semantic).map(|shortlist| (showing, shortlist));
        let Some(reranking) = reranking else {
            let answer = blocking(move || {
                let _room = room;
                let (showing, shortlist) = find()?;
                showing.answer(shortlist)
            });
            return Ok(Answer { fallback, model, ..answer.await? });
        };
        let found = blocking(move || {
            // Work goes on after who asked for it has gone: so does its place.
            find().map(|found| (found, room))
        });
        let ((showing, mut shortlist), room) = found.await?;
        let scores = reranking.scores(&showing.question.query, shortlist.texts()).await?;
        shortlist.reorder(&scores);
        let answer = blocking(move || {
            let _room = room;
            showing.answer(shortlist)
        });
        let reranker = Some(reranking.identity().clone());
        Ok(Answer { fallback, model, reranker, ..answer.await? })
    }

    /// The cross-encoder, where the question asks for it.
    fn reranking_for(&self, question: &Question) -> Result<Option<&Reranking>> {
        match (question.rerank, &self.reranking) {
            (None, _) => Ok(None),
            (Some(_), None) => Err(no_reranker()),
            (Some(_), reranking) => Ok(reranking.as_ref()),
        }
    }

    /// What is found by meaning, and why it is not all, or nothing at all.
    async fn meaning(
        &self,
        scope: &Scope,
        question: &Question,
    ) -> Result<(Option<(Vec<Meant>, ModelIdentity)>, Option<&'static str>)> {
        if !question.semantic {
            return Ok((None, None));
        }
        let Some(keeper) = &self.keeper else { return Ok((None, Some(NO_MEANING))) };
        // Taken once, so that one search asks the vectors of one model.
        let Some(active) = keeper.active() else { return Ok((None, Some(FEW_MEANINGS))) };
        let fallback = (!active.is_whole).then_some(FEW_MEANINGS);
        match self.by_meaning(scope, &active, question).await {
            Ok(None) => Ok((None, Some(UNKNOWN))),
            Ok(Some(found)) => {
                let model = active.meanings.encoding().identity().clone();
                Ok((Some((found, model)), fallback))
            }
            Err(error) if error.kind().is_retryable() => {
                warn!(error = %error.chain(), "words alone are looked for");
                Ok((None, Some(MEANING_AWAY)))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn text_query(&self, question: &Question) -> TextQuery {
        TextQuery {
            meanings: self.synonyms.meanings(&self.analyzer.tokens(&question.query)),
            filter: question.filter.clone(),
            count: DEPTH.max(question.limit),
            forgives_typos: question.forgives_typos,
            counts_facets: question.counts_facets,
        }
    }

    pub(crate) async fn by_meaning(
        &self,
        scope: &Scope,
        active: &Active,
        question: &Question,
    ) -> Result<Option<Vec<Meant>>> {
        let encoded = active.meanings.encoding().encode(scope, vec![question.query.clone()]).await?;
        // Without a direction nothing is near.
        let is_known = |encoded: &Encoded| encoded.vector.iter().any(|value| *value != 0.0);
        let Some(encoded) = encoded.into_iter().next().filter(is_known) else { return Ok(None) };
        let count = DEPTH.max(question.limit);
        let mut found = active.meanings.nearest(scope, &encoded.vector, count, &question.filter).await?;
        found.retain(|found| found.score >= question.similarity_min);
        Ok(Some(found))
    }

    /// What the tenant's index holds.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; those of the index, the log and the vectors.
    pub async fn stats(&self, scope: &Scope) -> Result<Stats> {
        scope.require(Permission::Read)?;
        let index = match self.library.of(scope) {
            Some(index) => blocking(move || index.stats()).await?,
            None => IndexStats::default(),
        };
        let extents = self.parts.log.extents(&ITEMS).await?;
        let lag = |follower: &Follower| {
            let progress = follower.progress();
            let of = |extent: &store::Extent| {
                extent.next.saturating_sub(progress.get(&extent.partition).map_or(0, |place| place.next))
            };
            extents.iter().map(of).sum()
        };
        let followers = self.followers.get();
        let mut stats = Stats { index, rebuild: self.rebuilds.of(scope.tenant()), ..Stats::default() };
        stats.lag = followers.and_then(|followers| followers.words.as_ref()).map_or(0, lag);
        let Some(keeper) = &self.keeper else { return Ok(stats) };
        stats.vector_lag = Some(extents.iter().map(|extent| extent.next - extent.first).sum());
        stats.vectors = Some(0);
        if let Some(active) = keeper.active() {
            if let Some(job) = keeper.jobs().get(&active.job).await? {
                stats.vector_lag = Some(job.document.lag(&extents).0);
            }
            stats.vectors = Some(active.meanings.count(scope).await?);
            stats.model = Some(active.meanings.encoding().identity().clone());
        }
        Ok(stats)
    }

    /// Builds the tenant's index of words again from the log; the one before answers until the new one is whole. It goes on
    /// where it takes longer than `patience`, and where the caller goes away: [`Search::stats`] says how far it is.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `UNAVAILABLE` before [`Search::start`]; `CONFLICT` while another is built; those of the log and the
    /// disk, where they come within `patience`: then the index before answers on.
    pub async fn rebuild(&self, scope: &Scope, patience: Duration) -> Result<Rebuild> {
        scope.require(Permission::Admin)?;
        if self.followers.get().is_none() {
            return Err(Error::new(codes::UNAVAILABLE, "search has not started; try again"));
        }
        let gauge = Arc::new(Gauge::default());
        let (words, log, tenant) =
            (Arc::clone(&self.words), Arc::clone(&self.parts.log), scope.tenant().clone());
        let (rebuilds, counted) = (Arc::clone(&self.rebuilds), Arc::clone(&gauge));
        let rebuild = tokio::spawn(async move {
            let _ending = Ending(Arc::clone(&counted));
            let begun = || rebuilds.begin(&tenant, &counted);
            let ended = words.rebuild(log.as_ref(), &tenant, &counted, begun).await;
            if let Err(error) = &ended
                && error.code() != codes::CONFLICT
            {
                warn!(%tenant, error = %error.chain(), "a search index was not built again");
            }
            counted.end(&ended);
            ended
        });
        match tokio::time::timeout(patience, rebuild).await {
            Ok(ended) => ended.map_err(Error::internal)?.map(|_| gauge.told()),
            Err(_) => match gauge.told() {
                // It failed in the same moment.
                Rebuild { fault: Some(fault), .. } => Err(Error::new(codes::UNAVAILABLE, fault)),
                told => Ok(told),
            },
        }
    }

    /// The clock that latencies are told by.
    pub(crate) fn clock(&self) -> &dyn Clock {
        self.parts.clock.as_ref()
    }
}

/// Tells whether this process can answer in full.
#[derive(Debug)]
pub struct SearchCheck(pub Arc<Search>);

impl Check for SearchCheck {
    fn name(&self) -> &'static str {
        "search"
    }

    fn fault(&self) -> Option<String> {
        (!self.0.has_caught_up()).then(|| "the index of words is being read from the log".to_owned())
    }
}

/// Checks the limits of a question.
///
/// # Errors
/// `VALIDATION_ERROR` naming the field.
pub(crate) fn check(question: &Question) -> Result<()> {
    let refuse =
        |field: &str, message: String| Err(Error::new(codes::VALIDATION_ERROR, message).with_field(field));
    if question.query.trim().is_empty() || question.query.len() > QUERY_BYTES_MAX {
        return refuse("query", format!("a query is 1 to {QUERY_BYTES_MAX} bytes, not all of them spaces"));
    }
    if !(1..=RESULTS_MAX).contains(&question.limit) {
        return refuse("limit", format!("must be 1 to {RESULTS_MAX}, not {}", question.limit));
    }
    if !(-1.0..=1.0).contains(&question.similarity_min) {
        return refuse("similarity_threshold", format!("must be -1 to 1, not {}", question.similarity_min));
    }
    if question.rerank.is_some_and(|count| !(question.limit..=CANDIDATES_MAX).contains(&count)) {
        return refuse("rerank", format!("must be {}, the limit, to {CANDIDATES_MAX}", question.limit));
    }
    let Some(Fusion::Learned(weight)) = question.fusion else { return Ok(()) };
    if (0.0..=1.0).contains(&weight) {
        Ok(())
    } else {
        refuse("fusion", "the share must be 0 to 1".to_owned())
    }
}
