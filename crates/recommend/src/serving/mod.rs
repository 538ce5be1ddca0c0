//! The snapshot that requests read: every trained part, the blend of them, and how its items map to the view's.
//!
//! Parts know items by the indices they were trained with; entities that came later have none, and only content
//! says something of them. A snapshot never changes; training makes another.
//!
//! To add a part: a variant of [`Part`], its family, where it is trained in `training`.

use std::cell::RefCell;
use std::sync::Arc;

use kernel::Timestamp;
use serde::{Deserialize, Serialize};

use crate::algorithms::als::Als;
use crate::algorithms::blend::Blend;
use crate::algorithms::content::ContentModel;
use crate::algorithms::ease::Ease;
use crate::algorithms::graph_filter::GraphFilter;
use crate::algorithms::neighbours::Neighbours;
use crate::algorithms::popularity::Popularity;
use crate::algorithms::sequence::{SequenceModel, State};
use crate::algorithms::sparse_ease::SparseEase;
use crate::algorithms::topk::{ItemSet, top_k};
use crate::algorithms::transitions::Transitions;
use crate::algorithms::{History, Recommender, Scratch};
use crate::service::context::Context;
use crate::views::{Entities, TenantView};

/// What a part's score rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// What other users chose.
    Collaborative,
    /// What the items are like.
    Content,
    /// In which order users choose.
    Sequence,
    /// How much an item is chosen at all.
    Popularity,
}

/// A trained algorithm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Part {
    /// How often each item is chosen.
    Popularity(Popularity),
    /// Item neighbourhoods.
    Neighbours(Neighbours),
    /// A dense linear item model.
    Ease(Ease),
    /// A linear item model for large catalogues.
    SparseEase(SparseEase),
    /// Matrix factorisation.
    Als(Als),
    /// A linear graph filter.
    GraphFilter(GraphFilter),
    /// What follows what.
    Transitions(Transitions),
    /// What the next item is, given all before.
    Sequence(#[serde(with = "crate::algorithms::sequence::as_tensors")] SequenceModel),
    /// What the items are like.
    Content(ContentModel),
}

impl Part {
    /// What its score rests on.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Popularity(_) => Family::Popularity,
            Self::Transitions(_) | Self::Sequence(_) => Family::Sequence,
            Self::Content(_) => Family::Content,
            _ => Family::Collaborative,
        }
    }

    /// Whether it says something of items that nobody chose.
    #[must_use]
    pub fn knows_unused_items(&self) -> bool {
        matches!(self.family(), Family::Content | Family::Popularity)
    }

    /// As what every algorithm is.
    #[must_use]
    pub fn recommender(&self) -> &dyn Recommender {
        match self {
            Self::Popularity(part) => part,
            Self::Neighbours(part) => part,
            Self::Ease(part) => part,
            Self::SparseEase(part) => part,
            Self::Als(part) => part,
            Self::GraphFilter(part) => part,
            Self::Transitions(part) => part,
            Self::Sequence(part) => part,
            Self::Content(part) => part,
        }
    }
}

impl Recommender for Part {
    fn name(&self) -> &'static str {
        self.recommender().name()
    }

    fn item_count(&self) -> usize {
        self.recommender().item_count()
    }

    fn score(&self, history: History<'_>, scratch: &mut Scratch, scores: &mut [f32]) {
        self.recommender().score(history, scratch, scores);
    }

    fn contributions(&self, history: History<'_>, item: u32) -> Vec<(usize, f32)> {
        self.recommender().contributions(history, item)
    }
}

/// What the parts are made of, as training left it and an artifact holds it.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The parts, in the order of the blend's weights.
    pub parts: Vec<Arc<Part>>,
    /// How the parts are combined.
    pub blend: Blend,
    /// What is chosen in one go with what; none without baskets.
    pub together: Option<Arc<Neighbours>>,
    /// Type and id of each item, by the index that the parts know it by.
    pub items: Vec<(String, String)>,
    /// The id of each user, by the index that the factors know them by.
    pub users: Vec<String>,
    /// Items that nobody chose, rising: only content says something of them.
    pub silent_items: Vec<u32>,
}

impl Trained {
    /// Whether the parts fit one another.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), String> {
        let item_count = self.items.len();
        if let Some(part) = self.parts.iter().find(|part| part.recommender().item_count() != item_count) {
            return Err(format!(
                "`{}` knows another number of items than {item_count}",
                part.recommender().name()
            ));
        }
        if self.blend.source_count() != self.parts.len() {
            return Err("the blend has another number of weights than there are parts".to_owned());
        }
        self.blend.validate().map_err(|error| error.to_string())
    }
}

/// The snapshot.
#[derive(Debug)]
pub struct Recommenders {
    /// The version of the model.
    pub version: u64,
    /// When it was trained.
    pub trained_at: Timestamp,
    /// Interactions it was trained on.
    pub interactions: u64,
    trained: Trained,
    index: Index,
}

/// Between the indices of the parts and those of the view.
#[derive(Debug, Default, Clone)]
pub struct Index {
    /// The view's index of each item; `NOWHERE` where the view has none.
    pub item_in_view: Vec<u32>,
    /// The part's index of each entity of the view; `NOWHERE` for later ones.
    pub entity_in_parts: Vec<u32>,
    /// The view's index of each user of the factors.
    pub user_in_view: Vec<u32>,
    /// Whether items stand in the parts as they do in the view.
    pub in_order: bool,
    /// The revision of the catalogue that content knows.
    pub revision: u64,
}

/// No index.
pub const NOWHERE: u32 = u32::MAX;

/// What is kept of a user so that a request need not begin at the start of the history.
#[derive(Debug)]
pub struct UserState {
    version: u64,
    interactions: usize,
    latest: Option<(u32, i64)>,
    sequence: Option<State>,
    factor: Option<Vec<f32>>,
}

impl UserState {
    /// Whether it stands for this history under this snapshot.
    #[must_use]
    pub fn is_current(&self, model: &Recommenders, context: &Context) -> bool {
        self.version == model.version
            && self.interactions == context.interactions
            && self.latest == latest(context)
    }

    /// Memory that it takes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let sequence = self.sequence.as_ref().map_or(0, State::size_bytes);
        std::mem::size_of::<Self>() + sequence + self.factor.as_ref().map_or(0, |factor| factor.len() * 4)
    }
}

fn latest(context: &Context) -> Option<(u32, i64)> {
    context.entities.last().copied().zip(context.times_ms.last().copied())
}

/// A history by the indices of the parts.
#[derive(Debug, Default)]
struct Known {
    items: Vec<u32>,
    weights: Vec<f32>,
    times: Vec<i64>,
    /// Where each entry stands in the history it was made from.
    positions: Vec<usize>,
}

impl Known {
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

impl Index {
    /// Finds the items and users of a trained model in a view.
    #[must_use]
    pub fn of(trained: &Trained, view: &TenantView) -> Self {
        let find =
            |(entity_type, id): &(String, String)| view.entities.find(entity_type, id).unwrap_or(NOWHERE);
        let item_in_view: Vec<u32> = trained.items.iter().map(find).collect();
        let mut entity_in_parts = vec![NOWHERE; view.entities.all().len()];
        for (item, entity) in item_in_view.iter().enumerate().filter(|(_, entity)| **entity != NOWHERE) {
            entity_in_parts[*entity as usize] = item as u32;
        }
        let user_in_view = trained.users.iter().map(|id| view.users.find(id).unwrap_or(NOWHERE)).collect();
        let in_order = item_in_view.iter().enumerate().all(|(item, entity)| *entity == item as u32);
        Self { item_in_view, entity_in_parts, user_in_view, in_order, revision: 0 }
    }

    /// Gives the entities of a view that have none a place after all others.
    fn take_in(&mut self, entities: &Entities) {
        self.entity_in_parts.resize(entities.all().len(), NOWHERE);
        for (entity, place) in self.entity_in_parts.iter_mut().enumerate().filter(|(_, at)| **at == NOWHERE) {
            *place = self.item_in_view.len() as u32;
            self.item_in_view.push(entity as u32);
        }
        self.in_order = self.item_in_view.iter().enumerate().all(|(item, entity)| *entity == item as u32);
        self.revision = entities.revision();
    }
}

impl Recommenders {
    /// A snapshot over the view that `index` was made for.
    #[must_use]
    pub fn new(
        version: u64,
        trained_at: Timestamp,
        interactions: u64,
        trained: Trained,
        index: Index,
    ) -> Self {
        Self { version, trained_at, interactions, trained, index }
    }

    /// The same model with what changed in the catalogue since; none when nothing did. New entities are known to
    /// content alone until the next training.
    #[must_use]
    pub fn with_catalogue(&self, entities: &Entities) -> Option<Self> {
        if entities.revision() == self.index.revision {
            return None;
        }
        let mut index = self.index.clone();
        index.take_in(entities);
        let changed: Vec<u32> = (0..)
            .zip(entities.all())
            .filter(|(_, entity)| entity.revision > self.index.revision)
            .map(|(entity, _)| entity)
            .collect();
        let mut trained = self.trained.clone();
        for part in &mut trained.parts {
            if let Part::Content(content) = &**part {
                let mut content = content.clone();
                for entity in &changed {
                    let attributes = &entities.all()[*entity as usize].attributes;
                    if let Ok(vector) = content.vector(attributes, None) {
                        content.insert(index.entity_in_parts[*entity as usize], vector);
                    }
                }
                *part = Arc::new(Part::Content(content));
            }
        }
        let Self { version, trained_at, interactions, .. } = *self;
        Some(Self { version, trained_at, interactions, trained, index })
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
    pub fn blend(&self) -> &Blend {
        &self.trained.blend
    }

    /// The learned blend with the shares of families set: collaborative and sequence share the first, content takes
    /// the second, popularity none. The learned one where a family has no part.
    #[must_use]
    pub fn blend_with(&self, collaborative: f32, content: f32) -> Blend {
        let group = |family| match family {
            Family::Collaborative | Family::Sequence => 0,
            Family::Content => 1,
            Family::Popularity => 2,
        };
        self.grouped(group, &[collaborative, content, 0.0])
    }

    /// The learned blend of one family's parts alone; none where there is no such part.
    #[must_use]
    pub fn blend_of(&self, family: Family) -> Option<Blend> {
        self.trained
            .parts
            .iter()
            .any(|part| part.family() == family)
            .then(|| self.grouped(|found| usize::from(found != family), &[1.0, 0.0]))
    }

    fn grouped(&self, group: impl Fn(Family) -> usize, shares: &[f32]) -> Blend {
        let groups: Vec<usize> = self.trained.parts.iter().map(|part| group(part.family())).collect();
        self.trained.blend.with_group_weights(&groups, shares).unwrap_or_else(|_| self.trained.blend.clone())
    }

    /// The scores of every part that `blend` gives weight, by entity of the view; NaN where a part has nothing to
    /// say. A part without weight gets no scores.
    #[must_use]
    pub fn score_parts(
        &self,
        context: &Context,
        state: Option<&UserState>,
        blend: &Blend,
        entity_count: usize,
    ) -> Vec<Vec<f32>> {
        let known = self.known(context.history());
        let weights = blend.weights(known.items.len());
        with_scratch(|scratch| {
            let parts = self.trained.parts.iter().zip(weights);
            parts
                .map(|(part, weight)| {
                    if *weight == 0.0 {
                        return Vec::new();
                    }
                    let mut scores = scratch.floats(part.recommender().item_count());
                    score_part(part, known.history(), state, scratch, &mut scores);
                    if !part.knows_unused_items() {
                        self.trained.silent_items.iter().for_each(|item| scores[*item as usize] = f32::NAN);
                    }
                    self.by_entity(scores, entity_count, scratch)
                })
                .collect()
        })
    }

    /// The length of a history as the blend counts it.
    #[must_use]
    pub fn known_length(&self, history: History<'_>) -> usize {
        history.items.iter().filter(|entity| self.in_parts(**entity).is_some()).count()
    }

    /// The history entries that a part's score of an entity rests on most: the entity of each and what it added.
    #[must_use]
    pub fn because(&self, part: usize, history: History<'_>, entity: u32, count: usize) -> Vec<(u32, f32)> {
        let Some(item) = self.in_parts(entity) else { return Vec::new() };
        let known = self.known(history);
        let mut added = self.trained.parts[part].recommender().contributions(known.history(), item);
        added.retain(|(_, contribution)| *contribution > 0.0);
        added.sort_by(|one, two| two.1.total_cmp(&one.1).then(one.0.cmp(&two.0)));
        let mut found: Vec<(u32, f32)> = Vec::new();
        for (position, contribution) in added {
            let entity = history.items[known.positions[position]];
            if found.len() < count && found.iter().all(|(earlier, _)| *earlier != entity) {
                found.push((entity, contribution));
            }
        }
        found
    }

    /// The state of a user after this history, from the one kept where the history only grew.
    #[must_use]
    pub fn state_after(&self, kept: Option<&UserState>, context: &Context) -> UserState {
        let known = self.known(context.history());
        let mut state = UserState {
            version: self.version,
            interactions: context.interactions,
            latest: latest(context),
            sequence: None,
            factor: None,
        };
        for part in &self.trained.parts {
            match &**part {
                Part::Als(als) => {
                    state.factor = Some(with_scratch(|scratch| als.fold_in(known.history(), scratch)));
                }
                Part::Sequence(model) => {
                    let grown = kept.and_then(|kept| self.grown_by(kept, context));
                    state.sequence = Some(match grown {
                        Some((sequence, new)) => moved(model, sequence, new.filter_map(|e| self.in_parts(e))),
                        None => model.state_of(&known.items),
                    });
                }
                _ => {}
            }
        }
        state
    }

    /// The kept sequence state and the entities that came after it, where nothing else changed.
    fn grown_by<'a>(
        &self,
        kept: &'a UserState,
        context: &'a Context,
    ) -> Option<(&'a State, impl Iterator<Item = u32> + use<'a>)> {
        let grown =
            context.interactions.checked_sub(kept.interactions).filter(|_| kept.version == self.version)?;
        let before = context.entities.len().checked_sub(grown + 1)?;
        let joint = (context.entities[before], context.times_ms[before]);
        let new = context.entities[before + 1..].iter().copied();
        (kept.latest == Some(joint)).then_some((kept.sequence.as_ref()?, new))
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
    pub fn similar_users(&self, history: History<'_>, user: u32, count: usize) -> Vec<(u32, f32)> {
        let known = self.known(history);
        let als = self.trained.parts.iter().find_map(|part| match &**part {
            Part::Als(als) => Some(als),
            _ => None,
        });
        let Some(als) = als.filter(|_| !known.items.is_empty()) else { return Vec::new() };
        let scores = with_scratch(|scratch| als.user_similarities(known.history(), scratch));
        let own = self.index.user_in_view.iter().position(|index| *index == user);
        let excluded = ItemSet::from_items(own.map(|own| own as u32));
        let nearest = top_k(&scores, &excluded, count);
        let named =
            nearest.into_iter().map(|found| (self.index.user_in_view[found.item as usize], found.score));
        named.filter(|(index, score)| *index != NOWHERE && *score > 0.0).collect()
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

    fn known(&self, history: History<'_>) -> Known {
        let mut known = Known::default();
        for (position, entity) in history.items.iter().enumerate() {
            if let Some(item) = self.in_parts(*entity) {
                known.items.push(item);
                known.weights.push(history.weights[position]);
                known.times.extend(history.times.get(position));
                known.positions.push(position);
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

fn moved(model: &SequenceModel, from: &State, items: impl Iterator<Item = u32>) -> State {
    let mut state = from.clone();
    items.for_each(|item| model.advance(&mut state, item));
    state
}
