//! Keys that are made, listed, rotated and revoked while the server runs.
//!
//! A key is `ws_ID_SECRET`. Only the BLAKE3 hash of the secret is stored: the secret has 256 random bits, so that
//! no slow hash is needed. Every server holds all keys in memory and looks for changes twice a second, so that a
//! request asks no database, a revocation reaches every replica within a second, and answers keep coming while
//! the database is away.
//!
//! It refuses: names and tenants from the caller where the credential says otherwise, keys that expired before
//! they were made.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kernel::{Clock, Entropy, Error, Permission, Result, Scope, TenantId, Timestamp, codes};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use store::{Document, Expect, IndexValue, Query, Records, Repository, Selection, Table};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Authenticator;
use crate::audit::{AuditLog, Record};

const PREFIX: &str = "ws";
const MAX_NAME_BYTES: usize = 100;
/// Between two looks at what other replicas changed.
const REFRESH: Duration = Duration::from_millis(500);
/// Looks between two writes of when keys were used.
const LOOKS_PER_NOTE: u32 = 60;
/// How far the clocks of replicas may differ for a change to be seen.
const CLOCK_DIFFERENCE_MS: i64 = 60_000;
const PAGE: usize = 1_000;

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
    fn accepts(&self, hash: &blake3::Hash, now: Timestamp) -> bool {
        let is = |stored: &str| blake3::Hash::from_hex(stored).is_ok_and(|stored| stored == *hash);
        let earlier = self.previous.as_ref().is_some_and(|(stored, until)| is(stored) && now < *until);
        let valid = self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at);
        (is(&self.hash) || earlier) && valid
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
    used_ms: AtomicI64,
}

/// Every key of every tenant.
#[derive(Debug)]
pub struct KeyRing {
    keys: Repository<ApiKey>,
    held: RwLock<HashMap<String, Arc<Held>>>,
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
        let ring = Self { keys, held: RwLock::default(), audit, clock, entropy };
        ring.refresh(i64::MIN).await?;
        Ok(ring)
    }

    /// Makes a key for the scope's tenant. The second part is the key itself, which nobody can read again.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR`; those of the engine.
    pub async fn create(&self, scope: &Scope, new: NewKey) -> Result<(ApiKey, String)> {
        scope.require(Permission::Admin)?;
        let now = self.clock.now();
        check(&new, now)?;
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
        self.keys.put(&system(), &key, Expect::Absent).await?;
        self.hold(key.clone());
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

    /// Ends a key for good: here at once, on every other replica within a second.
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
        key.changed_at = self.clock.now();
        self.note(scope, action, &key).await?;
        self.keys.put(&system(), &key, Expect::Version(found.version)).await?;
        self.hold(key.clone());
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

    fn hold(&self, key: ApiKey) {
        let mut held = self.held.write();
        let earlier = held.get(&key.id);
        if earlier.is_some_and(|earlier| earlier.key.changed_at > key.changed_at) {
            return;
        }
        let stored = key.last_used_at.map_or(0, Timestamp::as_millisecond);
        let used_ms = earlier.map_or(0, |earlier| earlier.used_ms.load(Ordering::Relaxed)).max(stored);
        held.insert(key.id.clone(), Arc::new(Held { key, used_ms: AtomicI64::new(used_ms) }));
    }

    /// Takes in what changed since.
    async fn refresh(&self, since_ms: i64) -> Result<()> {
        let changed =
            Selection::Between("changed_at", IndexValue::Integer(since_ms), IndexValue::Integer(i64::MAX));
        let mut query = Query::new(changed, PAGE);
        loop {
            let (keys, cursor) = self.keys.list(&system(), &query).await?;
            keys.into_iter().for_each(|found| self.hold(found.document));
            match cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => return Ok(()),
            }
        }
    }

    /// Writes down when keys were used.
    async fn note_use(&self) -> Result<()> {
        let used: Vec<(String, i64)> = {
            let held = self.held.read();
            let fresh = held.values().filter(|held| held.is_fresh());
            fresh.map(|held| (held.key.id.clone(), held.used_ms.load(Ordering::Relaxed))).collect()
        };
        for (id, used_ms) in used {
            let Some(found) = self.keys.get(&system(), &id).await? else { continue };
            let mut key = found.document;
            let used = Timestamp::from_millisecond(used_ms).ok();
            key.last_used_at = key.last_used_at.max(used);
            match self.keys.put(&system(), &key, Expect::Version(found.version)).await {
                Ok(_) => self.hold(key),
                // Another replica was faster; the next look tries again.
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Follows what other replicas change, and notes when keys were used, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = 0_u32;
        let mut failing = false;
        let mut since_ms = i64::MIN;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(REFRESH) => {}
            }
            let began_ms = self.clock.now().as_millisecond();
            let mut result = self.refresh(since_ms).await;
            if result.is_ok() {
                since_ms = began_ms.saturating_sub(CLOCK_DIFFERENCE_MS);
            }
            looks = looks.wrapping_add(1);
            if result.is_ok() && looks.is_multiple_of(LOOKS_PER_NOTE) {
                result = self.note_use().await;
            }
            match result {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    warn!(error = %error.chain(), "changes of keys are not seen for now");
                    failing = true;
                }
                Err(_) => {}
            }
        }
        if let Err(error) = self.note_use().await {
            warn!(error = %error.chain(), "the last use of keys was not noted");
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
}

/// Keys of all tenants are stored together, because a credential does not say whose it is.
fn system() -> Scope {
    Scope::system(TenantId::server(), "keys")
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
mod tests {
    use kernel::{ManualClock, SeededEntropy};
    use store::memory::MemoryRecords;

    use super::*;

    struct Bench {
        records: Arc<dyn Records>,
        clock: Arc<ManualClock>,
        scope: Scope,
    }

    impl Bench {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
            let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
            Self { records: Arc::new(MemoryRecords::default()), clock, scope }
        }

        async fn ring(&self, seed: u64) -> KeyRing {
            let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
            let audit = AuditLog::new(Arc::clone(&self.records), Arc::clone(&clock));
            let entropy = Arc::new(SeededEntropy::new(seed));
            KeyRing::open(Arc::clone(&self.records), audit, clock, entropy).await.unwrap()
        }
    }

    fn new_key(permission: Permission) -> NewKey {
        NewKey { name: "front end".to_owned(), permission, expires_at: None }
    }

    #[tokio::test]
    async fn a_key_speaks_for_its_tenant_until_it_is_revoked() {
        let bench = Bench::new();
        let ring = bench.ring(1).await;
        let (key, secret) = ring.create(&bench.scope, new_key(Permission::Write)).await.unwrap();
        let scope = ring.scope_of(&secret).unwrap();
        assert_eq!(scope.tenant().as_str(), "shop");
        assert!(scope.require(Permission::Write).is_ok() && scope.require(Permission::Admin).is_err());
        for wrong in ["", "ws", "ws__", &secret[..secret.len() - 1], &secret.replace("ws_", "wx_")] {
            assert!(ring.scope_of(wrong).is_none(), "{wrong}");
        }
        let other = Scope::system(TenantId::new("other").unwrap(), "test");
        assert!(ring.list(&other).unwrap().is_empty());
        assert_eq!(ring.revoke(&other, &key.id).await.unwrap_err().code(), codes::NOT_FOUND);
        ring.revoke(&bench.scope, &key.id).await.unwrap();
        assert!(ring.scope_of(&secret).is_none());
        assert_eq!(
            ring.rotate(&bench.scope, &key.id, Duration::ZERO).await.unwrap_err().code(),
            codes::CONFLICT
        );
        let stored = bench.records.get(&system(), ApiKey::TABLE, &key.id).await.unwrap().unwrap();
        let own_part = secret.rsplit('_').next().unwrap();
        assert!(!String::from_utf8_lossy(&stored.body).contains(own_part), "no secret is stored");
    }

    #[tokio::test]
    async fn expiry_and_grace_end_on_the_clock() {
        let bench = Bench::new();
        let ring = bench.ring(1).await;
        let expires_at = Some("2026-01-01T01:00:00Z".parse().unwrap());
        let new = NewKey { expires_at, ..new_key(Permission::Read) };
        let (key, first) = ring.create(&bench.scope, new.clone()).await.unwrap();
        let (_, second) = ring.rotate(&bench.scope, &key.id, Duration::from_secs(60)).await.unwrap();
        let check = |first_works: bool, second_works: bool| {
            let works = (ring.scope_of(&first).is_some(), ring.scope_of(&second).is_some());
            assert_eq!(works, (first_works, second_works), "at {}", bench.clock.now());
        };
        check(true, true);
        bench.clock.advance(Duration::from_secs(60));
        check(false, true);
        bench.clock.advance(Duration::from_secs(3_540));
        check(false, false);
        assert_eq!(ring.create(&bench.scope, new).await.unwrap_err().field(), Some("expires_at"));
    }

    #[tokio::test]
    async fn replicas_see_each_others_changes() {
        let bench = Bench::new();
        let (one, two) = (bench.ring(1).await, bench.ring(2).await);
        let (key, secret) = one.create(&bench.scope, new_key(Permission::Read)).await.unwrap();
        assert!(two.scope_of(&secret).is_none());
        two.refresh(i64::MIN).await.unwrap();
        assert!(two.scope_of(&secret).is_some());
        two.note_use().await.unwrap();
        bench.clock.advance(Duration::from_secs(1));
        one.revoke(&bench.scope, &key.id).await.unwrap();
        two.refresh(i64::MIN).await.unwrap();
        assert!(two.scope_of(&secret).is_none());
        assert!(two.list(&bench.scope).unwrap()[0].last_used_at.is_some());
    }
}
