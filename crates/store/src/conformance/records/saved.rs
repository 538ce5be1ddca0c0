//! What backups ask of the `Records` port.

use std::sync::Arc;

use futures::TryStreamExt;

use super::agreement::random_write;
use super::{Indexes, OTHERS, THINGS, between, put, put_in};
use crate::conformance::{Draw, scope};
use crate::memory::MemoryRecords;
use crate::{Expect, IndexValue, Query, Records, SavedRecord, Write};

async fn saved(records: &Arc<dyn Records>, except: &[&str]) -> Vec<SavedRecord> {
    records.snapshot(except).try_concat().await.unwrap()
}

/// A snapshot has every record of every tenant with its indexes, in order, as of the moment it was asked for.
pub async fn a_snapshot_has_everything_of_one_moment(open: impl AsyncFn() -> Arc<dyn Records>) {
    let records = open().await;
    assert_eq!(saved(&records, &[]).await, []);
    let indexes = vec![("size", IndexValue::Integer(-4)), ("label", IndexValue::Text("a\0b".to_owned()))];
    for tenant in ["shop2", "shop"] {
        let writes = vec![
            put_in(OTHERS, "k", "other", Indexes::new(), Expect::Any),
            put_in(THINGS, "k\0", tenant, indexes.clone(), Expect::Any),
            put("gone", "x"),
        ];
        records.commit(&scope(tenant), writes).await.unwrap();
        let gone = Write::Delete { table: THINGS, key: "gone".to_owned(), expect: Expect::Any };
        records.commit(&scope(tenant), vec![gone]).await.unwrap();
    }
    let found = saved(&records, &[]).await;
    let places: Vec<_> = found.iter().map(|r| (r.tenant.as_str(), &*r.table, &*r.key)).collect();
    let of = |tenant| [(tenant, "things", "k\0"), (tenant, "things_2", "k")];
    assert_eq!(places, [of("shop"), of("shop2")].concat());
    assert_eq!(&found[0].body[..], b"shop");
    let mut expected: Vec<_> =
        indexes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    expected.sort();
    assert_eq!(found[0].indexes, expected);
    let held = records.get(&scope("shop"), THINGS, "k\0").await.unwrap().unwrap();
    assert_eq!(found[0].version, held.version);
    assert_eq!(saved(&records, &["things_2", "nothing"]).await.len(), 2);
    // More than a page, some of them large, and changed while they are read.
    let body = "x".repeat(1 << 20);
    let large: Vec<Write> = (0..12).map(|number| put(&format!("large-{number:02}"), &body)).collect();
    records.commit(&scope("shop"), large).await.unwrap();
    let many: Vec<Write> = (0..2_500).map(|number| put(&format!("n-{number:05}"), "1")).collect();
    records.commit(&scope("shop"), many).await.unwrap();
    let mut snapshot = records.snapshot(&["things_2"]);
    let first = snapshot.try_next().await.unwrap().unwrap();
    let again: Vec<Write> = (0..2_500).map(|number| put(&format!("n-{number:05}"), "2")).collect();
    records.commit(&scope("shop"), again).await.unwrap();
    records.erase(&scope("shop2")).await.unwrap();
    let rest = snapshot.try_concat().await.unwrap();
    assert_eq!(first.len() + rest.len(), 2 + 12 + 2_500);
    assert!(rest.iter().all(|record| &record.body[..] != b"2"), "it is of one moment");
}

/// What a snapshot gave, written into an empty engine, is there with its versions and indexes.
pub async fn a_restored_engine_goes_on_as_the_first_would(open: impl AsyncFn() -> Arc<dyn Records>) {
    let fake: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let mut draw = Draw(5);
    for _ in 0..60 {
        let writes: Vec<Write> = (0..draw.below(5)).map(|_| random_write(&mut draw)).collect();
        let _ = fake.commit(&scope(["shop", "shop2"][draw.below(2) as usize]), writes).await;
    }
    let given = saved(&fake, &[]).await;
    let records = open().await;
    for part in given.chunks(7) {
        records.restore(part.to_vec()).await.unwrap();
        records.restore(part.to_vec()).await.unwrap();
    }
    drop(records);
    let records = open().await;
    assert_eq!(saved(&records, &[]).await, given);
    let query = Query::new(between(-4, 4), 1_000);
    let found = records.list(&scope("shop"), THINGS, &query).await.unwrap();
    let expected = fake.list(&scope("shop"), THINGS, &query).await.unwrap();
    assert!(!expected.records.is_empty());
    assert_eq!(found.records, expected.records);
    let newest = given.iter().map(|record| record.version).max().unwrap();
    let versions = records.commit(&scope("shop"), vec![put("new", "1")]).await.unwrap();
    assert!(versions[0] > newest, "a version is never given twice");
}
