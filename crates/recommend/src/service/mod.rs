//! The questions this domain answers.
//!
//! A question reads the view and the served snapshot and nothing else: no training, no scan of the log, no disk.
//! Where an algorithm has nothing more to say, others go on in its place - what trends, what is popular, what is new -
//! and the answer names them. What is like an entity stays as short as it is, and is stood in for only where nothing is
//! like it; of what is bought together there is no second best.
//!
//! To add a question: a method here that makes scores for the entities of the view and hands them to
//! [`Selector`](select::Selector); its endpoint in `http/recommendations.rs`.

pub mod answer;
pub mod cache;
pub mod context;
pub mod cursor;
pub mod expression;
pub mod query;
mod ranking;
mod reasons;
pub mod select;
pub mod served;
mod similar_users;

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Clock, Entropy, Result, Scope, TenantId, Timestamp};
use parking_lot::{RwLock, RwLockReadGuard};
use store::Cache;

use crate::events::InteractionKind;
use crate::metrics::RecommendMetrics;
use crate::serving::Recommenders;
use crate::settings::{AnswerSettings, CacheSettings};
use crate::views::{Entry, TenantView, Views};
use cache::AnswerCache;
use context::{Act, Context};
use expression::Expressions;
use ranking::{Ranking, Request};
use reasons::Lines;
use select::{Picked, Selector};
use served::Served;

pub use answer::{Answer, AnswerSearch, Recommendation, SimilarUsers};
pub use cursor::{Cursor, Pin, Shown};
pub use query::{Algorithm, Query, Returned};

/// One thing that someone did in a session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionEntry {
    /// With what.
    pub entity_id: String,
    /// Its type.
    pub entity_type: String,
    /// What they did.
    pub kind: InteractionKind,
    /// In place of the type's weight.
    pub weight: Option<f64>,
    /// When.
    pub time: Option<kernel::Timestamp>,
}

/// Answers questions for every tenant.
#[derive(Debug)]
pub struct Service {
    views: Arc<Views>,
    tenants: RwLock<BTreeMap<TenantId, Arc<Served>>>,
    settings: AnswerSettings,
    expressions: Expressions,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: RecommendMetrics,
    cache: Option<AnswerCache>,
}

/// What an answer is about.
#[derive(Clone, Copy, Default)]
struct Subject<'a> {
    user_id: Option<&'a str>,
    /// The entity that is asked about, which is never its own answer.
    entity: Option<u32>,
    /// A user of the view, whose state may be kept.
    user: Option<u32>,
    /// The list that is gone on with.
    pin: Option<Pin>,
}

impl Service {
    /// Over these views; nothing is served until [`Service::serve`].
    #[must_use]
    pub fn new(
        views: Arc<Views>,
        settings: AnswerSettings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: RecommendMetrics,
    ) -> Self {
        let tenants = RwLock::new(BTreeMap::new());
        let expressions = Expressions::default();
        Self { views, tenants, settings, expressions, clock, entropy, metrics, cache: None }
    }

    /// The same, keeping answers.
    #[must_use]
    pub fn keeping(self, cache: Arc<dyn Cache>, settings: CacheSettings) -> Self {
        let (entropy, metrics) = (Arc::clone(&self.entropy), self.metrics.cache.clone());
        let cache = AnswerCache::new(cache, settings, &self.settings, entropy, metrics);
        Self { cache, ..self }
    }

    /// The settings of answers.
    #[must_use]
    pub fn settings(&self) -> &AnswerSettings {
        &self.settings
    }

    /// The compiler of filters and boosters.
    #[must_use]
    pub fn expressions(&self) -> &Expressions {
        &self.expressions
    }

    /// Serves a snapshot from now on. Requests that began with another keep it.
    pub fn serve(&self, scope: &Scope, recommenders: Arc<Recommenders>) {
        let served = Arc::clone(self.tenants.write().entry(scope.tenant().clone()).or_default());
        served.swap(recommenders);
    }

    /// Serves the same version of a model with a newer catalogue.
    pub fn refresh(&self, scope: &Scope, recommenders: Arc<Recommenders>) {
        if let Some(served) = self.served(scope) {
            served.refresh(recommenders);
        }
    }

    /// What is served for the scope's tenant.
    #[must_use]
    pub fn served(&self, scope: &Scope) -> Option<Arc<Served>> {
        self.tenants.read().get(scope.tenant()).cloned()
    }

    /// What a user should see. A user of whom nothing is known gets what many choose.
    ///
    /// # Errors
    /// `CURSOR_EXPIRED` when the list that `pin` goes on with is gone; `INVALID_EXPRESSION` for an expression that
    /// failed on every entity that it was asked of.
    pub fn for_user(&self, scope: &Scope, user_id: &str, query: &Query, pin: Option<Pin>) -> Result<Answer> {
        let view = self.views.of(scope);
        let mut view = view.read();
        let user = view.users.find(user_id);
        let found = user.and_then(|index| view.users.get(index));
        if found.is_some_and(|user| !user.consent.personalisation) {
            return self.impersonal(scope, &mut view, user_id, query, pin);
        }
        let history = found.map_or(&[][..], |user| &user.history);
        let counts = |entry: &&Entry| pin.is_none_or(|pin| Some(entry.place) <= pin.newest);
        let context = Context::of_user(&view, history.iter().filter(counts));
        let subject = Subject { user_id: Some(user_id), entity: None, user, pin };
        self.answer(scope, &mut view, &context, subject, query)
    }

    /// What many choose, for a user who does not agree to more. Nothing that the user did is looked at, not even to pass
    /// over what was seen.
    fn impersonal(
        &self,
        scope: &Scope,
        view: &mut RwLockReadGuard<'_, TenantView>,
        user_id: &str,
        query: &Query,
        pin: Option<Pin>,
    ) -> Result<Answer> {
        let subject = Subject { user_id: Some(user_id), pin, ..Subject::default() };
        let stand_in = match query.algorithm.is_personal() {
            true => Query { algorithm: Algorithm::Trending, ..query.clone() },
            false => query.clone(),
        };
        let answer = self.answer(scope, view, &Context::default(), subject, &stand_in)?;
        let trending = query.algorithm.is_personal().then_some(Algorithm::Trending.name());
        let (algorithm, fallback) = (query.algorithm.name(), answer.fallback.or(trending));
        // How much is known of the user is not looked at either.
        Ok(Answer { algorithm, fallback, cold_start: false, without_consent: true, ..answer })
    }

    /// What someone should see who did this just now. Entities and types that are not known are passed over.
    ///
    /// # Errors
    /// As [`Service::for_user`].
    pub fn for_session(
        &self,
        scope: &Scope,
        session: &[SessionEntry],
        query: &Query,
        pin: Option<Pin>,
    ) -> Result<Answer> {
        let view = self.views.of(scope);
        let mut view = view.read();
        let now_ms = self.clock.now().as_millisecond();
        let act = |entry: &SessionEntry| {
            let entity = view.entities.find(&entry.entity_type, &entry.entity_id)?;
            let (name, own) = match &entry.kind {
                InteractionKind::Named(name) | InteractionKind::Custom(name) => (name.as_str(), entry.weight),
                InteractionKind::Rating(value) => ("rating", Some(*value)),
            };
            let own = own.map(|weight| weight as f32);
            let registered = view.interaction_types.find(name);
            let weight = registered.map_or_else(|| own.unwrap_or(1.0), |kind| view.weight(kind, own));
            let time_ms = entry.time.map_or(now_ms, Timestamp::as_millisecond);
            Some(Act { entity, weight, time_ms })
        };
        let context = Context::of_acts(session.iter().filter_map(act).collect());
        let context = Context { interactions: session.len(), ..context };
        self.answer(scope, &mut view, &context, Subject { pin, ..Subject::default() }, query)
    }

    /// What is like an entity.
    ///
    /// # Errors
    /// As [`Service::for_user`].
    pub fn similar_entities(
        &self,
        scope: &Scope,
        entity: u32,
        query: &Query,
        pin: Option<Pin>,
    ) -> Result<Answer> {
        let view = self.views.of(scope);
        let mut view = view.read();
        let now_ms = self.clock.now().as_millisecond();
        let act = Act { entity, weight: 1.0, time_ms: now_ms };
        let context = Context { interactions: usize::MAX, ..Context::of_acts(vec![act]) };
        let subject = Subject { entity: Some(entity), pin, ..Subject::default() };
        self.answer(scope, &mut view, &context, subject, query)
    }

    /// What is chosen in one go with an entity.
    ///
    /// # Errors
    /// As [`Service::for_user`].
    pub fn bought_together(
        &self,
        scope: &Scope,
        entity: u32,
        query: &Query,
        pin: Option<Pin>,
    ) -> Result<Answer> {
        let view = self.views.of(scope);
        let mut view = view.read();
        let model = self.model(scope, &view, pin)?;
        let ranking = Ranking::bought_together(&view, model.as_deref(), entity);
        let subject = Subject { entity: Some(entity), pin, ..Subject::default() };
        self.finish(&mut view, &Context::default(), subject, query, ranking)
    }

    /// A list that is the same for everyone: trending, popular or latest.
    ///
    /// # Errors
    /// As [`Service::for_user`].
    pub fn list(&self, scope: &Scope, query: &Query, pin: Option<Pin>) -> Result<Answer> {
        let view = self.views.of(scope);
        let mut view = view.read();
        self.answer(scope, &mut view, &Context::default(), Subject { pin, ..Subject::default() }, query)
    }

    /// The snapshot that answers from this view: the one that `pin` goes on with, else the current one.
    fn model(&self, scope: &Scope, view: &TenantView, pin: Option<Pin>) -> Result<Option<Arc<Recommenders>>> {
        let Some(served) = self.served(scope) else { return Ok(None) };
        let Some(model) = served.pinned(pin)? else { return Ok(None) };
        let Some(moved) = model.over(view).map(Arc::new) else { return Ok(Some(model)) };
        // Not for a request that began before the view was replaced.
        if view.epoch > model.epoch() {
            served.refresh(Arc::clone(&moved));
        }
        Ok(Some(moved))
    }

    fn answer(
        &self,
        scope: &Scope,
        view: &mut RwLockReadGuard<'_, TenantView>,
        context: &Context,
        subject: Subject<'_>,
        query: &Query,
    ) -> Result<Answer> {
        let model = self.model(scope, view, subject.pin)?;
        let request = self.request(view, context, subject, query, self.clock.now());
        let ranking = Ranking::of(&request, model, subject.user);
        self.finish(view, context, subject, query, ranking)
    }

    fn request<'a>(
        &'a self,
        view: &'a TenantView,
        context: &'a Context,
        subject: Subject<'_>,
        query: &'a Query,
        now: Timestamp,
    ) -> Request<'a> {
        let is_likeness = subject.entity.is_some();
        Request { view, context, query, settings: &self.settings, now_ms: now.as_millisecond(), is_likeness }
    }

    /// The page of the ranking, and of what stands in for it where it is short.
    fn finish(
        &self,
        view: &mut RwLockReadGuard<'_, TenantView>,
        context: &Context,
        subject: Subject<'_>,
        query: &Query,
        ranking: Ranking,
    ) -> Result<Answer> {
        let mut ranking = ranking.among_candidates(query, view);
        let now = self.clock.now();
        let now_ms = now.as_millisecond();
        let budget = self.settings.max_expression_evaluations;
        let mut selector = Selector::new(&view.entities, query, context, now_ms, budget);
        if let Some(entity) = subject.entity {
            selector.leave_out(entity);
        }
        let scores = std::mem::take(&mut ranking.scores);
        let may_go_on = |is_empty| !query.alone && (is_empty || subject.entity.is_none());
        let mut others: Vec<Ranking> = Vec::new();
        let mut stand_ins = |view: &RwLockReadGuard<'_, TenantView>, is_empty: bool| {
            let before = others.last().unwrap_or(&ranking);
            let request = self.request(view, context, subject, query, now);
            let mut next = before.stand_in(&request).filter(|_| may_go_on(is_empty))?;
            let scores = std::mem::take(&mut next.scores);
            others.push(next);
            Some(scores)
        };
        let alike = |one, two| ranking.similarity(one, two);
        let selection = selector.page(view, &scores, alike, &mut stand_ins)?;
        let search = query.candidates.as_ref().map(|candidates| AnswerSearch {
            found: candidates.found.len(),
            entities: ranking.said.len(),
            fallback: candidates.fallback,
        });
        let lines = Lines { view, query, ranking: &ranking, others: &others, now_ms };
        let recommendations = lines.of(&selection.picked);
        let fallback = fallback(&ranking, &others, &selection.picked);
        let model_version = ranking.model_version;
        let next_cursor =
            selection.more.then(|| next(context, query, model_version, &recommendations).encode());
        let cold_start =
            subject.user_id.is_some() && context.interactions < self.settings.cold_start_min_interactions;
        let algorithm = ranking.algorithm(query);
        self.metrics.answered(algorithm, fallback, cold_start);
        ranking.recycle(scores);
        Ok(Answer {
            answer_id: self.entropy.id(now).as_hyphenated().to_string(),
            user_id: subject.user_id.map(str::to_owned),
            count: recommendations.len(),
            recommendations,
            algorithm,
            fallback,
            cold_start,
            without_consent: false,
            model_version,
            generated_at: now,
            canary: None,
            search,
            complete: selection.complete,
            next_cursor,
        })
    }
}

/// The first that stands in on the page; of an empty page, the last that was tried.
fn fallback(ranking: &Ranking, others: &[Ranking], picked: &[Picked]) -> Option<&'static str> {
    if picked.is_empty() {
        return others.last().unwrap_or(ranking).fallback;
    }
    let of = |picked: &Picked| picked.stage.checked_sub(1).map_or(ranking, |other| &others[other]);
    picked.iter().find_map(|picked| of(picked).fallback)
}

/// Where the page ends.
fn next(context: &Context, query: &Query, model_version: Option<u64>, page: &[Recommendation]) -> Cursor {
    let mut shown = query.shown.clone();
    page.iter().for_each(|line| shown.add(Shown::name(&line.entity_type, &line.entity_id)));
    let pin = Pin { model_version: model_version.unwrap_or(0), newest: context.newest };
    Cursor { pin, shown, fingerprint: query.fingerprint }
}
