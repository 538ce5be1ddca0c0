//! Plugs webhooks in: what they look at, what they send with, and the key that their secrets are derived from.

use std::sync::Arc;

use edge::AuditLog;
use kernel::{Result, Scope};
use prometheus_client::registry::Registry;
use recommend::Recommend;
use recommend::service::{Algorithm, Query, Service};
use webhooks::addresses::SystemLookup;
use webhooks::sender::HttpSender;
use webhooks::signing::Keys;
use webhooks::watch::{Observed, ServedModel, TrendingEntity};
use webhooks::{WebhookParts, Webhooks};

use crate::app::{self, Ambient};
use crate::config::{Config, Engine};
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
        observed: Arc::new(OfRecommend(Arc::clone(recommend.service()))),
        keys: keys(config, ambient)?,
    };
    Ok(Arc::new(Webhooks::new(parts, settings, registry)))
}

/// A file of this machine is of use only where the records are on it too: replicas must have the same key.
fn keys(config: &Config, ambient: &Ambient) -> Result<Keys> {
    let given = &config.webhooks.secret_keys;
    if !given.is_empty() || config.storage.chosen().records != Engine::Embedded {
        return Keys::new(given);
    }
    let path = config.storage.data_dir.join(KEY_FILE);
    Keys::new(&[app::kept_key(&path, ambient.entropy.as_ref())?])
}

/// The model and the trending list of recommendations.
#[derive(Debug)]
struct OfRecommend(Arc<Service>);

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
}
