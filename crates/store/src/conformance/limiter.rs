//! The rules of the `Limiter` port.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kernel::codes;

use super::{assert_refused, scope};
use crate::{Limit, Limiter, Rate, Verdict};

/// One test per rule of the `Limiter` port.
#[macro_export]
macro_rules! limiter_conformance {
    ($open:expr) => {
        $crate::conformance_tests!(
            limiter,
            $open,
            [
                a_burst_passes_and_then_the_rate,
                standings_tell_what_is_left_and_when,
                a_rest_gives_one_burst_and_no_more,
                what_was_refused_is_not_charged,
                all_limits_are_charged_or_none,
                a_cost_of_zero_only_looks,
                costs_are_taken_whole,
                tenants_and_keys_do_not_meet,
                exactly_a_burst_passes_under_contention,
                a_smaller_burst_counts_at_once,
                bad_calls_are_refused,
            ]
        );
    };
}

/// A limiter and the way to let time pass for it: a manual clock moves, a real one is waited for.
pub struct LimiterUnderTest {
    /// The limiter.
    pub limiter: Arc<dyn Limiter>,
    /// The time after which one more may pass that tests use: where time is real, longer than a few calls take.
    pub interval: Duration,
    /// Lets so much time pass.
    pub pass: Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl fmt::Debug for LimiterUnderTest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LimiterUnderTest").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

fn one_in(interval: Duration, burst: u32) -> Rate {
    Rate::new(1, interval, burst).expect("a lawful rate")
}

async fn take(limiter: &Arc<dyn Limiter>, key: &str, rate: Rate, cost: u32) -> Verdict {
    limiter.take(&scope("shop"), &[Limit { key, rate }], cost).await.unwrap()
}

/// After a burst one passes in each interval, no more.
pub async fn a_burst_passes_and_then_the_rate(open: impl AsyncFn() -> LimiterUnderTest) {
    let LimiterUnderTest { limiter, interval, pass } = open().await;
    let rate = one_in(interval, 3);
    for number in 0..3 {
        assert!(take(&limiter, "a", rate, 1).await.admitted, "{number}");
    }
    let refused = take(&limiter, "a", rate, 1).await;
    assert!(!refused.admitted);
    let wait = refused.standings[0].retry_after;
    assert!(wait > Duration::ZERO && wait <= interval, "{wait:?}");
    for _ in 0..2 {
        pass(interval).await;
        assert!(take(&limiter, "a", rate, 1).await.admitted, "an interval has passed");
        assert!(!take(&limiter, "a", rate, 1).await.admitted, "one passes in an interval");
    }
}

/// What is left counts down, the time to the whole burst counts up.
pub async fn standings_tell_what_is_left_and_when(open: impl AsyncFn() -> LimiterUnderTest) {
    let limiter = open().await.limiter;
    let rate = one_in(HOUR, 3);
    let mut before = Duration::ZERO;
    for left in [2, 1, 0] {
        let standing = take(&limiter, "a", rate, 1).await.standings[0];
        assert_eq!((standing.remaining, standing.retry_after), (left, Duration::ZERO));
        assert!(standing.reset_after > before && standing.reset_after <= HOUR * 3, "{standing:?}");
        before = standing.reset_after;
    }
    let refused = take(&limiter, "a", rate, 2).await.standings[0];
    assert_eq!(refused.remaining, 0);
    assert!(refused.retry_after > HOUR && refused.retry_after <= HOUR * 2, "{refused:?}");
}

/// However long nobody asked, one burst passes.
pub async fn a_rest_gives_one_burst_and_no_more(open: impl AsyncFn() -> LimiterUnderTest) {
    let LimiterUnderTest { limiter, interval, pass } = open().await;
    let rate = one_in(interval, 2);
    assert!(take(&limiter, "a", rate, 2).await.admitted);
    pass(interval * 5).await;
    assert!(take(&limiter, "a", rate, 2).await.admitted);
    assert!(!take(&limiter, "a", rate, 1).await.admitted);
}

/// Asking again and again while refused does not put the end off.
pub async fn what_was_refused_is_not_charged(open: impl AsyncFn() -> LimiterUnderTest) {
    let LimiterUnderTest { limiter, interval, pass } = open().await;
    let rate = one_in(interval, 1);
    assert!(take(&limiter, "a", rate, 1).await.admitted);
    for _ in 0..5 {
        assert!(!take(&limiter, "a", rate, 1).await.admitted);
    }
    pass(interval).await;
    assert!(take(&limiter, "a", rate, 1).await.admitted);
}

/// Where one of several limits has too little, the others lose nothing.
pub async fn all_limits_are_charged_or_none(open: impl AsyncFn() -> LimiterUnderTest) {
    let limiter = open().await.limiter;
    let (wide, narrow) = (one_in(HOUR, 5), one_in(HOUR, 2));
    let both = [Limit { key: "tenant", rate: wide }, Limit { key: "key:1", rate: narrow }];
    for (admitted, left) in [(true, [4, 1]), (true, [3, 0]), (false, [3, 0]), (false, [3, 0])] {
        let verdict = limiter.take(&scope("shop"), &both, 1).await.unwrap();
        let remaining: Vec<u32> = verdict.standings.iter().map(|standing| standing.remaining).collect();
        assert_eq!((verdict.admitted, &*remaining), (admitted, &left[..]));
        let waits: Vec<bool> =
            verdict.standings.iter().map(|standing| !standing.retry_after.is_zero()).collect();
        assert_eq!(waits, [false, !admitted], "the limit that refuses says when");
    }
    assert!(take(&limiter, "tenant", wide, 3).await.admitted, "refusals cost nothing");
}

/// A cost of zero passes, tells how it stands, and changes nothing.
pub async fn a_cost_of_zero_only_looks(open: impl AsyncFn() -> LimiterUnderTest) {
    let limiter = open().await.limiter;
    let rate = one_in(HOUR, 2);
    for _ in 0..2 {
        let looked = take(&limiter, "a", rate, 0).await;
        assert_eq!((looked.admitted, looked.standings[0].remaining), (true, 2));
    }
    assert!(take(&limiter, "a", rate, 2).await.admitted);
    let looked = take(&limiter, "a", rate, 0).await;
    assert_eq!((looked.admitted, looked.standings[0].remaining), (true, 0));
}

/// A cost is taken whole or not at all.
pub async fn costs_are_taken_whole(open: impl AsyncFn() -> LimiterUnderTest) {
    let limiter = open().await.limiter;
    let rate = one_in(HOUR, 5);
    assert!(take(&limiter, "a", rate, 3).await.admitted);
    assert!(!take(&limiter, "a", rate, 3).await.admitted);
    assert!(take(&limiter, "a", rate, 2).await.admitted);
    assert!(!take(&limiter, "a", rate, 1).await.admitted);
}

/// Each tenant and each key has its own.
pub async fn tenants_and_keys_do_not_meet(open: impl AsyncFn() -> LimiterUnderTest) {
    let limiter = open().await.limiter;
    let rate = one_in(HOUR, 1);
    for (tenant, key) in [("shop", "a"), ("shop", "b"), ("other", "a"), ("shop", "a:b"), ("shop", "{a}")] {
        let limits = [Limit { key, rate }];
        assert!(limiter.take(&scope(tenant), &limits, 1).await.unwrap().admitted, "{tenant} {key}");
        assert!(!limiter.take(&scope(tenant), &limits, 1).await.unwrap().admitted, "{tenant} {key}");
    }
}

/// Of many that ask at once, exactly a burst passes.
pub async fn exactly_a_burst_passes_under_contention(open: impl AsyncFn() -> LimiterUnderTest) {
    let limiter = open().await.limiter;
    let ask = |_| {
        let limiter = Arc::clone(&limiter);
        tokio::spawn(async move { take(&limiter, "a", one_in(HOUR, 20), 1).await.admitted })
    };
    let mut admitted = 0;
    for task in (0..64).map(ask).collect::<Vec<_>>() {
        admitted += u32::from(task.await.unwrap());
    }
    assert_eq!(admitted, 20);
}

/// Who owes more than a burst that was made smaller owes that burst.
pub async fn a_smaller_burst_counts_at_once(open: impl AsyncFn() -> LimiterUnderTest) {
    let LimiterUnderTest { limiter, interval, pass } = open().await;
    assert!(take(&limiter, "a", one_in(HOUR, 10), 10).await.admitted);
    let small = one_in(interval, 1);
    assert!(!take(&limiter, "a", small, 1).await.admitted);
    let wait = take(&limiter, "a", small, 1).await.standings[0].retry_after;
    assert!(wait <= interval, "{wait:?}");
    pass(interval).await;
    assert!(take(&limiter, "a", small, 1).await.admitted);
}

/// What could never pass, and what is not lawful, is refused.
pub async fn bad_calls_are_refused(open: impl AsyncFn() -> LimiterUnderTest) {
    let limiter = open().await.limiter;
    let (scope, rate) = (scope("shop"), one_in(HOUR, 2));
    let limit = Limit { key: "a", rate };
    assert_refused(limiter.take(&scope, &[limit], 3).await, codes::TOO_LARGE);
    assert_refused(limiter.take(&scope, &[], 1).await, codes::VALIDATION_ERROR);
    assert_refused(limiter.take(&scope, &[limit, limit], 1).await, codes::VALIDATION_ERROR);
    assert_refused(limiter.take(&scope, &[Limit { key: "", rate }], 1).await, codes::VALIDATION_ERROR);
    assert!(limiter.take(&scope, &[limit], 2).await.unwrap().admitted, "refusals cost nothing");
}
