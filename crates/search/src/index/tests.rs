//! An index against a brute-force oracle, and what it does with odd questions.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::algorithms::bm25::inverse_document_frequency;
use crate::analysis::Synonyms;
use crate::items::{ItemName, attribute};

fn item(id: &str, text: &str) -> Item {
    let tags: Vec<&str> = text.split(' ').take(1).collect();
    let item = json!({"entity_type": "note", "entity_id": id, "text": text, "tags": tags, "metadata": {"n": text.len()}});
    serde_json::from_value(item).unwrap()
}

fn put(id: &str, text: &str) -> Change {
    Change::Put(Box::new(item(id, text)))
}

fn filled(texts: &[(&str, &str)]) -> TextIndex {
    let index = TextIndex::in_memory(Bm25::default()).unwrap();
    let changes: Vec<Change> = texts.iter().map(|(id, text)| put(id, text)).collect();
    index.apply(&changes).unwrap();
    index
}

fn query(text: &str) -> TextQuery {
    let meanings = Synonyms::default().meanings(&Analyzer::default().tokens(text));
    TextQuery { meanings, count: 10, ..TextQuery::default() }
}

fn ids(found: &Found) -> Vec<String> {
    found.hits.iter().map(|hit| ItemName::of_key(&hit.key).unwrap().entity_id.to_string()).collect()
}

const TEXTS: [(&str, &str); 4] = [
    ("1", "rates rise when the curve steepens"),
    ("2", "gas storage is low, gas rises"),
    ("3", "curve curve curve"),
    ("4", "power prices"),
];

#[test]
fn finds_by_words_and_filters() {
    let index = filled(&TEXTS);
    let check = |query: &TextQuery, expected: &[&str]| {
        let found = index.search(query).unwrap();
        assert_eq!(ids(&found), expected);
        assert_eq!(found.total, expected.len() as u64);
    };
    check(&query("curves"), &["3", "1"]);
    check(&query("rising"), &["1", "2"]);
    check(&query("nothing like it"), &[]);
    check(&query("the"), &["1", "2", "3", "4"]);
    let filtered = |filter: Filter| TextQuery { filter, ..query("curve gas") };
    let tag = |tag: &str| Filter { tags: vec![tag.to_owned()], ..Filter::default() };
    check(&filtered(tag("gas")), &["2"]);
    check(&filtered(tag("absent")), &[]);
    let length = attribute("n", &json!("curve curve curve".len())).unwrap();
    check(&filtered(Filter { attributes: vec![length], ..Filter::default() }), &["3"]);
    let types = vec!["other".to_owned(), "note".to_owned()];
    check(&filtered(Filter { types, ..tag("gas") }), &["2"]);
    let found = index.search(&TextQuery { count: 1, counts_facets: true, ..query("curve rises") }).unwrap();
    assert_eq!((found.hits.len(), found.total), (1, 3));
    assert_eq!(found.types, Counts::from([("note".to_owned(), 3)]));
    assert_eq!(found.tags["gas"], 1);
    let found = index.search(&TextQuery { count: 0, ..query("curve") }).unwrap();
    assert_eq!((found.hits.len(), found.total), (0, 2));
}

#[test]
fn mistyped_words_are_forgiven_where_asked() {
    let index = filled(&TEXTS);
    let forgiving = |text: &str| TextQuery { forgives_typos: true, ..query(text) };
    let check =
        |query: &TextQuery, expected: &[&str]| assert_eq!(ids(&index.search(query).unwrap()), expected);
    check(&query("curvve"), &[]);
    check(&forgiving("curvve"), &["3", "1"]);
    check(&forgiving("stroage"), &["2"]);
    check(&forgiving("po"), &[]);
    check(&forgiving("storrage"), &["2"]);
    let found = index.search(&forgiving("storrage")).unwrap();
    assert_eq!(found.meanings[0].terms.len(), 2);
}

#[test]
fn synonyms_count_as_one_word() {
    let index = filled(&[("1", "car"), ("2", "automobile"), ("3", "boat")]);
    let synonyms =
        Synonyms::new(&[vec!["car".to_owned(), "automobile".to_owned()]], &Analyzer::default()).unwrap();
    let meanings = synonyms.meanings(&Analyzer::default().tokens("car"));
    let found = index.search(&TextQuery { meanings, count: 10, ..TextQuery::default() }).unwrap();
    assert_eq!(ids(&found), ["1", "2"]);
    assert!(found.hits[0].score > found.hits[1].score);
}

#[test]
fn changes_show_at_once_in_their_order() {
    let index = TextIndex::in_memory(Bm25::default()).unwrap();
    assert!(index.search(&query("one")).unwrap().hits.is_empty());
    let name = item("1", "x").name();
    let gone = || Change::Delete(name.clone());
    index.apply(&[put("1", "one"), put("1", "two"), put("2", "one")]).unwrap();
    assert_eq!(ids(&index.search(&query("one")).unwrap()), ["2"]);
    index.apply(&[gone(), put("1", "one")]).unwrap();
    assert_eq!(ids(&index.search(&query("one")).unwrap()), ["1", "2"]);
    index.apply(&[gone()]).unwrap();
    index.apply(&[gone()]).unwrap();
    index.rest();
    index.apply(&[]).unwrap();
    assert_eq!(ids(&index.search(&query("one")).unwrap()), ["2"]);
    assert_eq!(index.item(&name.key()).unwrap(), None);
    assert_eq!(index.item(&item("2", "one").name().key()).unwrap(), Some(item("2", "one")));
    assert_eq!(index.stats().unwrap().items, 1);
}

#[test]
fn an_index_on_disk_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let index = TextIndex::open(folder.path(), Bm25::default()).unwrap();
    index.apply(&[put("1", "one")]).unwrap();
    drop(index);
    let index = TextIndex::open(folder.path(), Bm25::default()).unwrap();
    assert_eq!(ids(&index.search(&query("one")).unwrap()), ["1"]);
}

#[test]
fn ties_go_to_the_key() {
    let texts: Vec<(String, String)> =
        (0..300).rev().map(|id| (format!("{id:03}"), "same".to_owned())).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let expected: Vec<String> = (0..10).map(|id| format!("{id:03}")).collect();
    // However they came, and in however many segments they are.
    for size in [1, 7, 300] {
        let index = TextIndex::in_memory(Bm25::default()).unwrap();
        for some in texts.chunks(size) {
            let changes: Vec<Change> = some.iter().map(|(id, text)| put(id, text)).collect();
            index.apply(&changes).unwrap();
        }
        let found = index.search(&query("same")).unwrap();
        assert_eq!((found.total, ids(&found)), (300, expected.clone()));
    }
}

/// BM25 as its formula says, over all texts.
fn oracle(texts: &[String], words: &[String], bm25: Bm25) -> Vec<f32> {
    let analyzed: Vec<Vec<String>> = texts
        .iter()
        .map(|text| Analyzer::default().tokens(text).into_iter().map(|token| token.term).collect())
        .collect();
    let total: usize = analyzed.iter().map(Vec::len).sum();
    let average = total as f32 / texts.len() as f32;
    let score = |text: &Vec<String>| {
        let of_word = |word: &String| {
            let with_word = analyzed.iter().filter(|other| other.contains(word)).count();
            let frequency = text.iter().filter(|term| *term == word).count() as f32;
            let share = Bm25::share(frequency, bm25.norm(text.len() as f32, average));
            inverse_document_frequency(texts.len() as u64, with_word as u64) * share
        };
        words.iter().map(of_word).sum()
    };
    analyzed.iter().map(score).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn agrees_with_the_formula(
        texts in proptest::collection::vec("(alpha|beta|gamma|delta)( (alpha|beta|gamma|delta)){0,8}", 1..20),
        words in proptest::collection::vec("(alpha|beta|gamma|delta|omega)", 1..4),
    ) {
        let index = TextIndex::in_memory(Bm25::default()).unwrap();
        for (id, text) in texts.iter().enumerate() {
            index.apply(&[put(&id.to_string(), text)]).unwrap();
        }
        let terms: Vec<String> =
            Analyzer::default().tokens(&words.join(" ")).into_iter().map(|token| token.term).collect();
        let expected = oracle(&texts, &terms, Bm25::default());
        let found = index.search(&TextQuery { count: 100, ..query(&words.join(" ")) }).unwrap();
        prop_assert_eq!(found.total as usize, expected.iter().filter(|score| **score > 0.0).count());
        prop_assert!(found.hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
        for hit in &found.hits {
            let id: usize = ItemName::of_key(&hit.key).unwrap().entity_id.as_str().parse().unwrap();
            prop_assert!((hit.score - expected[id]).abs() < 1e-4, "{} {}", hit.score, expected[id]);
            let shares = index.explain(&hit.key, &found.meanings).unwrap();
            let sum: f32 = shares.iter().map(|share| share.score).sum();
            prop_assert!((hit.score - sum).abs() < 1e-4, "{} {}", hit.score, sum);
        }
    }
}
