//! Webhooks as tenants make them: an address, and what it wants to hear of.
//!
//! It refuses more than 20 webhooks of a tenant, and addresses that may not be reached. To add a kind of message: a
//! variant of [`Kind`], and what notices it in `watch.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use edge::AuditLog;
use edge::audit::Record;
use kernel::{Clock, Entropy, Error, Permission, Result, Scope, TenantId, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::{Document, Expect, Query, Records, Repository, Selection, Table, Tenants, Versioned};
use utoipa::ToSchema;

use crate::addresses::Allowed;
use crate::signing::{Keys, Made};

const WEBHOOKS_MAX: usize = 20;
const DESCRIPTION_BYTES_MAX: usize = 500;
const PAGE: usize = 1_000;
/// The longest that a secret signs after it was rotated away.
const GRACE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What a webhook can hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookEvent)]
pub enum Kind {
    /// Another version of the tenant's model is served.
    #[serde(rename = "model.updated")]
    ModelUpdated,
    /// Entities came into the top of the tenant's trending list.
    #[serde(rename = "trending.changed")]
    TrendingChanged,
    /// A canary of the tenant went on or back.
    #[serde(rename = "canary.decided")]
    CanaryDecided,
    /// A share of the tenant's requests failed.
    #[serde(rename = "errors.threshold")]
    ErrorsThreshold,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] =
        [Self::ModelUpdated, Self::TrendingChanged, Self::CanaryDecided, Self::ErrorsThreshold];

    /// The `type` of its CloudEvents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ModelUpdated => "model.updated",
            Self::TrendingChanged => "trending.changed",
            Self::CanaryDecided => "canary.decided",
            Self::ErrorsThreshold => "errors.threshold",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A webhook as it is stored: without its secret, which is derived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Names the webhook.
    pub id: String,
    /// Where messages go.
    pub url: String,
    /// What it wants to hear of.
    pub events: Vec<Kind>,
    /// For people.
    pub description: String,
    /// Whether messages are sent.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// What its secret is derived from.
    #[serde(flatten)]
    pub made: Made,
    /// The secret before, where it still signs too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// A secret that was rotated away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// What it is derived from.
    #[serde(flatten)]
    pub made: Made,
    /// It signs until then.
    pub until: Timestamp,
}

impl Document for Webhook {
    const TABLE: Table = Table { name: "webhooks", indexes: &[] };

    fn key(&self) -> String {
        self.id.clone()
    }
}

/// The tenants that have, or had, a webhook.
const TENANTS: Table = Table { name: "webhook_tenants", indexes: &[] };

const ID_BYTES_MAX: usize = 64;

/// Whether it may be the id of a webhook or a delivery; nothing else is asked for.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The system's own scope.
pub(crate) fn system() -> Scope {
    Scope::system(TenantId::server(), "webhooks")
}

/// What a new webhook shall be.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Where messages go.
    pub url: String,
    /// What it wants to hear of.
    pub events: Vec<Kind>,
    /// For people.
    pub description: String,
    /// Whether messages are sent.
    pub active: bool,
}

/// What shall be different; nothing where missing.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Where messages go.
    pub url: Option<String>,
    /// What it wants to hear of.
    pub events: Option<Vec<Kind>>,
    /// For people.
    pub description: Option<String>,
    /// Whether messages are sent.
    pub active: Option<bool>,
}

/// What subscriptions work with.
#[derive(Debug, Clone)]
pub struct SubscriptionParts {
    /// Where they are kept.
    pub records: Arc<dyn Records>,
    /// Who changed what.
    pub audit: AuditLog,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub entropy: Arc<dyn Entropy>,
    /// What secrets are derived from.
    pub keys: Keys,
    /// Which addresses are taken.
    pub allowed: Allowed,
}

/// The webhooks of every tenant.
#[derive(Debug, Clone)]
pub struct Subscriptions {
    parts: SubscriptionParts,
    webhooks: Repository<Webhook>,
    tenants: Arc<Tenants>,
}

impl Subscriptions {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: SubscriptionParts) -> Self {
        let webhooks = Repository::new(Arc::clone(&parts.records));
        let tenants = Arc::new(Tenants::new(Arc::clone(&parts.records), TENANTS));
        Self { parts, webhooks, tenants }
    }

    /// Makes a webhook. The second part is its secret, which nobody can read again.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR`; `CONFLICT` for too many; those of the engine.
    pub async fn create(&self, scope: &Scope, new: NewWebhook) -> Result<(Webhook, String)> {
        scope.require(Permission::Admin)?;
        let now = self.parts.clock.now();
        let webhook = Webhook {
            id: self.parts.entropy.id(now).simple().to_string(),
            url: new.url,
            events: new.events,
            description: new.description,
            active: new.active,
            created_at: now,
            updated_at: now,
            made: Made { key: self.parts.keys.newest()?.to_owned(), number: 0 },
            before: None,
        };
        let webhook = self.checked(webhook)?;
        if self.list(scope).await?.len() >= WEBHOOKS_MAX {
            let message = format!("a tenant has at most {WEBHOOKS_MAX} webhooks; delete one first");
            return Err(Error::new(codes::CONFLICT, message));
        }
        let secret = self.parts.keys.secret(scope, &webhook.id, &webhook.made)?;
        self.tenants.note(scope.tenant()).await?;
        self.note(scope, "webhook.created", &webhook).await?;
        self.webhooks.put(scope, &webhook, Expect::Absent).await?;
        Ok((webhook, secret))
    }

    /// The webhooks of the scope's tenant, oldest first.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; those of the engine.
    pub async fn list(&self, scope: &Scope) -> Result<Vec<Webhook>> {
        scope.require(Permission::Admin)?;
        let (found, _) = self.webhooks.list(scope, &Query::new(Selection::All, PAGE)).await?;
        Ok(found.into_iter().map(|found| found.document).collect())
    }

    /// One webhook.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; those of the engine.
    pub async fn get(&self, scope: &Scope, id: &str) -> Result<Webhook> {
        Ok(self.found(scope, id).await?.document)
    }

    /// Changes a webhook.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; `VALIDATION_ERROR`; those of the engine.
    pub async fn update(&self, scope: &Scope, id: &str, change: Change) -> Result<Webhook> {
        let Versioned { version, document: before } = self.found(scope, id).await?;
        let webhook = Webhook {
            url: change.url.unwrap_or(before.url),
            events: change.events.unwrap_or(before.events),
            description: change.description.unwrap_or(before.description),
            active: change.active.unwrap_or(before.active),
            updated_at: self.parts.clock.now(),
            ..before
        };
        let webhook = self.checked(webhook)?;
        self.note(scope, "webhook.updated", &webhook).await?;
        self.webhooks.put(scope, &webhook, Expect::Version(version)).await?;
        Ok(webhook)
    }

    /// Removes a webhook. What was not delivered yet becomes a dead letter.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; those of the engine.
    pub async fn delete(&self, scope: &Scope, id: &str) -> Result<()> {
        let found = self.found(scope, id).await?;
        self.note(scope, "webhook.deleted", &found.document).await?;
        self.webhooks.delete(scope, id, Expect::Version(found.version)).await
    }

    /// Gives a webhook another secret, under the newest key; the one before signs too for a while. The second part is
    /// the new secret, which nobody can read again.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; `VALIDATION_ERROR` for a long grace; `CONFLICT` where another changes it at the
    /// same time; those of the engine.
    pub async fn rotate(&self, scope: &Scope, id: &str, grace: Duration) -> Result<(Webhook, String)> {
        let Versioned { version, document: old } = self.found(scope, id).await?;
        if grace > GRACE_MAX {
            let message = format!("must be at most {}", GRACE_MAX.as_secs());
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("grace_secs"));
        }
        let now = self.parts.clock.now();
        let until = now.checked_add(grace).map_err(Error::internal)?;
        let number = old.made.number.checked_add(1).ok_or_else(|| Error::internal("rotated too often"))?;
        let webhook = Webhook {
            made: Made { key: self.parts.keys.newest()?.to_owned(), number },
            before: (!grace.is_zero()).then_some(Before { made: old.made, until }),
            updated_at: now,
            ..old
        };
        let secret = self.parts.keys.secret(scope, &webhook.id, &webhook.made)?;
        self.note(scope, "webhook.rotated", &webhook).await?;
        self.webhooks.put(scope, &webhook, Expect::Version(version)).await?;
        Ok((webhook, secret))
    }

    /// The secrets that a webhook's messages are signed with now, the newest first.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where the key that the newest was made under is gone.
    pub fn secrets(&self, scope: &Scope, webhook: &Webhook) -> Result<Vec<String>> {
        let mut secrets = vec![self.parts.keys.secret(scope, &webhook.id, &webhook.made)?];
        let now = self.parts.clock.now();
        if let Some(before) = webhook.before.as_ref().filter(|before| now < before.until) {
            // A key that was taken away takes the secrets under it along: that is what it is taken away for.
            secrets.extend(self.parts.keys.secret(scope, &webhook.id, &before.made).ok());
        }
        Ok(secrets)
    }

    /// The active webhooks that want to hear of it.
    pub(crate) async fn listening(&self, scope: &Scope, kind: Kind) -> Result<Vec<Webhook>> {
        let mut webhooks = self.list(scope).await?;
        webhooks.retain(|webhook| webhook.active && webhook.events.contains(&kind));
        Ok(webhooks)
    }

    /// The tenants that have, or had, webhooks.
    pub(crate) async fn tenants(&self) -> Result<Vec<Scope>> {
        let tenants = self.tenants.all().await?;
        Ok(tenants.into_iter().map(|tenant| Scope::system(tenant, "webhooks")).collect())
    }

    /// Written before the change: an audit that names what did not happen is better than one that lacks what did. Of the
    /// address only the host is told: the rest may hold a token.
    pub(crate) async fn note(&self, scope: &Scope, action: &'static str, webhook: &Webhook) -> Result<()> {
        let host = url::Url::parse(&webhook.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let events: Vec<_> = webhook.events.iter().map(|kind| kind.name()).collect();
        let details = BTreeMap::from([
            ("active".to_owned(), webhook.active.to_string()),
            ("events".to_owned(), events.join(" ")),
            ("host".to_owned(), host.unwrap_or_default()),
        ]);
        let record = Record { action: action.to_owned(), subject: webhook.id.clone(), details };
        self.parts.audit.append(scope, record).await.map(drop)
    }

    /// Notes that deliveries were sent again.
    pub(crate) async fn note_replay(&self, scope: &Scope, webhook_id: &str, count: usize) -> Result<()> {
        let details = BTreeMap::from([("deliveries".to_owned(), count.to_string())]);
        let (action, subject) = ("webhook.replayed".to_owned(), webhook_id.to_owned());
        self.parts.audit.append(scope, Record { action, subject, details }).await.map(drop)
    }

    async fn found(&self, scope: &Scope, id: &str) -> Result<Versioned<Webhook>> {
        scope.require(Permission::Admin)?;
        let missing = || Error::new(codes::NOT_FOUND, "there is no such webhook");
        if !is_id(id) {
            return Err(missing());
        }
        self.webhooks.get(scope, id).await?.ok_or_else(missing)
    }

    fn checked(&self, mut webhook: Webhook) -> Result<Webhook> {
        let fault = |field: &str, rule: &str| Error::new(codes::VALIDATION_ERROR, rule).with_field(field);
        webhook.url = self.parts.allowed.check(&webhook.url)?.to_string();
        webhook.events.sort_unstable();
        webhook.events.dedup();
        if webhook.events.is_empty() {
            return Err(fault("events", "must name one event at least"));
        }
        let description = &webhook.description;
        if description.len() > DESCRIPTION_BYTES_MAX || description.chars().any(char::is_control) {
            return Err(fault("description", "has at most 500 bytes and no control characters"));
        }
        Ok(webhook)
    }
}
