//! Newest prices in the cache, for programs that read Redis and ask nobody.
//!
//! A price stands under `served:latest_price:INSTRUMENT` of its tenant, in the form of its topic. It lives between a
//! quarter of `market.cache.ttl_seconds` and all of it, drawn for each, so that many never end at once; what would end
//! within [`MARGIN`] is written again. So nobody finds nothing where there is a price, and nobody has to make up for it, all
//! at the same time. Of several servers the one with the lease writes.
//!
//! It refuses to be the truth: that is the view, and its server may be behind for a moment. A cache that is away is tried
//! again, and nothing waits for it.
//!
//! To serve one more thing: its key and its value in [`PriceCache::due`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use kernel::{Clock, Entropy, Error, Result, Scope, TenantId};
use store::Cache;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::events::{LatestData, LatestMetadata, LatestPrice, moment};
use crate::views::{Instrument, MarketViews, Price};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// What would end so soon is written again.
const MARGIN: Duration = Duration::from_secs(5);
/// How long others wait for a writer that is silent.
const LEASE: Duration = Duration::from_secs(5);
const LEASE_NAME: &str = "served:writer";
/// Writes on their way.
const WRITES_AT_ONCE: usize = 64;

/// Which price was written, and when its value ends.
#[derive(Debug, PartialEq)]
struct Written {
    occurred_us: i64,
    tick_id: String,
    until: Duration,
}

impl Written {
    fn is_of(&self, price: &Price) -> bool {
        self.occurred_us == price.occurred_us && self.tick_id == price.tick_id
    }
}

/// A price that has to be written.
struct Due {
    scope: Scope,
    instrument: String,
    value: Vec<u8>,
    written: Written,
    time_to_live: Duration,
}

/// Writes prices to the cache.
#[derive(Debug)]
pub(crate) struct PriceCache {
    views: Arc<MarketViews>,
    cache: Arc<dyn Cache>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    ttl_max: Duration,
    scope: Scope,
    holder: String,
    written: BTreeMap<TenantId, BTreeMap<String, Written>>,
}

impl PriceCache {
    /// Of these views, to this cache, where nothing lives longer than `ttl_max`.
    pub(crate) fn new(
        views: Arc<MarketViews>,
        cache: Arc<dyn Cache>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        ttl_max: Duration,
    ) -> Result<Self> {
        let scope = Scope::system(TenantId::new("_market")?, "market");
        let holder = format!("{:016x}", entropy.next_u64());
        Ok(Self { views, cache, clock, entropy, ttl_max, scope, holder, written: BTreeMap::new() })
    }

    /// Writes until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut is_failing = false;
        while stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
            let Some(done) = stop.run_until_cancelled(self.look()).await else { break };
            let was_failing = std::mem::replace(&mut is_failing, done.is_err());
            match done {
                Err(error) if !was_failing => {
                    warn!(error = %error.chain(), "prices are not written to the cache for now");
                }
                Ok(_) if was_failing => info!("prices are written to the cache again"),
                _ => {}
            }
        }
    }

    /// Writes what changed and what would end soon, where this server is the one that does; returns how many.
    pub(crate) async fn look(&mut self) -> Result<usize> {
        if self.cache.acquire(&self.scope, LEASE_NAME, &self.holder, LEASE).await?.is_none() {
            // Another writes; what it wrote last is not known here.
            self.written.clear();
            return Ok(0);
        }
        let due = self.due()?;
        let cache = &self.cache;
        let writes = due.into_iter().map(async |due| {
            let key = format!("served:latest_price:{}", due.instrument);
            let done = cache.set(&due.scope, &key, Bytes::from(due.value), due.time_to_live).await;
            (due.scope, due.instrument, done.map(|()| due.written))
        });
        let mut writes = stream::iter(writes).buffer_unordered(WRITES_AT_ONCE);
        let (mut count, mut failure) = (0, None);
        while let Some((scope, instrument, done)) = writes.next().await {
            match done {
                Ok(written) => {
                    self.written.entry(scope.tenant().clone()).or_default().insert(instrument, written);
                    count += 1;
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(count), Err)
    }

    /// What has to be written now.
    fn due(&self) -> Result<Vec<Due>> {
        let now = self.clock.elapsed();
        let mut due = Vec::new();
        for tenant in self.views.tenants() {
            let scope = Scope::system(tenant.clone(), "market");
            let written = self.written.get(&tenant);
            self.views.of(&tenant, |view| {
                for (id, instrument) in view.after(None) {
                    let Some(price) = &instrument.price else { continue };
                    let known = written.and_then(|written| written.get(id));
                    if known.is_some_and(|known| known.is_of(price) && known.until > now + MARGIN) {
                        continue;
                    }
                    let time_to_live = self.time_to_live();
                    let (occurred_us, tick_id) = (price.occurred_us, price.tick_id.clone());
                    due.push(Due {
                        scope: scope.clone(),
                        instrument: id.clone(),
                        value: value(&tenant, id, instrument, price)?,
                        written: Written { occurred_us, tick_id, until: now + time_to_live },
                        time_to_live,
                    });
                }
                Ok::<_, Error>(())
            })?;
        }
        Ok(due)
    }

    fn time_to_live(&self) -> Duration {
        let quarter = self.ttl_max / 4;
        let drawn = self.entropy.next_u64() as f64 / u64::MAX as f64;
        quarter + (self.ttl_max - quarter).mul_f64(drawn)
    }
}

/// The price in the form of its topic.
fn value(tenant: &TenantId, id: &str, instrument: &Instrument, price: &Price) -> Result<Vec<u8>> {
    let flags: Vec<Cow<'static, str>> = price.quality_flags.iter().cloned().map(Cow::Owned).collect();
    let told = LatestPrice {
        projection_type: "latest_price",
        instrument_id: id,
        data: LatestData {
            price: Some(price.price),
            volume: price.volume,
            timestamp: moment(price.occurred_us),
            source: &price.source_system,
            quality_flags: &flags,
            market: &price.market,
            currency: &price.currency,
            unit: &price.unit,
            taxonomy: instrument.labels.as_ref(),
        },
        last_updated: moment(price.received_us),
        tenant_id: tenant.as_str(),
        metadata: LatestMetadata { projection_id: &price.tick_id, source_event_id: None },
    };
    serde_json::to_vec(&told).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use kernel::{ManualClock, SeededEntropy, Timestamp};
    use serde_json::{Value, json};
    use store::memory::MemoryCache;

    use super::*;
    use crate::MarketSettings;
    use crate::tests::{Desk, scope, tick};

    struct Served {
        desk: Desk,
        cache: Arc<dyn Cache>,
        clock: Arc<ManualClock>,
    }

    impl Served {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
            let cache = Arc::new(MemoryCache::new(Arc::clone(&clock) as Arc<_>));
            Self { desk: Desk::new(1, &MarketSettings::default()), cache, clock }
        }

        fn writer(&self, seed: u64) -> PriceCache {
            let entropy = Arc::new(SeededEntropy::new(seed));
            let (views, cache) = (Arc::clone(&self.desk.views), Arc::clone(&self.cache));
            let clock = Arc::clone(&self.clock) as Arc<_>;
            PriceCache::new(views, cache, clock, entropy, Duration::from_secs(60)).unwrap()
        }

        async fn take(&mut self, tenant: &str, messages: &[Value]) {
            for message in messages {
                self.desk.send(tenant, message).await.unwrap();
            }
            self.desk.run().await;
        }

        async fn price(&self, tenant: &str) -> Option<Value> {
            let found = self.cache.get(&scope(tenant), "served:latest_price:HUB").await.unwrap();
            found.map(|bytes| serde_json::from_slice(&bytes).unwrap())
        }
    }

    #[tokio::test]
    async fn a_price_stands_with_its_tenant_as_long_as_it_is_the_newest() {
        let mut served = Served::new();
        let mut writer = served.writer(1);
        served.take("a", &[tick(1, 0.0, -31.2)]).await;
        served.take("b", &[tick(1, 0.0, 7.0)]).await;
        assert_eq!(writer.look().await.unwrap(), 2);
        assert_eq!(writer.look().await.unwrap(), 0, "nothing changed");
        let told = served.price("a").await.unwrap();
        assert_eq!(told["data"]["price"], json!(-31.2));
        assert_eq!((&told["tenant_id"], &told["projection_type"]), (&json!("a"), &json!("latest_price")));
        assert_eq!(served.price("b").await.unwrap()["data"]["price"], json!(7.0));
        served.take("a", &[tick(2, 1.0, 5.0)]).await;
        assert_eq!(writer.look().await.unwrap(), 1);
        assert_eq!(served.price("a").await.unwrap()["data"]["price"], json!(5.0));
        // Much longer than a value lives, and at no moment is it missing.
        for _ in 0..600 {
            served.clock.advance(Duration::from_secs(1));
            writer.look().await.unwrap();
            assert!(served.price("a").await.is_some());
        }
    }

    #[tokio::test]
    async fn values_do_not_end_all_at_once() {
        let mut served = Served::new();
        let mut writer = served.writer(2);
        let named = |number: u64| {
            let mut message = tick(number, 0.0, 1.0);
            message["symbol"] = json!(format!("HUB_{number}"));
            message
        };
        served.take("a", &(0..200).map(named).collect::<Vec<_>>()).await;
        assert_eq!(writer.look().await.unwrap(), 200);
        let mut most = 0;
        for _ in 0..600 {
            served.clock.advance(Duration::from_secs(1));
            most = most.max(writer.look().await.unwrap());
        }
        assert!(most < 40, "{most} of 200 in one second");
    }

    #[tokio::test]
    async fn one_of_two_servers_writes() {
        let mut served = Served::new();
        let (mut one, mut two) = (served.writer(3), served.writer(4));
        served.take("a", &[tick(1, 0.0, 1.0)]).await;
        assert_eq!((one.look().await.unwrap(), two.look().await.unwrap()), (1, 0));
        served.clock.advance(LEASE + Duration::from_secs(1));
        assert_eq!((two.look().await.unwrap(), one.look().await.unwrap()), (1, 0), "the first was silent");
    }
}
