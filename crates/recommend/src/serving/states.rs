//! What is kept of each user, so that a request need not begin at the start of a history.
//!
//! A state belongs to one version of the model. It is made before its user asks where there is room ([`Recommenders::warm`]),
//! moved on when the history grew, and made anew where something else changed. Losing one costs a millisecond.
//!
//! Of a small catalogue it has the scores of parts that go through the whole history with a row of weights for each entry: a
//! request would read a hundred times more memory than they take.

use std::hash::Hasher;
use std::sync::Arc;

use moka::sync::Cache;
use parking_lot::RwLock;
use rayon::prelude::*;
use rustc_hash::FxHasher;

use super::{Known, Part, Recommenders, with_scratch};
use crate::algorithms::sequence::{SequenceModel, State};
use crate::service::context::Context;
use crate::views::TenantView;

/// Memory for the states of one tenant's users.
const STATE_BYTES: u64 = 256 << 20;
/// Items of the largest catalogue whose scores are kept.
const SCORED_ITEMS_MAX: usize = 8_192;
/// Users whose histories are read under one hold of the view's lock.
const USERS_PER_HOLD: usize = 64;

/// The state of one user under one model.
#[derive(Debug)]
pub struct UserState {
    interactions: usize,
    latest: Option<(u32, i64)>,
    /// Of the history with its weights.
    digest: u64,
    pub(super) sequence: Option<State>,
    pub(super) factor: Option<Box<[f32]>>,
    /// By part: the scores that it gives, by item.
    scores: Vec<Option<Box<[f32]>>>,
}

impl UserState {
    /// Whether it stands for this history.
    fn is_current(&self, context: &Context) -> bool {
        self.interactions == context.interactions && self.digest == digest(context)
    }

    /// The scores of a part, where they are kept.
    pub(super) fn scores(&self, part: usize) -> Option<&[f32]> {
        self.scores.get(part)?.as_deref()
    }

    fn size_bytes(&self) -> usize {
        let sequence = self.sequence.as_ref().map_or(0, State::size_bytes);
        let kept = self.scores.iter().flatten().chain(&self.factor);
        std::mem::size_of::<Self>() + sequence + kept.map(|values| values.len() * 4).sum::<usize>()
    }
}

/// Of two histories of one user that differ it differs too, but by chance.
fn digest(context: &Context) -> u64 {
    let mut hasher = FxHasher::default();
    for ((entity, weight), time_ms) in context.entities.iter().zip(&context.weights).zip(&context.times_ms) {
        hasher.write_u64(u64::from(*entity) << 32 | u64::from(weight.to_bits()));
        hasher.write_i64(*time_ms);
    }
    hasher.finish()
}

fn latest(context: &Context) -> Option<(u32, i64)> {
    context.entities.last().copied().zip(context.times_ms.last().copied())
}

/// The states of many users; the ones asked for least are forgotten when there are too many.
#[derive(Debug)]
pub(super) struct States(Cache<u32, Arc<UserState>>);

impl Default for States {
    fn default() -> Self {
        let weigh = |_: &u32, state: &Arc<UserState>| u32::try_from(state.size_bytes()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(STATE_BYTES).weigher(weigh).build())
    }
}

impl Recommenders {
    /// The state of a user after this history; none without one. The kept state where it is current, moved on where
    /// the history only grew, made anew otherwise.
    #[must_use]
    pub fn state(&self, user: u32, context: &Context, known: &Known) -> Option<Arc<UserState>> {
        if context.entities.is_empty() {
            return None;
        }
        let kept = self.states.0.get(&user);
        if let Some(kept) = &kept
            && kept.is_current(context)
        {
            return Some(Arc::clone(kept));
        }
        let state = Arc::new(self.state_after(kept.as_deref(), context, known));
        self.states.0.insert(user, Arc::clone(&state));
        Some(state)
    }

    /// Makes the states of the users who came last, as many as are kept, on the current rayon pool. Ends early when
    /// `stop` says so. Returns how many were made.
    pub fn warm(&self, view: &RwLock<TenantView>, stop: &(dyn Fn() -> bool + Sync)) -> usize {
        let mut latest: Vec<(i64, u32)> = {
            let view = view.read();
            let agreed = |user: &&crate::views::User| user.consent.personalisation;
            let last = view.users.all().iter().map(|user| Some(user).filter(agreed)?.history.last());
            (0..).zip(last).filter_map(|(user, last)| Some((last?.time_ms(), user))).collect()
        };
        latest.sort_unstable_by(|one, two| two.cmp(one));
        let (mut made, mut bytes) = (0, 0);
        for users in latest.chunks(USERS_PER_HOLD) {
            if stop() || bytes >= STATE_BYTES {
                break;
            }
            let contexts: Vec<(u32, Context)> = {
                let view = view.read();
                let found = users.iter().filter_map(|(_, user)| Some((*user, view.users.get(*user)?)));
                found.map(|(user, of)| (user, Context::of_user(&view, &of.history))).collect()
            };
            let sizes = contexts.par_iter().map(|(user, context)| {
                let known = self.known(context.history());
                self.state(*user, context, &known).map_or(0, |state| state.size_bytes() as u64)
            });
            bytes += sizes.sum::<u64>();
            made += contexts.len();
        }
        made
    }

    /// Forgets the states of users who were forgotten, or no longer agree to have one.
    pub fn forget_users(&self, view: &RwLock<TenantView>) {
        let view = view.read();
        for (user, _) in &self.states.0 {
            if !view.users.get(*user).is_some_and(|user| user.consent.personalisation) {
                self.states.0.invalidate(&*user);
            }
        }
    }

    /// Forgets the states, for a model that is no longer the one that answers.
    pub fn forget_states(&self) {
        self.states.0.invalidate_all();
    }

    fn state_after(&self, kept: Option<&UserState>, context: &Context, known: &Known) -> UserState {
        let mut state = UserState {
            interactions: context.interactions,
            latest: latest(context),
            digest: digest(context),
            sequence: None,
            factor: None,
            scores: Vec::new(),
        };
        let weights = self.blend.weights(known.len());
        for (part, weight) in self.trained.parts.iter().zip(weights) {
            let is_scored = *weight > 0.0 && part.goes_through_history() && self.knows_any(part, known);
            state.scores.push(is_scored.then(|| scores_of(part, known)).flatten());
            match &**part {
                Part::Als(als) => {
                    state.factor = Some(with_scratch(|scratch| {
                        let factor = als.fold_in(known.history(), scratch);
                        // Scratch memory is far larger than a factor, and must not be kept with it.
                        let kept = factor.as_slice().into();
                        scratch.give_back(factor);
                        kept
                    }));
                }
                Part::Sequence(model) => {
                    let grown = kept.and_then(|kept| self.grown_by(kept, context));
                    state.sequence = Some(match grown {
                        Some((sequence, new)) => moved(model, sequence, &new),
                        None => model.state_of(&known.items),
                    });
                }
                _ => {}
            }
        }
        state
    }

    /// The kept sequence state and the items that came after it, where nothing else changed.
    fn grown_by<'a>(&self, kept: &'a UserState, context: &Context) -> Option<(&'a State, Vec<u32>)> {
        let grown = context.interactions.checked_sub(kept.interactions)?;
        let before = context.entities.len().checked_sub(grown + 1)?;
        let joint = (context.entities[before], context.times_ms[before]);
        let new = context.entities[before + 1..].iter().filter_map(|entity| self.in_parts(*entity));
        (kept.latest == Some(joint)).then_some((kept.sequence.as_ref()?, new.collect()))
    }
}

fn scores_of(part: &Part, known: &Known) -> Option<Box<[f32]>> {
    let part = part.recommender();
    (part.item_count() <= SCORED_ITEMS_MAX).then(|| {
        with_scratch(|scratch| {
            let mut scores = scratch.floats(part.item_count());
            part.score(known.history(), scratch, &mut scores);
            let kept = scores.as_slice().into();
            scratch.give_back(scores);
            kept
        })
    })
}

fn moved(model: &SequenceModel, from: &State, items: &[u32]) -> State {
    let mut state = from.clone();
    items.iter().for_each(|item| model.advance(&mut state, *item));
    state
}

#[cfg(test)]
mod tests {
    use kernel::Timestamp;

    use super::*;
    use crate::algorithms::als::{Als, AlsSettings};
    use crate::algorithms::blend::Blend;
    use crate::algorithms::interactions::Interactions;
    use crate::algorithms::neighbours::{Neighbours, NeighboursSettings};
    use crate::service::context::Act;
    use crate::serving::{Index, Trained};
    use crate::training::Basis;

    const ITEMS: u32 = 12;

    fn model() -> Recommenders {
        let rows: Vec<Vec<u32>> =
            (0..40_u32).map(|user| (0..5).map(|at| (user * 7 + at * at) % ITEMS).collect()).collect();
        let interactions = Interactions::from_rows(&rows, ITEMS as usize).unwrap();
        let parts = vec![
            Part::Neighbours(Neighbours::train(&interactions, &NeighboursSettings::default()).unwrap()),
            Part::Als(Als::train(&interactions, &AlsSettings::default()).unwrap()),
        ];
        let trained = Trained {
            parts: parts.into_iter().map(Arc::new).collect(),
            blend: Blend::fixed(&[1.0, 1.0]).unwrap(),
            together: None,
            items: (0..ITEMS).map(|item| ("item".to_owned(), item.to_string())).collect(),
            users: Vec::new(),
            silent_items: Vec::new(),
            basis: Basis { interactions: 0, revision: 0, erasures: 0 },
            embedder: None,
        };
        let places: Vec<u32> = (0..ITEMS).collect();
        let index = Index {
            item_in_view: places.clone(),
            entity_in_parts: places,
            in_order: true,
            ..Index::default()
        };
        Recommenders::new(1, Timestamp::UNIX_EPOCH, trained, index)
    }

    #[test]
    fn a_state_says_what_the_history_says_however_it_came_to_be() {
        let (model, acts) = (model(), |weights: &[f32]| {
            let act =
                |(at, weight): (usize, &f32)| Act { entity: at as u32, weight: *weight, time_ms: at as i64 };
            Context::of_acts(weights.iter().enumerate().map(act).collect())
        });
        let blend = model.blend();
        let histories = [acts(&[1.0, 1.0]), acts(&[1.0, 1.0, 1.0]), acts(&[1.0, 3.0, 1.0]), acts(&[1.0])];
        for context in &histories {
            let known = model.known(context.history());
            let state = model.state(7, context, &known).unwrap();
            assert!(state.scores(0).is_some() && state.size_bytes() > 4 * ITEMS as usize);
            let scores = |state| model.score_parts(&known, state, &blend, ITEMS as usize);
            assert_eq!(scores(Some(&*state)), scores(None));
            let again = model.state(7, context, &known).unwrap();
            assert!(Arc::ptr_eq(&state, &again), "what stands for the history is kept");
        }
    }
}
