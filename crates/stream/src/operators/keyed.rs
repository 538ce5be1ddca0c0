//! A fold for each key.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keyed_map::KeyedMap;
use crate::flow::guard;
use crate::operator::{Emit, Operator, Part, Site};
use crate::{Context, Rejection};

/// What is folded, by which key, and what comes of it.
pub trait KeyedFold: Send {
    /// What it takes.
    type In;
    /// What it keeps for each key. No unordered map in it: equal states must encode alike.
    type State: Default + Serialize + DeserializeOwned + Send;
    /// What it passes on.
    type Out: Send;

    /// Appends the key of an item; the tenant comes before it by itself.
    fn key(&self, item: &Self::In, key: &mut Vec<u8>);

    /// Takes the next item of a key and adds what is to be passed on.
    ///
    /// # Errors
    /// Why the item cannot be used. The state must then be as it was; what panics midway keeps what it changed.
    fn apply(
        &mut self,
        state: &mut Self::State,
        item: Self::In,
        out: &mut Vec<Self::Out>,
    ) -> Result<(), Rejection>;
}

/// The fold of every key.
#[derive(Debug)]
pub struct Keyed<K: KeyedFold> {
    site: Site,
    fold: K,
    states: KeyedMap<K::State>,
    made: Vec<K::Out>,
}

impl<K: KeyedFold> Keyed<K> {
    pub(crate) fn new(name: &'static str, fold: K) -> Self {
        Self { site: Site::new(name), fold, states: KeyedMap::default(), made: Vec::new() }
    }
}

impl<K: KeyedFold> Operator<K::In> for Keyed<K> {
    type Out = K::Out;

    fn push(&mut self, item: K::In, context: &mut Context, emit: &mut Emit<'_, K::Out>) {
        let Self { site, fold, states, made } = self;
        site.counts.taken += 1;
        made.clear();
        let mut key = context.key();
        fold.key(&item, &mut key);
        let outcome = states.change(&key, |state| guard(|| fold.apply(state, item, made)));
        context.give_back(key);
        match outcome {
            Ok(()) => {
                site.counts.passed += 1;
                context.arrive();
                for item in made.drain(..) {
                    emit(item, context);
                }
            }
            Err(rejection) => {
                site.counts.rejected += 1;
                context.reject(site.name, &rejection);
            }
        }
    }

    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part { site: &mut self.site, state: Some(&mut self.states) });
    }
}
