//! What is stored comes back, however large or odd; what is damaged is told.

mod common;

use bytes::Bytes;
use common::{ALL, Schema, TOPIC, event, scope, scope_of};
use kernel::{Event, codes};
use serde_json::value::to_raw_value;
use store::{Expect, IndexValue, Query, ReadLimit, Selection, Table, Write};

const TABLE: Table = Table { name: "things", indexes: &["label"] };

/// A changed body, a missing event and a missing end are each told with their place; what is before them is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_event_is_named() {
    let cases = [
        ("UPDATE events SET body = overlay(body PLACING '\\x20' FROM 5) WHERE place = 2", 2),
        ("UPDATE events SET checksum = checksum + 1 WHERE place = 2", 2),
        ("DELETE FROM events WHERE place = 2", 2),
        ("DELETE FROM events WHERE place >= 2", 2),
        ("DELETE FROM events", 0),
    ];
    for (damage, place) in cases {
        let schema = Schema::migrated().await;
        let log = schema.open().await.event_log();
        log.append(&scope(), &TOPIC, (0..5).map(event).collect()).await.unwrap();
        assert!(schema.client().await.execute(damage, &[]).await.unwrap() > 0);
        let before = ReadLimit { events: 2, bytes: usize::MAX };
        let error = match log.read(&TOPIC, 0, 0, before).await {
            Ok(found) => {
                assert_eq!(found.len(), 2, "{damage}");
                log.read(&TOPIC, 0, 2, ALL).await.unwrap_err()
            }
            Err(error) => error,
        };
        assert_eq!(error.code(), codes::CORRUPTED, "{damage}");
        assert_eq!(error.message(), format!("event {place} of topic `events`, partition 0 is damaged"));
    }
}

/// Events that have no room in one statement, or in one read, are written and read all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_goes_in_parts() {
    let schema = Schema::migrated().await;
    let log = schema.open().await.event_log();
    let text = to_raw_value(&"x".repeat(1_000_000)).unwrap();
    let large = |id| Event { data: Some(text.clone().into()), ..event(id) };
    let places = log.append(&scope(), &TOPIC, (0..40).map(large).collect()).await.unwrap();
    assert!((0..40).zip(&places).all(|(offset, place)| place.offset == offset));
    let found = log.read(&TOPIC, 0, 0, ALL).await.unwrap();
    assert_eq!(found.len(), 40);
    let some = log.read(&TOPIC, 0, 0, ReadLimit { events: 99, bytes: 3_500_000 }).await.unwrap();
    assert_eq!(some.len(), 3);
    let some = log.read(&TOPIC, 0, 0, ReadLimit { events: 99, bytes: 20_500_000 }).await.unwrap();
    assert_eq!(some.len(), 20);
}

/// Records at the limit of their size, and every kind of tenant's name, come back as they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_odd_records_come_back() {
    let schema = Schema::migrated().await;
    let records = schema.open().await.records();
    let put = |key: &str, body: Bytes| Write::Put {
        table: TABLE,
        key: key.to_owned(),
        body,
        indexes: vec![("label", IndexValue::Text(key.to_owned()))],
        expect: Expect::Absent,
    };
    let large: Bytes = (0..store::MAX_BODY_BYTES).map(|place| (place % 251) as u8).collect();
    records.commit(&scope(), vec![put("large\0", large.clone())]).await.unwrap();
    assert!(records.get(&scope(), TABLE, "large\0").await.unwrap().unwrap().body == large);
    let tenants = [".", "..", "-", "a.b", "A.B", "pg_catalog", "public", "null", "1", &"x".repeat(64)];
    for tenant in tenants {
        records
            .commit(&scope_of(tenant), vec![put("'; DROP TABLE records; --", Bytes::new())])
            .await
            .unwrap();
    }
    for tenant in tenants {
        let query = Query::new(Selection::All, 10);
        assert_eq!(
            records.list(&scope_of(tenant), TABLE, &query).await.unwrap().records.len(),
            1,
            "{tenant}"
        );
        assert_eq!(records.erase(&scope_of(tenant)).await.unwrap(), 1);
    }
    let many = vec![large; 17].into_iter().enumerate();
    let many = many.map(|(number, body)| put(&number.to_string(), body)).collect();
    assert_eq!(records.commit(&scope(), many).await.unwrap_err().code(), codes::TOO_LARGE);
}

/// A commit of the most writes is compared, written and indexed in a time that grows with it, not with its square.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_commits_are_done_in_time() {
    let schema = Schema::migrated().await;
    let records = schema.open().await.records();
    let mut expects: Vec<Expect> = vec![Expect::Absent; store::MAX_COMMIT_WRITES];
    for round in 0..3 {
        let put = |(number, expect): (usize, &Expect)| Write::Put {
            table: TABLE,
            key: number.to_string(),
            body: Bytes::from(vec![round; 100]),
            indexes: vec![("label", IndexValue::Integer(i64::from(round) * 7))],
            expect: *expect,
        };
        let versions = records.commit(&scope(), expects.iter().enumerate().map(put).collect()).await.unwrap();
        expects = versions.into_iter().map(Expect::Version).collect();
    }
    let query = Query::new(Selection::Equal("label", IndexValue::Integer(14)), 10_000);
    assert_eq!(records.list(&scope(), TABLE, &query).await.unwrap().records.len(), 10_000);
}
