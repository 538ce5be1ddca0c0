//! What is planted can be found, and nothing moves between runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kernel::{Timestamp, codes};
use proptest::prelude::*;

use super::behaviour::{ACCESSORY_SHARE, SEQUEL_SHARE};
use super::catalogue::ACCESSORIES;
use super::*;
use crate::attributes::check_attributes;

fn now() -> Timestamp {
    "2024-05-01T12:00:00Z".parse().unwrap()
}

fn generator(settings: GeneratorSettings) -> Generator {
    Generator::new(settings, now()).unwrap()
}

fn small() -> GeneratorSettings {
    GeneratorSettings {
        users: 400,
        entities: 600,
        interactions: 24_000,
        categories: 20,
        ..GeneratorSettings::default()
    }
}

#[test]
fn counts_are_exact_and_rows_are_valid() {
    let check = |users, entities, interactions, categories, days| {
        let settings = GeneratorSettings { users, entities, interactions, categories, days, seed: 7 };
        let (mut counts, mut last) = ([0_u64; 3], BTreeMap::new());
        let first = now().as_second() - i64::from(days) * 86_400;
        for row in generator(settings.clone()) {
            match row {
                Row::Entity { attributes, .. } => {
                    counts[0] += 1;
                    check_attributes(&attributes, "attributes").unwrap();
                }
                Row::User { .. } => counts[1] += 1,
                Row::Interaction { user_id, interaction_type, value, timestamp, .. } => {
                    counts[2] += 1;
                    let timestamp = timestamp.unwrap();
                    assert!(timestamp <= now() && timestamp.as_second() >= first);
                    let before = last.insert(user_id, timestamp).unwrap_or(Timestamp::MIN);
                    assert!(before <= timestamp, "in the order of time");
                    assert_eq!(value.is_some(), interaction_type.as_str() == "rating");
                    assert!(value.is_none_or(|stars| (0.5..=5.0).contains(&stars)));
                }
            }
        }
        assert_eq!(counts, [u64::from(entities), u64::from(users), interactions], "{settings:?}");
    };
    check(400, 600, 5_000, 20, 90);
    check(1, 1, 10, 1, 1);
    check(0, 3, 0, 3, 30);
    check(50, 2, 100, 2, 36_500);
    check(3, 7, 2, 7, 5);
}

#[test]
fn settings_are_checked() {
    let check = |settings: GeneratorSettings, field: &str| {
        let error = Generator::new(settings, now()).unwrap_err();
        assert_eq!((error.code(), error.field()), (codes::VALIDATION_ERROR, Some(field)));
    };
    let base = GeneratorSettings::default;
    check(GeneratorSettings { entities: 0, ..base() }, "entities");
    check(GeneratorSettings { users: 0, ..base() }, "users");
    check(GeneratorSettings { categories: 0, ..base() }, "categories");
    check(GeneratorSettings { categories: 2_001, ..base() }, "categories");
    check(GeneratorSettings { days: 0, ..base() }, "days");
    check(GeneratorSettings { days: 36_501, ..base() }, "days");
    assert!(Generator::new(base(), Timestamp::MIN).is_err());
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let digest = |seed| {
        let mut hasher = crc32fast::Hasher::new();
        for row in generator(GeneratorSettings { seed, ..small() }) {
            hasher.update(format!("{row:?}\n").as_bytes());
        }
        hasher.finalize()
    };
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}

/// The entities of each user in the order of their first visit.
fn histories(generator: Generator) -> Vec<Vec<(u32, bool)>> {
    let mut users: BTreeMap<String, Vec<(u32, bool)>> = BTreeMap::new();
    let mut entities = HashMap::new();
    for row in generator {
        match row {
            Row::Entity { entity_id, .. } => {
                entities.insert(entity_id, entities.len() as u32);
            }
            Row::Interaction { user_id, entity_id, interaction_type, .. } => {
                let history = users.entry(user_id.as_str().to_owned()).or_default();
                let entity = entities[&entity_id];
                match history.iter_mut().find(|visit| visit.0 == entity) {
                    Some(visit) => visit.1 |= interaction_type.as_str() == "purchase",
                    None => history.push((entity, false)),
                }
            }
            Row::User { .. } => {}
        }
    }
    users.into_values().collect()
}

fn hit_rate(histories: &[Vec<(u32, bool)>], mut score: impl FnMut(usize, &[(u32, bool)]) -> Vec<f64>) -> f64 {
    let mut hits = 0;
    let tested: Vec<usize> = (0..histories.len()).filter(|&user| histories[user].len() > 5).collect();
    for &user in &tested {
        let (&(held_out, _), history) = histories[user].split_last().unwrap();
        let mut scores = score(user, history);
        history.iter().for_each(|&(seen, _)| scores[seen as usize] = f64::NEG_INFINITY);
        let target = scores[held_out as usize];
        hits += usize::from(
            scores.iter().filter(|&&other| other > target).count() < 10 && target > f64::NEG_INFINITY,
        );
    }
    hits as f64 / tested.len() as f64
}

#[test]
fn a_good_model_beats_popularity() {
    let settings = small();
    let histories = histories(generator(settings.clone()));
    let count = settings.entities as usize;

    let mut popularity = vec![0.0; count];
    let mut transitions: HashMap<(u32, u32), f64> = HashMap::new();
    for history in &histories {
        let learned = &history[..history.len() - 1];
        learned.iter().for_each(|&(entity, _)| popularity[entity as usize] += 1.0);
        learned.windows(2).for_each(|pair| *transitions.entry((pair[0].0, pair[1].0)).or_default() += 1.0);
    }
    let by_popularity = hit_rate(&histories, |_, _| popularity.clone());
    // Learned from the rows alone: what came next after the last one, ties by popularity.
    let by_transitions = hit_rate(&histories, |_, history| {
        let last = history.last().unwrap().0;
        let score = |entity: u32| transitions.get(&(last, entity)).copied().unwrap_or(0.0);
        (0..count as u32).map(|entity| score(entity) + 1e-6 * popularity[entity as usize]).collect()
    });
    // Knows the rules.
    let shop = generator(settings);
    let by_oracle = hit_rate(&histories, |user, history| {
        let visitor = shop.behaviour.visitor(user as u32);
        let mut scores = vec![0.0; count];
        for (category, share) in
            shop.behaviour.category_probabilities(&visitor, &shop.catalogue).iter().enumerate()
        {
            for (entity, probability) in shop.catalogue.probabilities(category, 1.0) {
                scores[entity as usize] += share * probability;
            }
        }
        let &(last, was_purchased) = history.last().unwrap();
        if let Some(sequel) = shop.catalogue.sequel(last) {
            scores[sequel as usize] += SEQUEL_SHARE;
        }
        for choice in 0..ACCESSORIES * usize::from(was_purchased) {
            scores[shop.catalogue.accessory(last, choice) as usize] += ACCESSORY_SHARE / ACCESSORIES as f64;
        }
        scores
    });
    assert!(by_oracle > 2.0 * by_popularity, "oracle {by_oracle}, popularity {by_popularity}");
    assert!(by_transitions > 1.2 * by_popularity, "transitions {by_transitions}, popularity {by_popularity}");
    assert!(by_oracle < 0.9, "there is something left to chance: {by_oracle}");
}

#[test]
fn popularity_is_skewed_and_moves() {
    let settings = small();
    let (mut early, mut late) = (BTreeMap::new(), BTreeMap::new());
    let middle = now().as_second() - i64::from(settings.days) * 43_200;
    for row in generator(settings) {
        if let Row::Interaction { entity_id, timestamp, .. } = row {
            let half = if timestamp.unwrap().as_second() < middle { &mut early } else { &mut late };
            *half.entry(entity_id).or_insert(0_u32) += 1;
        }
    }
    let top = |counts: &BTreeMap<Id, u32>| {
        let mut sorted: Vec<_> = counts.iter().collect();
        sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let of_top = sorted.iter().take(60).map(|entry| entry.1).sum::<u32>();
        let share = f64::from(of_top) / f64::from(counts.values().sum::<u32>());
        (sorted.into_iter().take(20).map(|entry| entry.0.clone()).collect::<BTreeSet<_>>(), share)
    };
    let ((early, share), (late, _)) = (top(&early), top(&late));
    assert!(share > 0.3, "a tenth of the entities has {share} of the interactions");
    let same = early.intersection(&late).count();
    assert!((2..18).contains(&same), "{same} of 20 stay at the top");
}

#[test]
fn entities_of_a_category_are_alike() {
    let shop = generator(small());
    let (a, b) = (shop.catalogue.attributes(0), shop.catalogue.attributes(1));
    let far = shop.catalogue.attributes(599);
    assert_eq!(a["category"], b["category"]);
    assert_ne!(a["category"], far["category"]);
    let names: BTreeSet<String> = (0..2_000).map(|category| shop.catalogue.category_name(category)).collect();
    assert_eq!(names.len(), 2_000, "every category has a name of its own");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_settings_give_what_they_say(
        users in 1_u32..40, entities in 1_u32..60, interactions in 0_u64..500, categories in 1_u32..60, seed: u64,
    ) {
        let categories = categories.min(entities);
        let settings = GeneratorSettings { users, entities, interactions, categories, days: 30, seed };
        let rows = generator(settings).count() as u64;
        prop_assert_eq!(rows, u64::from(users) + u64::from(entities) + interactions);
    }
}
