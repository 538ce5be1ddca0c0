//! Webhooks: what happened, signed, sent to the addresses that a tenant names, until it arrives or is given up.
//!
//! - [`subscriptions`]: the webhooks of tenants. [`signing`]: their secrets, and what receivers check.
//! - [`watch`]: what messages tell of, and when. [`answers`]: the requests that failed.
//! - [`deliveries`]: the durable queue, dead letters, replay. `dispatch`: sending what is due.
//! - [`sender`], [`addresses`]: the HTTP client, and what it may reach.
//! - [`http`]: the same over HTTP.
//!
//! A message is delivered at least once: it is written down together with what it tells of, and is pending until a
//! receiver answers with 2xx. It refuses an order among messages, and to send what happens more often than receivers can
//! use: every kind is debounced.
//!
//! To add a kind of message: see [`subscriptions`].

pub mod addresses;
pub mod answers;
pub mod deliveries;
mod dispatch;
pub mod http;
pub mod metrics;
pub mod sender;
mod settings;
pub mod signing;
pub mod subscriptions;
#[cfg(test)]
mod tests;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use edge::AuditLog;
use kernel::{Clock, Entropy, Error, Result, Scope, codes};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::json;
use store::{Leases, Records};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use answers::AnswerCounts;
use deliveries::{Deliveries, Delivery, Happening};
use dispatch::{Courier, CourierParts};
use metrics::WebhookMetrics;
use sender::Sender;
pub use settings::WebhookSettings;
use signing::Keys;
use subscriptions::{SubscriptionParts, Subscriptions, system};
use watch::{Observed, Watcher, WatcherParts};

/// Between two looks at what happened and what is due.
const PAUSE: Duration = Duration::from_secs(1);
/// Held by the replica that looks and delivers.
const LEASE: &str = "webhooks.deliver";
/// Beyond the time of a slow receiver.
const LEASE_MARGIN: Duration = Duration::from_secs(5);
/// A lease that was made to last so lately is not written again.
const LEASE_FRESH: Duration = Duration::from_secs(2);
/// Rounds between two removals of old deliveries.
const ROUNDS_PER_PRUNE: u64 = 600;
/// The `type` of a test's event.
const TEST: &str = "webhook.test";

/// What webhooks work with.
#[derive(Debug, Clone)]
pub struct WebhookParts {
    /// Webhooks and the queue.
    pub records: Arc<dyn Records>,
    /// Who changed what.
    pub audit: AuditLog,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and jitter.
    pub entropy: Arc<dyn Entropy>,
    /// What sends.
    pub sender: Arc<dyn Sender>,
    /// What is looked at.
    pub observed: Arc<dyn Observed>,
    /// What secrets are derived from.
    pub keys: Keys,
}

/// The running webhooks.
#[derive(Debug)]
pub struct Webhooks {
    subscriptions: Subscriptions,
    deliveries: Deliveries,
    answers: Arc<AnswerCounts>,
    watcher: Watcher,
    courier: Courier,
    leases: Leases,
    /// When the lease was taken, by the clock's elapsed time; none where another has it.
    held: Mutex<Option<Duration>>,
    clock: Arc<dyn Clock>,
    settings: Arc<WebhookSettings>,
}

impl Webhooks {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: WebhookParts, settings: WebhookSettings, registry: &mut Registry) -> Self {
        let WebhookParts { records, audit, clock, entropy, sender, observed, keys } = parts;
        let settings = Arc::new(settings);
        let metrics = WebhookMetrics::register(registry);
        let answers = Arc::new(AnswerCounts::default());
        let subscriptions = Subscriptions::new(SubscriptionParts {
            records: Arc::clone(&records),
            audit,
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            keys,
            allowed: settings.allowed(),
        });
        let deliveries = Deliveries::new(Arc::clone(&records), Arc::clone(&clock), Arc::clone(&entropy));
        let holder = format!("{:016x}", entropy.next_u64());
        let watcher = Watcher::new(WatcherParts {
            records: Arc::clone(&records),
            observed,
            answers: Arc::clone(&answers),
            subscriptions: subscriptions.clone(),
            deliveries: deliveries.clone(),
            clock: Arc::clone(&clock),
            settings: Arc::clone(&settings),
            metrics: metrics.clone(),
        });
        let courier = Courier::new(CourierParts {
            subscriptions: subscriptions.clone(),
            deliveries: deliveries.clone(),
            sender,
            clock: Arc::clone(&clock),
            entropy,
            settings: Arc::clone(&settings),
            metrics,
        });
        let leases = Leases::new(records, Arc::clone(&clock), holder);
        Self {
            subscriptions,
            deliveries,
            answers,
            watcher,
            courier,
            leases,
            held: Mutex::default(),
            clock,
            settings,
        }
    }

    /// The webhooks of tenants.
    #[must_use]
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// The queue and the dead letters.
    #[must_use]
    pub fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// What the edge tells the answers to.
    #[must_use]
    pub fn answers(&self) -> Arc<AnswerCounts> {
        Arc::clone(&self.answers)
    }

    /// Writes down a message to one webhook, to try it.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; `CONFLICT` where it is not active; those of the engine.
    pub async fn test(&self, scope: &Scope, id: &str) -> Result<Delivery> {
        let webhook = self.subscriptions.get(scope, id).await?;
        if !webhook.active {
            return Err(Error::new(codes::CONFLICT, "the webhook is not active; activate it first"));
        }
        self.subscriptions.note(scope, "webhook.tested", &webhook).await?;
        let data = json!({"webhook_id": webhook.id});
        let happening = Happening { kind: TEST, subject: Some(format!("webhook/{id}")), data };
        let written = self.deliveries.enqueue(scope, &[webhook], happening, Vec::new()).await?;
        written.into_iter().next().ok_or_else(|| Error::internal("no delivery was written"))
    }

    /// Sends a delivered or dead delivery again.
    ///
    /// # Errors
    /// See [`Deliveries::replay`].
    pub async fn replay(&self, scope: &Scope, id: &str) -> Result<Delivery> {
        let delivery = self.deliveries.replay(scope, id).await?;
        self.subscriptions.note_replay(scope, &delivery.webhook_id, 1).await?;
        Ok(delivery)
    }

    /// Sends dead deliveries again; returns how many, and whether more are left.
    ///
    /// # Errors
    /// See [`Deliveries::replay_dead`].
    pub async fn replay_dead(&self, scope: &Scope, webhook_id: Option<String>) -> Result<(usize, bool)> {
        let named = webhook_id.clone().unwrap_or_else(|| "all".to_owned());
        let (count, more) = self.deliveries.replay_dead(scope, webhook_id).await?;
        self.subscriptions.note_replay(scope, &named, count).await?;
        Ok((count, more))
    }

    /// Looks and delivers until `stop`. One that does not deliver only tells of what its own server failed; another process
    /// over the same records must deliver.
    pub async fn run(self: Arc<Self>, delivers: bool, stop: CancellationToken) {
        if !self.settings.enabled {
            return;
        }
        let mut is_failing = false;
        let mut round = 0_u64;
        while !stop.is_cancelled() {
            let tried = match delivers {
                true => self.round(round, &stop).await,
                false => self.watcher.look_at_errors().await.map(|()| 0),
            };
            round = round.wrapping_add(1);
            match &tried {
                Ok(_) if std::mem::take(&mut is_failing) => info!("webhooks are delivered again"),
                Err(error) if !std::mem::replace(&mut is_failing, true) => {
                    warn!(error = %error.chain(), "webhooks are not delivered for now");
                }
                _ => {}
            }
            // What is left is due already.
            if tried.is_ok_and(|tried| tried > 0) {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        let is_held = self.held.lock().take().is_some();
        if !is_held {
            return;
        }
        if let Err(error) = self.leases.release(&system(), LEASE).await {
            warn!(error = %error.chain(), "another replica delivers webhooks a little later");
        }
    }

    /// Whether this replica is the one that looks and delivers.
    async fn is_elected(&self) -> Result<bool> {
        let now = self.clock.elapsed();
        if self.held.lock().is_some_and(|at| now.saturating_sub(at) < LEASE_FRESH) {
            return Ok(true);
        }
        let lasting = self.settings.timeout() + LEASE_MARGIN;
        let is_held = self.leases.acquire(&system(), LEASE, lasting).await?;
        *self.held.lock() = is_held.then_some(now);
        Ok(is_held)
    }

    /// One look at everything; returns how many deliveries were tried.
    async fn round(&self, round: u64, stop: &CancellationToken) -> Result<usize> {
        self.watcher.look_at_errors().await?;
        let mut tenants = self.subscriptions.tenants().await?;
        if tenants.is_empty() || !self.is_elected().await? {
            return Ok(0);
        }
        for scope in &tenants {
            self.watcher.look(scope).await?;
        }
        if round.is_multiple_of(ROUNDS_PER_PRUNE) {
            let age = Duration::from_secs(u64::from(self.settings.keep_days) * 24 * 60 * 60);
            let before = self.clock.now().checked_sub(age).map_err(Error::internal)?;
            for scope in &tenants {
                self.deliveries.prune(scope, before).await?;
            }
        }
        // Another tenant is first each time.
        let first = round as usize % tenants.len().max(1);
        tenants.rotate_left(first);
        self.courier.round(&tenants, stop).await
    }
}
