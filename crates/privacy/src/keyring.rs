//! The keys of persons, of tenants and of the store, in records and in memory.
//!
//! | table | of | key | what |
//! |---|---|---|---|
//! | `encryption_secrets` | `_system` | `store`, `tenant.NAME` | a secret, wrapped by a master key |
//! | `subject_keys` | the tenant | the key's random name | a person's key, wrapped; found by `handle` |
//!
//! `handle` is a hash of the user id under the tenant's secret: records say of nobody by name that they have a key. Two
//! replicas that meet a person at the same time may make a key each; both are that person's, and both go in an erasure.
//!
//! It refuses to guess: a key is gone when the records say so, and only then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use kernel::{Entropy, Error, Result, Scope, TenantId, codes, hex};
use moka::sync::Cache;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use store::{Document, Expect, IndexValue, Query, Records, Repository, Selection, Table, Versioned};

use crate::cipher::{Cipher, KeyBytes, random};
use crate::{MasterKeys, corrupted, of_tenant, system};

/// Keys kept in memory, by name and by person.
const KEYS_KEPT: u64 = 200_000;
/// A person's key is asked of the records again after so long, should it have gone unnoticed.
const LOOKED_UP_AGAIN: Duration = Duration::from_secs(600);
/// Records asked for at the same time.
const ASKED_AT_ONCE: usize = 16;
/// New keys a commit.
const KEYS_PER_COMMIT: usize = 1_000;
/// Records a page.
pub(crate) const PAGE: usize = 1_000;
/// Keys that one person can have: one for each replica that met them first.
const KEYS_OF_ONE: usize = 1_000;

const STORE: &str = "store";
const TENANT: &str = "tenant.";

/// A secret of the store or of a tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Secret {
    pub(crate) name: String,
    /// The name of the master key that wraps it.
    pub(crate) master: String,
    pub(crate) wrapped: String,
}

impl Document for Secret {
    const TABLE: Table = Table { name: "encryption_secrets", indexes: &[] };

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Secret {
    /// The tenant whose it is; none for the store's.
    pub(crate) fn tenant(&self) -> Option<Result<TenantId>> {
        self.name.strip_prefix(TENANT).map(TenantId::new)
    }
}

/// A person's key, wrapped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SubjectKey {
    pub(crate) name: String,
    /// Whose it is, as a hash.
    pub(crate) handle: String,
    /// The name of the master key that wraps it.
    pub(crate) master: String,
    /// Empty from the moment that the person is forgotten until every fold is told: no other key is made meanwhile, so
    /// that what the person does next comes after the erasure in the log.
    pub(crate) wrapped: String,
}

impl Document for SubjectKey {
    const TABLE: Table = Table { name: "subject_keys", indexes: &["handle"] };

    fn key(&self) -> String {
        self.name.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("handle", IndexValue::Text(self.handle.clone()))]
    }
}

impl SubjectKey {
    pub(crate) fn is_dropped(&self) -> bool {
        self.wrapped.is_empty()
    }

    /// What its wrapping is bound to, so that no key can be put in the place of another.
    pub(crate) fn about(tenant: &TenantId, name: &str) -> String {
        format!("subject/{tenant}/{name}")
    }
}

/// A person's key, ready for use.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    handle: String,
    pub(crate) cipher: Cipher,
}

/// What a tenant's hashes are made with.
#[derive(Debug)]
pub(crate) struct TenantSecret {
    handles: KeyBytes,
    ids: KeyBytes,
}

impl TenantSecret {
    fn new(secret: &KeyBytes) -> Self {
        Self {
            handles: blake3::derive_key("watershed privacy 2026 handles of persons", secret),
            ids: blake3::derive_key("watershed privacy 2026 ids of events", secret),
        }
    }

    fn handle(&self, user_id: &str) -> String {
        blake3::keyed_hash(&self.handles, user_id.as_bytes()).to_hex().to_string()
    }

    /// What stands for an event's id: the same for the same (source, id).
    pub(crate) fn id(&self, source: &str, id: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.ids);
        hasher.update(&(source.len() as u64).to_le_bytes()).update(source.as_bytes()).update(id.as_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// Whether anything was ever sealed.
///
/// # Errors
/// Those of the engine.
pub async fn is_used(records: &Arc<dyn Records>) -> Result<bool> {
    let secrets = Repository::<Secret>::new(Arc::clone(records));
    Ok(!secrets.list(&system(), &Query::new(Selection::All, 1)).await?.0.is_empty())
}

type Name = (TenantId, String);

fn being_forgotten() -> Error {
    Error::new(codes::UNAVAILABLE, "the person is being forgotten just now; send it again in a moment")
}

/// Every key.
pub struct Keyring {
    masters: MasterKeys,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) secrets: Repository<Secret>,
    pub(crate) subjects: Repository<SubjectKey>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Whether what comes in is sealed.
    seals: bool,
    store: Option<Cipher>,
    tenants: Cache<TenantId, Arc<TenantSecret>>,
    /// By the key's name; none for a key that is gone, which stays so.
    by_name: Cache<Name, Option<Arc<Key>>>,
    by_handle: Cache<Name, Arc<Key>>,
    /// Held while a key is taken in or forgotten: one that is gone must not come back for new events.
    turn: Mutex<()>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keyring").field("seals", &self.seals).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Over the records. With `seals`, what comes in is sealed; what is sealed already is read in any case.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` without a key where `seals`, or where the store is sealed under one that is not given; those of
    /// the engine.
    pub async fn open(
        records: Arc<dyn Records>,
        masters: MasterKeys,
        seals: bool,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        let mut keyring = Self {
            secrets: Repository::new(Arc::clone(&records)),
            subjects: Repository::new(Arc::clone(&records)),
            masters,
            records,
            entropy,
            seals,
            store: None,
            tenants: Cache::new(10_000),
            by_name: Cache::new(KEYS_KEPT),
            by_handle: Cache::builder().max_capacity(KEYS_KEPT).time_to_live(LOOKED_UP_AGAIN).build(),
            turn: Mutex::new(()),
        };
        for secret in keyring.all_secrets().await? {
            keyring.masters.named(&secret.document.master)?;
        }
        if seals {
            keyring.masters.newest()?;
        }
        let found = keyring.secrets.get(&system(), STORE).await?;
        if seals || found.is_some() {
            let key = keyring.secret(STORE).await?;
            keyring.store = Some(Cipher::new(&key));
        }
        Ok(keyring)
    }

    /// Whether what comes in is sealed.
    #[must_use]
    pub fn seals(&self) -> bool {
        self.seals
    }

    /// The name of the newest master key.
    #[must_use]
    pub fn newest_master(&self) -> Option<&str> {
        self.masters.newest_name()
    }

    pub(crate) fn masters(&self) -> &MasterKeys {
        &self.masters
    }

    /// The key of checkpoints, models, kept answers and dead letters; none where nothing was ever sealed.
    pub(crate) fn store(&self) -> Option<&Cipher> {
        self.store.as_ref()
    }

    /// Every secret, of the store and of each tenant.
    pub(crate) async fn all_secrets(&self) -> Result<Vec<Versioned<Secret>>> {
        self.secrets.list_all(&system(), Query::new(Selection::All, PAGE)).await
    }

    /// The tenants that have sealed anything or forgotten anybody.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.all_secrets().await?.into_iter().filter_map(|secret| secret.document.tenant()).collect()
    }

    /// The secret of that name, which is made where there is none.
    async fn secret(&self, name: &str) -> Result<KeyBytes> {
        let scope = system();
        loop {
            if let Some(found) = self.secrets.get(&scope, name).await? {
                let Secret { name, master, wrapped } = found.document;
                return self.masters.named(&master)?.unwrap(&name, &wrapped);
            }
            let (master, cipher) = self.masters.newest()?;
            let wrapped = cipher.wrap(&*self.entropy, name, &random(&*self.entropy));
            let secret = Secret { name: name.to_owned(), master: master.to_owned(), wrapped };
            // Another replica may be first; then its secret is read.
            match self.secrets.put(&scope, &secret, Expect::Absent).await {
                Ok(_) => {}
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn tenant(&self, tenant: &TenantId) -> Result<Arc<TenantSecret>> {
        if let Some(found) = self.tenants.get(tenant) {
            return Ok(found);
        }
        let secret = Arc::new(TenantSecret::new(&self.secret(&format!("{TENANT}{tenant}")).await?));
        self.tenants.insert(tenant.clone(), Arc::clone(&secret));
        Ok(secret)
    }

    fn open_key(&self, tenant: &TenantId, found: &SubjectKey) -> Result<Arc<Key>> {
        let about = SubjectKey::about(tenant, &found.name);
        let bytes = self.masters.named(&found.master)?.unwrap(&about, &found.wrapped)?;
        let (name, handle) = (found.name.clone(), found.handle.clone());
        Ok(Arc::new(Key { name, handle, cipher: Cipher::new(&bytes) }))
    }

    fn remember(&self, tenant: &TenantId, key: &Arc<Key>) {
        let name = (tenant.clone(), key.name.clone());
        let _turn = self.turn.lock();
        if !matches!(self.by_name.get(&name), Some(None)) {
            self.by_name.insert(name, Some(Arc::clone(key)));
            self.by_handle.insert((tenant.clone(), key.handle.clone()), Arc::clone(key));
        }
    }

    /// The keys of these names; those that are gone are missing.
    ///
    /// # Errors
    /// Those of the engine: no answer is not taken for a missing key.
    pub(crate) async fn named(
        &self,
        tenant: &TenantId,
        names: BTreeSet<String>,
    ) -> Result<HashMap<String, Arc<Key>>> {
        let scope = of_tenant(tenant);
        let asked = names.into_iter().map(|name| async {
            if let Some(known) = self.by_name.get(&(tenant.clone(), name.clone())) {
                return Ok::<_, Error>(known.map(|key| (name, key)));
            }
            let found = self.subjects.get(&scope, &name).await?;
            let Some(found) = found.filter(|found| !found.document.is_dropped()) else {
                self.by_name.insert((tenant.clone(), name), None);
                return Ok(None);
            };
            let key = self.open_key(tenant, &found.document)?;
            // By its name alone: an erasure that is under way must not bring it back for new events.
            self.by_name.insert((tenant.clone(), key.name.clone()), Some(Arc::clone(&key)));
            Ok(Some((name, key)))
        });
        let found: Vec<_> = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The key of each of these persons, made where there is none.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn of_persons(
        &self,
        tenant: &TenantId,
        persons: BTreeSet<String>,
    ) -> Result<BTreeMap<String, Arc<Key>>> {
        let secret = self.tenant(tenant).await?;
        let scope = of_tenant(tenant);
        let asked = persons.into_iter().map(|person| {
            let (handle, scope) = (secret.handle(&person), &scope);
            async move {
                let known = self.by_handle.get(&(tenant.clone(), handle.clone()));
                let key = match known {
                    Some(key) => Some(key),
                    None => match self.stored(scope, &handle).await?.first() {
                        Some(found) if found.document.is_dropped() => return Err(being_forgotten()),
                        Some(found) => Some(self.open_key(tenant, &found.document)?),
                        None => None,
                    },
                };
                Ok::<_, Error>((person, handle, key))
            }
        });
        let found: Vec<_> = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).try_collect().await?;
        let (mut keys, mut missing) = (BTreeMap::new(), Vec::new());
        for (person, handle, key) in found {
            match key {
                Some(key) => {
                    self.remember(tenant, &key);
                    keys.insert(person, key);
                }
                None => missing.push((person, handle)),
            }
        }
        for some in missing.chunks(KEYS_PER_COMMIT) {
            keys.extend(self.make(tenant, some).await?);
        }
        Ok(keys)
    }

    async fn make(&self, tenant: &TenantId, persons: &[(String, String)]) -> Result<Vec<(String, Arc<Key>)>> {
        let (master, wrapping) = self.masters.newest()?;
        let (mut made, mut writes) = (Vec::new(), Vec::new());
        for (person, handle) in persons {
            let name = hex(&random::<16>(&*self.entropy));
            let bytes: KeyBytes = random(&*self.entropy);
            let wrapped = wrapping.wrap(&*self.entropy, &SubjectKey::about(tenant, &name), &bytes);
            let (master, handle) = (master.to_owned(), handle.clone());
            let stored = SubjectKey { name: name.clone(), handle: handle.clone(), master, wrapped };
            writes.push(Repository::write(&stored, Expect::Absent)?);
            made.push((person.clone(), Arc::new(Key { name, handle, cipher: Cipher::new(&bytes) })));
        }
        self.records.commit(&of_tenant(tenant), writes).await?;
        made.iter().for_each(|(_, key)| self.remember(tenant, key));
        Ok(made)
    }

    async fn stored(&self, scope: &Scope, handle: &str) -> Result<Vec<Versioned<SubjectKey>>> {
        let which = Selection::Equal("handle", IndexValue::Text(handle.to_owned()));
        let (found, more) = self.subjects.list(scope, &Query::new(which, KEYS_OF_ONE)).await?;
        if more.is_some() {
            return Err(corrupted("one person has more keys than can be"));
        }
        Ok(found)
    }

    /// The stored keys of a person; none where nothing was ever sealed of anybody.
    pub(crate) async fn stored_of(&self, scope: &Scope, user_id: &str) -> Result<Vec<Versioned<SubjectKey>>> {
        if self.masters.is_empty() {
            return Ok(Vec::new());
        }
        let handle = self.tenant(scope.tenant()).await?.handle(user_id);
        self.stored(scope, &handle).await
    }

    /// These keys are gone.
    pub(crate) fn forget(&self, tenant: &TenantId, names: &[String]) {
        let _turn = self.turn.lock();
        for name in names {
            let before = self.by_name.get(&(tenant.clone(), name.clone())).flatten();
            self.by_name.insert((tenant.clone(), name.clone()), None);
            if let Some(key) = before {
                self.by_handle.invalidate(&(tenant.clone(), key.handle.clone()));
            }
        }
    }
}
