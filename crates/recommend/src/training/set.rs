//! What a model is trained on: a copy of what the view holds.

use std::sync::Arc;

use kernel::{Error, Result};
use parking_lot::RwLock;

use crate::algorithms::Interactions;
use crate::algorithms::content::ItemEmbedder;
use crate::attributes::Attributes;
use crate::views::TenantView;
use crate::views::choices::choices;

/// Users copied under one hold of the view's lock.
const USERS_PER_HOLD: usize = 2_000;
/// Entities copied under one hold of the view's lock.
const ENTITIES_PER_HOLD: usize = 2_000;
/// Choices further apart are not one basket.
const BASKET_GAP_MS: i64 = 24 * 3_600_000;
/// The interaction types that make a basket, where any of them is in use.
const BASKET_TYPES: [&str; 2] = ["purchase", "add_to_cart"];

/// What a model is trained on.
#[derive(Debug, Clone)]
pub struct TrainingSet {
    /// Choices by user, oldest first: see [`choices`].
    pub interactions: Interactions,
    /// What was chosen in one go.
    pub baskets: Interactions,
    /// Type and id of each item.
    pub items: Vec<(String, String)>,
    /// What each item is like.
    pub attributes: Vec<Attributes>,
    /// The id of each user.
    pub users: Vec<String>,
    /// What the view held when the copy began.
    pub basis: Basis,
    /// What items mean beyond their attributes.
    pub embedder: Option<Arc<dyn ItemEmbedder>>,
}

/// What a view held when it was copied, to tell later what came since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Basis {
    /// Interactions of any weight.
    pub interactions: u64,
    /// The revision of the catalogue.
    pub revision: u64,
    /// Erasures that the view had folded: who was forgotten by a later one may be in the copy, whenever that was told.
    pub erasures: u64,
}

impl TrainingSet {
    /// Copies the view, piece by piece, so that neither readers nor the fold wait long.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when the view holds what no event could have made.
    pub fn of(view: &RwLock<TenantView>) -> Result<Self> {
        let basis = {
            let view = view.read();
            Basis {
                interactions: view.activity.interactions(),
                revision: view.entities.revision(),
                erasures: view.erasures_ms().len() as u64,
            }
        };
        let (items, attributes) = catalogue(view);
        let basket_kinds = basket_kinds(view);
        let mut chosen = Rows::default();
        let mut baskets = Rows::default();
        let (mut users, mut looked_at) = (Vec::new(), 0);
        loop {
            let view = view.read();
            let piece = view.users.all().get(looked_at..).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            let piece = &piece[..piece.len().min(USERS_PER_HOLD)];
            looked_at += piece.len();
            // Who does not agree is not in the model at all, not even by name.
            for user in piece.iter().filter(|user| !user.forgotten && user.consent.training) {
                users.push(user.id.to_string());
                let mut open = Basket::default();
                let acts: Vec<_> = user.history.iter().map(|entry| (entry, view.weight_of(entry))).collect();
                for (entry, weight) in choices(acts, |(entry, weight)| (entry.entity, *weight)) {
                    // An entity that came after the catalogue was copied waits for the next training.
                    if entry.entity as usize >= items.len() {
                        continue;
                    }
                    chosen.push(entry.entity, weight, entry.time_ms());
                    if basket_kinds.is_empty() || basket_kinds.contains(&entry.kind) {
                        open.add(entry.entity, entry.time_ms(), &mut baskets);
                    }
                }
                open.close(&mut baskets);
                chosen.end_row();
            }
        }
        let (interactions, baskets) = (chosen.finish(items.len())?, baskets.finish(items.len())?);
        Ok(Self { interactions, baskets, items, attributes, users, basis, embedder: None })
    }
}

/// Names and attributes.
fn catalogue(view: &RwLock<TenantView>) -> (Vec<(String, String)>, Vec<Attributes>) {
    let (mut names, mut attributes) = (Vec::new(), Vec::new());
    loop {
        let view = view.read();
        let piece = view.entities.all().get(names.len()..).unwrap_or_default();
        if piece.is_empty() {
            return (names, attributes);
        }
        for entity in piece.iter().take(ENTITIES_PER_HOLD) {
            names.push((view.entities.type_of(entity).to_owned(), entity.id.to_string()));
            attributes.push(entity.attributes.clone());
        }
    }
}

/// The interaction types that make a basket and are in use.
fn basket_kinds(view: &RwLock<TenantView>) -> Vec<u16> {
    let mut wanted: Vec<u16> = {
        let view = view.read();
        BASKET_TYPES.iter().filter_map(|name| view.interaction_types.find(name)).collect()
    };
    let (mut used, mut looked_at) = (Vec::new(), 0);
    while !wanted.is_empty() {
        let view = view.read();
        let piece = view.users.all().get(looked_at..).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        let piece = &piece[..piece.len().min(USERS_PER_HOLD)];
        looked_at += piece.len();
        let learned = || piece.iter().filter(|user| user.consent.training);
        let is_used = |kind: &u16| learned().any(|user| user.history.iter().any(|entry| entry.kind == *kind));
        used.extend(wanted.extract_if(.., |kind| is_used(kind)));
    }
    used.sort_unstable();
    used
}

/// Rows under construction.
#[derive(Debug)]
struct Rows {
    offsets: Vec<usize>,
    items: Vec<u32>,
    weights: Vec<f32>,
    times: Vec<i64>,
}

impl Default for Rows {
    fn default() -> Self {
        Self { offsets: vec![0], items: Vec::new(), weights: Vec::new(), times: Vec::new() }
    }
}

impl Rows {
    fn push(&mut self, item: u32, weight: f32, time_ms: i64) {
        self.items.push(item);
        self.weights.push(weight);
        self.times.push(time_ms);
    }

    fn end_row(&mut self) {
        self.offsets.push(self.items.len());
    }

    fn finish(self, item_count: usize) -> Result<Interactions> {
        Interactions::new(self.offsets, self.items, self.weights, self.times, item_count)
            .map_err(Error::internal)
    }
}

/// The basket that a user is filling.
#[derive(Debug, Default)]
struct Basket {
    items: Vec<u32>,
    latest_ms: i64,
}

impl Basket {
    fn add(&mut self, item: u32, time_ms: i64, baskets: &mut Rows) {
        if time_ms - self.latest_ms > BASKET_GAP_MS {
            self.close(baskets);
        }
        self.latest_ms = time_ms;
        if !self.items.contains(&item) && self.items.len() < MAX_BASKET {
            self.items.push(item);
        }
    }

    /// A basket of one says nothing of what goes together.
    fn close(&mut self, baskets: &mut Rows) {
        if self.items.len() > 1 {
            for item in &self.items {
                baskets.push(*item, 1.0, self.latest_ms);
            }
            baskets.end_row();
        }
        self.items.clear();
    }
}

/// A larger basket is a stock-take, not a choice.
const MAX_BASKET: usize = 200;

/// The interactions without the latest choice of up to `users` users, those users' histories, and the choices. Users
/// are taken evenly; one with fewer than two choices, or whose latest repeats an earlier one, is not held out.
///
/// # Errors
/// `INTERNAL_ERROR` never, as rows of valid interactions are valid.
pub fn held_out(
    interactions: &Interactions,
    users: usize,
) -> Result<(Interactions, Interactions, Interactions)> {
    let may = |row: &crate::algorithms::History<'_>| {
        row.len() > 1 && !row.items[..row.len() - 1].contains(&row.items[row.len() - 1])
    };
    let candidates: Vec<usize> =
        (0..interactions.user_count()).filter(|user| may(&interactions.row(*user))).collect();
    let count = candidates.len().min(users);
    let chosen: std::collections::BTreeSet<usize> =
        (0..count).map(|index| candidates[index * candidates.len() / count]).collect();
    let (mut rest, mut histories, mut targets) = (Rows::default(), Rows::default(), Rows::default());
    for (user, row) in interactions.rows().enumerate() {
        let held = chosen.contains(&user);
        let end = if held { row.len() - 1 } else { row.len() };
        for entry in 0..row.len() {
            let (item, weight) = (row.items[entry], row.weights[entry]);
            let time_ms = row.times.get(entry).copied().unwrap_or_default();
            if entry < end {
                rest.push(item, weight, time_ms);
            }
            if held && entry < end {
                histories.push(item, weight, time_ms);
            }
            if entry >= end {
                targets.push(item, weight, time_ms);
            }
        }
        rest.end_row();
        if held {
            histories.end_row();
            targets.end_row();
        }
    }
    let item_count = interactions.item_count();
    Ok((rest.finish(item_count)?, histories.finish(item_count)?, targets.finish(item_count)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_new_choice_is_held_out() {
        let rows: [&[u32]; 4] = [&[0, 1, 2], &[3], &[1, 0, 1], &[2, 3]];
        let interactions = Interactions::from_rows(&rows, 4).unwrap();
        let (rest, histories, targets) = held_out(&interactions, 10).unwrap();
        assert_eq!(rest.row(0).items, [0, 1]);
        assert_eq!(rest.row(1).items, [3], "one choice is not held out");
        assert_eq!(rest.row(2).items, [1, 0, 1], "a repeated choice is not held out");
        assert_eq!((histories.row(1).items, targets.row(1).items), (&[2][..], &[3][..]));
        assert_eq!(held_out(&interactions, 1).unwrap().1.user_count(), 1);
        let empty = Interactions::from_rows::<Vec<u32>>(&[], 0).unwrap();
        assert_eq!(held_out(&empty, 5).unwrap().1.user_count(), 0);
    }
}
