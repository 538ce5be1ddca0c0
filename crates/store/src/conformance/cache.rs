//! The rules of the `Cache` port.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use kernel::codes;

use super::{assert_refused, scope};
use crate::Cache;

/// One test per rule of the `Cache` port.
#[macro_export]
macro_rules! cache_conformance {
    ($open:expr) => {
        $crate::conformance_tests!(
            cache,
            $open,
            [
                values_come_back_until_they_are_removed,
                values_end_with_their_time,
                tenants_do_not_meet,
                no_time_to_live_is_refused,
                counters_count_exactly_under_contention,
                counters_end_with_their_first_time,
                counters_stop_at_their_ends,
                names_of_one_kind_do_not_meet_another,
                a_lease_has_one_holder,
                a_lease_is_extended_by_its_holder,
                a_lease_ends_with_its_time,
                tokens_grow_with_each_holder,
                a_late_holder_cannot_release,
                one_of_many_gets_the_lease,
            ]
        );
    };
}

/// A cache and the way to let time pass for it: a manual clock moves, a real one is waited for.
pub struct CacheUnderTest {
    /// The cache.
    pub cache: Arc<dyn Cache>,
    /// The time to live that tests use: short where time is real.
    pub time_to_live: Duration,
    /// Lets so much time pass.
    pub pass: Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl fmt::Debug for CacheUnderTest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CacheUnderTest").field("cache", &self.cache).finish_non_exhaustive()
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

/// A value is there, is replaced, and is gone when removed.
pub async fn values_come_back_until_they_are_removed(open: impl AsyncFn() -> CacheUnderTest) {
    let cache = open().await.cache;
    let scope = scope("shop");
    assert_eq!(cache.get(&scope, "a").await.unwrap(), None);
    for value in ["one", "two", ""] {
        cache.set(&scope, "a", value.into(), HOUR).await.unwrap();
        assert_eq!(cache.get(&scope, "a").await.unwrap(), Some(Bytes::from(value)));
    }
    cache.set(&scope, "b", "kept".into(), HOUR).await.unwrap();
    cache.remove(&scope, &["a", "missing"]).await.unwrap();
    assert_eq!(cache.get(&scope, "a").await.unwrap(), None);
    assert!(cache.get(&scope, "b").await.unwrap().is_some());
}

/// A value is gone after its time to live; setting it again starts the time anew.
pub async fn values_end_with_their_time(open: impl AsyncFn() -> CacheUnderTest) {
    let CacheUnderTest { cache, time_to_live, pass } = open().await;
    let scope = scope("shop");
    cache.set(&scope, "a", "x".into(), time_to_live).await.unwrap();
    cache.set(&scope, "long", "x".into(), HOUR).await.unwrap();
    pass(time_to_live / 2).await;
    assert!(cache.get(&scope, "a").await.unwrap().is_some());
    cache.set(&scope, "a", "x".into(), time_to_live).await.unwrap();
    pass(time_to_live * 3 / 4).await;
    assert!(cache.get(&scope, "a").await.unwrap().is_some(), "its time began again");
    pass(time_to_live).await;
    assert_eq!(cache.get(&scope, "a").await.unwrap(), None);
    assert!(cache.get(&scope, "long").await.unwrap().is_some());
}

/// No call sees or touches what another tenant has under the same name.
pub async fn tenants_do_not_meet(open: impl AsyncFn() -> CacheUnderTest) {
    let cache = open().await.cache;
    let (shop, other) = (scope("shop"), scope("other"));
    cache.set(&shop, "a", "x".into(), HOUR).await.unwrap();
    cache.add(&shop, "a", 5, HOUR).await.unwrap();
    let lease = cache.acquire(&shop, "a", "me", HOUR).await.unwrap().unwrap();
    assert_eq!(cache.get(&other, "a").await.unwrap(), None);
    assert_eq!(cache.add(&other, "a", 1, HOUR).await.unwrap(), 1);
    assert!(cache.acquire(&other, "a", "you", HOUR).await.unwrap().is_some());
    cache.remove(&other, &["a"]).await.unwrap();
    cache.release(&other, &lease).await.unwrap();
    assert!(cache.get(&shop, "a").await.unwrap().is_some());
    assert_eq!(cache.add(&shop, "a", 1, HOUR).await.unwrap(), 6);
    assert_eq!(cache.acquire(&shop, "a", "you", HOUR).await.unwrap(), None);
}

/// A time to live of zero is refused.
pub async fn no_time_to_live_is_refused(open: impl AsyncFn() -> CacheUnderTest) {
    let cache = open().await.cache;
    let scope = scope("shop");
    let zero = Duration::ZERO;
    assert_refused(cache.set(&scope, "a", Bytes::new(), zero).await, codes::VALIDATION_ERROR);
    assert_refused(cache.add(&scope, "a", 1, zero).await, codes::VALIDATION_ERROR);
    assert_refused(cache.acquire(&scope, "a", "me", zero).await, codes::VALIDATION_ERROR);
}

/// No addition is lost.
pub async fn counters_count_exactly_under_contention(open: impl AsyncFn() -> CacheUnderTest) {
    let cache = open().await.cache;
    let add = |amount| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move {
            for _ in 0..100 {
                cache.add(&scope("shop"), "hits", amount, HOUR).await.unwrap();
            }
        })
    };
    let tasks: Vec<_> = [1, 2, 3, -1].map(add).into();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(cache.add(&scope("shop"), "hits", 0, HOUR).await.unwrap(), 500);
}

/// A counter's time starts with its first addition and is not extended by the next; then it starts at zero.
pub async fn counters_end_with_their_first_time(open: impl AsyncFn() -> CacheUnderTest) {
    let CacheUnderTest { cache, time_to_live, pass } = open().await;
    let scope = scope("shop");
    assert_eq!(cache.add(&scope, "hits", 3, time_to_live).await.unwrap(), 3);
    pass(time_to_live / 2).await;
    assert_eq!(cache.add(&scope, "hits", 4, time_to_live).await.unwrap(), 7);
    pass(time_to_live * 3 / 4).await;
    assert_eq!(cache.add(&scope, "hits", 1, time_to_live).await.unwrap(), 1);
    cache.remove(&scope, &["hits"]).await.unwrap();
    assert_eq!(cache.add(&scope, "hits", 2, time_to_live).await.unwrap(), 2);
}

/// A counter stops at the largest and the smallest number.
pub async fn counters_stop_at_their_ends(open: impl AsyncFn() -> CacheUnderTest) {
    let cache = open().await.cache;
    let scope = scope("shop");
    assert_eq!(cache.add(&scope, "up", i64::MAX, HOUR).await.unwrap(), i64::MAX);
    assert_eq!(cache.add(&scope, "up", 1, HOUR).await.unwrap(), i64::MAX);
    assert_eq!(cache.add(&scope, "down", i64::MIN, HOUR).await.unwrap(), i64::MIN);
    assert_eq!(cache.add(&scope, "down", -1, HOUR).await.unwrap(), i64::MIN);
}

/// A value, a counter and a lease may share a name.
pub async fn names_of_one_kind_do_not_meet_another(open: impl AsyncFn() -> CacheUnderTest) {
    let cache = open().await.cache;
    let scope = scope("shop");
    cache.set(&scope, "a", "x".into(), HOUR).await.unwrap();
    assert_eq!(cache.add(&scope, "a", 2, HOUR).await.unwrap(), 2);
    assert!(cache.acquire(&scope, "a", "me", HOUR).await.unwrap().is_some());
    assert_eq!(cache.get(&scope, "a").await.unwrap(), Some(Bytes::from("x")));
    assert_eq!(cache.add(&scope, "a", 1, HOUR).await.unwrap(), 3);
}

/// While one holds a lease, another does not get it; once it is released, it does.
pub async fn a_lease_has_one_holder(open: impl AsyncFn() -> CacheUnderTest) {
    let cache = open().await.cache;
    let scope = scope("shop");
    let mine = cache.acquire(&scope, "train", "me", HOUR).await.unwrap().unwrap();
    assert_eq!((&*mine.name, &*mine.holder), ("train", "me"));
    assert_eq!(cache.acquire(&scope, "train", "you", HOUR).await.unwrap(), None);
    assert!(cache.acquire(&scope, "import", "you", HOUR).await.unwrap().is_some());
    cache.release(&scope, &mine).await.unwrap();
    assert!(cache.acquire(&scope, "train", "you", HOUR).await.unwrap().is_some());
}

/// The holder extends its lease and keeps its token.
pub async fn a_lease_is_extended_by_its_holder(open: impl AsyncFn() -> CacheUnderTest) {
    let CacheUnderTest { cache, time_to_live, pass } = open().await;
    let scope = scope("shop");
    let first = cache.acquire(&scope, "train", "me", time_to_live).await.unwrap().unwrap();
    pass(time_to_live / 2).await;
    assert_eq!(cache.acquire(&scope, "train", "me", time_to_live).await.unwrap(), Some(first));
    pass(time_to_live * 3 / 4).await;
    assert_eq!(cache.acquire(&scope, "train", "you", time_to_live).await.unwrap(), None, "it was extended");
}

/// A lease that was not extended is free.
pub async fn a_lease_ends_with_its_time(open: impl AsyncFn() -> CacheUnderTest) {
    let CacheUnderTest { cache, time_to_live, pass } = open().await;
    let scope = scope("shop");
    cache.acquire(&scope, "train", "me", time_to_live).await.unwrap().unwrap();
    pass(time_to_live * 2).await;
    let yours = cache.acquire(&scope, "train", "you", HOUR).await.unwrap().unwrap();
    assert_eq!(yours.holder, "you");
    assert_eq!(cache.acquire(&scope, "train", "me", HOUR).await.unwrap(), None);
}

/// Every new holder has a larger token than all before, also when it held the lease earlier, also after a restart.
pub async fn tokens_grow_with_each_holder(open: impl AsyncFn() -> CacheUnderTest) {
    let mut last = 0;
    for _ in 0..3 {
        let CacheUnderTest { cache, time_to_live, pass } = open().await;
        let scope = scope("shop");
        for holder in ["me", "you", "you", "me"] {
            let lease = cache.acquire(&scope, "train", holder, time_to_live).await.unwrap().unwrap();
            assert!(lease.token > last, "{} after {last}", lease.token);
            last = lease.token;
            pass(time_to_live * 2).await;
        }
    }
}

/// Who lost a lease to another cannot give the other's back.
pub async fn a_late_holder_cannot_release(open: impl AsyncFn() -> CacheUnderTest) {
    let CacheUnderTest { cache, time_to_live, pass } = open().await;
    let scope = scope("shop");
    let mine = cache.acquire(&scope, "train", "me", time_to_live).await.unwrap().unwrap();
    pass(time_to_live * 2).await;
    cache.acquire(&scope, "train", "you", HOUR).await.unwrap().unwrap();
    cache.release(&scope, &mine).await.unwrap();
    assert_eq!(cache.acquire(&scope, "train", "me", HOUR).await.unwrap(), None);
}

/// Of many that ask at once, one gets the lease.
pub async fn one_of_many_gets_the_lease(open: impl AsyncFn() -> CacheUnderTest) {
    let cache = open().await.cache;
    let ask = |number: u32| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move {
            cache.acquire(&scope("shop"), "train", &number.to_string(), HOUR).await.unwrap().is_some()
        })
    };
    let mut holders = 0;
    for task in (0..16).map(ask).collect::<Vec<_>>() {
        holders += u32::from(task.await.unwrap());
    }
    assert_eq!(holders, 1);
}
