//! Scores for every entity of the view, and what they are made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::Context;
use super::query::{Algorithm, Query};
use crate::algorithms::blend::Voices;
use crate::candidates::Said;
use crate::serving::{Family, Known, Recommenders, with_scratch};
use crate::settings::AnswerSettings;
use crate::views::TenantView;

const MS_PER_DAY: f64 = 86_400_000.0;

/// What a ranking is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) view: &'a TenantView,
    pub(super) context: &'a Context,
    pub(super) query: &'a Query,
    pub(super) settings: &'a AnswerSettings,
    pub(super) now_ms: i64,
    /// The question is what is like an entity, and not what someone may want.
    pub(super) is_likeness: bool,
}

/// What a ranking rests on.
#[derive(Debug)]
pub(super) enum Basis {
    /// Trained parts.
    Parts(Parts),
    /// What is chosen together with this entity.
    Together(u32),
    /// What many choose lately, over so many days.
    Trending(usize),
    /// What many chose.
    Popular,
    /// What is new.
    Latest,
    /// What the request's text finds.
    Search,
}

/// The scores of each part and how they were combined.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) model: Arc<Recommenders>,
    pub(super) known: Known,
    /// By part, then by entity; empty for a part without weight.
    raw: Vec<Vec<f32>>,
    voices: Voices,
}

impl Parts {
    /// The part's own score of an entity.
    pub(super) fn raw(&self, part: usize, entity: u32) -> Option<f32> {
        self.raw[part].get(entity as usize).copied().filter(|score| score.is_finite())
    }

    /// For each of `entities`, what each part added to its score.
    pub(super) fn contributions(&self, entities: &[u32]) -> Vec<Vec<f32>> {
        self.voices.explain(&views(&self.raw), entities)
    }
}

fn views(raw: &[Vec<f32>]) -> Vec<&[f32]> {
    raw.iter().map(Vec::as_slice).collect()
}

/// What no part knows is not recommended: there would be no reason to give.
fn leave_out_unknown(raw: &[Vec<f32>], scores: &mut [f32]) {
    let mut said = raw.iter().filter(|scores| !scores.is_empty());
    let Some(first) = said.next() else { return };
    let others: Vec<&Vec<f32>> = said.collect();
    for (entity, _) in first.iter().enumerate().filter(|(_, score)| !score.is_finite()) {
        if others.iter().all(|other| !other[entity].is_finite()) {
            scores[entity] = f32::NEG_INFINITY;
        }
    }
}

/// Scores by entity index, in units of log odds where a booster may change them.
#[derive(Debug)]
pub(super) struct Ranking {
    pub(super) scores: Vec<f32>,
    pub(super) basis: Basis,
    pub(super) model_version: Option<u64>,
    /// Its name, where it stands in for what was asked.
    pub(super) fallback: Option<&'static str>,
    /// What the request's text says of entities, part of their scores; nothing where there is no text.
    pub(super) said: BTreeMap<u32, Said>,
}

impl Ranking {
    /// The ranking that the query asks for, or the one that stands in for it.
    pub(super) fn of(request: &Request<'_>, model: Option<Arc<Recommenders>>, user: Option<u32>) -> Self {
        match request.query.algorithm {
            Algorithm::Trending => Self::trending(request),
            Algorithm::Popular => Self::popular(request),
            Algorithm::Latest => Self::latest(request),
            personal => Self::personal(request, personal, model, user)
                .or_else(|| Self::search(request))
                .unwrap_or_else(|| Self { fallback: Some("trending"), ..Self::trending(request) }),
        }
    }

    /// Of these, what the request's text finds, and what it says added.
    pub(super) fn among_candidates(mut self, query: &Query, view: &TenantView) -> Self {
        let Some(candidates) = &query.candidates else { return self };
        if matches!(self.basis, Basis::Search) {
            return self;
        }
        self.said = candidates.says(&view.entities);
        let of = |(entity, said): (&u32, &Said)| {
            let score = self.scores.get(*entity as usize)?;
            Some((*entity, score + said.added))
        };
        let kept: Vec<(u32, f32)> = self.said.iter().filter_map(of).collect();
        self.scores.fill(f32::NEG_INFINITY);
        kept.into_iter().for_each(|(entity, score)| self.scores[entity as usize] = score);
        self
    }

    /// What the text finds, by what it says alone.
    fn search(request: &Request<'_>) -> Option<Self> {
        let candidates = request.query.candidates.as_ref()?;
        let said = candidates.says(&request.view.entities);
        let mut scores = vec![f32::NEG_INFINITY; request.view.entities.all().len()];
        said.iter().for_each(|(entity, said)| scores[*entity as usize] = said.added);
        Some(Self { fallback: Some("search"), said, ..Self::simple(Basis::Search, scores) })
    }

    /// What stands in where this ranking does not fill the page: trending, then popular, then latest; of what a text finds,
    /// all that it finds.
    pub(super) fn stand_in(&self, request: &Request<'_>) -> Option<Self> {
        if request.query.candidates.is_some() {
            let is_last = matches!(self.basis, Basis::Search | Basis::Together(_));
            return if is_last { None } else { Self::search(request) };
        }
        let (name, ranking) = match self.basis {
            Basis::Parts(_) => ("trending", Self::trending(request)),
            Basis::Trending(_) => ("popular", Self::popular(request)),
            Basis::Popular => ("latest", Self::latest_not_disliked(request)),
            Basis::Latest | Basis::Together(_) | Basis::Search => return None,
        };
        Some(Self { fallback: Some(name), ..ranking })
    }

    /// None where there is no model, no such part, or no history that the model knows.
    fn personal(
        request: &Request<'_>,
        algorithm: Algorithm,
        model: Option<Arc<Recommenders>>,
        user: Option<u32>,
    ) -> Option<Self> {
        let model = model?;
        let known = model.known(request.context.history());
        let configured = request.settings.collaborative_weight.zip(request.settings.content_based_weight);
        let blend = match (algorithm, request.query.weights.or(configured)) {
            (Algorithm::Collaborative, _) => model.blend_of(Family::Collaborative)?,
            (Algorithm::ContentBased, _) => model.blend_of(Family::Content)?,
            (Algorithm::Sequence, _) => model.blend_of(Family::Sequence)?,
            (_, Some((collaborative, content))) => model.blend_with(collaborative, content)?,
            (_, None) if request.is_likeness => model.blend_without_popularity()?,
            (_, None) => model.blend(),
        };
        if !model.says_something(&blend, &known) {
            return None;
        }
        let entity_count = request.view.entities.all().len();
        let state = user.and_then(|user| model.state(user, request.context, &known));
        let raw = model.score_parts(&known, state.as_deref(), &blend, entity_count);
        let mut scores = with_scratch(|scratch| scratch.floats(entity_count));
        let voices = blend.combine(known.len(), &views(&raw), &mut scores);
        leave_out_unknown(&raw, &mut scores);
        Some(Self {
            scores,
            model_version: Some(model.version),
            basis: Basis::Parts(Parts { model, known, raw, voices }),
            fallback: None,
            said: BTreeMap::new(),
        })
    }

    /// What is chosen in one go with an entity.
    pub(super) fn bought_together(view: &TenantView, model: Option<&Recommenders>, entity: u32) -> Self {
        let entity_count = view.entities.all().len();
        let found = model.and_then(|model| model.together(entity, entity_count));
        Self {
            scores: found.unwrap_or_else(|| vec![f32::NEG_INFINITY; entity_count]),
            basis: Basis::Together(entity),
            model_version: model.map(|model| model.version),
            fallback: None,
            said: BTreeMap::new(),
        }
    }

    fn trending(request: &Request<'_>) -> Self {
        let days = request.query.window_days.unwrap_or(request.settings.trending_window_days);
        let mut scores = vec![0.0; request.view.entities.all().len()];
        let half_life_days = request.settings.trending_half_life_days;
        request.view.activity.trending(request.now_ms, days, half_life_days, &mut scores);
        for score in &mut scores {
            *score = if *score > 0.0 { score.ln() } else { f32::NEG_INFINITY };
        }
        Self::simple(Basis::Trending(days), scores)
    }

    fn popular(request: &Request<'_>) -> Self {
        let mut scores = vec![f32::NEG_INFINITY; request.view.entities.all().len()];
        for (score, total) in scores.iter_mut().zip(request.view.activity.totals()) {
            if *total > 0.0 {
                *score = total.ln() as f32;
            }
        }
        Self::simple(Basis::Popular, scores)
    }

    /// The age in days, negated: a day counts as one unit of log odds.
    fn latest(request: &Request<'_>) -> Self {
        let age = |entity: &crate::views::Entity| {
            let since = entity.available_from_ms.unwrap_or(entity.created_at_ms);
            -((request.now_ms - since) as f64 / MS_PER_DAY) as f32
        };
        let scores = request.view.entities.all().iter().map(age).collect();
        Self::simple(Basis::Latest, scores)
    }

    /// What is new, without what more was said against than for: nobody asked for it.
    fn latest_not_disliked(request: &Request<'_>) -> Self {
        let mut latest = Self::latest(request);
        for (score, total) in latest.scores.iter_mut().zip(request.view.activity.totals()) {
            if *total < 0.0 {
                *score = f32::NEG_INFINITY;
            }
        }
        latest
    }

    fn simple(basis: Basis, scores: Vec<f32>) -> Self {
        Self { scores, basis, model_version: None, fallback: None, said: BTreeMap::new() }
    }

    /// The name of what was asked for.
    pub(super) fn algorithm(&self, query: &Query) -> &'static str {
        match self.basis {
            Basis::Together(_) => "bought_together",
            _ => query.algorithm.name(),
        }
    }

    /// How alike two entities are, 0 to 1; 0 where nothing is known.
    pub(super) fn similarity(&self, one: u32, two: u32) -> f32 {
        match &self.basis {
            Basis::Parts(parts) => parts.model.similarity(one, two),
            _ => 0.0,
        }
    }

    /// Keeps the memory for the next request.
    pub(super) fn recycle(self, scores: Vec<f32>) {
        if let Basis::Parts(parts) = self.basis {
            parts.model.recycle(parts.raw.into_iter().chain([scores]));
        }
    }
}
