//! The snapshot that requests read: every trained part, the blend of them, and how its items map to the view's.
//!
//! Parts know items by the indices they were trained with; entities that came later have none, and only content
//! says something of them. A snapshot never changes but for the users' states that it keeps; training makes another.

mod index;
mod part;
mod states;
mod trained;

use std::cell::RefCell;
use std::sync::Arc;

use kernel::Timestamp;
use parking_lot::RwLock;

use crate::algorithms::blend::Blend;
use crate::algorithms::content::{ContentModel, ContentVector, EMBEDDED_AT_ONCE, ItemEmbedder};
use crate::algorithms::topk::{ItemSet, top_k};
use crate::algorithms::{AlgorithmError, History, Recommender, Scratch};
use crate::attributes::Attributes;
use crate::views::{SetName, TenantView};
pub use index::{Index, NOWHERE};
pub use part::{Family, Part};
use states::States;
pub use states::UserState;
pub use trained::Trained;

/// The snapshot.
#[derive(Debug)]
pub struct Recommenders {
    /// The version of the model.
    pub version: u64,
    /// When it was trained.
    pub trained_at: Timestamp,
    trained: Trained,
    blend: Arc<Blend>,
    index: Index,
    states: Arc<States>,
}

/// A history by the indices of the parts; entities that they do not know are left out.
#[derive(Debug, Default)]
pub struct Known {
    items: Vec<u32>,
    weights: Vec<f32>,
    times: Vec<i64>,
    /// The entity of each entry.
    entities: Vec<u32>,
}

impl Known {
    /// Its length, as the blend counts it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the parts know nothing of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn history(&self) -> History<'_> {
        History { items: &self.items, weights: &self.weights, times: &self.times }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Runs `work` with the memory of this thread's earlier requests.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(work)
}

/// The vectors of some entities; none where the embedder gave up. What it fails at is known by its attributes alone.
fn vectors_of(
    content: &ContentModel,
    some: &[(u32, Attributes)],
    embedder: Option<&dyn ItemEmbedder>,
) -> Option<Vec<ContentVector>> {
    let attributes: Vec<&Attributes> = some.iter().map(|(_, attributes)| attributes).collect();
    match content.vectors(&attributes, embedder) {
        Ok(vectors) => return Some(vectors),
        Err(AlgorithmError::Stopped) => return None,
        Err(_) => {}
    }
    let alone = |attributes: &&Attributes| match content.vector(attributes, embedder) {
        Err(AlgorithmError::Stopped) => None,
        Err(_) => Some(content.vector(attributes, None).unwrap_or_default()),
        Ok(vector) => Some(vector),
    };
    attributes.iter().map(alone).collect()
}

impl Recommenders {
    /// A snapshot over the view that `index` was made for.
    #[must_use]
    pub fn new(version: u64, trained_at: Timestamp, trained: Trained, index: Index) -> Self {
        let blend = Arc::new(trained.blend.clone());
        Self { version, trained_at, trained, blend, index, states: Arc::default() }
    }

    /// The name of the catalogue that content knows; none while it is the one of the training.
    #[must_use]
    pub fn catalogue(&self) -> Option<SetName> {
        self.index.catalogue
    }

    /// The epoch of the view that it knows.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.index.epoch
    }

    /// The same model over a view that took the place of the one that it knew; none where it knows this one. Entities
    /// that came after the training are known to content again after the next [`Recommenders::with_catalogue`].
    #[must_use]
    pub fn over(&self, view: &TenantView) -> Option<Self> {
        if self.index.epoch == view.epoch {
            return None;
        }
        // Content may know later entities, at places that now belong to others; revisions are counted anew.
        let index = Index { in_order: false, revision: 0, ..Index::of(&self.trained, view) };
        let (trained, blend) = (self.trained.clone(), Arc::clone(&self.blend));
        let Self { version, trained_at, .. } = *self;
        Some(Self { version, trained_at, trained, blend, index, states: Arc::default() })
    }

    /// The same model with what changed in the catalogue since; none when nothing did. New entities are known to
    /// content alone until the next training. The view is held only while its changes are copied. `embedder` is the one
    /// of the training; one of another version, or of vectors of another length, waits for the next training, as does one that
    /// fails. Where it gives up nothing is taken in.
    #[must_use]
    pub fn with_catalogue(
        &self,
        view: &RwLock<TenantView>,
        embedder: Option<&dyn ItemEmbedder>,
    ) -> Option<Self> {
        let moved = self.over(&view.read());
        if let Some(moved) = moved {
            return Some(moved.with_catalogue(view, embedder).unwrap_or(moved));
        }
        let mut index = self.index.clone();
        let changed: Vec<(u32, Attributes)> = {
            let view = view.read();
            let entities = &view.entities;
            if entities.revision() == self.index.revision {
                return None;
            }
            index.take_in(entities);
            let changed =
                (0..).zip(entities.all()).filter(|(_, entity)| entity.revision > self.index.revision);
            changed.map(|(entity, found)| (entity, found.attributes.clone())).collect()
        };
        let mut trained = self.trained.clone();
        for part in &mut trained.parts {
            if let Part::Content(content) = &**part {
                let mut content = content.clone();
                let known = self.trained.embedder.as_deref();
                let embedder = embedder.filter(|embedder| {
                    embedder.dimension() == content.dimension()
                        && known.is_none_or(|version| version == embedder.version())
                });
                for some in changed.chunks(EMBEDDED_AT_ONCE) {
                    let vectors = vectors_of(&content, some, embedder)?;
                    for ((entity, _), vector) in some.iter().zip(vectors) {
                        content.insert(index.entity_in_parts[*entity as usize], vector);
                    }
                }
                *part = Arc::new(Part::Content(content));
            }
        }
        let Self { version, trained_at, .. } = *self;
        let (blend, states) = (Arc::clone(&self.blend), Arc::clone(&self.states));
        Some(Self { version, trained_at, trained, blend, index, states })
    }

    /// What it is made of.
    #[must_use]
    pub fn trained(&self) -> &Trained {
        &self.trained
    }

    /// The name of a part.
    #[must_use]
    pub fn name(&self, part: usize) -> &'static str {
        self.trained.parts[part].recommender().name()
    }

    /// What a part's score rests on.
    #[must_use]
    pub fn family(&self, part: usize) -> Family {
        self.trained.parts[part].family()
    }

    /// The learned blend.
    #[must_use]
    pub fn blend(&self) -> Arc<Blend> {
        Arc::clone(&self.blend)
    }

    /// The learned blend with the shares of families set: collaborative and sequence share the first, content takes
    /// the second, popularity none. None where no family with a share has a part.
    #[must_use]
    pub fn blend_with(&self, collaborative: f32, content: f32) -> Option<Arc<Blend>> {
        let group = |family| match family {
            Family::Collaborative | Family::Sequence => 0,
            Family::Content => 1,
            Family::Popularity => 2,
        };
        let shares = [collaborative, content, 0.0];
        let has_share = self.trained.parts.iter().any(|part| shares[group(part.family())] > 0.0);
        has_share.then(|| self.grouped(group, &shares).ok().map(Arc::new)).flatten()
    }

    /// The learned blend of one family's parts alone; none where there is no such part.
    #[must_use]
    pub fn blend_of(&self, family: Family) -> Option<Arc<Blend>> {
        if self.trained.parts.iter().all(|part| part.family() != family) {
            return None;
        }
        self.grouped(|found| usize::from(found != family), &[1.0, 0.0]).ok().map(Arc::new)
    }

    /// The learned blend without popularity, for what is like something whether or not many choose it; none where
    /// popularity is all there is.
    #[must_use]
    pub fn blend_without_popularity(&self) -> Option<Arc<Blend>> {
        let is_other = |part: &Arc<Part>| part.family() != Family::Popularity;
        let group = |family| usize::from(family == Family::Popularity);
        self.trained
            .parts
            .iter()
            .any(is_other)
            .then(|| self.grouped(group, &[1.0, 0.0]).ok().map(Arc::new))?
    }

    fn grouped(&self, group: impl Fn(Family) -> usize, shares: &[f32]) -> Result<Blend, AlgorithmError> {
        let groups: Vec<usize> = self.trained.parts.iter().map(|part| group(part.family())).collect();
        self.blend.with_group_weights(&groups, shares)
    }

    /// Whether a part that `blend` gives weight, other than popularity, knows anything of a history.
    #[must_use]
    pub fn says_something(&self, blend: &Blend, known: &Known) -> bool {
        let mut weighted = self.trained.parts.iter().zip(blend.weights(known.len()));
        weighted.any(|(part, weight)| {
            *weight > 0.0 && part.family() != Family::Popularity && self.knows_any(part, known)
        })
    }

    fn knows_any(&self, part: &Part, known: &Known) -> bool {
        let mut items = known.items.iter();
        match part {
            Part::Popularity(_) => true,
            Part::Content(content) => {
                items.any(|item| content.item_vector(*item).is_some_and(|vector| !vector.is_empty()))
            }
            _ => items.any(|item| {
                (*item as usize) < self.trained.items.len()
                    && self.trained.silent_items.binary_search(item).is_err()
            }),
        }
    }

    /// The scores of every part that `blend` gives weight, by entity of the view; NaN where a part has nothing to
    /// say. A part without weight, or that knows nothing of the history, gets no scores.
    #[must_use]
    pub fn score_parts(
        &self,
        known: &Known,
        state: Option<&UserState>,
        blend: &Blend,
        entity_count: usize,
    ) -> Vec<Vec<f32>> {
        let weights = blend.weights(known.len());
        with_scratch(|scratch| {
            let parts = self.trained.parts.iter().zip(weights).enumerate();
            parts
                .map(|(number, (part, weight))| {
                    if *weight == 0.0 || !self.knows_any(part, known) {
                        return Vec::new();
                    }
                    let mut scores = scratch.floats(part.recommender().item_count());
                    match state.and_then(|state| state.scores(number)) {
                        Some(kept) => scores.copy_from_slice(kept),
                        None => score_part(part, known.history(), state, scratch, &mut scores),
                    }
                    if !part.knows_unused_items() {
                        self.trained.silent_items.iter().for_each(|item| scores[*item as usize] = f32::NAN);
                    }
                    self.by_entity(scores, entity_count, scratch)
                })
                .collect()
        })
    }

    /// For each of `entities`, the history entries that a part's score of it rests on most: the entity of each and
    /// what it added. Only those entries count that `may_be_named`.
    #[must_use]
    pub fn because(
        &self,
        part: usize,
        known: &Known,
        entities: &[u32],
        count: usize,
        may_be_named: impl Fn(u32) -> bool,
    ) -> Vec<Vec<(u32, f32)>> {
        let items: Vec<u32> =
            entities.iter().map(|entity| self.in_parts(*entity).unwrap_or(NOWHERE)).collect();
        let added = self.trained.parts[part].recommender().contributions_to(known.history(), &items);
        let named = |added: Vec<(usize, f32)>| most(&known.entities, added, count, &may_be_named);
        added.into_iter().map(named).collect()
    }

    /// Scores of what is chosen in one go with an entity, by entity of the view; none where nothing is known.
    #[must_use]
    pub fn together(&self, entity: u32, entity_count: usize) -> Option<Vec<f32>> {
        let together = self.trained.together.as_ref()?;
        let item = self.in_parts(entity)?;
        let history = History { items: &[item], weights: &[1.0], times: &[] };
        with_scratch(|scratch| {
            let mut scores = scratch.floats(together.item_count());
            together.score(history, scratch, &mut scores);
            for score in &mut scores {
                *score = if *score > 0.0 { score.ln() } else { f32::NEG_INFINITY };
            }
            Some(self.by_entity(scores, entity_count, scratch))
        })
    }

    /// How alike two entities are, 0 to 1.
    #[must_use]
    pub fn similarity(&self, one: u32, two: u32) -> f32 {
        let (Some(one), Some(two)) = (self.in_parts(one), self.in_parts(two)) else { return 0.0 };
        let alike = self.trained.parts.iter().filter_map(|part| match &**part {
            Part::Als(als) => Some(als.similarity(one, two)),
            Part::Content(content) => Some(content.similarity(one, two)),
            _ => None,
        });
        alike.fold(0.0, f32::max)
    }

    /// The users nearest to the one with this history, as view indices with the cosine of the angle between them.
    #[must_use]
    pub fn similar_users(
        &self,
        history: History<'_>,
        user: u32,
        count: usize,
        may_be_shown: impl Fn(u32) -> bool,
    ) -> Vec<(u32, f32)> {
        let known = self.known(history);
        let als = self.trained.parts.iter().find_map(|part| match &**part {
            Part::Als(als) => Some(als),
            _ => None,
        });
        let Some(als) = als.filter(|_| !known.items.is_empty()) else { return Vec::new() };
        let scores = with_scratch(|scratch| als.user_similarities(known.history(), scratch));
        let hidden = (0_u32..)
            .zip(&self.index.user_in_view)
            .filter(|(_, index)| **index == user || **index == NOWHERE || !may_be_shown(**index));
        let excluded = ItemSet::from_items(hidden.map(|(place, _)| place));
        let nearest = top_k(&scores, &excluded, count);
        let named =
            nearest.into_iter().map(|found| (self.index.user_in_view[found.item as usize], found.score));
        named.filter(|(_, score)| *score > 0.0).collect()
    }

    /// Gives the memory of scores back to this thread.
    pub fn recycle(&self, buffers: impl IntoIterator<Item = Vec<f32>>) {
        with_scratch(|scratch| {
            buffers
                .into_iter()
                .filter(|buffer| buffer.capacity() > 0)
                .for_each(|buffer| scratch.give_back(buffer));
        });
    }

    fn in_parts(&self, entity: u32) -> Option<u32> {
        self.index.entity_in_parts.get(entity as usize).copied().filter(|index| *index != NOWHERE)
    }

    /// What the parts know of a history.
    #[must_use]
    pub fn known(&self, history: History<'_>) -> Known {
        let mut known = Known::default();
        for (position, entity) in history.items.iter().enumerate() {
            if let Some(item) = self.in_parts(*entity) {
                known.items.push(item);
                known.weights.push(history.weights[position]);
                known.times.extend(history.times.get(position));
                known.entities.push(*entity);
            }
        }
        known
    }

    /// From the order of the parts to that of the view.
    fn by_entity(&self, mut scores: Vec<f32>, entity_count: usize, scratch: &mut Scratch) -> Vec<f32> {
        if self.index.in_order {
            scores.resize(entity_count, f32::NAN);
            return scores;
        }
        let mut by_entity = scratch.floats(entity_count);
        by_entity.fill(f32::NAN);
        for (entity, score) in self.index.item_in_view.iter().zip(&scores) {
            if let Some(place) = by_entity.get_mut(*entity as usize) {
                *place = *score;
            }
        }
        scratch.give_back(scores);
        by_entity
    }
}

fn score_part(
    part: &Part,
    history: History<'_>,
    state: Option<&UserState>,
    scratch: &mut Scratch,
    scores: &mut [f32],
) {
    match (part, state) {
        (Part::Als(als), Some(UserState { factor: Some(factor), .. })) => als.score_factor(factor, scores),
        (Part::Sequence(model), Some(UserState { sequence: Some(sequence), .. })) => {
            model.score_all(sequence, scores);
        }
        _ => part.recommender().score(history, scratch, scores),
    }
}

/// The `count` entities that added most, each once; those that took away are left out.
fn most(
    entities: &[u32],
    mut added: Vec<(usize, f32)>,
    count: usize,
    may_be_named: impl Fn(u32) -> bool,
) -> Vec<(u32, f32)> {
    added.retain(|(position, contribution)| *contribution > 0.0 && may_be_named(entities[*position]));
    added.sort_unstable_by(|one, two| two.1.total_cmp(&one.1).then(one.0.cmp(&two.0)));
    let mut found: Vec<(u32, f32)> = Vec::new();
    for (position, contribution) in added {
        if found.len() == count {
            break;
        }
        if found.iter().all(|(earlier, _)| *earlier != entities[position]) {
            found.push((entities[position], contribution));
        }
    }
    found
}
