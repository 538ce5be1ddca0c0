//! Sends what is due, some at a time, and writes down what became of it.
//!
//! One replica does it, under a lease. The lease is an optimisation: where two send the same, receivers know it by the
//! event's id, and what is written is compared with the version that was read.
//!
//! It refuses to send for a webhook that is gone or not active, and to hold up a stop for a slow receiver: what was cut off
//! is pending and is sent again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use kernel::{Clock, Entropy, Result, Scope, codes};
use store::Versioned;
use tokio_util::sync::CancellationToken;

use crate::deliveries::{Deliveries, Delivery, State};
use crate::metrics::{Outcome, WebhookMetrics};
use crate::sender::{Outgoing, Sender};
use crate::settings::WebhookSettings;
use crate::signing::{SIGNATURE, signature};
use crate::subscriptions::{Subscriptions, Webhook};

/// Requests at once.
const AT_ONCE: usize = 64;
/// Of one tenant, so that others have their turn.
const OF_ONE_TENANT: usize = 16;
/// What a request in flight has at a stop.
const GRACE: Duration = Duration::from_secs(2);

/// What a courier works with.
#[derive(Debug, Clone)]
pub(crate) struct CourierParts {
    pub(crate) subscriptions: Subscriptions,
    pub(crate) deliveries: Deliveries,
    pub(crate) sender: Arc<dyn Sender>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) settings: Arc<WebhookSettings>,
    pub(crate) metrics: WebhookMetrics,
}

/// Brings deliveries to their receivers.
#[derive(Debug)]
pub(crate) struct Courier {
    parts: CourierParts,
}

/// One delivery to send.
struct Errand {
    scope: Scope,
    webhook: std::result::Result<Webhook, String>,
    version: u64,
    delivery: Delivery,
}

impl Courier {
    pub(crate) fn new(parts: CourierParts) -> Self {
        Self { parts }
    }

    /// Sends what is due of these tenants, up to a bound; returns how many were tried.
    pub(crate) async fn round(&self, tenants: &[Scope], stop: &CancellationToken) -> Result<usize> {
        let mut errands = Vec::new();
        for scope in tenants {
            let room = AT_ONCE.saturating_sub(errands.len()).min(OF_ONE_TENANT);
            if room == 0 || stop.is_cancelled() {
                break;
            }
            let due = self.parts.deliveries.due(scope, room).await?;
            errands.extend(self.errands(scope, due).await?);
        }
        let count = errands.len();
        let mut running =
            stream::iter(errands).map(|errand| self.run(errand, stop)).buffer_unordered(AT_ONCE);
        let mut outcome = Ok(count);
        while let Some(ran) = running.next().await {
            outcome = ran.and(outcome);
        }
        outcome
    }

    async fn errands(&self, scope: &Scope, due: Vec<Versioned<Delivery>>) -> Result<Vec<Errand>> {
        let mut webhooks = BTreeMap::new();
        let mut errands = Vec::new();
        for Versioned { version, document: delivery } in due {
            if !webhooks.contains_key(&delivery.webhook_id) {
                let found = match self.parts.subscriptions.get(scope, &delivery.webhook_id).await {
                    Ok(webhook) if webhook.active => Ok(webhook),
                    Ok(_) => Err("the webhook is not active".to_owned()),
                    Err(error) if error.code() == codes::NOT_FOUND => {
                        Err("the webhook was deleted".to_owned())
                    }
                    Err(error) => return Err(error),
                };
                webhooks.insert(delivery.webhook_id.clone(), found);
            }
            let webhook = webhooks[&delivery.webhook_id].clone();
            errands.push(Errand { scope: scope.clone(), webhook, version, delivery });
        }
        Ok(errands)
    }

    async fn run(&self, errand: Errand, stop: &CancellationToken) -> Result<()> {
        let Errand { scope, webhook, version, mut delivery } = errand;
        let answer = match webhook {
            // Time does not help: it is not tried again.
            Err(reason) => {
                delivery.attempts = self.parts.settings.max_attempts;
                Err(reason)
            }
            Ok(webhook) => {
                let sent = async {
                    let outgoing = self.outgoing(&scope, &webhook, &delivery)?;
                    let began = self.parts.clock.elapsed();
                    let answer = self.parts.sender.send(outgoing).await;
                    self.parts.metrics.answered(self.parts.clock.elapsed().saturating_sub(began));
                    answer
                };
                tokio::select! {
                    answer = sent => {
                        delivery.attempts += 1;
                        answer
                    }
                    () = late(stop) => return Ok(()),
                }
            }
        };
        self.note(&mut delivery, answer);
        self.parts.deliveries.settle(&scope, version, &delivery).await
    }

    fn outgoing(
        &self,
        scope: &Scope,
        webhook: &Webhook,
        delivery: &Delivery,
    ) -> std::result::Result<Outgoing, String> {
        let secrets =
            self.parts.subscriptions.secrets(scope, webhook).map_err(|error| error.message().to_owned())?;
        let now = self.parts.clock.now().as_second();
        // The event names the trace, so that its attempts are in one; each is a span.
        let trace = delivery.event_id.replace('-', "");
        let span = self.parts.entropy.next_u64().max(1);
        let headers = vec![
            ("content-type", "application/cloudevents+json".to_owned()),
            (SIGNATURE, signature(&secrets, now, &delivery.body)),
            ("watershed-delivery", delivery.id.clone()),
            ("traceparent", format!("00-{trace}-{span:016x}-00")),
        ];
        Ok(Outgoing { url: webhook.url.clone(), headers, body: delivery.body.clone() })
    }

    /// Writes down what became of an attempt.
    fn note(&self, delivery: &mut Delivery, answer: std::result::Result<u16, String>) {
        let now = self.parts.clock.now();
        delivery.last_status = answer.as_ref().ok().copied();
        delivery.last_error = match answer {
            Ok(200..=299) => None,
            Ok(status @ 300..=399) => Some(format!("answered {status}; redirects are not followed")),
            Ok(status) => Some(format!("answered {status}")),
            Err(reason) => Some(reason),
        };
        let settings = &self.parts.settings;
        let outcome = if delivery.last_error.is_none() {
            delivery.finish(State::Delivered, now);
            Outcome::Delivered
        } else if delivery.attempts >= settings.max_attempts {
            delivery.finish(State::Dead, now);
            Outcome::Dead
        } else {
            let pause_ms = settings.pause_ms(delivery.attempts, self.parts.entropy.next_u64());
            delivery.due_at = now.checked_add(Duration::from_millis(pause_ms)).ok();
            Outcome::Retried
        };
        self.parts.metrics.attempted(outcome);
    }
}

/// A while after `stop`.
async fn late(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
}
