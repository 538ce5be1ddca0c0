//! The grammar against tables, an oracle and arbitrary text.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::like::like;
use super::*;

const GRAMMAR: Grammar = Grammar {
    attributes: &[("name", Kind::Text, &["Run name"]), ("start_time", Kind::Number, &["created"])],
    entities: &[Entity::Metric, Entity::Param, Entity::Dataset],
};

#[derive(Debug, Clone, Default)]
struct Thing {
    id: String,
    start_time: f64,
    metrics: BTreeMap<String, f64>,
    tags: BTreeMap<String, String>,
    datasets: Vec<String>,
}

impl Subject for Thing {
    fn values(&self, entity: Entity, key: &str) -> Vec<Value> {
        match (entity, key) {
            (Entity::Attribute, "name") => vec![Value::Text(self.id.clone())],
            (Entity::Attribute, _) => vec![Value::Number(self.start_time)],
            (Entity::Metric, key) => self.metrics.get(key).copied().map(Value::Number).into_iter().collect(),
            (Entity::Dataset, _) => self.datasets.iter().cloned().map(Value::Text).collect(),
            (_, key) => self.tags.get(key).cloned().map(Value::Text).into_iter().collect(),
        }
    }

    fn id(&self) -> &str {
        &self.id
    }
}

fn thing() -> Thing {
    let metrics = [("loss", 0.5), ("a b", -3.0), ("none", f64::NAN)];
    let tags = [("team", "Search"), ("mlflow.user", "ada"), ("it's", "\"x\"")];
    Thing {
        id: "first run".to_owned(),
        start_time: 1_700_000_000_000.0,
        metrics: metrics.map(|(key, value)| (key.to_owned(), value)).into(),
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        datasets: vec!["train".to_owned(), "test".to_owned()],
    }
}

#[test]
fn conditions_hold_or_do_not() {
    let check = |filter: &str, holds: bool| {
        let parsed = Filter::parse(filter, &GRAMMAR).unwrap_or_else(|error| panic!("{filter}: {error}"));
        assert_eq!(parsed.admits(&thing()), holds, "{filter}");
    };
    check("", true);
    check("metrics.loss < 0.6", true);
    check("metric.loss<=0.5", true);
    check("metrics.loss > 5e-1", false);
    check("metrics.`a b` = -3", true);
    check("metrics.\"a b\" >= -3.0", true);
    check("metrics.missing != 1", false);
    check("metrics.none < 1", false);
    check("metrics.none != 1", true);
    check("tags.team = 'Search' AND tags.mlflow.user = \"ada\"", true);
    check("tags.team = 'search'", false);
    check("tags.team LIKE 'S%'", true);
    check("tags.team like 's%'", false);
    check("tags.team ILIKE 's_arch'", true);
    check("tags.team != 'other' and metrics.loss = 0.5", true);
    check("tags.missing IS NULL", true);
    check("tags.team IS NOT NULL", true);
    check("params.team is null", false);
    check("tags.`it's` = '\"x\"'", true);
    check("name = 'first run'", true);
    check("attributes.`Run name` IN ('a', 'first run')", true);
    check("`Run name` NOT IN ('a',)", true);
    check("created > 1699999999999", true);
    check("start_time = '1700000000000'", true);
    check("dataset.name = 'test'", true);
    check("dataset.name = 'other'", false);
    check("tag.`mlflow.prompt.is_prompt` != 'true'", true);
    check("tags.team = 'It''s'", false);
}

#[test]
fn what_is_no_filter_is_refused() {
    for filter in [
        "metrics.loss",
        "metrics.loss <",
        "metrics.loss < .5",
        "metrics.loss < 'many'",
        "metrics.loss < 1 OR metrics.loss > 2",
        "metrics.loss < 1 metrics.loss > 2",
        "AND",
        "tags.team = Search",
        "tags.team = 3",
        "tags.team > 'a'",
        "tags.team IN ('a')",
        "metrics.loss LIKE '1%'",
        "name IN 'a'",
        "name IN ()",
        "name IN ('a'",
        "name IS NULL",
        "name = 'open",
        "unknown = 'a'",
        "colour.team = 'a'",
        "dataset.size = 'a'",
        "metrics. < 1",
        "name = 'a';",
        "name NOT LIKE 'a'",
        "metrics.loss < 1e999",
    ] {
        let error = Filter::parse(filter, &GRAMMAR).map(|parsed| panic!("{filter}: {parsed:?}")).unwrap_err();
        assert_eq!(error.code(), codes::VALIDATION_ERROR);
    }
}

#[test]
fn orders_are_read() {
    let order = |parts: &[&str]| {
        let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        Order::parse(&parts, "start_time DESC", &GRAMMAR)
    };
    assert_eq!(order(&[]).unwrap(), order(&["attributes.start_time desc"]).unwrap());
    assert_eq!(
        order(&["name, metrics.loss DESC"]).unwrap(),
        order(&["name ASC", "metrics.loss DESC"]).unwrap()
    );
    for bad in ["name UP", "name DESC DESC", "unknown", "dataset.name", "'", "name = 'a'"] {
        assert!(order(&[bad]).is_err(), "{bad}");
    }
}

fn all_pages(things: &[Thing], filter: &str, order: &[String], limit: usize) -> Vec<String> {
    let (mut token, mut found): (Option<String>, Vec<String>) = (None, Vec::new());
    loop {
        let filter = Filter::parse(filter, &GRAMMAR).unwrap();
        let order = Order::parse(order, "start_time DESC", &GRAMMAR).unwrap();
        let mut pager = Pager::new(filter, order, "test", token.as_deref(), limit).unwrap();
        things.iter().cloned().for_each(|thing| pager.offer(thing));
        let page = pager.page().unwrap();
        assert!(page.subjects.len() <= limit);
        found.extend(page.subjects.into_iter().map(|thing| thing.id));
        token = page.next;
        if token.is_none() {
            return found;
        }
    }
}

#[test]
fn a_token_belongs_to_its_search() {
    let things: Vec<Thing> = (0..5).map(|id| Thing { id: id.to_string(), ..Thing::default() }).collect();
    let pager = |asked: &str, token: Option<&str>| {
        let order = Order::parse(&[], "start_time DESC", &GRAMMAR).unwrap();
        Pager::<Thing>::new(Filter::default(), order, asked, token, 2)
    };
    let mut first = pager("one", None).unwrap();
    things.into_iter().for_each(|thing| first.offer(thing));
    let token = first.page().unwrap().next.unwrap();
    assert!(pager("one", Some(&token)).is_ok());
    for (asked, token) in [("two", token.as_str()), ("one", "x"), ("one", &token[1..])] {
        assert_eq!(pager(asked, Some(token)).unwrap_err().field(), Some("page_token"));
    }
}

/// Matches as `LIKE` is defined, without any cleverness.
fn slow_like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skip| slow_like(&text[skip..], rest)),
        Some((want, rest)) => text
            .split_first()
            .is_some_and(|(first, text)| (want == first || *want == '_') && slow_like(text, rest)),
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}") {
        let _ = Filter::parse(&text, &GRAMMAR);
        let _ = Order::parse(&[text], "name", &GRAMMAR);
    }

    #[test]
    fn pieces_of_filters_are_read_or_refused(
        words in proptest::collection::vec(
            prop_oneof!["metrics", "tags", "name", "\\.", "'", "`", "=", "<", "IN", "\\(", "\\)", "AND", "1", "a", " "],
            0..12,
        ),
    ) {
        let _ = Filter::parse(&words.concat(), &GRAMMAR);
        let _ = Filter::parse(&words.join(" "), &GRAMMAR);
    }

    #[test]
    fn quoted_keys_and_values_come_back(key in "[^`]{1,20}", value in "[^']{0,20}") {
        let filter = Filter::parse(&format!("tags.`{key}` = '{value}'"), &GRAMMAR).unwrap();
        let tags = BTreeMap::from([(key, value)]);
        let told = Thing { tags, ..Thing::default() };
        prop_assert!(filter.admits(&told));
    }

    #[test]
    fn like_is_as_defined(text in "[ab]{0,8}", pattern in "[ab%_]{0,8}") {
        let (slow_text, slow_pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
        prop_assert_eq!(like(&text, &pattern, false), slow_like(&slow_text, &slow_pattern));
    }

    #[test]
    fn pages_are_the_whole_in_order(
        losses in proptest::collection::vec(proptest::option::of(-2..3_i32), 0..40),
        limit in 1..7_usize,
        descending in any::<bool>(),
    ) {
        let thing = |(id, loss): (usize, &Option<i32>)| {
            let mut thing = Thing { id: format!("{id:02}"), start_time: id as f64, ..Thing::default() };
            // NaN is a value that comes last, as what is missing does.
            thing.metrics.extend(loss.map(|loss| {
                ("loss".to_owned(), if loss == 2 { f64::NAN } else { f64::from(loss) })
            }));
            thing
        };
        let things: Vec<Thing> = losses.iter().enumerate().map(thing).collect();
        let order = [if descending { "metrics.loss DESC".to_owned() } else { "metrics.loss".to_owned() }];
        let found = all_pages(&things, "name != '07'", &order, limit);
        let mut expected: Vec<&Thing> = things.iter().filter(|thing| thing.id != "07").collect();
        let place = |thing: &Thing| {
            let loss = thing.metrics.get("loss").copied().filter(|loss| !loss.is_nan());
            let signed = loss.map(|loss| if descending { -loss as i64 } else { loss as i64 });
            (signed.is_none(), signed, thing.id.clone())
        };
        expected.sort_by_key(|thing| place(thing));
        prop_assert_eq!(found, expected.iter().map(|thing| thing.id.clone()).collect::<Vec<_>>());
    }
}
