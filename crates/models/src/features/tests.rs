//! Reads against what a brute force over all rows gives; conflicts, bounds, tenants, forgetting.

use kernel::{ManualClock, TenantId};
use proptest::prelude::*;
use store::memory::MemoryRecords;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn scope(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).unwrap(), "test")
}

fn set() -> FeatureSet {
    let features = [("age", Kind::Number), ("town", Kind::Text), ("paid", Kind::Boolean)];
    FeatureSet {
        name: "people".to_owned(),
        entity_type: "user".to_owned(),
        features: features.map(|(name, kind)| (name.to_owned(), kind)).into(),
        ttl_secs: 100,
        created_at: Timestamp::UNIX_EPOCH,
    }
}

async fn home() -> (Features, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(at(1_000)));
    let features = Features::new(Arc::new(MemoryRecords::new()), Arc::clone(&clock) as Arc<_>);
    features.define(&scope("shop"), set()).await.unwrap();
    (features, clock)
}

fn row(entity: &str, second: i64, values: &[(&str, Value)]) -> NewRow {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    NewRow { entity: entity.to_owned(), event_time: at(second), values }
}

fn moment(entity: &str, second: i64) -> Moment {
    Moment { entity: entity.to_owned(), as_of: Some(at(second)), written_by: None }
}

async fn read(features: &Features, moment: &Moment) -> Found {
    features.read(&scope("shop"), &set(), &BTreeSet::new(), moment, &Budget::default()).await.unwrap()
}

#[tokio::test]
async fn nothing_of_the_future_and_nothing_too_old_is_read() {
    let (features, clock) = home().await;
    let (shop, number) = (scope("shop"), Value::Number);
    let town = || Value::Text("Ulm".to_owned());
    let first = [
        row("ada", 1_000, &[("age", number(30.0)), ("town", town())]),
        row("ada", 1_050, &[("age", number(31.0))]),
    ];
    assert_eq!(
        features.write(&shop, "people", &first).await.unwrap(),
        [RowOutcome::Stored, RowOutcome::Stored]
    );
    let check = async |second: i64, age: Option<f64>, missing: &[&str]| {
        let found = read(&features, &moment("ada", second)).await;
        assert_eq!(
            found.values.get("age").map(|known| known.value.clone()),
            age.map(Value::Number),
            "{second}"
        );
        assert_eq!(found.missing, missing, "{second}");
    };
    check(999, None, &["age", "paid", "town"]).await;
    check(1_000, Some(30.0), &["paid"]).await;
    check(1_049, Some(30.0), &["paid"]).await;
    check(1_050, Some(31.0), &["paid"]).await;
    check(1_100, Some(31.0), &["paid"]).await;
    check(1_101, Some(31.0), &["paid", "town"]).await;
    check(1_151, None, &["age", "paid", "town"]).await;
    // A row that comes late is not seen by who asks for what was written by then.
    clock.advance(Duration::from_secs(500));
    features.write(&shop, "people", &[row("ada", 1_060, &[("age", number(99.0))])]).await.unwrap();
    check(1_070, Some(99.0), &["paid"]).await;
    let then = Moment { written_by: Some(at(1_100)), ..moment("ada", 1_070) };
    assert_eq!(read(&features, &then).await.values["age"].value, number(31.0));
    let age = BTreeSet::from(["age".to_owned()]);
    let other = features.read(&shop, &set(), &age, &moment("adam", 1_070), &Budget::default()).await;
    assert_eq!(other.unwrap().missing, ["age"], "an id that begins the same is another");
}

#[tokio::test]
async fn rows_never_change_and_each_is_told() {
    let (features, _) = home().await;
    let (shop, age) = (scope("shop"), |value| [("age", Value::Number(value))]);
    let rows = [
        row("ada", 1, &age(1.0)),
        row("ada", 1, &age(1.0)),
        row("ada", 1, &age(2.0)),
        row("", 1, &age(1.0)),
        row("ada", -1, &age(1.0)),
        row("ada", 2, &[]),
        row("ada", 2, &[("height", Value::Number(1.0))]),
        row("ada", 2, &[("town", Value::Number(1.0))]),
        row("ada", 2, &age(f64::NAN)),
    ];
    let told = features.write(&shop, "people", &rows).await.unwrap();
    assert_eq!(told[..3], [RowOutcome::Stored, RowOutcome::Duplicate, RowOutcome::Conflict]);
    assert!(told[3..].iter().all(|told| matches!(told, RowOutcome::Refused(_))), "{told:?}");
    let again = features.write(&shop, "people", &rows[..3]).await.unwrap();
    assert_eq!(again, [RowOutcome::Duplicate, RowOutcome::Duplicate, RowOutcome::Conflict]);
    assert!(features.write(&shop, "people", &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_set_grows_and_nothing_is_taken_away() {
    let (features, _) = home().await;
    let shop = scope("shop");
    let mut more = set();
    more.features.insert("weight".to_owned(), Kind::Number);
    more.ttl_secs = 5;
    assert_eq!(features.define(&shop, more.clone()).await.unwrap().created_at, at(1_000));
    let check = async |change: &dyn Fn(&mut FeatureSet), field: &str| {
        let mut bad = more.clone();
        change(&mut bad);
        let error = features.define(&shop, bad).await.unwrap_err();
        assert_eq!(error.field(), Some(field), "{error}");
    };
    check(&|bad| bad.features.retain(|name, _| name != "age"), "features").await;
    check(&|bad| bad.features.extend([("age".to_owned(), Kind::Text)]), "features").await;
    check(&|bad| bad.features.extend([("a b".to_owned(), Kind::Text)]), "features").await;
    check(&|bad| bad.entity_type = "film".to_owned(), "entity_type").await;
    check(&|bad| bad.ttl_secs = 0, "ttl_secs").await;
    check(&|bad| bad.name = "a/b".to_owned(), "name").await;
    assert_eq!(features.sets(&shop).await.unwrap().len(), 1);
}

#[tokio::test]
async fn tenants_are_apart_and_an_entity_is_forgotten() {
    let (features, _) = home().await;
    let (shop, other) = (scope("shop"), scope("other"));
    for entity in ["ada", "adam"] {
        let rows = (0..3).map(|second| row(entity, second, &[("age", Value::Number(1.0))]));
        features.write(&shop, "people", &rows.collect::<Vec<_>>()).await.unwrap();
    }
    assert_eq!(features.set(&other, "people").await.unwrap_err().code(), codes::NOT_FOUND);
    assert_eq!(features.write(&other, "people", &[]).await.unwrap_err().code(), codes::NOT_FOUND);
    let all = BTreeSet::new();
    let foreign = features.read(&other, &set(), &all, &moment("ada", 2), &Budget::default()).await.unwrap();
    assert!(foreign.values.is_empty());
    assert_eq!(features.forget_everywhere(&other, "user", "ada").await.unwrap(), 0);
    assert_eq!(features.forget_everywhere(&shop, "film", "ada").await.unwrap(), 0);
    assert_eq!(features.count(&shop, "people", "ada").await.unwrap(), 3);
    assert_eq!(features.forget_everywhere(&shop, "user", "ada").await.unwrap(), 3);
    assert_eq!(features.count(&shop, "people", "ada").await.unwrap(), 0);
    assert!(read(&features, &moment("ada", 2)).await.values.is_empty());
    assert_eq!(read(&features, &moment("adam", 2)).await.values.len(), 1);
    #[expect(clippy::disallowed_methods, reason = "a caller who may only read")]
    let reader = Scope::proven(shop.tenant().clone(), "reader", Permission::Read);
    assert_eq!(features.define(&reader, set()).await.unwrap_err().code(), codes::PERMISSION_DENIED);
    assert_eq!(features.write(&reader, "people", &[]).await.unwrap_err().code(), codes::PERMISSION_DENIED);
    assert_eq!(features.forget(&reader, "people", "ada").await.unwrap_err().code(), codes::PERMISSION_DENIED);
}

#[tokio::test]
async fn a_person_is_forgotten_in_more_sets_than_a_page_has() {
    let (features, _) = home().await;
    let shop = scope("shop");
    // Put beside the bound, as many that are made at once may be.
    let others = (0..SETS_MAX).map(|number| {
        let (name, entity_type) = (format!("a{number}"), "film".to_owned());
        Repository::write(&FeatureSet { name, entity_type, ..set() }, Expect::Absent).unwrap()
    });
    features.records.commit(&shop, others.collect()).await.unwrap();
    features.write(&shop, "people", &[row("ada", 1, &[("age", Value::Number(1.0))])]).await.unwrap();
    assert_eq!(features.sets(&shop).await.unwrap().len(), SETS_MAX + 1);
    assert_eq!(features.forget_everywhere(&shop, "user", "ada").await.unwrap(), 1);
    assert!(read(&features, &moment("ada", 2)).await.values.is_empty());
}

#[tokio::test]
async fn a_request_looks_through_no_more_than_its_budget() {
    let (features, _) = home().await;
    let shop = scope("shop");
    let rows: Vec<_> = (0..60).map(|second| row("ada", second, &[("age", Value::Number(1.0))])).collect();
    features.write(&shop, "people", &rows).await.unwrap();
    let check = async |budget: Budget, wanted: &[&str], passes: usize| {
        let wanted = wanted.iter().map(|name| (*name).to_owned()).collect();
        for number in 0..=passes {
            let found = features.read(&shop, &set(), &wanted, &moment("ada", 60), &budget).await;
            match found {
                Ok(_) => assert!(number < passes, "{budget:?}"),
                Err(error) => assert!(number == passes && error.code() == codes::TOO_LARGE, "{error}"),
            }
        }
    };
    // Pages of 4, 16 and 64 rows.
    check(Budget::new(9, usize::MAX, usize::MAX), &["age"], 3).await;
    check(Budget::new(20, usize::MAX, usize::MAX), &["town"], 0).await;
    check(Budget::new(61, usize::MAX, usize::MAX), &["town"], 1).await;
    check(Budget::new(usize::MAX, 4 * 131, usize::MAX), &["age"], 1).await;
    check(Budget::new(usize::MAX, usize::MAX, 1), &["age"], 1).await;
}

/// A clock that goes on whenever somebody looks at it.
#[derive(Debug, Default)]
struct Ticking(std::sync::atomic::AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        at(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn rows_that_are_written_together_are_seen_together() {
    let features = Features::new(Arc::new(MemoryRecords::new()), Arc::new(Ticking::default()));
    let shop = scope("shop");
    features.define(&shop, set()).await.unwrap();
    let rows: Vec<_> = (0..9).map(|second| row("ada", second, &[("age", Value::Number(1.0))])).collect();
    features.write(&shop, "people", &rows).await.unwrap();
    let (kept, _) = features.rows.list(&shop, &Query::new(Selection::All, 100)).await.unwrap();
    let stamps: BTreeSet<_> = kept.iter().map(|row| row.document.written_at).collect();
    assert_eq!((kept.len(), stamps.len()), (9, 1), "{stamps:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_read_is_what_all_rows_say(
        rows in prop::collection::btree_map(0_i64..300, (prop::option::of(0.0..9.0_f64), prop::option::of(any::<bool>())), 0..250),
        asked in prop::collection::vec(-10_i64..500, 1..6),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let (features, _) = home().await;
            let rows: Vec<NewRow> = rows.iter().map(|(second, (age, paid))| {
                let mut values = Vec::new();
                values.extend(age.map(|age| ("age", Value::Number(age))));
                values.extend(paid.map(|paid| ("paid", Value::Boolean(paid))));
                row("ada", *second, &values)
            }).filter(|row| !row.values.is_empty()).collect();
            features.write(&scope("shop"), "people", &rows).await.unwrap();
            for second in asked {
                let found = read(&features, &moment("ada", second)).await;
                for name in ["age", "paid"] {
                    let fits = |row: &&NewRow| row.values.contains_key(name)
                        && row.event_time <= at(second) && row.event_time >= at(second - 100);
                    let expected = rows.iter().filter(fits).max_by_key(|row| row.event_time);
                    let expected = expected.map(|row| Known { value: row.values[name].clone(), event_time: row.event_time });
                    assert_eq!(found.values.get(name), expected.as_ref(), "{name} at {second}");
                }
            }
        });
    }
}
