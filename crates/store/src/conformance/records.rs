//! The rules of the `Records` port.

mod agreement;
mod saved;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kernel::codes;

pub use agreement::it_agrees_with_the_fake;
pub use saved::{a_restored_engine_goes_on_as_the_first_would, a_snapshot_has_everything_of_one_moment};

use super::{assert_refused, scope};
use crate::{
    Expect, IndexValue, MAX_BODY_BYTES, MAX_COMMIT_WRITES, MAX_PAGE_RECORDS, Page, Query, Record, Records,
    Selection, Table, Write,
};

/// One test per rule of the `Records` port.
#[macro_export]
macro_rules! records_conformance {
    ($open:expr) => {
        $crate::conformance_tests!(
            records,
            $open,
            [
                a_record_is_created_replaced_and_removed,
                versions_grow_and_never_come_again,
                expectations_are_compared,
                a_commit_is_all_or_nothing,
                one_key_is_written_once_in_a_commit,
                limits_are_held,
                reopening_keeps_everything,
                tenants_do_not_meet,
                erasing_a_tenant_takes_all_of_it_and_no_other,
                tables_do_not_meet,
                keys_may_have_any_characters,
                increments_under_contention_are_not_lost,
                lists_are_in_key_order,
                lists_by_value_are_in_value_order,
                integers_come_before_texts,
                descending_pages_mirror_ascending_ones,
                pages_join_without_gap_or_overlap,
                a_cursor_holds_its_place_under_writes,
                a_cursor_of_another_query_is_refused,
                an_index_follows_its_record,
                a_missing_index_is_refused,
                a_snapshot_has_everything_of_one_moment,
                a_restored_engine_goes_on_as_the_first_would,
                it_agrees_with_the_fake,
            ]
        );
    };
}

const THINGS: Table = Table { name: "things", indexes: &["size", "label"] };
const OTHERS: Table = Table { name: "things_2", indexes: &["size"] };

type Indexes = Vec<(&'static str, IndexValue)>;

fn put_in(table: Table, key: &str, body: &str, indexes: Indexes, expect: Expect) -> Write {
    Write::Put { table, key: key.to_owned(), body: Bytes::from(body.to_owned()), indexes, expect }
}

fn put(key: &str, body: &str) -> Write {
    put_in(THINGS, key, body, Vec::new(), Expect::Any)
}

fn sized(key: &str, size: i64) -> Write {
    put_in(THINGS, key, "", vec![("size", IndexValue::Integer(size))], Expect::Any)
}

fn delete(key: &str) -> Write {
    Write::Delete { table: THINGS, key: key.to_owned(), expect: Expect::Any }
}

fn between(from: i64, to: i64) -> Selection {
    Selection::Between("size", IndexValue::Integer(from), IndexValue::Integer(to))
}

async fn commit(records: &Arc<dyn Records>, writes: Vec<Write>) -> Vec<u64> {
    records.commit(&scope("shop"), writes).await.expect("the writes are good")
}

async fn get(records: &Arc<dyn Records>, key: &str) -> Option<Record> {
    records.get(&scope("shop"), THINGS, key).await.unwrap()
}

async fn page(records: &Arc<dyn Records>, query: &Query) -> Page {
    records.list(&scope("shop"), THINGS, query).await.unwrap()
}

async fn keys(records: &Arc<dyn Records>, selection: Selection) -> Vec<String> {
    keys_of(&page(records, &Query::new(selection, MAX_PAGE_RECORDS)).await)
}

fn keys_of(page: &Page) -> Vec<String> {
    page.records.iter().map(|record| record.key.clone()).collect()
}

/// A record is there with its body, is replaced, and is gone; removing it twice is fine.
pub async fn a_record_is_created_replaced_and_removed(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    assert_eq!(get(&records, "a").await, None);
    for body in ["one", "two", ""] {
        let version = commit(&records, vec![put("a", body)]).await[0];
        let expected = Record { key: "a".to_owned(), version, body: Bytes::from(body) };
        assert_eq!(get(&records, "a").await, Some(expected));
    }
    for _ in 0..2 {
        assert_eq!(commit(&records, vec![delete("a")]).await, [0]);
        assert_eq!(get(&records, "a").await, None);
    }
    assert!(commit(&records, Vec::new()).await.is_empty());
}

/// A version is at least 1, grows with each write, and is not given to the key again after a delete.
pub async fn versions_grow_and_never_come_again(open: impl AsyncFn() -> Arc<dyn Records>) {
    let mut records = open().await;
    let mut last = 0;
    for round in 0..6 {
        let version = commit(&records, vec![put("a", "x")]).await[0];
        assert!(version > last, "{version} after {last}");
        last = version;
        if round % 2 == 1 {
            commit(&records, vec![delete("a")]).await;
        }
        if round == 3 {
            drop(records);
            records = open().await;
        }
    }
}

/// Each expectation holds exactly when it should, for puts and for deletes; a refused write changes nothing.
pub async fn expectations_are_compared(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    let version = commit(&records, vec![put("there", "x")]).await[0];
    let cases = [
        ("there", Expect::Any, true),
        ("there", Expect::Absent, false),
        ("there", Expect::Version(version), true),
        ("there", Expect::Version(version + 1), false),
        ("missing", Expect::Any, true),
        ("missing", Expect::Absent, true),
        ("missing", Expect::Version(version), false),
        ("missing", Expect::Version(0), false),
    ];
    for (key, expect, holds) in cases {
        for is_put in [true, false] {
            let before = get(&records, key).await;
            let expect = match (expect, &before) {
                (Expect::Version(wanted), Some(record)) if wanted == version => {
                    Expect::Version(record.version)
                }
                (Expect::Version(_), Some(record)) => Expect::Version(record.version + 1),
                (other, _) => other,
            };
            let write = if is_put {
                put_in(THINGS, key, "new", Vec::new(), expect)
            } else {
                Write::Delete { table: THINGS, key: key.to_owned(), expect }
            };
            let outcome = records.commit(&scope("shop"), vec![write]).await;
            if holds {
                outcome.unwrap();
                assert_eq!(get(&records, key).await.is_some(), is_put, "{key} {expect:?}");
            } else {
                let error = outcome.unwrap_err();
                assert_eq!(error.code(), codes::CONFLICT);
                assert!(error.message().contains(key), "{error} names the key");
                assert_eq!(get(&records, key).await, before, "{key} {expect:?}");
            }
            commit(&records, vec![if key == "there" { put(key, "x") } else { delete(key) }]).await;
        }
    }
}

/// One failed expectation undoes every write of the commit, in every table and index.
pub async fn a_commit_is_all_or_nothing(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    commit(&records, vec![put("kept", "old"), sized("gone", 1)]).await;
    let refused = vec![
        put("kept", "new"),
        delete("gone"),
        sized("extra", 1),
        put_in(OTHERS, "a", "x", Vec::new(), Expect::Any),
        put_in(THINGS, "kept_2", "x", Vec::new(), Expect::Version(7)),
    ];
    assert_refused(records.commit(&scope("shop"), refused).await, codes::CONFLICT);
    assert_eq!(get(&records, "kept").await.unwrap().body, "old");
    assert_eq!(keys(&records, Selection::All).await, ["gone", "kept"]);
    assert_eq!(keys(&records, between(0, 9)).await, ["gone"]);
    assert_eq!(records.get(&scope("shop"), OTHERS, "a").await.unwrap(), None);
    let good = vec![put("kept", "new"), delete("gone"), put_in(OTHERS, "a", "x", Vec::new(), Expect::Absent)];
    let versions = commit(&records, good).await;
    assert!(versions[0] > 0 && versions[1] == 0 && versions[2] > 0, "{versions:?}");
    assert_eq!(keys(&records, Selection::All).await, ["kept"]);
}

/// A key that comes twice in a commit is refused; the same key of another table is another key.
pub async fn one_key_is_written_once_in_a_commit(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    let twice = vec![put("a", "1"), delete("a")];
    assert_refused(records.commit(&scope("shop"), twice).await, codes::VALIDATION_ERROR);
    assert_eq!(get(&records, "a").await, None);
    commit(&records, vec![put("a", "1"), put_in(OTHERS, "a", "2", Vec::new(), Expect::Any)]).await;
}

/// Keys, bodies, commits and pages over their limits are refused; at the limits they work.
pub async fn limits_are_held(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    let scope = scope("shop");
    for key in ["", &"x".repeat(513)] {
        assert_refused(records.commit(&scope, vec![put(key, "")]).await, codes::VALIDATION_ERROR);
    }
    let long = "k".repeat(512);
    let text = vec![("label", IndexValue::Text("t".repeat(512)))];
    commit(&records, vec![put_in(THINGS, &long, "x", text, Expect::Any)]).await;
    assert_eq!(keys(&records, Selection::Equal("label", IndexValue::Text("t".repeat(512)))).await, [long]);
    let body = "x".repeat(MAX_BODY_BYTES + 1);
    assert_refused(records.commit(&scope, vec![put("a", &body)]).await, codes::TOO_LARGE);
    let many = (0..=MAX_COMMIT_WRITES).map(|number| put(&number.to_string(), "")).collect();
    assert_refused(records.commit(&scope, many).await, codes::TOO_LARGE);
    for limit in [0, MAX_PAGE_RECORDS + 1] {
        let refused = records.list(&scope, THINGS, &Query::new(Selection::All, limit)).await;
        assert_refused(refused, codes::VALIDATION_ERROR);
    }
}

/// Records, versions and indexes outlive a restart.
pub async fn reopening_keeps_everything(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    commit(&records, vec![sized("a", 3), sized("b", 1), put("c", "body"), put("d", "")]).await;
    commit(&records, vec![delete("d")]).await;
    let before = page(&records, &Query::new(Selection::All, 10)).await.records;
    drop(records);
    let records = open().await;
    assert_eq!(page(&records, &Query::new(Selection::All, 10)).await.records, before);
    assert_eq!(keys(&records, between(0, 9)).await, ["b", "a"]);
}

/// No call sees or touches another tenant, whatever the tenants are called.
pub async fn tenants_do_not_meet(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    let tenants = ["shop", "sho", "shop2", "Shop"];
    for tenant in tenants {
        let size = vec![("size", IndexValue::Integer(1))];
        let write = put_in(THINGS, "same", tenant, size, Expect::Absent);
        records.commit(&scope(tenant), vec![write]).await.unwrap();
    }
    for tenant in tenants {
        let scope = scope(tenant);
        assert_eq!(records.get(&scope, THINGS, "same").await.unwrap().unwrap().body, tenant);
        for selection in [Selection::All, Selection::Prefix("s".to_owned()), between(0, 9)] {
            let page = records.list(&scope, THINGS, &Query::new(selection, 10)).await.unwrap();
            let bodies: Vec<_> = page.records.iter().map(|record| record.body.clone()).collect();
            assert_eq!(bodies, [tenant]);
        }
    }
    records.commit(&scope("shop"), vec![delete("same")]).await.unwrap();
    assert!(records.get(&scope("sho"), THINGS, "same").await.unwrap().is_some());
}

/// Erasing removes every record and index entry of one tenant and counts the records.
pub async fn erasing_a_tenant_takes_all_of_it_and_no_other(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    let write = |number: i64| sized(&format!("{number:05}"), number);
    for tenant in ["shop", "shop2"] {
        for start in [0, 1_500] {
            let writes = (start..start + 1_500).map(write).collect();
            records.commit(&scope(tenant), writes).await.unwrap();
        }
    }
    commit(&records, vec![put_in(OTHERS, "a", "x", Vec::new(), Expect::Any)]).await;
    assert_eq!(records.erase(&scope("shop")).await.unwrap(), 3_001);
    assert_eq!(records.erase(&scope("shop")).await.unwrap(), 0);
    assert!(keys(&records, Selection::All).await.is_empty());
    assert!(keys(&records, between(0, 9_999)).await.is_empty());
    assert_eq!(records.get(&scope("shop"), OTHERS, "a").await.unwrap(), None);
    let other = records.list(&scope("shop2"), THINGS, &Query::new(between(0, 9_999), 10_000)).await.unwrap();
    assert_eq!(other.records.len(), 3_000);
}

/// A table whose name begins with another's is another table.
pub async fn tables_do_not_meet(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    let size = || vec![("size", IndexValue::Integer(1))];
    commit(&records, vec![put_in(OTHERS, "a", "other", size(), Expect::Any), sized("b", 1)]).await;
    assert_eq!(keys(&records, Selection::All).await, ["b"]);
    assert_eq!(keys(&records, between(0, 9)).await, ["b"]);
    assert_eq!(get(&records, "a").await, None);
}

/// Keys and texts keep their identity and their order, byte by byte, whatever is in them.
pub async fn keys_may_have_any_characters(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    let hostile: BTreeSet<&str> = [
        "a",
        "a\0",
        "a\0b",
        "a\0\0",
        "a\u{1}",
        "a/b",
        "A",
        "ä",
        "名前",
        "\u{10ffff}",
        "\0",
        "a b",
        "'",
        "%",
        "_",
    ]
    .into();
    let label = |key: &str| vec![("label", IndexValue::Text(key.to_owned()))];
    let writes = hostile.iter().map(|key| put_in(THINGS, key, key, label(key), Expect::Absent)).collect();
    commit(&records, writes).await;
    let sorted: Vec<String> = hostile.iter().map(|key| (*key).to_owned()).collect();
    assert_eq!(keys(&records, Selection::All).await, sorted);
    let all = Selection::Between(
        "label",
        IndexValue::Text(String::new()),
        IndexValue::Text("\u{10ffff}".repeat(2)),
    );
    assert_eq!(keys(&records, all).await, sorted);
    for key in &hostile {
        assert_eq!(get(&records, key).await.unwrap().body, key.as_bytes());
        assert_eq!(
            keys(&records, Selection::Equal("label", IndexValue::Text((*key).to_owned()))).await,
            [*key]
        );
        let expected: Vec<String> = sorted.iter().filter(|other| other.starts_with(key)).cloned().collect();
        assert_eq!(keys(&records, Selection::Prefix((*key).to_owned())).await, expected, "prefix {key:?}");
    }
}

/// Compare-and-set: of many tasks that increment one number, no increment is lost.
pub async fn increments_under_contention_are_not_lost(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    commit(&records, vec![put("number", "0")]).await;
    let increment = |_| {
        let records = Arc::clone(&records);
        tokio::spawn(async move {
            for _ in 0..10 {
                loop {
                    let found = get(&records, "number").await.unwrap();
                    let number: u32 = std::str::from_utf8(&found.body).unwrap().parse().unwrap();
                    let expect = Expect::Version(found.version);
                    let write = put_in(THINGS, "number", &(number + 1).to_string(), Vec::new(), expect);
                    match records.commit(&scope("shop"), vec![write]).await {
                        Ok(_) => break,
                        Err(error) => assert_eq!(error.code(), codes::CONFLICT),
                    }
                }
            }
        })
    };
    for task in (0..8).map(increment).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(get(&records, "number").await.unwrap().body, "80");
}

/// Lists by key are in byte order and begin with the prefix.
pub async fn lists_are_in_key_order(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    commit(&records, ["b", "a", "ab", "c", "aa", "B"].map(|key| put(key, key)).into()).await;
    assert_eq!(keys(&records, Selection::All).await, ["B", "a", "aa", "ab", "b", "c"]);
    assert_eq!(keys(&records, Selection::Prefix("a".to_owned())).await, ["a", "aa", "ab"]);
    assert_eq!(keys(&records, Selection::Prefix(String::new())).await.len(), 6);
    assert!(keys(&records, Selection::Prefix("x".to_owned())).await.is_empty());
    let bodies: Vec<_> = page(&records, &Query::new(Selection::All, 2)).await.records;
    assert_eq!(bodies[1].body, "a", "a list has the bodies");
}

/// Lists by value are ordered by value, then key; both ends belong to the range.
pub async fn lists_by_value_are_in_value_order(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    let sizes = [("e", -5), ("d", i64::MIN), ("a", 7), ("c", 0), ("b", 7), ("f", i64::MAX), ("none", 0)];
    commit(&records, sizes[..6].iter().map(|(key, size)| sized(key, *size)).collect()).await;
    commit(&records, vec![put("none", "")]).await;
    assert_eq!(keys(&records, between(i64::MIN, i64::MAX)).await, ["d", "e", "c", "a", "b", "f"]);
    assert_eq!(keys(&records, between(-5, 7)).await, ["e", "c", "a", "b"]);
    assert_eq!(keys(&records, between(1, 6)).await, [""; 0]);
    assert_eq!(keys(&records, between(7, -5)).await, [""; 0], "an empty range");
    assert_eq!(keys(&records, Selection::Equal("size", IndexValue::Integer(7))).await, ["a", "b"]);
    assert_eq!(keys(&records, Selection::Equal("size", IndexValue::Integer(1))).await, [""; 0]);
}

/// One index may hold both kinds of value.
pub async fn integers_come_before_texts(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    let labelled = |key, value| put_in(THINGS, key, "", vec![("label", value)], Expect::Any);
    let text = |text: &str| IndexValue::Text(text.to_owned());
    commit(
        &records,
        vec![labelled("a", text("")), labelled("b", IndexValue::Integer(i64::MAX)), labelled("c", text("x"))],
    )
    .await;
    let all = Selection::Between("label", IndexValue::Integer(i64::MIN), text("z"));
    assert_eq!(keys(&records, all).await, ["b", "a", "c"]);
}

fn selections() -> Vec<Selection> {
    let five = IndexValue::Integer(5);
    vec![Selection::All, Selection::Prefix("1".to_owned()), Selection::Equal("size", five), between(2, 8)]
}

async fn hundred(records: &Arc<dyn Records>) {
    commit(records, (0..100_i64).map(|number| sized(&number.to_string(), number % 11)).collect()).await;
}

async fn walk(records: &Arc<dyn Records>, mut query: Query) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let page = page(records, &query).await;
        assert!(page.records.len() <= query.limit, "a page is too long");
        assert!(page.cursor.is_none() || page.records.len() == query.limit, "a short page is the last");
        found.extend(keys_of(&page));
        query.cursor = page.cursor;
        if query.cursor.is_none() {
            return found;
        }
    }
}

/// Descending lists are ascending ones from the other end, page by page.
pub async fn descending_pages_mirror_ascending_ones(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    hundred(&records).await;
    for selection in selections() {
        let mut expected = keys(&records, selection.clone()).await;
        expected.reverse();
        for limit in [1, 7, 100] {
            let query = Query { descending: true, ..Query::new(selection.clone(), limit) };
            assert_eq!(walk(&records, query).await, expected, "{selection:?} by {limit}");
        }
    }
}

/// Pages of every size join to the whole list.
pub async fn pages_join_without_gap_or_overlap(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    hundred(&records).await;
    for selection in selections() {
        let expected = keys(&records, selection.clone()).await;
        assert!(expected.len() > 5, "{selection:?}");
        for limit in [1, 3, expected.len(), 1_000] {
            let found = walk(&records, Query::new(selection.clone(), limit)).await;
            assert_eq!(found, expected, "{selection:?} by {limit}");
        }
    }
}

/// Between two pages, records may come and go on both sides of the cursor, and the record it stands on may vanish.
pub async fn a_cursor_holds_its_place_under_writes(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    for descending in [false, true] {
        for by_value in [false, true] {
            records.erase(&scope("shop")).await.unwrap();
            commit(&records, (0..10).map(|number| sized(&format!("k{number}"), number)).collect()).await;
            let selection = if by_value { between(0, 99) } else { Selection::All };
            let mut query = Query { descending, ..Query::new(selection, 5) };
            let first = page(&records, &query).await;
            let expected: &[&str] =
                if descending { &["k9", "k8", "k7", "k6", "k5"] } else { &["k0", "k1", "k2", "k3", "k4"] };
            assert_eq!(keys_of(&first), expected);
            let (behind, here, ahead, left) =
                if descending { ("k7x", "k5", "k2x", "k3") } else { ("k2x", "k4", "k7x", "k6") };
            let size_of = |key: &str| i64::from(key.as_bytes()[1] - b'0');
            commit(
                &records,
                vec![
                    sized(behind, size_of(behind)),
                    delete(here),
                    sized(ahead, size_of(ahead)),
                    delete(left),
                ],
            )
            .await;
            query.cursor = first.cursor;
            query.limit = 10;
            let rest: &[&str] =
                if descending { &["k4", "k2x", "k2", "k1", "k0"] } else { &["k5", "k7", "k7x", "k8", "k9"] };
            assert_eq!(
                keys_of(&page(&records, &query).await),
                rest,
                "descending {descending}, by value {by_value}"
            );
        }
    }
}

/// A cursor goes with its table, selection and direction; garbage is refused too.
pub async fn a_cursor_of_another_query_is_refused(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    hundred(&records).await;
    let cursor = page(&records, &Query::new(between(0, 10), 5)).await.cursor;
    let good = Query { cursor: cursor.clone(), ..Query::new(between(0, 10), 5) };
    assert_eq!(page(&records, &good).await.records.len(), 5);
    let others = [
        Query { descending: true, ..good.clone() },
        Query { selection: between(0, 9), ..good.clone() },
        Query { selection: Selection::All, ..good.clone() },
        Query { cursor: Some("garbage".to_owned()), ..good.clone() },
    ];
    for other in others {
        assert_refused(records.list(&scope("shop"), THINGS, &other).await, codes::VALIDATION_ERROR);
    }
    assert_refused(records.list(&scope("shop"), OTHERS, &good).await, codes::VALIDATION_ERROR);
    let theirs = records.list(&scope("other"), THINGS, &good).await.unwrap();
    assert!(theirs.records.is_empty(), "a cursor does not carry into another tenant");
}

/// When a record is replaced or removed, its old values are gone from the indexes.
pub async fn an_index_follows_its_record(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    let at = |size| Selection::Equal("size", IndexValue::Integer(size));
    let text = |text: &str| IndexValue::Text(text.to_owned());
    let both = vec![("size", IndexValue::Integer(1)), ("label", text("x"))];
    commit(&records, vec![put_in(THINGS, "a", "", both, Expect::Any), sized("b", 1)]).await;
    assert_eq!(keys(&records, at(1)).await, ["a", "b"]);
    commit(&records, vec![sized("a", 2)]).await;
    assert_eq!(keys(&records, at(1)).await, ["b"]);
    assert_eq!(keys(&records, at(2)).await, ["a"]);
    assert!(keys(&records, Selection::Equal("label", text("x"))).await.is_empty());
    commit(&records, vec![put("a", "without"), delete("b")]).await;
    assert!(keys(&records, between(i64::MIN, i64::MAX)).await.is_empty());
    assert_eq!(keys(&records, Selection::All).await, ["a"]);
    commit(&records, vec![sized("b", 1)]).await;
    assert_eq!(keys(&records, at(1)).await, ["b"]);
}

/// An index that the table does not have is refused in writes and in lists; so is one that is given twice.
pub async fn a_missing_index_is_refused(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    let one = IndexValue::Integer(1);
    let refused = [vec![("colour", one.clone())], vec![("size", one.clone()), ("size", one.clone())]];
    for indexes in refused {
        let write = put_in(THINGS, "a", "", indexes, Expect::Any);
        assert_refused(records.commit(&scope("shop"), vec![write]).await, codes::VALIDATION_ERROR);
    }
    let query = Query::new(Selection::Equal("colour", one), 10);
    assert_refused(records.list(&scope("shop"), THINGS, &query).await, codes::VALIDATION_ERROR);
}
