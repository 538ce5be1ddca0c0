//! Content vectors against brute force, and on a generated shop.

use proptest::prelude::*;

use super::*;
use crate::attributes::AttributeValue;
use crate::generate::{Generator, GeneratorSettings};
use crate::import::Row;

fn attributes(json: &str) -> Attributes {
    serde_json::from_str(json).unwrap()
}

fn fit(catalogue: &[Attributes]) -> ContentModel {
    let settings = ContentSettings { similarity_threshold: 0.0, ..ContentSettings::default() };
    ContentModel::fit(catalogue, None, settings).unwrap()
}

fn books() -> Vec<Attributes> {
    [
        r#"{"title":"The Red Lamp","genres":["crime","noir"],"shelf":"fiction","price":9.5,"new":false}"#,
        r#"{"title":"The Red Chair","genres":["crime"],"shelf":"fiction","price":10,"new":false}"#,
        r#"{"title":"A Garden Year","genres":["plants"],"shelf":"home","price":30,"new":true}"#,
        r#"{"title":"Garden Tools","genres":["plants","tools"],"shelf":"home","price":28,"new":false}"#,
        r#"{"title":"Tool Care","genres":["tools"],"shelf":"home","price":12,"new":false}"#,
        r#"{"title":"Noir Nights","genres":["noir"],"shelf":"fiction","price":11,"new":false}"#,
    ]
    .map(attributes)
    .to_vec()
}

fn similar_items(model: &ContentModel, item: u32, count: usize) -> Vec<u32> {
    let vector = model.item_vector(item).unwrap();
    let found = model.similar(vector, count, |other| other == item, &mut Scratch::default());
    found.into_iter().map(|scored| scored.item).collect()
}

#[test]
fn alike_items_are_near() {
    let model = fit(&books());
    let check = |item, nearest| assert_eq!(similar_items(&model, item, 1), [nearest], "item {item}");
    check(0, 1);
    check(1, 0);
    check(2, 3);
    check(4, 3);
    let shared = attributes(r#"{"shelf":"home","unknown":"x","genres":["none such"]}"#);
    let vector = model.vector(&shared, None).unwrap();
    assert!(
        model.similar(&vector, 2, |_| false, &mut Scratch::default())[0].item >= 2,
        "what is known counts"
    );
    assert!(model.vector(&attributes(r#"{"unknown":1}"#), None).unwrap().is_empty());
    assert!(model.vector(&attributes(r#"{"price":"dear","shelf":7}"#), None).unwrap().is_empty());
}

#[test]
fn the_order_of_keys_is_irrelevant() {
    let model = fit(&books());
    let one = attributes(r#"{"title":"Red Noir","price":10,"genres":["noir","crime","crime"]}"#);
    let two = attributes(r#"{"genres":["crime","noir"],"title":"Red Noir","price":10}"#);
    assert_eq!(model.vector(&one, None).unwrap(), model.vector(&two, None).unwrap());
}

#[test]
fn tiny_and_odd_catalogues_are_fitted() {
    let check = |catalogue: &[Attributes], expected: &[u32]| {
        let model = fit(catalogue);
        assert_eq!(model.item_count(), catalogue.len());
        let mut scores = vec![0.0; catalogue.len()];
        let items: Vec<u32> = (0..catalogue.len() as u32 + 1).collect();
        let history = History { items: &items, weights: &vec![1.0; items.len()], times: &[] };
        model.score(history, &mut Scratch::default(), &mut scores);
        assert!(scores.iter().all(|score| score.is_finite()));
        if !catalogue.is_empty() {
            assert_eq!(similar_items(&model, 0, 5), expected);
        }
    };
    check(&[], &[]);
    check(&[Attributes::new()], &[]);
    check(&[attributes(r#"{"a":"x"}"#)], &[]);
    check(&[attributes(r#"{"a":"x"}"#), attributes(r#"{"a":"x"}"#)], &[1]);
    check(&[attributes(r#"{"a":5}"#), attributes(r#"{"a":5}"#), Attributes::new()], &[1]);
    check(&[attributes(r#"{"a":1e308}"#), attributes(r#"{"a":-1e308}"#), attributes(r#"{"a":1e308}"#)], &[2]);
    let not_a_number = Attributes::from([("a".to_owned(), AttributeValue::Number(f64::NAN))]);
    check(&[not_a_number.clone(), not_a_number], &[]);
    check(&[attributes(r#"{"a":[]}"#), attributes(r#"{"a":["x"]}"#)], &[]);
}

#[test]
fn settings_are_checked() {
    let check = |settings: ContentSettings, field: &str| match ContentModel::fit(&[], None, settings) {
        Err(AlgorithmError::Setting { name, .. }) => assert_eq!(name, field),
        other => panic!("{field}: {other:?}"),
    };
    let base = ContentSettings::default;
    check(ContentSettings { feature_vector_dimension: 0, ..base() }, "feature_vector_dimension");
    check(ContentSettings { similarity_threshold: f32::NAN, ..base() }, "similarity_threshold");
    check(ContentSettings { history_items: 0, ..base() }, "history_items");
    check(ContentSettings { history_half_life_items: 0.0, ..base() }, "history_half_life_items");
    check(ContentSettings { history_half_life_seconds: f64::NAN, ..base() }, "history_half_life_seconds");
    let weights = FamilyWeights { text: -1.0, ..FamilyWeights::default() };
    check(ContentSettings { weights, ..base() }, "weights");
    let attribute_weights = [("a".to_owned(), f32::INFINITY)].into();
    check(ContentSettings { attribute_weights, ..base() }, "attribute_weights");
}

#[test]
fn settings_have_an_effect() {
    let with = |change: fn(&mut ContentSettings)| {
        let mut settings = ContentSettings::default();
        change(&mut settings);
        ContentModel::fit(&books(), None, settings).unwrap()
    };
    let cosine = |model: &ContentModel| model.item_vector(0).unwrap().dot(model.item_vector(1).unwrap());
    let base = cosine(&with(|_| {}));
    for change in [
        (|settings| settings.use_tfidf_for_text = false) as fn(&mut ContentSettings),
        |settings| settings.use_bigrams = true,
        |settings| settings.normalize_numerical_features = false,
        |settings| settings.weights.tags = 0.0,
        |settings| settings.attribute_weights = [("shelf".to_owned(), 3.0)].into(),
    ] {
        assert_ne!(cosine(&with(change)), base);
    }
    let strict = with(|settings| settings.similarity_threshold = 0.99);
    assert_eq!(similar_items(&strict, 0, 5), [0_u32; 0]);
    assert!(with(|settings| settings.feature_vector_dimension = 1).item_vector(0).is_some());
}

#[derive(Debug)]
struct Lengths;

impl ItemEmbedder for Lengths {
    fn dimension(&self) -> usize {
        2
    }

    fn version(&self) -> &'static str {
        "lengths"
    }

    fn embed(&self, attributes: &Attributes) -> Option<Vec<f32>> {
        match attributes.get("title")? {
            AttributeValue::Text(title) if title == "bad" => Some(vec![f32::NAN; 2]),
            AttributeValue::Text(title) => Some(vec![title.len() as f32, 10.0]),
            _ => Some(vec![1.0]),
        }
    }
}

#[test]
fn embeddings_are_part_of_the_cosine() {
    let settings = ContentSettings { similarity_threshold: 0.0, ..ContentSettings::default() };
    let model = ContentModel::fit(&books(), Some(&Lengths), settings.clone()).unwrap();
    let vector = model.vector(&attributes(r#"{"title":"?????????? "}"#), Some(&Lengths)).unwrap();
    assert!(vector.entries().is_empty() && vector.embedding().len() == 2);
    let found = model.similar(&vector, 9, |_| false, &mut Scratch::default());
    for scored in &found {
        assert!((scored.score - vector.dot(model.item_vector(scored.item).unwrap())).abs() < 1e-5);
    }
    assert_eq!(found.len(), 6);
    for title in [r#"{"title":"bad"}"#, r#"{"title":7}"#] {
        let error = ContentModel::fit(&[attributes(title)], Some(&Lengths), settings.clone()).unwrap_err();
        assert!(matches!(error, AlgorithmError::Setting { name: "embedder", .. }), "{error}");
    }
}

#[test]
fn an_embedder_that_is_told_to_stop_gives_up() {
    let stop = tokio_util::sync::CancellationToken::new();
    let embedder = Stoppable::new(std::sync::Arc::new(Lengths), stop.clone());
    let fit = || ContentModel::fit(&books(), Some(&embedder), ContentSettings::default());
    let plain = ContentModel::fit(&books(), Some(&Lengths), ContentSettings::default()).unwrap();
    assert_eq!(fit().unwrap().item_vector(0), plain.item_vector(0));
    stop.cancel();
    assert_eq!(fit().unwrap_err(), AlgorithmError::Stopped);
}

#[test]
fn explanations_add_up_and_name_what_is_shared() {
    let books = books();
    let model = fit(&books);
    let vector = |item: usize| model.item_vector(item as u32).unwrap();
    let matches = model.explain((&books[0], vector(0)), (&books[1], vector(1)));
    let shared = |name: &str| matches.iter().find(|found| found.attribute == name).unwrap().shared.join(",");
    assert_eq!(shared("genres"), "crime");
    assert_eq!(shared("shelf"), "fiction");
    assert_eq!(shared("title"), "red,the");
    assert_eq!(shared("price"), "9.5 and 10");
    let sum: f32 = matches.iter().map(|found| found.contribution).sum();
    assert!((sum - vector(0).dot(vector(1))).abs() < 1e-5);
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let value = prop_oneof![
        (-100_i32..100).prop_map(|number| AttributeValue::Number(f64::from(number) / 4.0)),
        any::<bool>().prop_map(AttributeValue::Boolean),
        "(red|blue|a b|wide road|x)".prop_map(AttributeValue::Text),
        prop::collection::vec("[a-d]", 0..4).prop_map(AttributeValue::Tags),
    ];
    prop::collection::btree_map("[k-o]", value, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn similar_agrees_with_brute_force(
        catalogue in prop::collection::vec(any_attributes(), 1..25), late in any_attributes(), item in 0_u32..30,
        removed in 0_u32..25,
    ) {
        let mut model = fit(&catalogue);
        let vector = model.vector(&late, None).unwrap();
        model.insert(item, vector.clone());
        model.remove(removed);
        let mut expected: Vec<Scored> = (0..model.item_count() as u32)
            .map(|item| Scored { item, score: vector.dot(model.item_vector(item).unwrap()) })
            .filter(|scored| scored.score > 1e-6)
            .collect();
        expected.sort_by(Scored::best_first);
        let found = model.similar(&vector, 100, |_| false, &mut Scratch::default());
        let found: Vec<&Scored> = found.iter().filter(|scored| scored.score > 1e-6).collect();
        prop_assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert!((found.score - expected.score).abs() < 1e-5);
            prop_assert!(found.score <= 1.0 + 1e-5);
        }
        let bytes = postcard::to_allocvec(&model).unwrap();
        let again: ContentModel = postcard::from_bytes(&bytes).unwrap();
        prop_assert_eq!(postcard::to_allocvec(&again).unwrap(), bytes);
        let (kept, fresh) = (model.index, again.index);
        let list = |index: &Index, feature| {
            let mut scores = vec![0.0; 60];
            index.add_feature(feature, 1.0, &mut scores);
            scores
        };
        for feature in 0..kept.features().max(fresh.features()) as u32 {
            prop_assert_eq!(list(&kept, feature), list(&fresh, feature));
        }
    }

    #[test]
    fn contributions_add_up_to_the_score(
        catalogue in prop::collection::vec(any_attributes(), 1..20),
        history in prop::collection::vec((0_u32..25, -2.0_f32..3.0), 0..12), timed: bool,
    ) {
        let model = fit(&catalogue);
        let (items, weights): (Vec<u32>, Vec<f32>) = history.into_iter().unzip();
        let times: Vec<i64> = if timed { (0..items.len() as i64).map(|at| at * 1_000_000_000).collect() } else { Vec::new() };
        let history = History { items: &items, weights: &weights, times: &times };
        let mut scores = vec![7.0; catalogue.len()];
        model.score(history, &mut Scratch::default(), &mut scores);
        for (item, score) in scores.iter().enumerate() {
            let sum: f32 = model.contributions(history, item as u32).iter().map(|entry| entry.1).sum();
            prop_assert!((sum - score).abs() < 1e-5, "{} {}", sum, score);
        }
    }

    #[test]
    fn explanations_add_up(one in any_attributes(), two in any_attributes(), rest in prop::collection::vec(any_attributes(), 0..10)) {
        let catalogue = [vec![one.clone(), two.clone()], rest].concat();
        let model = fit(&catalogue);
        let (a, b) = (model.item_vector(0).unwrap(), model.item_vector(1).unwrap());
        let sum: f32 = model.explain((&one, a), (&two, b)).iter().map(|found| found.contribution).sum();
        prop_assert!((sum - a.dot(b)).abs() < 1e-4, "{} {}", sum, a.dot(b));
    }
}

/// The entities of a small shop.
fn shop() -> Vec<Attributes> {
    let settings = GeneratorSettings {
        users: 0,
        entities: 600,
        interactions: 0,
        categories: 20,
        ..GeneratorSettings::default()
    };
    let rows = Generator::new(settings, "2024-05-01T00:00:00Z".parse().unwrap()).unwrap();
    rows.filter_map(|row| match row {
        Row::Entity { attributes, .. } => Some(attributes),
        _ => None,
    })
    .collect()
}

#[test]
fn cold_items_find_their_own() {
    let shop = shop();
    // Every tenth item is new: the model was fitted without it.
    let (cold, warm): (Vec<_>, Vec<_>) = shop.into_iter().enumerate().partition(|(item, _)| item % 10 == 0);
    let warm: Vec<Attributes> = warm.into_iter().map(|(_, attributes)| attributes).collect();
    let mut model = fit(&warm);
    let mut same = 0;
    for (_, attributes) in &cold {
        let vector = model.vector(attributes, None).unwrap();
        let found = model.similar(&vector, 5, |_| false, &mut Scratch::default());
        same += found
            .iter()
            .filter(|scored| warm[scored.item as usize]["category"] == attributes["category"])
            .count();
    }
    assert!(same * 10 > cold.len() * 5 * 9, "{same} of {} neighbours are of the category", cold.len() * 5);
    let vector = model.vector(&cold[0].1, None).unwrap();
    model.insert(warm.len() as u32, vector);
    let nearest = similar_items(&model, 0, 600);
    assert!(nearest.contains(&(warm.len() as u32)), "a new item is recommended without a new fit");
}

#[test]
fn dates_that_are_near_are_alike() {
    let released = |date: &str| attributes(&format!(r#"{{"released":"{date}"}}"#));
    let catalogue =
        ["1962-03-01", "1962-03-02", "1985-07-19", "1985-07-26T10:00:00Z", "2001-01-01", "2001-02-01"];
    let model = fit(&catalogue.map(released));
    for (item, nearest) in [(0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)] {
        assert_eq!(similar_items(&model, item, 1), [nearest], "item {item}");
    }
    assert!(model.vector(&released("soon"), None).unwrap().is_empty(), "no date");
    let near = ["1985-07-20", "1985-07-26"].map(released);
    let vectors = near.each_ref().map(|entity| model.vector(entity, None).unwrap());
    let shared = model.explain((&near[0], &vectors[0]), (&near[1], &vectors[1]));
    assert_eq!(shared[0].shared, ["1985-07-20 and 1985-07-26"]);
}
