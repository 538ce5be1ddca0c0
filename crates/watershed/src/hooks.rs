//! Plugs webhooks in: what they look at, what they send with, and the key that their secrets are derived from.

use std::sync::Arc;

use edge::AuditLog;
use kernel::{Error, Result, Scope, Timestamp};
use prometheus_client::registry::Registry;
use recommend::Recommend;
use recommend::canaries::Canaries;
use recommend::service::{Algorithm, Query, Service};
use webhooks::addresses::SystemLookup;
use webhooks::sender::HttpSender;
use webhooks::signing::Keys;
use webhooks::watch::{CanaryDecision, Observed, ServedModel, TrendingEntity};
use webhooks::{WebhookParts, Webhooks};

use crate::app::{self, Ambient};
use crate::config::Config;
use crate::engines::Engines;

/// Where the key is kept that no setting gives.
const KEY_FILE: &str = "webhook-key";

/// Opens webhooks over the engines and the domain.
///
/// # Errors
/// `VALIDATION_ERROR` for keys that are none; `UNAVAILABLE` where the key file cannot be written.
pub(crate) fn open(
    config: &Config,
    engines: &Engines,
    ambient: &Ambient,
    recommend: &Recommend,
    audit: AuditLog,
    registry: &mut Registry,
) -> Result<Arc<Webhooks>> {
    let settings = config.webhooks.clone();
    let sender = HttpSender::new(settings.allowed(), settings.timeout(), Arc::new(SystemLookup));
    let parts = WebhookParts {
        records: Arc::clone(&engines.records),
        audit,
        clock: Arc::clone(&ambient.clock),
        entropy: Arc::clone(&ambient.entropy),
        sender: Arc::new(sender),
        observed: Arc::new(OfRecommend(Arc::clone(recommend.service()), Arc::clone(recommend.canaries()))),
        keys: keys(config, ambient)?,
    };
    Ok(Arc::new(Webhooks::new(parts, settings, registry)))
}

/// A file of this machine is of use only where the records are on it too: replicas must have the same key.
fn keys(config: &Config, ambient: &Ambient) -> Result<Keys> {
    let given = &config.webhooks.secret_keys;
    if !given.is_empty() || config.storage.chosen().shares_records() {
        return Keys::new(given);
    }
    let path = config.storage.data_dir.join(KEY_FILE);
    Keys::new(&[app::kept_key(&path, ambient.entropy.as_ref())?])
}

/// The model, the trending list and the canaries of recommendations.
#[derive(Debug)]
struct OfRecommend(Arc<Service>, Arc<Canaries>);

impl Observed for OfRecommend {
    fn model(&self, scope: &Scope) -> Option<ServedModel> {
        let model = self.0.served(scope)?.current()?;
        Some(ServedModel { version: model.version, trained_at: model.trained_at })
    }

    fn trending(&self, scope: &Scope, count: usize) -> Result<Vec<TrendingEntity>> {
        // What another algorithm would answer in its place is not trending.
        let query = Query { count, algorithm: Algorithm::Trending, alone: true, ..Query::default() };
        let list = self.0.list(scope, &query, None)?.recommendations;
        Ok(list
            .into_iter()
            .map(|one| TrendingEntity { entity_type: one.entity_type, entity_id: one.entity_id })
            .collect())
    }

    fn decisions(&self, scope: &Scope, after: u64) -> Result<Vec<CanaryDecision>> {
        let told = self.1.decisions(scope, after).into_iter().map(|decision| {
            Ok(CanaryDecision {
                number: decision.number,
                at: Timestamp::from_millisecond(decision.at_ms).map_err(Error::internal)?,
                canary: decision.data.canary.clone(),
                data: serde_json::to_value(&decision.data).map_err(Error::internal)?,
            })
        });
        told.collect()
    }
}
