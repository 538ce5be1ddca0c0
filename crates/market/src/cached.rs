//! What is served from the cache, for programs that read Redis and ask nobody: newest prices, snapshots of
//! curves, custom projections.
//!
//! A value stands under `served:KIND:NAME` of its tenant. It lives between a quarter of `market.cache.ttl_seconds` and all of
//! it, drawn for each, so that many never end at once; what would end within [`MARGIN`] is written again. So nobody finds
//! nothing where there is something, and nobody has to make up for it, all at the same time. Of several servers the one with
//! the lease of a kind writes it: the lease is kept while values are made, and asked for again before they are written, some at
//! a time. What was made while another had it is dropped. What stands in the state in which it was written is left alone.
//!
//! It refuses to be the truth: that is what answers are made of, and its server may be behind for a moment. A cache that is
//! away is tried again, and nothing waits for it, nor does one kind for another.
//!
//! To serve one more thing: a file with its [`Served`], and its line in [`all`].

mod curves;
mod custom;
mod prices;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use kernel::{Clock, Entropy, Result, Scope, TenantId};
use store::{Cache, Topic};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::views::MarketViews;
use crate::{MarketParts, Rules};

/// What would end so soon is written again.
const MARGIN: Duration = Duration::from_secs(5);
/// How long others wait for a writer that is silent.
const LEASE: Duration = Duration::from_secs(5);
/// The cache takes no value that lives shorter.
const LEAST: Duration = Duration::from_millis(1);
/// How often what ended is forgotten, which is a look at everything.
const FORGETS: Duration = Duration::from_secs(10);
/// Writes on their way.
const WRITES_AT_ONCE: usize = 64;
/// Things that are made before they are written.
pub(crate) const MOST_DUE: usize = 1_000;

/// One kind of things that are served.
#[async_trait]
pub(crate) trait Served: Send + Sync + Debug {
    /// What its keys begin with, after `served:`.
    fn kind(&self) -> &'static str;

    /// While nothing ever came to this topic, there is nothing to serve.
    fn topic(&self) -> Topic;

    /// Between two looks.
    fn pause(&self) -> Duration;

    /// What does not stand as it should, about [`MOST_DUE`] at most. It is asked again once that was written, while there is more.
    ///
    /// # Errors
    /// Those of what it is read from.
    async fn due(&mut self, written: &Written) -> Result<Batch>;
}

/// Some of what has to be written.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) due: Vec<Due>,
    /// Whether there may be more.
    pub(crate) is_more: bool,
}

/// In which state a thing was written: when it happened, and what tells it from another of that time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) at: i64,
    pub(crate) id: String,
}

/// A thing that has to be written.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) tenant: TenantId,
    /// The rest of its key.
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) value: Vec<u8>,
    /// How long it says something, where that is not for ever.
    pub(crate) lives_at_most: Option<Duration>,
}

/// What was written, and until when it stands.
#[derive(Debug, Default)]
pub(crate) struct Written {
    things: BTreeMap<TenantId, BTreeMap<String, Thing>>,
    /// It goes on while a look lasts.
    pub(crate) now: Duration,
    /// The number of the look, from 1 on.
    pub(crate) look: u64,
    /// Another one each time that nothing is known any more of what was written.
    pub(crate) term: u64,
    forgot: Duration,
}

#[derive(Debug)]
struct Thing {
    state: State,
    until: Duration,
}

impl Written {
    /// Whether a thing stands in this state, and not only for a moment more.
    pub(crate) fn stands(&self, tenant: &TenantId, name: &str, at: i64, id: &str) -> bool {
        self.due_at(tenant, name, at, id).is_some_and(|due| due > self.now)
    }

    /// From when on a thing in this state is to be written again; none where it was not written in it.
    pub(crate) fn due_at(&self, tenant: &TenantId, name: &str, at: i64, id: &str) -> Option<Duration> {
        let thing = self.things.get(tenant)?.get(name)?;
        if thing.state.at != at || thing.state.id != id {
            return None;
        }
        Some(thing.until.saturating_sub(MARGIN))
    }

    /// Another has the lease, or had it: what it wrote last is not known here.
    fn begin_term(&mut self) {
        self.things.clear();
        self.term += 1;
    }

    /// Goes on to this moment. What ended before is forgotten now and then.
    fn go_on(&mut self, now: Duration) {
        self.now = now;
        if now.saturating_sub(self.forgot) < FORGETS {
            return;
        }
        self.forgot = now;
        self.things.retain(|_, things| {
            things.retain(|_, thing| thing.until > now);
            !things.is_empty()
        });
    }
}

/// The lease of a kind.
#[derive(Debug)]
struct Hold {
    cache: Arc<dyn Cache>,
    scope: Scope,
    name: String,
    holder: String,
}

impl Hold {
    /// Takes the lease or makes it last; its token, which is the same as long as nobody else had it. None while another has it.
    async fn take(&self) -> Result<Option<u64>> {
        let lease = self.cache.acquire(&self.scope, &self.name, &self.holder, LEASE).await?;
        Ok(lease.map(|lease| lease.token))
    }

    /// Makes the lease last while something is done. Whether it did is asked afterwards.
    async fn keeping<T>(&self, doing: impl Future<Output = T>) -> T {
        let mut doing = std::pin::pin!(doing);
        loop {
            if let Ok(done) = tokio::time::timeout(LEASE / 3, &mut doing).await {
                return done;
            }
            let _ = self.take().await;
        }
    }
}

/// Writes one kind of things to the cache.
#[derive(Debug)]
pub(crate) struct Writer {
    served: Box<dyn Served>,
    cache: Arc<dyn Cache>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    ttl_max: Duration,
    hold: Hold,
    /// Of the lease under which it was written what is known to be.
    token: Option<u64>,
    written: Written,
}

/// The writers of everything that is served, over these parts.
pub(crate) fn all(
    parts: &MarketParts,
    rules: &Arc<Rules>,
    views: &Arc<MarketViews>,
    ttl_max: Duration,
) -> Result<Vec<Writer>> {
    let log = Arc::clone(&parts.topics.log);
    let mut served: Vec<Box<dyn Served>> = vec![
        Box::new(prices::Prices::new(Arc::clone(views))),
        Box::new(curves::Curves::new(log, Arc::clone(&parts.columns))),
    ];
    if rules.projections.declared().next().is_some() {
        let (records, clock) = (Arc::clone(&parts.records), Arc::clone(&parts.clock));
        served.push(Box::new(custom::Customs::new(Arc::clone(views), Arc::clone(rules), records, clock)));
    }
    let (cache, clock, entropy) = (&parts.cache, &parts.clock, &parts.entropy);
    let writer =
        |served| Writer::new(served, Arc::clone(cache), Arc::clone(clock), Arc::clone(entropy), ttl_max);
    served.into_iter().map(writer).collect()
}

impl Writer {
    /// To this cache, where nothing lives longer than `ttl_max`.
    pub(crate) fn new(
        served: Box<dyn Served>,
        cache: Arc<dyn Cache>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        ttl_max: Duration,
    ) -> Result<Self> {
        let scope = Scope::system(TenantId::new("_market")?, "market");
        let holder = format!("{:016x}", entropy.next_u64());
        let name = format!("served:writer:{}", served.kind());
        let hold = Hold { cache: Arc::clone(&cache), scope, name, holder };
        Ok(Self { served, cache, clock, entropy, ttl_max, hold, token: None, written: Written::default() })
    }

    /// While nothing ever came to this topic, it need not run.
    pub(crate) fn topic(&self) -> Topic {
        self.served.topic()
    }

    /// Writes until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (mut is_failing, pause) = (false, self.served.pause());
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let Some(done) = stop.run_until_cancelled(self.look()).await else { break };
            let kind = self.served.kind();
            match done {
                Ok(_) if std::mem::take(&mut is_failing) => info!(kind, "the cache is kept current again"),
                Err(error) if !std::mem::replace(&mut is_failing, true) => {
                    warn!(kind, error = %error.chain(), "the cache is not kept current for now");
                }
                _ => {}
            }
        }
    }

    /// Writes what changed and what would end soon, where this server is the one that does; returns how many.
    pub(crate) async fn look(&mut self) -> Result<usize> {
        let token = self.hold.take().await?;
        if token.is_none() || token != self.token {
            self.written.begin_term();
            self.token = token;
        }
        if token.is_none() {
            return Ok(0);
        }
        self.written.look += 1;
        let mut count = 0;
        loop {
            // A look may last longer than a value lives.
            self.written.go_on(self.clock.elapsed());
            let batch = self.hold.keeping(self.served.due(&self.written)).await?;
            if self.hold.take().await? != token {
                // What another writes by now may be newer.
                return Ok(count);
            }
            count += self.write(batch.due).await?;
            if !batch.is_more {
                return Ok(count);
            }
        }
    }

    async fn write(&mut self, due: Vec<Due>) -> Result<usize> {
        let this = &*self;
        let writes: Vec<_> = due.into_iter().map(|due| this.set(due)).collect();
        let writing = stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).collect::<Vec<_>>();
        let writes = this.hold.keeping(writing).await;
        let (mut count, mut failure) = (0, None);
        for (tenant, name, done) in writes {
            match done {
                Ok(thing) => {
                    self.written.things.entry(tenant).or_default().insert(name, thing);
                    count += 1;
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(count), Err)
    }

    async fn set(&self, due: Due) -> (TenantId, String, Result<Thing>) {
        let Due { tenant, name, state, value, lives_at_most } = due;
        let time_to_live =
            lives_at_most.map_or(Duration::MAX, |most| most.max(LEAST)).min(self.time_to_live());
        let scope = Scope::system(tenant.clone(), "market");
        let (key, value) = (format!("served:{}:{name}", self.served.kind()), Bytes::from(value));
        let done = self.cache.set(&scope, &key, value, time_to_live).await;
        // From when it was decided, which is before the cache began to count.
        let until = self.written.now + time_to_live;
        (tenant, name, done.map(|()| Thing { state, until }))
    }

    fn time_to_live(&self) -> Duration {
        let quarter = self.ttl_max / 4;
        let drawn = self.entropy.next_u64() as f64 / u64::MAX as f64;
        quarter + (self.ttl_max - quarter).mul_f64(drawn)
    }
}
