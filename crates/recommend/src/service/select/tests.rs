//! Pages over a small catalogue: one order for every page, what budgets cut, and what is refused.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::super::expression::{Expression, Expressions, INVALID_EXPRESSION};
use super::*;
use crate::attributes::{AttributeValue, Attributes};
use crate::views::Place;

/// Films of the years from 1900 on, over and over, each with `tags` tags.
fn films(count: usize, tags: usize) -> Entities {
    let film = |index: usize| Entity {
        id: format!("film-{index}").into(),
        type_index: 0,
        attributes: Attributes::from([
            ("year".to_owned(), AttributeValue::Number((1900 + index % 100) as f64)),
            ("tags".to_owned(), AttributeValue::Tags(vec!["tag".to_owned(); tags])),
        ]),
        hidden: false,
        described: true,
        deleted: false,
        available_from_ms: None,
        available_until_ms: None,
        created_at_ms: 0,
        updated_at_ms: 0,
        created_place: Place::new(0, 0),
        revision: 0,
    };
    let list: Vec<Entity> = (0..count).map(film).collect();
    serde_json::from_value(json!({"types": ["film"], "list": list, "existing": count, "revision": 1}))
        .unwrap()
}

fn compiled(text: &str) -> Arc<Expression> {
    Expressions::default().compile(text, "filter").unwrap()
}

fn query(filter: Option<&str>, boosts: &[&str]) -> Query {
    Query {
        count: 10,
        filter: filter.map(compiled),
        boosts: boosts.iter().map(|text| compiled(text)).collect(),
        ..Query::default()
    }
}

/// Scores that fall and rise with the index, with equal ones among them.
fn scores(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index * 7_919 % 1_000) as f32 / 100.0).collect()
}

fn page(entities: &Entities, query: &Query, budget: usize) -> Selection {
    try_page(entities, query, budget).expect("expressions that can be asked")
}

fn try_page(entities: &Entities, query: &Query, budget: usize) -> kernel::Result<Selection> {
    let selector = Selector::new(entities, query, &Context::default(), 0, budget);
    let alike = |one: u32, two: u32| 1.0 / (1.0 + (one % 10).abs_diff(two % 10) as f32);
    selector.page(&mut &*entities, &scores(entities.all().len()), alike, &mut |_, _| None)
}

fn indices(selection: &Selection) -> Vec<u32> {
    selection.picked.iter().map(|picked| picked.entity).collect()
}

#[track_caller]
fn check_pages(entities: &Entities, asked: &Query, count: usize, budget: usize) {
    let long = page(entities, &Query { count: 1_000_000, ..asked.clone() }, budget);
    let mut joined = Vec::new();
    let mut shown = Shown::default();
    loop {
        let next = Query { count, shown: shown.clone(), ..asked.clone() };
        let selection = page(entities, &next, budget);
        let ids = indices(&selection).into_iter().map(|index| &entities.all()[index as usize].id);
        ids.for_each(|id| shown.add(Shown::name("film", id)));
        joined.extend(indices(&selection));
        if !selection.more {
            break;
        }
        assert_eq!(selection.picked.len(), count);
    }
    assert_eq!(joined, indices(&long));
    let mut distinct = joined.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), joined.len(), "pages repeat");
}

#[test]
fn pages_make_the_one_long_list() {
    let entities = films(MAX_POOL + 60, 2);
    let filter = Some("attributes.year < 1998.0");
    let boosts = ["attributes.year > 1990.0 ? 3.0 : 1.0"];
    for diversity in [0.0, 0.5, 1.0] {
        for asked in [query(None, &[]), query(filter, &[]), query(None, &boosts), query(filter, &boosts)] {
            for budget in [300, 100_000] {
                check_pages(&entities, &Query { diversity, ..asked.clone() }, 49, budget);
            }
        }
    }
}

#[test]
fn variety_reorders_the_pool_and_drops_nothing() {
    let entities = films(MAX_POOL + 60, 0);
    let all =
        |diversity| indices(&page(&entities, &Query { count: 1_000, diversity, ..query(None, &[]) }, 100));
    let (mut plain, mut diverse) = (all(0.0), all(0.7));
    assert_ne!(plain, diverse);
    assert_eq!(plain[MAX_POOL..], diverse[MAX_POOL..]);
    plain.sort_unstable();
    diverse.sort_unstable();
    assert_eq!(plain, diverse);
}

#[test]
fn a_filter_with_boosters_has_an_answer_on_a_large_catalogue() {
    let entities = films(50_000, 3);
    let boosts = ["attributes.year > 1950.0 ? 2.0 : 1.0", "1.5"];
    let selection = page(&entities, &query(Some("attributes.year >= 1990.0"), &boosts), 100_000);
    assert_eq!(selection.picked.len(), 10);
    for picked in &selection.picked {
        assert!(picked.entity % 100 >= 90 && (picked.boost - 3.0_f32.ln()).abs() < 1e-5, "{picked:?}");
    }
    let alone = page(&entities, &query(Some("attributes.year == 1990.0"), &[]), 100_000);
    assert_eq!((alone.picked.len(), alone.complete), (10, true));
}

#[test]
fn a_budget_that_ends_costs_the_worst_of_the_list() {
    let entities = films(1_000, 0);
    let best = page(&entities, &query(None, &[]), 0);
    let check = |filter: Option<&str>, boosts: &[&str], budget: usize, complete: bool| {
        let selection = page(&entities, &query(filter, boosts), budget);
        assert_eq!(selection.complete, complete, "{filter:?} {boosts:?} with {budget}");
        selection
    };
    // The page is full before the budget ends.
    assert_eq!(indices(&check(Some("true"), &[], 100, true)), indices(&best));
    let few = check(Some("true"), &[], 7, false);
    assert!(!few.picked.is_empty() && few.picked.len() < 10 && !few.more);
    assert!(indices(&best).starts_with(&indices(&few)));
    assert!(check(Some("true"), &[], 0, false).picked.is_empty());
    // What was not boosted is on the list all the same.
    let some = check(None, &["2.0"], 7, false);
    assert_eq!(indices(&some), indices(&best));
    assert!(some.picked[0].boost > 0.0 && some.picked[9].boost == 0.0);
    assert_eq!(indices(&check(None, &["2.0"], 0, false)), indices(&best));
    assert_eq!(check(None, &["2.0"], 100_000, true).picked.len(), 10);
}

#[test]
fn much_work_over_few_entities_ends_the_budget_too() {
    let entities = films(50, 1_000);
    let heavy = "attributes.tags.all(one, attributes.tags.exists_one(two, two == one))";
    assert!(Expressions::default().compile(heavy, "filter").is_err());
    let heavy = "attributes.tags.all(one, !(one in attributes.tags) || one in attributes.tags)";
    let selection = page(&entities, &query(Some(heavy), &[]), 100_000);
    assert!(!selection.complete && selection.picked.is_empty());
    let bomb = format!("[attributes.tags]{}.size() > 0", ".map(x, x + x)".repeat(40));
    assert!(!page(&entities, &query(Some(&bomb), &[]), 100_000).complete);
}

#[test]
fn what_fails_everywhere_is_refused() {
    let entities = films(30, 1);
    let check = |filter: Option<&str>, boosts: &[&str], refused: Option<(&str, &str)>| {
        let asked = query(filter, boosts);
        match (try_page(&entities, &asked, 100_000), refused) {
            (Ok(_), None) => {}
            (Err(error), Some((field, part))) => {
                assert_eq!((error.code(), error.field()), (INVALID_EXPRESSION, Some(field)));
                assert!(error.to_string().contains(part), "{error} does not say `{part}`");
            }
            (verdict, _) => panic!("{filter:?} {boosts:?}: {verdict:?}"),
        }
    };
    check(Some("attributes.yaer > 2000"), &[], Some(("filter", "`yaer` is missing")));
    check(Some("attributes.year % 2 == 0"), &[], Some(("filter", "int(...)")));
    check(Some("1 / 0 == 1"), &[], Some(("filter", "zero")));
    check(Some("attributes.year"), &[], Some(("filter", "not true or false")));
    check(Some("attributes.year > 3000"), &["attributes.yaer"], None);
    check(Some("true"), &["2.0", "attributes.yaer"], Some(("boost", "`yaer`")));
    check(None, &["true"], Some(("boost", "not a number")));
    check(Some("has(attributes.yaer) && attributes.yaer > 1"), &["2"], None);
    check(Some("id == 'film-3' || attributes.yaer > 1"), &[], None);
    let nobody = query(Some("attributes.yaer > 1"), &[]);
    assert!(try_page(&films(0, 0), &nobody, 100_000).is_ok());
}

/// A catalogue of which entities go when others have a turn.
struct Changing {
    entities: Entities,
    turns: usize,
}

impl Catalogue for Changing {
    fn entities(&self) -> &Entities {
        &self.entities
    }

    fn give_way(&mut self) {
        self.turns += 1;
        let mut json = serde_json::to_value(&self.entities).unwrap();
        json["list"].as_array_mut().unwrap().iter_mut().for_each(|film| film["deleted"] = json!(true));
        self.entities = serde_json::from_value(json).unwrap();
    }
}

#[test]
fn others_have_turns_and_what_they_take_away_is_not_shown() {
    let asked = Query { count: 2_000, ..query(Some("attributes.year >= 1900.0"), &[]) };
    let mut catalogue = Changing { entities: films(2_000, 0), turns: 0 };
    let selector = Selector::new(&catalogue.entities, &asked, &Context::default(), 0, 100_000);
    let selection = selector.page(&mut catalogue, &scores(2_000), |_, _| 0.0, &mut |_, _| None).unwrap();
    assert_eq!(catalogue.turns, 1, "what is gone costs no work");
    assert!((1..1_000).contains(&selection.picked.len()), "{}", selection.picked.len());
    // Without expressions it is over at once.
    let mut catalogue = Changing { entities: films(2_000, 0), turns: 0 };
    let asked = query(None, &[]);
    let selector = Selector::new(&catalogue.entities, &asked, &Context::default(), 0, 100_000);
    assert_eq!(
        selector.page(&mut catalogue, &scores(2_000), |_, _| 0.0, &mut |_, _| None).unwrap().picked.len(),
        10
    );
    assert_eq!(catalogue.turns, 0);
}

#[test]
fn a_slow_filter_does_not_hold_the_fold_up() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let view = parking_lot::RwLock::new(TenantView::default());
    view.write().entities = films(30_000, 5);
    let asked = query(Some("attributes.tags.all(tag, tag == 'tag') && attributes.year < 0.0"), &[]);
    let (began, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut held = view.read();
            let selector = Selector::new(&held.entities, &asked, &Context::default(), 0, 10_000_000);
            began.store(true, Ordering::SeqCst);
            let selection = selector.page(&mut held, &scores(30_000), |_, _| 0.0, &mut |_, _| None).unwrap();
            ended.store(true, Ordering::SeqCst);
            drop(held);
            assert!(selection.complete && selection.picked.is_empty());
        });
        while !began.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        drop(view.write());
        assert!(!ended.load(Ordering::SeqCst), "the fold waited for all of the filter");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_page_is_a_part_of_the_list(
        total in 0_usize..80, count in 1_usize..20, tenths in 0_u8..=10, budget in 0_usize..200, boosted: bool,
    ) {
        let boosts: &[&str] = if boosted { &["attributes.year > 1910.0 ? 3.0 : 0.5"] } else { &[] };
        let diversity = f32::from(tenths) / 10.0;
        let asked = Query { diversity, ..query(Some("attributes.year < 1960.0"), boosts) };
        check_pages(&films(total, 1), &asked, count, budget);
    }
}

#[test]
fn pages_beyond_what_a_cursor_remembers_are_the_long_list_too() {
    let entities = films(crate::service::cursor::REMEMBERED + 500, 0);
    check_pages(&entities, &query(None, &[]), 400, 0);
}

#[test]
fn stand_ins_go_on_where_the_list_is_short() {
    let entities = films(60, 0);
    let known = |range: std::ops::Range<usize>, sign: f32| {
        let score =
            |index: usize| if range.contains(&index) { sign * index as f32 } else { f32::NEG_INFINITY };
        (0..60).map(score).collect::<Vec<_>>()
    };
    let ask = |asked: &Query, budget: usize, gives: &dyn Fn(bool) -> bool| {
        let selector = Selector::new(&entities, asked, &Context::default(), 0, budget);
        let mut rest = vec![known(0..60, -1.0), known(0..20, 1.0)];
        let mut stand_ins = |_: &&Entities, is_empty| rest.pop().filter(|_| gives(is_empty));
        selector.page(&mut &entities, &known(0..4, 1.0), |_, _| 0.0, &mut stand_ins).unwrap()
    };
    let always: &dyn Fn(bool) -> bool = &|_| true;
    let many = Query { count: 30, ..query(None, &[]) };
    let filled = ask(&many, 1_000, always);
    let expected: Vec<u32> = [3, 2, 1, 0].into_iter().chain((4..20).rev()).chain(20..30).collect();
    assert_eq!(indices(&filled), expected);
    assert!(filled.more && filled.picked.is_sorted_by(|one, two| one.score >= two.score));
    assert_eq!([0, 4, 20].map(|at| filled.picked[at].stage), [0, 1, 2]);
    assert_eq!(indices(&ask(&many, 1_000, &|is_empty| is_empty)), [3, 2, 1, 0], "only where nothing is left");
    let filtered = Query { count: 3, ..query(Some("attributes.year >= 1902.0"), &[]) };
    assert_eq!(indices(&ask(&filtered, 1_000, always)), [3, 2, 19]);
    let ended = ask(&Query { count: 30, ..filtered }, 5, always);
    assert!(!ended.complete && !ended.more && ended.picked.len() < 10, "one budget for all: {ended:?}");
    let varied = Query { diversity: 0.5, ..many };
    assert_eq!(indices(&ask(&varied, 1_000, always)).len(), 30);
}

#[test]
fn factors_have_bounds_and_nan_is_named() {
    let entities = films(3, 0);
    let check = |factor: &str, boost: f32| {
        let found = page(&entities, &query(None, &[factor]), 1_000).picked[0].boost;
        assert!((found - boost).abs() < 1e-3, "{factor} adds {found}");
    };
    check("1e308", 1e6_f32.ln());
    check("0.0", 1e-6_f32.ln());
    check("-5.0", 1e-6_f32.ln());
    for (factor, name) in [("0.0 / 0.0", "it gives NaN"), ("1.0 / 0.0", "an infinite one")] {
        let error = try_page(&entities, &query(None, &[factor]), 1_000).unwrap_err();
        assert_eq!((error.code(), error.field()), (INVALID_EXPRESSION, Some("boost")));
        assert!(error.to_string().contains(name), "{error}");
    }
}
