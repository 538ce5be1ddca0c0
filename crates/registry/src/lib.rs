//! The model registry over HTTP.
//!
//! - [`mlflow`]: MLflow's REST API, so that the `mlflow` client works unchanged: experiments, runs, artifacts, registered
//!   models, versions, aliases. A file for each resource.
//! - [`http`]: what MLflow has no words for: promotion that says what it expects, rollback, history; features.
//!
//! What is kept, and every rule about it, is in `models`. Every change of what serves goes to the audit.
//!
//! It refuses traces, prompts, gateways and webhooks of MLflow: their addresses are not found. To add an endpoint: a
//! handler in its resource's file, a line in `mlflow/mod.rs`.

pub mod http;
pub mod mlflow;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use edge::AuditLog;
use edge::audit::Record;
use kernel::{Clock, Entropy, Result, Scope};
use models::features::Features;
use models::files::{FileLimits, Files};
use models::registered::{RegisteredModels, Witness};
use models::tracking::Tracking;
use store::{Blobs, Records};

pub use settings::RegistrySettings;

/// What an upload or a download holds in memory.
const PART_BYTES: usize = 8 << 20;

/// What the registry works with.
#[derive(Debug, Clone)]
pub struct RegistryParts {
    /// Runs, models, versions.
    pub records: Arc<dyn Records>,
    /// Artifacts.
    pub blobs: Arc<dyn Blobs>,
    /// Who changed what.
    pub audit: AuditLog,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub entropy: Arc<dyn Entropy>,
}

/// The registry of every tenant.
#[derive(Debug, Clone)]
pub struct ModelRegistry {
    /// Experiments and runs.
    pub tracking: Tracking,
    /// Models and versions.
    pub models: RegisteredModels,
    /// Their artifacts.
    pub files: Files,
    /// Features of entities.
    pub features: Features,
    audit: AuditLog,
}

impl ModelRegistry {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: RegistryParts, settings: &RegistrySettings) -> Self {
        let RegistryParts { records, blobs, audit, clock, entropy } = parts;
        let limits = FileLimits { file_bytes: settings.max_artifact_mb << 20, part_bytes: PART_BYTES };
        let features = Features::new(Arc::clone(&records), Arc::clone(&clock));
        let files = Files::new(Arc::clone(&records), blobs, Arc::clone(&clock), Arc::clone(&entropy), limits);
        let tracking =
            Tracking::new(Arc::clone(&records), files.clone(), Arc::clone(&clock), Arc::clone(&entropy));
        let witness = Arc::new(Audited(audit.clone()));
        let models = RegisteredModels::new(records, files.clone(), tracking.clone(), witness, clock, entropy);
        Self { tracking, models, files, features, audit }
    }
}

/// Writes changes of models to the audit, before they are made: an entry of what did not happen is better than none of
/// what did.
#[derive(Debug)]
struct Audited(AuditLog);

#[async_trait]
impl Witness for Audited {
    async fn note(
        &self,
        scope: &Scope,
        action: &'static str,
        subject: &str,
        details: BTreeMap<String, String>,
    ) -> Result<()> {
        let record = Record { action: action.to_owned(), subject: subject.to_owned(), details };
        self.0.append(scope, record).await.map(drop)
    }
}
