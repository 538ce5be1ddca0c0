//! Many values in a look that lasts longer than the first of them live, and values that come by a clock far behind.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use store::Lease;

use super::*;

/// A cache that takes its time for each of its first writes, and counts values that ended before they were written again.
#[derive(Debug)]
struct Slow {
    cache: Arc<dyn Cache>,
    clock: Arc<ManualClock>,
    step: Duration,
    slow_writes: usize,
    writes: AtomicUsize,
    known: Mutex<BTreeSet<String>>,
    /// How many different ones the slow writes were of.
    known_slow: AtomicUsize,
    ended: AtomicUsize,
}

impl Slow {
    /// Before the cache of a place, for the writers that are made from then on.
    fn before(place: &mut Place, step: Duration, slow_writes: usize) -> Arc<Self> {
        let slow = Arc::new(Self {
            cache: Arc::clone(&place.cache),
            clock: Arc::clone(&place.clock),
            step,
            slow_writes,
            writes: AtomicUsize::default(),
            known: Mutex::default(),
            known_slow: AtomicUsize::default(),
            ended: AtomicUsize::default(),
        });
        place.cache = Arc::clone(&slow) as _;
        slow
    }
}

#[async_trait]
impl Cache for Slow {
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Bytes>> {
        self.cache.get(scope, key).await
    }

    async fn set(&self, scope: &Scope, key: &str, value: Bytes, time_to_live: Duration) -> Result<()> {
        let is_there = self.cache.get(scope, key).await?.is_some();
        let (is_new, known) = {
            let mut known = self.known.lock();
            (known.insert(format!("{}/{key}", scope.tenant().as_str())), known.len())
        };
        if !is_new && !is_there {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        if self.writes.fetch_add(1, Ordering::Relaxed) < self.slow_writes {
            self.known_slow.store(known, Ordering::Relaxed);
            self.clock.advance(self.step);
        }
        self.cache.set(scope, key, value, time_to_live).await
    }

    async fn remove(&self, scope: &Scope, keys: &[&str]) -> Result<()> {
        self.cache.remove(scope, keys).await
    }

    async fn add(&self, scope: &Scope, key: &str, amount: i64, time_to_live: Duration) -> Result<i64> {
        self.cache.add(scope, key, amount, time_to_live).await
    }

    async fn acquire(
        &self,
        scope: &Scope,
        name: &str,
        holder: &str,
        time_to_live: Duration,
    ) -> Result<Option<Lease>> {
        // Nobody makes it last while this clock goes on, so that it lasts longer than a batch takes.
        let batch = self.step * MOST_DUE as u32;
        self.cache.acquire(scope, name, holder, time_to_live.max(batch * 2)).await
    }

    async fn release(&self, scope: &Scope, lease: &Lease) -> Result<()> {
        self.cache.release(scope, lease).await
    }
}

const DECLARED: &str =
    "[[projections]]\nname = \"notional\"\nfrom = \"price\"\nfields = { amount = \"event.price\" }\n";

/// With one tick of a tenant, so that the view knows it.
async fn declared() -> Place {
    let mut place = Place::new();
    place.desk = Desk::new(1, &toml::from_str(DECLARED).unwrap());
    place.desk.clock = Arc::clone(&place.clock);
    place.clock.advance(Duration::from_millis(crate::tests::START_MS.unsigned_abs()));
    place.take("a", &[tick(1, 0.0, 3.0)]).await;
    place
}

fn customs(place: &Place, seed: u64) -> Writer {
    let (views, rules) = (Arc::clone(&place.desk.views), Arc::clone(&place.desk.rules));
    let records = Arc::clone(&place.desk.records);
    place.writer_of(Box::new(Customs::new(views, rules, records, Arc::clone(&place.clock) as _)), seed)
}

#[tokio::test]
async fn nothing_ends_while_others_are_written() {
    let mut place = declared().await;
    keep(&place, 0..10_000, 1.0, &place.clock).await;
    let slow = Slow::before(&mut place, Duration::from_millis(2), usize::MAX);
    let mut writer = customs(&place, 21);
    let begun = place.clock.elapsed();
    writer.look().await.unwrap();
    assert!(place.clock.elapsed() - begun > Duration::from_secs(18), "longer than some live");
    for _ in 0..60 {
        place.clock.advance(Duration::from_millis(200));
        writer.look().await.unwrap();
    }
    assert_eq!(slow.ended.load(Ordering::Relaxed), 0);
    for number in 0..10_000 {
        let key = format!("served:custom:notional:key-{number:04}");
        assert!(place.cache.get(&scope("a"), &key).await.unwrap().is_some(), "{number}");
    }
}

#[tokio::test]
async fn what_came_by_a_clock_far_behind_is_found_in_the_end() {
    let place = declared().await;
    let mut writer = customs(&place, 22);
    let behind = Arc::new(ManualClock::at(place.clock.now()));
    place.clock.advance(Duration::from_secs(60));
    assert_eq!(writer.look().await.unwrap(), 1);
    keep(&place, 0..1, 1.0, &behind).await;
    let found = async || {
        let found = place.cache.get(&scope("a"), "served:custom:notional:key-0000").await.unwrap();
        found.is_some()
    };
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(writer.look().await.unwrap(), 0);
    assert!(!found().await);
    // Without a break, so that it keeps the lease.
    for _ in 0..310 {
        place.clock.advance(Duration::from_secs(2));
        writer.look().await.unwrap();
    }
    assert!(found().await);
}

/// A batch takes longer than anything lives: what it wrote is due again when the next one is made.
const LONG: Duration = Duration::from_millis(60);

#[tokio::test]
async fn every_price_has_its_turn_though_those_before_are_due_again() {
    let mut place = Place::new();
    let named = |number: u64| {
        let mut message = tick(number, 0.0, 1.0);
        message["symbol"] = json!(format!("HUB_{number:04}"));
        message
    };
    place.take("a", &(0..2_400).map(named).collect::<Vec<_>>()).await;
    place.take("b", &(0..100).map(named).collect::<Vec<_>>()).await;
    // Three batches.
    let slow = Slow::before(&mut place, LONG, 3_000);
    let mut writer = place.writer(23);
    writer.look().await.unwrap();
    assert_eq!(slow.known_slow.load(Ordering::Relaxed), 2_500);
    assert_eq!(writer.look().await.unwrap(), 0, "after a round in which all of it stands there is no more");
}

#[tokio::test]
async fn every_curve_has_its_turn_though_those_before_are_due_again() {
    let mut place = Place::new();
    for (tenant, count) in [("a", 500), ("b", 50)] {
        for number in 0..count {
            place.quote(tenant, quotes(&format!("CURVE_{number:03}"), 3, 0.04)).await;
        }
    }
    // Four horizons of each.
    let slow = Slow::before(&mut place, LONG, 2_200);
    let mut writer = place.curves(24);
    writer.look().await.unwrap();
    assert_eq!(slow.known_slow.load(Ordering::Relaxed), 2_200);
    assert_eq!(writer.look().await.unwrap(), 0, "after a round in which all of it stands there is no more");
}
