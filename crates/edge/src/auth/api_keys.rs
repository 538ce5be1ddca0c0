//! Keys that are made, listed, rotated and revoked while the server runs.
//!
//! A key is `ws_ID_SECRET`. Only the BLAKE3 hash of the secret is stored: the secret has 256 random bits, so that
//! no slow hash is needed. Every server holds all keys in memory and follows what others change (see `following`), so
//! that a request asks no database, a revocation reaches every replica within a second, and answers keep coming while
//! the database is away.
//!
//! It refuses: names and tenants from the caller where the credential says otherwise, keys that expired before
//! they were made, and more than 1,000 keys of a tenant that work, 10,000 with those that ended. Replicas that make keys
//! in the same moment may pass that by one each.

mod following;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Clock, Entropy, Error, Permission, Result, Scope, TenantId, Timestamp, codes};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use store::{Document, Expect, IndexValue, Records, Repository, Table, Versioned};

use super::Authenticator;
use crate::audit::{AuditLog, Record};

const PREFIX: &str = "ws";
/// Characters of a key's id.
const ID_BYTES: usize = 16;
/// Keys that the records are asked for in a second, because they are not known here.
const QUESTIONS_PER_SECOND: u32 = 50;
/// How long such a question may take.
const QUESTION_LASTS: Duration = Duration::from_millis(500);
const MAX_NAME_BYTES: usize = 100;
/// Keys of a tenant that work. Tests have few.
const WORKING_MAX: usize = if cfg!(test) { 100 } else { 1_000 };
/// Keys of a tenant that are kept, also those that work no more.
const KEPT_MAX: usize = 10_000;
/// The least difference between two changes of a key: its index has whole milliseconds.
const TICK: Duration = Duration::from_millis(1);

/// A key as it is stored: without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Names the key, in logs and in the audit.
    pub id: String,
    /// The tenant it speaks for.
    pub tenant: TenantId,
    /// For people.
    pub name: String,
    /// What it may do.
    pub permission: Permission,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to about half a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    changed_at: Timestamp,
    hash: String,
    /// The secret before the last rotation, and until when it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<(String, Timestamp)>,
}

impl ApiKey {
    /// When it stopped to work, or will.
    fn ends_at(&self) -> Option<Timestamp> {
        [self.revoked_at, self.expires_at].into_iter().flatten().min()
    }

    fn works(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }

    fn accepts(&self, hash: &blake3::Hash, now: Timestamp) -> bool {
        let is = |stored: &str| blake3::Hash::from_hex(stored).is_ok_and(|stored| stored == *hash);
        let earlier = self.previous.as_ref().is_some_and(|(stored, until)| is(stored) && now < *until);
        (is(&self.hash) || earlier) && self.works(now)
    }
}

impl Document for ApiKey {
    const TABLE: Table = Table { name: "api_keys", indexes: &["changed_at"] };

    fn key(&self) -> String {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("changed_at", IndexValue::Integer(self.changed_at.as_millisecond()))]
    }
}

/// What a new key shall be.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// For people, 1 to 100 bytes.
    pub name: String,
    /// What it may do.
    pub permission: Permission,
    /// When it stops to work.
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Held {
    key: ApiKey,
    /// That of the record: of two forms of a key the later one counts, whatever the clocks said.
    version: u64,
    used_ms: AtomicI64,
    /// The last pass over all keys that it was there in.
    seen_in: AtomicU64,
}

/// Every key of every tenant.
#[derive(Debug)]
pub struct KeyRing {
    keys: Repository<ApiKey>,
    held: RwLock<HashMap<String, Arc<Held>>>,
    /// The pass over all keys that is under way, or was last.
    pass: AtomicU64,
    /// Keys that are just being made, by tenant: they count too.
    making: Mutex<BTreeMap<TenantId, usize>>,
    questions: Questions,
    /// Whether other processes take these keys too.
    is_among_replicas: bool,
    audit: AuditLog,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl KeyRing {
    /// Reads every key.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn open(
        records: Arc<dyn Records>,
        audit: AuditLog,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        let keys = Repository::new(records);
        let (held, pass, making) = (RwLock::default(), AtomicU64::new(0), Mutex::default());
        let ring = Self {
            keys,
            held,
            pass,
            making,
            questions: Questions::default(),
            is_among_replicas: false,
            audit,
            clock,
            entropy,
        };
        ring.refresh(i64::MIN).await?;
        Ok(ring)
    }

    /// The same, where other processes take these keys too: a change is told of when they have had the time to see it.
    #[must_use]
    pub fn among_replicas(self, is_among_replicas: bool) -> Self {
        Self { is_among_replicas, ..self }
    }

    /// Makes a key for the scope's tenant. The second part is the key itself, which nobody can read again.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR`; `CONFLICT` where there are too many; those of the engine.
    pub async fn create(&self, scope: &Scope, new: NewKey) -> Result<(ApiKey, String)> {
        scope.require(Permission::Admin)?;
        let now = self.clock.now();
        check(&new, now)?;
        let _room = self.take_room(scope.tenant(), now)?;
        let id = format!("{:016x}", self.entropy.next_u64());
        let (secret, hash) = self.secret();
        let key = ApiKey {
            id: id.clone(),
            tenant: scope.tenant().clone(),
            name: new.name,
            permission: new.permission,
            created_at: now,
            expires_at: new.expires_at,
            revoked_at: None,
            last_used_at: None,
            changed_at: now,
            hash,
            previous: None,
        };
        self.note(scope, "key.created", &key).await?;
        let version = self.keys.put(&system(), &key, Expect::Absent).await?;
        self.hold(Versioned { version, document: key.clone() });
        Ok((key, format!("{PREFIX}_{id}_{secret}")))
    }

    /// The keys of the scope's tenant, oldest first, also those that work no more.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn list(&self, scope: &Scope) -> Result<Vec<ApiKey>> {
        scope.require(Permission::Admin)?;
        let held = self.held.read();
        let own = held.values().filter(|held| held.key.tenant == *scope.tenant());
        let mut keys: Vec<ApiKey> = own.map(|held| held.shown()).collect();
        keys.sort_by(|one, two| one.created_at.cmp(&two.created_at).then_with(|| one.id.cmp(&two.id)));
        Ok(keys)
    }

    /// A page of the same, and the cursor of the next one.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR` for a cursor that is none.
    pub fn page(
        &self,
        scope: &Scope,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<ApiKey>, Option<String>)> {
        let mut keys = self.list(scope)?;
        if let Some(cursor) = cursor {
            let after = place_of(cursor)?;
            keys.retain(|key| (key.created_at, key.id.as_str()) > after);
        }
        let is_last = keys.len() <= limit;
        keys.truncate(limit);
        let next = keys.last().filter(|_| !is_last).map(|key| format!("{}_{}", key.created_at, key.id));
        Ok((keys, next))
    }

    /// The tenants that have keys, also those whose keys work no more.
    pub fn tenants(&self) -> BTreeSet<TenantId> {
        self.held.read().values().map(|held| held.key.tenant.clone()).collect()
    }

    /// Whether any key of any tenant works.
    pub fn has_any(&self) -> bool {
        let now = self.clock.now();
        self.held.read().values().any(|held| held.key.works(now))
    }

    /// Room for one more key of the tenant, until it is dropped.
    fn take_room(&self, tenant: &TenantId, now: Timestamp) -> Result<Room<'_>> {
        let mut making = self.making.lock();
        let made = making.get(tenant).copied().unwrap_or(0);
        let held = self.held.read();
        let own = || held.values().filter(|held| held.key.tenant == *tenant);
        let message = if own().filter(|held| held.key.works(now)).count() + made >= WORKING_MAX {
            format!("a tenant has at most {WORKING_MAX} keys that work; revoke one first")
        } else if own().count() + made >= KEPT_MAX {
            format!(
                "a tenant has at most {KEPT_MAX} keys, with those that ended in the last 30 days; rotate one"
            )
        } else {
            making.insert(tenant.clone(), made + 1);
            return Ok(Room { ring: self, tenant: tenant.clone() });
        };
        Err(Error::new(codes::CONFLICT, message))
    }

    /// Ends a key for good, on every replica that reaches the records by the time that this returns.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; those of the engine.
    pub async fn revoke(&self, scope: &Scope, id: &str) -> Result<ApiKey> {
        let now = self.clock.now();
        self.change(scope, id, "key.revoked", |key| {
            key.revoked_at.get_or_insert(now);
            Ok(())
        })
        .await
    }

    /// Gives a key another secret. The one before works for `grace` longer.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; `CONFLICT` for a revoked key; those of the engine.
    pub async fn rotate(&self, scope: &Scope, id: &str, grace: Duration) -> Result<(ApiKey, String)> {
        let now = self.clock.now();
        let until = now.checked_add(grace).map_err(|_| {
            Error::new(codes::VALIDATION_ERROR, "is longer than time goes").with_field("grace_secs")
        })?;
        let (secret, hash) = self.secret();
        let changed = self.change(scope, id, "key.rotated", |key| {
            if key.revoked_at.is_some() {
                return Err(Error::new(codes::CONFLICT, "a revoked key is not rotated; make another"));
            }
            key.previous = Some((std::mem::replace(&mut key.hash, hash.clone()), until));
            Ok(())
        });
        Ok((changed.await?, format!("{PREFIX}_{id}_{secret}")))
    }

    async fn change(
        &self,
        scope: &Scope,
        id: &str,
        action: &'static str,
        change: impl FnOnce(&mut ApiKey) -> Result<()>,
    ) -> Result<ApiKey> {
        scope.require(Permission::Admin)?;
        let found =
            self.keys.get(&system(), id).await?.filter(|found| found.document.tenant == *scope.tenant());
        let found = found.ok_or_else(|| Error::new(codes::NOT_FOUND, format!("there is no key `{id}`")))?;
        let mut key = found.document;
        change(&mut key)?;
        // After the change before, also where that one was made by a clock that is ahead of this one.
        let after = key.changed_at.checked_add(TICK).map_err(Error::internal)?;
        key.changed_at = self.clock.now().max(after);
        self.note(scope, action, &key).await?;
        let version = self.keys.put(&system(), &key, Expect::Version(found.version)).await?;
        self.hold(Versioned { version, document: key.clone() });
        if self.is_among_replicas {
            tokio::time::sleep(following::SEEN_AFTER).await;
        }
        Ok(key)
    }

    /// Written before the change: an audit that names what did not happen is better than one that lacks what did.
    async fn note(&self, scope: &Scope, action: &'static str, key: &ApiKey) -> Result<()> {
        let details = [("name", key.name.clone()), ("permission", key.permission.to_string())];
        let details = details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let record = Record { action: action.to_owned(), subject: key.id.clone(), details };
        self.audit.append(scope, record).await.map(drop)
    }

    fn secret(&self) -> (String, String) {
        let secret: String = (0..4).map(|_| format!("{:016x}", self.entropy.next_u64())).collect();
        let hash = blake3::hash(secret.as_bytes()).to_hex().to_string();
        (secret, hash)
    }

    /// Takes a key over, unless a later form of it is held.
    fn hold(&self, found: Versioned<ApiKey>) {
        let Versioned { version, document: key } = found;
        let pass = self.pass.load(Ordering::Relaxed);
        let mut held = self.held.write();
        let earlier = held.get(&key.id);
        if let Some(earlier) = earlier.filter(|earlier| earlier.version >= version) {
            earlier.seen_in.store(pass, Ordering::Relaxed);
            return;
        }
        let stored = key.last_used_at.map_or(0, Timestamp::as_millisecond);
        let used_ms = earlier.map_or(0, |earlier| earlier.used_ms.load(Ordering::Relaxed)).max(stored);
        let (used_ms, seen_in) = (AtomicI64::new(used_ms), AtomicU64::new(pass));
        held.insert(key.id.clone(), Arc::new(Held { key, version, used_ms, seen_in }));
    }
}

/// Counts a key that is being made.
struct Room<'a> {
    ring: &'a KeyRing,
    tenant: TenantId,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut making = self.ring.making.lock();
        match making.get_mut(&self.tenant) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(making.remove(&self.tenant)),
        }
    }
}

impl Held {
    fn is_fresh(&self) -> bool {
        self.used_ms.load(Ordering::Relaxed) > self.key.last_used_at.map_or(0, Timestamp::as_millisecond)
    }

    fn shown(&self) -> ApiKey {
        let mut key = self.key.clone();
        let used_ms = self.used_ms.load(Ordering::Relaxed);
        key.last_used_at = (used_ms > 0).then(|| Timestamp::from_millisecond(used_ms).ok()).flatten();
        key
    }
}

#[async_trait]
impl Authenticator for KeyRing {
    fn scope_of(&self, credential: &str) -> Option<Scope> {
        let (id, secret) = credential.strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')?;
        let held = self.held.read().get(id).cloned();
        // Hashed whether or not there is such a key, so that the time tells nothing.
        let hash = blake3::hash(secret.as_bytes());
        let held = held?;
        let now = self.clock.now();
        if !held.key.accepts(&hash, now) {
            return None;
        }
        held.used_ms.fetch_max(now.as_millisecond(), Ordering::Relaxed);
        #[expect(clippy::disallowed_methods, reason = "the credential was proven on the lines above")]
        Some(Scope::proven(held.key.tenant.clone(), format!("key:{id}"), held.key.permission))
    }

    /// A key that another replica made or rotated a moment ago.
    async fn learn(&self, credential: &str) -> bool {
        let parts = credential.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('_')?.split_once('_'));
        let Some((id, _)) = parts.filter(|(id, _)| id.len() == ID_BYTES) else { return false };
        if !self.questions.may_ask(self.clock.elapsed()) {
            return false;
        }
        let known = self.held.read().get(id).map(|held| held.version);
        match tokio::time::timeout(QUESTION_LASTS, self.keys.get(&system(), id)).await {
            Ok(Ok(Some(found))) if Some(found.version) != known => {
                self.hold(found);
                true
            }
            // What is away is told by the look that follows all changes.
            _ => false,
        }
    }
}

/// How often the records are asked for a key that is not known here, whoever asks: guesses must not become a load.
#[derive(Debug, Default)]
struct Questions(Mutex<(Duration, u32)>);

impl Questions {
    fn may_ask(&self, now: Duration) -> bool {
        let mut asked = self.0.lock();
        if now.saturating_sub(asked.0) >= Duration::from_secs(1) {
            *asked = (now, 0);
        }
        asked.1 += 1;
        asked.1 <= QUESTIONS_PER_SECOND
    }
}

/// Keys of all tenants are stored together, because a credential does not say whose it is.
fn system() -> Scope {
    Scope::system(TenantId::server(), "keys")
}

/// The key that a page ended with, as its cursor says.
fn place_of(cursor: &str) -> Result<(Timestamp, &str)> {
    let fault = || Error::new(codes::VALIDATION_ERROR, "is not one that a page gave").with_field("cursor");
    let (time, id) = cursor.split_once('_').ok_or_else(fault)?;
    Ok((time.parse().map_err(|_| fault())?, id))
}

fn check(new: &NewKey, now: Timestamp) -> Result<()> {
    let fault =
        |field: &str, message: String| Err(Error::new(codes::VALIDATION_ERROR, message).with_field(field));
    if new.name.is_empty() || new.name.len() > MAX_NAME_BYTES || new.name.chars().any(char::is_control) {
        return fault("name", format!("is 1 to {MAX_NAME_BYTES} bytes without control characters"));
    }
    match new.expires_at {
        Some(at) if at <= now => fault("expires_at", format!("`{at}` is not after now, which is {now}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
