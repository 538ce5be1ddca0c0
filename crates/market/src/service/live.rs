//! Prices and bars as they are told, from a position on: what streams to callers are made of.
//!
//! - [`Live`]: who may follow, how many at once, and until when.
//! - [`Follower`]: reads the topics on for one caller. What the caller has not taken waits in the log and not in memory.
//! - `position`: the next offset of every partition. What is told from one on is neither missing nor told twice, on whatever
//!   server. What retention took meanwhile is told as lost.
//! - `tails`: the newest events, read once for all who follow. `retry`: what becomes of a read that fails.
//!
//! It refuses a position of other types, or of another log. To add a type: a line in [`KINDS`].

mod follower;
mod position;
mod retry;
mod tails;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::{Actor, Error, Permission, Result, Scope, TenantId, codes};
use parking_lot::Mutex;
use store::EventLog;
use tokio_util::sync::CancellationToken;

pub use follower::{Follower, Told};

use crate::events::{kinds, topics};
use crate::metrics::LiveMetrics;
use crate::settings::StreamSettings;
pub(crate) use retry::Retry;
use tails::Tails;

/// What can be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveKind {
    /// As callers name it.
    pub name: &'static str,
    /// What a message of it is called.
    pub message: &'static str,
    topic: &'static str,
    event: &'static str,
}

/// All of them.
pub const KINDS: [LiveKind; 4] = [
    LiveKind { name: "price", message: "price", topic: topics::LATEST_PRICES, event: kinds::LATEST_PRICE },
    LiveKind { name: "bar_5m", message: "bar", topic: topics::BARS_5M, event: kinds::BAR },
    LiveKind { name: "bar_1h", message: "bar", topic: topics::BARS_1H, event: kinds::BAR },
    LiveKind { name: "bar_1d", message: "bar", topic: topics::BARS_1D, event: kinds::BAR },
];

/// When callers come back is spread over this, so that after a restart they do not all come at once.
const RETRY_MS: std::ops::Range<u64> = 1_000..5_000;

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// With what the topics still hold.
    Earliest,
    /// With what is told from now on.
    Latest,
    /// Where an earlier stream ended.
    Position(String),
}

/// What to follow.
#[derive(Debug, Clone)]
pub struct LiveQuestion {
    /// Which types, by their names in [`KINDS`]; `bar` stands for bars of every length, and none for everything.
    pub types: Vec<String>,
    /// Of these instruments only, where there are some.
    pub instruments: BTreeSet<String>,
    /// Where to begin.
    pub start: StartAt,
    /// Whether to wait for more at the end.
    pub follow: bool,
}

/// Who follows, at most, and until when.
#[derive(Debug)]
pub struct Live {
    settings: StreamSettings,
    /// What is told of streams.
    pub metrics: LiveMetrics,
    /// Ends every stream.
    pub stop: CancellationToken,
    tails: Arc<Tails>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    begun: u64,
    in_all: usize,
    by_tenant: BTreeMap<TenantId, usize>,
    by_credential: BTreeMap<(TenantId, String), usize>,
}

/// One of the streams there may be; dropping it frees it.
#[derive(Debug)]
pub struct LivePlace {
    live: Arc<Live>,
    tenant: TenantId,
    credential: String,
    /// After how long its caller is to come back.
    pub retry_ms: u64,
}

impl Live {
    /// Streams of these topics.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, settings: StreamSettings, metrics: LiveMetrics) -> Self {
        let tails = Arc::new(Tails::new(log, Retry::USUAL));
        Self { settings, metrics, stop: CancellationToken::new(), tails, taken: Mutex::default() }
    }

    /// How streams are treated.
    #[must_use]
    pub fn settings(&self) -> &StreamSettings {
        &self.settings
    }

    /// A place for a stream of the caller.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `UNAVAILABLE` while the server stops; `TOO_MANY_STREAMS`.
    pub fn begin(self: &Arc<Self>, scope: &Scope) -> Result<LivePlace> {
        scope.require(Permission::Read)?;
        if self.stop.is_cancelled() {
            return Err(Error::new(codes::UNAVAILABLE, "the server stops; connect again, to another one"));
        }
        let tenant = scope.tenant().clone();
        let credential = match scope.actor() {
            Actor::Caller(name) => name.clone(),
            Actor::System(name) => (*name).to_owned(),
        };
        let mut taken = self.taken.lock();
        let limits = &self.settings;
        let of_tenant = taken.by_tenant.get(&tenant).copied().unwrap_or(0);
        let key = (tenant.clone(), credential.clone());
        let of_credential = taken.by_credential.get(&key).copied().unwrap_or(0);
        let full = [
            (of_credential, limits.max_per_credential, "this credential"),
            (of_tenant, limits.max_per_tenant, "this tenant"),
            (taken.in_all, limits.max, "the server"),
        ];
        if let Some((open, _, who)) = full.into_iter().find(|(open, most, _)| open >= most) {
            self.metrics.refused.inc();
            let message = format!("{who} has {open} streams open, as many as it may; end one");
            return Err(Error::new(edge::streams::TOO_MANY_STREAMS, message));
        }
        taken.begun += 1;
        taken.in_all += 1;
        *taken.by_tenant.entry(tenant.clone()).or_default() += 1;
        *taken.by_credential.entry(key).or_default() += 1;
        self.metrics.open.inc();
        // Neighbours are far apart (the golden ratio of 2^32).
        let spread = taken.begun.wrapping_mul(2_654_435_769) % (RETRY_MS.end - RETRY_MS.start);
        Ok(LivePlace { live: Arc::clone(self), tenant, credential, retry_ms: RETRY_MS.start + spread })
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.taken.lock().in_all
    }

    /// What the question asks for, from its position on.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR` for types that there are not, and for a position that is none of these
    /// types or of this log; those of the engine.
    pub async fn follow(&self, scope: &Scope, question: &LiveQuestion) -> Result<Follower> {
        scope.require(Permission::Read)?;
        Follower::begin(Arc::clone(&self.tails), scope.tenant(), question).await
    }
}

impl Drop for LivePlace {
    fn drop(&mut self) {
        let mut taken = self.live.taken.lock();
        taken.in_all -= 1;
        let key = (self.tenant.clone(), std::mem::take(&mut self.credential));
        if let Some(count) = taken.by_tenant.get_mut(&self.tenant) {
            *count -= 1;
        }
        if let Some(count) = taken.by_credential.get_mut(&key) {
            *count -= 1;
        }
        taken.by_tenant.retain(|_, count| *count > 0);
        taken.by_credential.retain(|_, count| *count > 0);
        self.live.metrics.open.dec();
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message.into()).with_field(field)
}

fn wanted(types: &[String]) -> Result<Vec<LiveKind>> {
    let is_named = |name: &str, kind: &LiveKind| name == kind.name || name == kind.message;
    if let Some(other) = types.iter().find(|name| !KINDS.iter().any(|kind| is_named(name, kind))) {
        let message = format!("`{}` is not one of price, bar, bar_5m, bar_1h, bar_1d", other.escape_debug());
        return Err(invalid("types", message));
    }
    let is_wanted = |kind: &&LiveKind| types.is_empty() || types.iter().any(|name| is_named(name, kind));
    Ok(KINDS.iter().filter(is_wanted).copied().collect())
}
