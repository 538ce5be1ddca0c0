//! The rules of the `Blobs` port.

use std::sync::Arc;

use bytes::Bytes;
use kernel::codes;

use super::{assert_refused, scope};
use crate::{BlobInfo, Blobs, PutMode};

/// One test per rule of the `Blobs` port.
#[macro_export]
macro_rules! blobs_conformance {
    ($open:expr) => {
        $crate::conformance_tests!(
            blobs,
            $open,
            [
                an_object_comes_back_whole,
                replacing_replaces,
                creating_what_is_there_is_a_conflict,
                one_of_many_creates,
                ranges_are_cut_at_the_end,
                lists_are_in_path_order_and_under_the_folder,
                deleting_twice_is_fine,
                bad_paths_are_refused,
                tenants_do_not_meet,
                reopening_keeps_everything,
            ]
        );
    };
}

async fn put(blobs: &Arc<dyn Blobs>, path: &str, body: &str) {
    let body = Bytes::from(body.to_owned());
    blobs.put(&scope("shop"), path, body, PutMode::Replace).await.expect("the path is good");
}

async fn get(blobs: &Arc<dyn Blobs>, path: &str) -> Bytes {
    blobs.get(&scope("shop"), path).await.unwrap()
}

async fn paths(blobs: &Arc<dyn Blobs>, prefix: &str) -> Vec<String> {
    blobs.list(&scope("shop"), prefix).await.unwrap().into_iter().map(|info| info.path).collect()
}

/// What was put is got, empty and large alike; what was not is `NOT_FOUND`.
pub async fn an_object_comes_back_whole(open: impl AsyncFn() -> Arc<dyn Blobs>) {
    let blobs = open().await;
    let large: Bytes = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    for (path, body) in [("empty", Bytes::new()), ("models/recommend/1.bin", large)] {
        blobs.put(&scope("shop"), path, body.clone(), PutMode::Create).await.unwrap();
        assert!(get(&blobs, path).await == body, "{path} came back changed");
    }
    assert_refused(blobs.get(&scope("shop"), "missing").await, codes::NOT_FOUND);
    assert_refused(blobs.get(&scope("shop"), "models/recommend").await, codes::NOT_FOUND);
}

/// A second put of a path wins.
pub async fn replacing_replaces(open: impl AsyncFn() -> Arc<dyn Blobs>) {
    let blobs = open().await;
    for body in ["a long first body", "short", ""] {
        put(&blobs, "a/b", body).await;
        assert_eq!(get(&blobs, "a/b").await, body);
    }
    assert_eq!(paths(&blobs, "").await, ["a/b"]);
}

/// Creating a path that is taken fails and changes nothing.
pub async fn creating_what_is_there_is_a_conflict(open: impl AsyncFn() -> Arc<dyn Blobs>) {
    let blobs = open().await;
    put(&blobs, "a", "first").await;
    let refused = blobs.put(&scope("shop"), "a", "second".into(), PutMode::Create).await;
    assert_refused(refused, codes::CONFLICT);
    assert_eq!(get(&blobs, "a").await, "first");
    blobs.delete(&scope("shop"), "a").await.unwrap();
    blobs.put(&scope("shop"), "a", "third".into(), PutMode::Create).await.unwrap();
}

/// Of many that create one path at once, one succeeds and its body stays.
pub async fn one_of_many_creates(open: impl AsyncFn() -> Arc<dyn Blobs>) {
    let blobs = open().await;
    let create = |number: u32| {
        let blobs = Arc::clone(&blobs);
        tokio::spawn(async move {
            let body = Bytes::from(number.to_string());
            blobs.put(&scope("shop"), "a/lock", body.clone(), PutMode::Create).await.ok().map(|()| body)
        })
    };
    let mut created = Vec::new();
    for task in (0..8).map(create).collect::<Vec<_>>() {
        created.extend(task.await.unwrap());
    }
    assert_eq!(created, [get(&blobs, "a/lock").await]);
}

/// A range returns its part, cut where the object ends.
pub async fn ranges_are_cut_at_the_end(open: impl AsyncFn() -> Arc<dyn Blobs>) {
    let blobs = open().await;
    put(&blobs, "a", "0123456789").await;
    put(&blobs, "empty", "").await;
    let scope = scope("shop");
    let cases = [
        ("a", 0, 10, "0123456789"),
        ("a", 2, 5, "234"),
        ("a", 8, 99, "89"),
        ("a", 10, 20, ""),
        ("a", 50, 60, ""),
        ("a", 3, 3, ""),
        ("a", 0, u64::MAX, "0123456789"),
        ("empty", 0, 5, ""),
    ];
    for (path, from, to, expected) in cases {
        let found = blobs.get_range(&scope, path, from..to).await.unwrap();
        assert_eq!(found, expected, "{path} {from}..{to}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let backwards = 5..2;
    assert_refused(blobs.get_range(&scope, "a", backwards).await, codes::VALIDATION_ERROR);
    assert_refused(blobs.get_range(&scope, "missing", 0..1).await, codes::NOT_FOUND);
    assert_refused(blobs.get_range(&scope, "missing", 0..0).await, codes::NOT_FOUND);
}

/// A list has every object under a folder, in path order, with its size; a folder ends at a segment.
pub async fn lists_are_in_path_order_and_under_the_folder(open: impl AsyncFn() -> Arc<dyn Blobs>) {
    let blobs = open().await;
    assert!(paths(&blobs, "").await.is_empty());
    for path in ["b", "a/2", "a/10", "ab/1", "a/c/d", "A"] {
        put(&blobs, path, path).await;
    }
    assert_eq!(paths(&blobs, "").await, ["A", "a/10", "a/2", "a/c/d", "ab/1", "b"]);
    assert_eq!(paths(&blobs, "a").await, ["a/10", "a/2", "a/c/d"]);
    assert_eq!(paths(&blobs, "a/c").await, ["a/c/d"]);
    assert!(paths(&blobs, "x").await.is_empty());
    let info = blobs.list(&scope("shop"), "a/c").await.unwrap();
    assert_eq!(info, [BlobInfo { path: "a/c/d".to_owned(), size_bytes: 5 }]);
}

/// Removing what is not there is fine.
pub async fn deleting_twice_is_fine(open: impl AsyncFn() -> Arc<dyn Blobs>) {
    let blobs = open().await;
    put(&blobs, "a", "x").await;
    put(&blobs, "b", "x").await;
    for _ in 0..2 {
        blobs.delete(&scope("shop"), "a").await.unwrap();
        assert_refused(blobs.get(&scope("shop"), "a").await, codes::NOT_FOUND);
    }
    assert_eq!(paths(&blobs, "").await, ["b"]);
}

/// A path that could leave its folder, or that not every engine can hold, is refused by every call.
pub async fn bad_paths_are_refused(open: impl AsyncFn() -> Arc<dyn Blobs>) {
    let blobs = open().await;
    let scope = scope("shop");
    for path in ["..", "../a", "a/../b", "a//b", "/a", "a/", ".", "a/./b", "a b", "a\0b", "ü", "a#1", "a\\b"]
    {
        let refused = blobs.put(&scope, path, Bytes::new(), PutMode::Replace).await;
        assert_refused(refused, codes::VALIDATION_ERROR);
        assert_refused(blobs.get(&scope, path).await, codes::VALIDATION_ERROR);
        assert_refused(blobs.get_range(&scope, path, 0..1).await, codes::VALIDATION_ERROR);
        assert_refused(blobs.list(&scope, path).await, codes::VALIDATION_ERROR);
        assert_refused(blobs.delete(&scope, path).await, codes::VALIDATION_ERROR);
    }
    assert_refused(blobs.get(&scope, "").await, codes::VALIDATION_ERROR);
}

/// No call sees or touches another tenant's objects, whatever the tenants are called.
pub async fn tenants_do_not_meet(open: impl AsyncFn() -> Arc<dyn Blobs>) {
    let blobs = open().await;
    let tenants = ["shop", "shop2", "Shop", "..", "."];
    for tenant in tenants {
        let body = Bytes::from(tenant.to_owned());
        blobs.put(&scope(tenant), "same/path", body, PutMode::Create).await.unwrap();
    }
    for tenant in tenants {
        assert_eq!(blobs.get(&scope(tenant), "same/path").await.unwrap(), tenant);
        assert_eq!(blobs.list(&scope(tenant), "").await.unwrap().len(), 1);
    }
    blobs.delete(&scope(".."), "same/path").await.unwrap();
    assert_eq!(get(&blobs, "same/path").await, "shop");
}

/// Objects outlive a restart.
pub async fn reopening_keeps_everything(open: impl AsyncFn() -> Arc<dyn Blobs>) {
    let blobs = open().await;
    put(&blobs, "a/b", "x").await;
    put(&blobs, "c", "y").await;
    drop(blobs);
    let blobs = open().await;
    assert_eq!(paths(&blobs, "").await, ["a/b", "c"]);
    assert_eq!(get(&blobs, "a/b").await, "x");
}
