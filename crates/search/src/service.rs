//! The questions that search answers: what is found for a query, what an index holds, what a text's vector is; and the
//! changes that it takes.
//!
//! A change is durable before it is acknowledged, and shown before that too, unless the index takes longer than
//! [`PATIENCE`]. A search by meaning that cannot be one says so in its answer ([`Answer::fallback`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edge::http::health::Check;
use kernel::{Clock, Entropy, Error, ErrorCode, ErrorKind, Permission, Result, Scope, codes};
use prometheus_client::registry::Registry;
use store::{EventLog, MAX_APPEND_BATCH, Match, Vectors};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::algorithms::fusion::Fusion;
use crate::analysis::{Analyzer, Synonyms};
use crate::encoder::{Encoded, Encoder, ModelIdentity};
use crate::follower::Follower;
use crate::index::{Counts, Filter, Found, IndexStats, Library, TermShare, TextQuery};
use crate::items::{Change, Item};
use crate::log::{ITEMS, event_of};
use crate::meanings::Meanings;
use crate::metrics::SearchMetrics;
use crate::settings::SearchSettings;
use crate::showing::Showing;
use crate::words::{Words, blocking};

/// How long a writer waits for the index.
const PATIENCE: Duration = Duration::from_secs(1);
/// Searches that run at the same time; more are refused.
const SEARCHES_AT_ONCE: usize = 128;
/// Between two looks at the vectors that others make.
const VECTORS_PAUSE: Duration = Duration::from_secs(5);
/// Between two looks at whether an index has caught up.
const LOOK: Duration = Duration::from_millis(5);
const NO_MEANING: &str = "no encoder is configured; words alone were looked for";
const FEW_MEANINGS: &str = "vectors are still being made; what has none was found by its words alone";
const MEANING_AWAY: &str = "meaning cannot be looked for at the moment; words alone were";
/// Results of each ranking before they are fused.
const DEPTH: usize = 100;
/// The most results of one search.
pub const RESULTS_MAX: usize = 100;
/// The longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 4_096;

/// Nothing makes vectors here.
pub const NO_ENCODER: ErrorCode =
    ErrorCode { name: "NO_ENCODER", kind: ErrorKind::NotFound, title: "This server has no sentence encoder" };

/// What search works with.
#[derive(Debug, Clone)]
pub struct SearchParts {
    /// Where changes go.
    pub log: Arc<dyn EventLog>,
    /// Where vectors are kept.
    pub vectors: Arc<dyn Vectors>,
    /// Makes vectors; search is by words alone without one.
    pub encoder: Option<Arc<dyn Encoder>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub entropy: Arc<dyn Entropy>,
    /// The folder of the indexes, of this process alone; they are in memory without one.
    pub folder: Option<PathBuf>,
}

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Question {
    /// In the words of who looks.
    pub query: String,
    /// Whether meaning counts too.
    pub semantic: bool,
    /// What may be found.
    pub filter: Filter,
    /// Results at most, 1 to [`RESULTS_MAX`].
    pub limit: usize,
    /// The least cosine of what is found by meaning alone.
    pub similarity_min: f32,
    /// How the rankings become one; the settings' way where missing.
    pub fusion: Option<Fusion>,
    /// Whether words that no text has are taken for mistyped.
    pub forgives_typos: bool,
    /// Whether to count types and tags.
    pub counts_facets: bool,
    /// Whether to show a marked piece of each text.
    pub highlights: bool,
    /// Whether to tell where scores come from.
    pub explains: bool,
}

/// Why something was found.
#[derive(Debug, Clone, Default)]
pub struct Explanation {
    /// What words gave of the score, fused.
    pub lexical: Option<f64>,
    /// What meaning gave of the score, fused.
    pub semantic: Option<f64>,
    /// The BM25 score.
    pub bm25: Option<f32>,
    /// The cosine to the query.
    pub cosine: Option<f32>,
    /// What each word adds to the BM25 score.
    pub words: Vec<TermShare>,
}

/// One result.
#[derive(Debug, Clone)]
pub struct SearchResult {
    /// What was found.
    pub item: Item,
    /// Higher is better; of which kind depends on the fusion.
    pub score: f64,
    /// A piece of its text with what was found marked, where that was asked for.
    pub highlight: Option<String>,
    /// Why, where that was asked for.
    pub explanation: Option<Explanation>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Best first, ties by type and id.
    pub results: Vec<SearchResult>,
    /// How many items have a word of the query, or results if those are more.
    pub total: u64,
    /// Whether meaning counted.
    pub semantic: bool,
    /// Why meaning did not count although it was asked for.
    pub fallback: Option<&'static str>,
    /// How many of each type have a word of the query.
    pub types: Counts,
    /// How many with each tag have a word of the query.
    pub tags: Counts,
    /// The model that meaning was understood by.
    pub model: Option<ModelIdentity>,
}

/// What an index holds and how far it is.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// The index of words.
    pub index: IndexStats,
    /// Vectors of the tenant, where there is an encoder.
    pub vectors: Option<u64>,
    /// Events of all tenants that the index of words lacks.
    pub lag: u64,
    /// Events of all tenants that have no vector yet; none where there is no encoder.
    pub vector_lag: Option<u64>,
    /// The model of the vectors.
    pub model: Option<ModelIdentity>,
}

/// The running search.
#[derive(Debug)]
pub struct Search {
    parts: SearchParts,
    settings: SearchSettings,
    synonyms: Synonyms,
    analyzer: Analyzer,
    library: Arc<Library>,
    words: Arc<Words>,
    meanings: Option<Meanings>,
    followers: std::sync::OnceLock<Followers>,
    /// Searches that run.
    room: Arc<Semaphore>,
    metrics: SearchMetrics,
}

#[derive(Debug)]
struct Followers {
    words: Option<Follower>,
    vectors: Option<Follower>,
    /// Whether another process has made every vector.
    are_made: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Followers {
    fn has_all_vectors(&self) -> bool {
        self.vectors.as_ref().is_some_and(Follower::has_caught_up) || self.are_made.load(Ordering::Relaxed)
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
        let meanings = parts
            .encoder
            .as_ref()
            .map(|encoder| Meanings::new(Arc::clone(encoder), Arc::clone(&parts.vectors)));
        let words = Arc::new(Words::new(Arc::clone(&library)));
        let (followers, metrics) = (std::sync::OnceLock::new(), SearchMetrics::register(registry));
        let room = Arc::new(Semaphore::new(SEARCHES_AT_ONCE));
        Ok(Self { parts, settings, synonyms, analyzer, library, words, meanings, followers, room, metrics })
    }

    /// Begins to follow the log: `answers` with an index of words, `makes_vectors` for all processes. One at least has to;
    /// all that do make the same.
    pub fn start(&self, answers: bool, makes_vectors: bool) {
        let log = || Arc::clone(&self.parts.log);
        self.followers.get_or_init(|| {
            let (are_made, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
            let vectors = self.meanings.as_ref().filter(|_| makes_vectors);
            if let Some(meanings) = self.meanings.clone().filter(|_| answers && vectors.is_none()) {
                let watch = watch_vectors(meanings, log(), Arc::clone(&are_made), stop.clone());
                tokio::spawn(watch);
            }
            Followers {
                words: answers.then(|| Follower::start(log(), Arc::clone(&self.words) as _)),
                vectors: vectors.map(|meanings| Follower::start(log(), Arc::new(meanings.clone()))),
                are_made,
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
            let both = || [&followers.words, &followers.vectors].into_iter().flatten();
            both().for_each(Follower::cancel);
            for follower in both() {
                follower.stop().await;
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
        for change in &changes {
            match change {
                Change::Put(item) => item.check()?,
                Change::Delete(name) => name.check()?,
            }
        }
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
        let overloaded = |_| Error::new(codes::OVERLOADED, "too many searches run; try again later");
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(overloaded)?;
        let (semantic, fallback) = self.meaning(scope, &question).await?;
        let is_semantic = semantic.is_some();
        let semantic = semantic.unwrap_or_default();
        let Some(index) = self.library.of(scope) else { return Ok(Answer { fallback, ..Answer::default() }) };
        let query = TextQuery {
            meanings: self.synonyms.meanings(&self.analyzer.tokens(&question.query)),
            filter: question.filter.clone(),
            count: DEPTH.max(question.limit),
            forgives_typos: question.forgives_typos,
            counts_facets: question.counts_facets,
        };
        let model = self
            .meanings
            .as_ref()
            .filter(|_| is_semantic)
            .map(|meanings| meanings.encoder().identity().clone());
        let showing = Showing {
            index,
            analyzer: self.analyzer,
            fusion: question.fusion.unwrap_or(self.settings.fusion),
            question,
            is_semantic,
        };
        let mut answer = blocking(move || {
            let _room = room;
            // A query of stop words alone has nothing to look for by words.
            let has_words = !query.meanings.is_empty();
            let found = if has_words { showing.index.search(&query)? } else { Found::default() };
            showing.answer(found, &semantic)
        })
        .await?;
        (answer.fallback, answer.model) = (fallback, model);
        Ok(answer)
    }

    /// What is found by meaning, and why it is not all, or nothing at all.
    async fn meaning(
        &self,
        scope: &Scope,
        question: &Question,
    ) -> Result<(Option<Vec<Match>>, Option<&'static str>)> {
        if !question.semantic {
            return Ok((None, None));
        }
        let Some(meanings) = &self.meanings else { return Ok((None, Some(NO_MEANING))) };
        match self.by_meaning(scope, meanings, question).await {
            Ok(found) => {
                let is_whole = self.followers.get().is_some_and(Followers::has_all_vectors);
                Ok((Some(found), (!is_whole).then_some(FEW_MEANINGS)))
            }
            Err(error) if error.kind().is_retryable() => {
                warn!(error = %error.chain(), "words alone are looked for");
                Ok((None, Some(MEANING_AWAY)))
            }
            Err(error) => Err(error),
        }
    }

    async fn by_meaning(
        &self,
        scope: &Scope,
        meanings: &Meanings,
        question: &Question,
    ) -> Result<Vec<Match>> {
        let encoded = meanings.encode(vec![question.query.clone()]).await?;
        let Some(encoded) = encoded.into_iter().next() else { return Ok(Vec::new()) };
        let count = DEPTH.max(question.limit);
        let mut found = meanings.nearest(scope, &encoded.vector, count, &question.filter).await?;
        found.retain(|found| found.score >= question.similarity_min);
        Ok(found)
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
                extent.next.saturating_sub(*progress.get(&extent.partition).unwrap_or(&0))
            };
            extents.iter().map(of).sum()
        };
        let followers = self.followers.get();
        let mut stats = Stats { index, ..Stats::default() };
        stats.lag = followers.and_then(|followers| followers.words.as_ref()).map_or(0, lag);
        stats.vector_lag = followers.and_then(|followers| followers.vectors.as_ref()).map(lag);
        if let Some(meanings) = &self.meanings {
            if stats.vector_lag.is_none() {
                stats.vector_lag = Some(meanings.lag(self.parts.log.as_ref()).await?);
            }
            stats.vectors = Some(meanings.count(scope).await?);
            stats.model = Some(meanings.encoder().identity().clone());
        }
        Ok(stats)
    }

    /// Builds the tenant's index of words again from the log; the one before answers until the new one is whole. It goes on
    /// where the caller goes away.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `UNAVAILABLE` before [`Search::start`]; those of the log and the disk: then the index before
    /// answers on.
    pub async fn rebuild(&self, scope: &Scope) -> Result<u64> {
        scope.require(Permission::Admin)?;
        if self.followers.get().is_none() {
            return Err(Error::new(codes::UNAVAILABLE, "search has not started; try again"));
        }
        let (words, log, tenant) =
            (Arc::clone(&self.words), Arc::clone(&self.parts.log), scope.tenant().clone());
        let rebuild = async move { words.rebuild(log.as_ref(), &tenant).await };
        tokio::spawn(rebuild).await.map_err(Error::internal)?
    }

    /// What the encoder is, where there is one.
    #[must_use]
    pub fn model(&self) -> Option<&ModelIdentity> {
        self.meanings.as_ref().map(|meanings| meanings.encoder().identity())
    }

    /// The vectors of texts, by the model of this name, or the only one.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND` for another model; `NO_ENCODER`; `OVERLOADED`.
    pub async fn embed(
        &self,
        scope: &Scope,
        model: Option<&str>,
        texts: Vec<String>,
    ) -> Result<Vec<Encoded>> {
        scope.require(Permission::Read)?;
        let Some(meanings) = &self.meanings else {
            return Err(Error::new(NO_ENCODER, "no encoder is configured; set search.model_path"));
        };
        let identity = meanings.encoder().identity();
        if let Some(model) = model.filter(|model| *model != identity.name && *model != identity.version) {
            let message =
                format!("there is no model `{}` here; there is `{}`", model.escape_debug(), identity.name);
            return Err(Error::new(codes::NOT_FOUND, message).with_field("model"));
        }
        let (count, began) = (texts.len(), self.parts.clock.elapsed());
        let encoded = meanings.encode(texts).await?;
        self.metrics.encoded(count, self.parts.clock.elapsed().saturating_sub(began));
        Ok(encoded)
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

/// Looks now and then whether other processes have made every vector, until they have.
async fn watch_vectors(
    meanings: Meanings,
    log: Arc<dyn EventLog>,
    are_made: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        match meanings.lag(log.as_ref()).await {
            Ok(0) => {
                are_made.store(true, Ordering::Relaxed);
                return;
            }
            Ok(_) => {}
            Err(error) => warn!(error = %error.chain(), "how far vectors are is not known"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(VECTORS_PAUSE) => {}
        }
    }
}

/// Tells what happened to an encoder's files, and opens it.
///
/// # Errors
/// Those of [`crate::encoder::SentenceEncoder::open`].
pub fn open_encoder(settings: &SearchSettings) -> Result<Option<Arc<dyn Encoder>>> {
    let Some(folder) = &settings.model_path else { return Ok(None) };
    let (name, tokens, threads) = (&settings.model_name, settings.batch_tokens, settings.threads);
    let encoder = crate::encoder::SentenceEncoder::open(folder, name, tokens, threads)?;
    let identity = encoder.identity();
    info!(
        name = identity.name,
        version = identity.version,
        dimensions = identity.dimensions,
        "sentence encoder is open"
    );
    Ok(Some(Arc::new(encoder)))
}

fn check(question: &Question) -> Result<()> {
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
    let Some(Fusion::Learned(weight)) = question.fusion else { return Ok(()) };
    if (0.0..=1.0).contains(&weight) {
        Ok(())
    } else {
        refuse("fusion", "the share must be 0 to 1".to_owned())
    }
}
