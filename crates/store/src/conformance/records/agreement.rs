//! An engine against the fake, over random commits and lists.

use std::sync::Arc;

use kernel::Scope;

use super::{Indexes, THINGS, between, put_in};
use crate::conformance::{Draw, scope};
use crate::memory::MemoryRecords;
use crate::{Expect, IndexValue, Page, Query, Records, Selection, Write};

pub(super) fn random_write(draw: &mut Draw) -> Write {
    let key = format!("k{}", draw.below(40));
    let expect = if draw.below(5) == 0 { Expect::Absent } else { Expect::Any };
    if draw.below(4) == 0 {
        return Write::Delete { table: THINGS, key, expect };
    }
    let mut indexes = Indexes::new();
    if draw.below(4) > 0 {
        indexes.push(("size", IndexValue::Integer(i64::try_from(draw.below(9)).unwrap() - 4)));
    }
    if draw.below(2) > 0 {
        indexes.push(("label", IndexValue::Text("ab\0".repeat(usize::try_from(draw.below(3)).unwrap()))));
    }
    put_in(THINGS, &key, &draw.below(1_000).to_string(), indexes, expect)
}

/// A few hundred random commits and lists give what the fake gives, over restarts.
pub async fn it_agrees_with_the_fake(open: impl AsyncFn() -> Arc<dyn Records>) {
    let fake: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let mut records = open().await;
    let mut draw = Draw(11);
    let scopes: [Scope; 2] = [scope("shop"), scope("shop2")];
    for _ in 0..200 {
        let scope = &scopes[usize::try_from(draw.below(2)).unwrap()];
        let writes: Vec<Write> = (0..draw.below(5)).map(|_| random_write(&mut draw)).collect();
        let found = records.commit(scope, writes.clone()).await.map_err(|error| error.code());
        let expected = fake.commit(scope, writes).await.map_err(|error| error.code());
        assert_eq!(found.map(|versions| versions.len()), expected.map(|versions| versions.len()));
        if draw.below(20) == 0 {
            drop(records);
            records = open().await;
        }
        let low = i64::try_from(draw.below(9)).unwrap() - 4;
        let selection = match draw.below(4) {
            0 => Selection::All,
            1 => Selection::Prefix("k1".to_owned()),
            2 => Selection::Equal("size", IndexValue::Integer(low)),
            _ => between(low, low + 3),
        };
        let limit = usize::try_from(1 + draw.below(9)).unwrap();
        let query = Query { descending: draw.below(2) == 0, ..Query::new(selection, limit) };
        let mut of_engine = query.clone();
        let mut of_fake = query;
        loop {
            let found = records.list(scope, THINGS, &of_engine).await.unwrap();
            let expected = fake.list(scope, THINGS, &of_fake).await.unwrap();
            let bodies = |page: &Page| -> Vec<_> {
                page.records.iter().map(|record| (record.key.clone(), record.body.clone())).collect()
            };
            assert_eq!(bodies(&found), bodies(&expected), "{of_fake:?}");
            assert_eq!(found.cursor.is_some(), expected.cursor.is_some());
            (of_engine.cursor, of_fake.cursor) = (found.cursor, expected.cursor);
            if of_fake.cursor.is_none() {
                break;
            }
        }
    }
}
