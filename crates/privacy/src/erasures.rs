//! Who was forgotten: a record of each erasure, and the event that tells every fold of it.
//!
//! An erasure is prepared, so that it can be noted elsewhere under its id before anything is done. To begin it empties a
//! person's keys and writes its record in one transaction; then the event is appended, under the
//! erasure's id so that it is one event however often it is sent; then the empty keys go, which until then keep any
//! other from being made for that person; then checkpoints are replaced. A process that dies between these steps
//! leaves a record that says which is next, and whoever looks takes it up.
//!
//! The record and the event name keys, which say nothing any more. Where events of the person are in the log unsealed,
//! they also carry a hash of the tenant and user id: the log says the id in the open as long as those events are in it.
//!
//! It refuses to hold the user id.

use std::sync::Arc;

use kernel::{Clock, Error, Event, Permission, Result, Scope, TenantId, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::{
    Appended, Document, EventLog, Expect, IndexValue, Query, Repository, Selection, Table, Topic, Versioned,
    Write,
};

use crate::Keyring;
use crate::keyring::{PAGE, SubjectKey};

/// The type of the event. Nobody owns it, so that no caller can send it.
pub const ERASED: &str = "privacy.person.erased.v1";
const SOURCE: &str = "/erasures";

/// The data of the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// The erasure.
    pub erasure_id: String,
    /// The names of the person's keys.
    pub keys: Vec<String>,
    /// [`person_hash`], where events of the person are unsealed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub person: Option<String>,
}

/// How far an erasure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// The keys are gone.
    KeysDropped,
    /// Every view forgets, or is about to.
    Told,
    /// Checkpoints are without the person.
    Complete,
}

/// One erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Its id.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// Who asked for it: the name of a credential.
    pub actor: String,
    /// The names of the keys that were dropped.
    pub keys: Vec<String>,
    /// See [`Erased::person`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub person: Option<String>,
    /// How far it is.
    pub progress: Progress,
}

impl Document for Erasure {
    const TABLE: Table = Table { name: "erasures", indexes: &["at", "open"] };

    fn key(&self) -> String {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        let open = i64::from(self.progress != Progress::Complete);
        vec![("at", IndexValue::Integer(self.at.as_millisecond())), ("open", IndexValue::Integer(open))]
    }
}

/// An erasure that did not begin yet.
#[derive(Debug)]
pub struct Prepared {
    erasure: Erasure,
    keys: Vec<Versioned<SubjectKey>>,
}

impl Prepared {
    /// What will be written.
    #[must_use]
    pub fn erasure(&self) -> &Erasure {
        &self.erasure
    }
}

/// What stands for a person whose events are unsealed.
#[must_use]
pub fn person_hash(tenant: &TenantId, user_id: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("watershed privacy 2026 person of a tenant");
    hasher.update(tenant.as_str().as_bytes()).update(b"\0").update(user_id.as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// The erasures of every tenant.
#[derive(Debug, Clone)]
pub struct Erasures {
    keyring: Arc<Keyring>,
    log: Arc<dyn EventLog>,
    topic: Topic,
    erasures: Repository<Erasure>,
    clock: Arc<dyn Clock>,
}

impl Erasures {
    /// Over the keys; told in `topic` of `log`.
    #[must_use]
    pub fn new(keyring: Arc<Keyring>, log: Arc<dyn EventLog>, topic: Topic, clock: Arc<dyn Clock>) -> Self {
        let erasures = Repository::new(Arc::clone(&keyring.records));
        Self { keyring, log, topic, erasures, clock }
    }

    /// Whether events are sealed.
    #[must_use]
    pub fn seals(&self) -> bool {
        self.keyring.seals()
    }

    /// What an erasure of a person would do; nothing is done yet. `unsealed` says that the log or a view may hold the
    /// person in the open. None where nothing is known of the person.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; those of the engine.
    pub async fn prepare(&self, scope: &Scope, user_id: &str, unsealed: bool) -> Result<Option<Prepared>> {
        scope.require(Permission::Admin)?;
        let mut keys = self.keyring.stored_of(scope, user_id).await?;
        keys.retain(|key| !key.document.is_dropped());
        if keys.is_empty() && !unsealed {
            return Ok(None);
        }
        let now = self.clock.now();
        let erasure = Erasure {
            id: self.keyring.entropy.id(now).as_hyphenated().to_string(),
            at: now,
            actor: scope.actor().to_string(),
            keys: keys.iter().map(|key| key.document.name.clone()).collect(),
            person: unsealed.then(|| person_hash(scope.tenant(), user_id)),
            progress: Progress::KeysDropped,
        };
        Ok(Some(Prepared { erasure, keys }))
    }

    /// Drops the keys of a person.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `CONFLICT` while the keys are wrapped anew, or others forget the person; those of the engine:
    /// then nothing was done.
    pub async fn begin(&self, scope: &Scope, prepared: Prepared) -> Result<Erasure> {
        scope.require(Permission::Admin)?;
        let Prepared { erasure, keys } = prepared;
        // What was trained since it was prepared knows the person.
        let erasure = Erasure { at: self.clock.now(), ..erasure };
        let empty = |key: Versioned<SubjectKey>| {
            let emptied = SubjectKey { wrapped: String::new(), ..key.document };
            Repository::write(&emptied, Expect::Version(key.version))
        };
        let mut writes: Vec<Write> = keys.into_iter().map(empty).collect::<Result<_>>()?;
        writes.push(Repository::write(&erasure, Expect::Absent)?);
        self.keyring.records.commit(scope, writes).await?;
        self.keyring.forget(scope.tenant(), &erasure.keys);
        Ok(erasure)
    }

    /// Tells every fold; again is harmless.
    ///
    /// # Errors
    /// Those of the log.
    pub async fn tell(&self, scope: &Scope, erasure: &Erasure) -> Result<Vec<Appended>> {
        let Erasure { id, keys, person, at, .. } = erasure.clone();
        let data = Erased { erasure_id: id.clone(), keys, person };
        let event = Event {
            data: Some(serde_json::value::to_raw_value(&data).map_err(Error::internal)?.into()),
            ..Event::new(scope.tenant(), id, SOURCE, ERASED, at)
        };
        let places = self.log.append(scope, &self.topic, vec![event]).await?;
        let gone = erasure.keys.iter().map(|name| Write::Delete {
            table: SubjectKey::TABLE,
            key: name.clone(),
            expect: Expect::Any,
        });
        self.keyring.records.commit(scope, gone.collect()).await?;
        self.mark(scope, &erasure.id, Progress::Told).await?;
        Ok(places)
    }

    /// Notes how far an erasure is; never back.
    ///
    /// # Errors
    /// `NOT_FOUND`; those of the engine.
    pub async fn mark(&self, scope: &Scope, id: &str, progress: Progress) -> Result<()> {
        loop {
            let found = self.erasures.get(scope, id).await?;
            let missing = || Error::new(codes::NOT_FOUND, format!("there is no erasure `{id}`"));
            let found = found.ok_or_else(missing)?;
            if found.document.progress >= progress {
                return Ok(());
            }
            let next = Erasure { progress, ..found.document };
            match self.erasures.put(scope, &next, Expect::Version(found.version)).await {
                Err(error) if error.code() == codes::CONFLICT => {}
                other => return other.map(drop),
            }
        }
    }

    /// One page, newest first, and the cursor of the next.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; those of [`store::Records::list`].
    pub async fn list(
        &self,
        scope: &Scope,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Erasure>, Option<String>)> {
        scope.require(Permission::Admin)?;
        let all = Selection::Between("at", IndexValue::Integer(i64::MIN), IndexValue::Integer(i64::MAX));
        let query = Query { descending: true, cursor, ..Query::new(all, limit) };
        let (erasures, cursor) = self.erasures.list(scope, &query).await?;
        Ok((erasures.into_iter().map(|erasure| erasure.document).collect(), cursor))
    }

    /// How many there are.
    ///
    /// # Errors
    /// As [`Erasures::list`].
    pub async fn count(&self, scope: &Scope) -> Result<usize> {
        let (mut cursor, mut count) = (None, 0);
        loop {
            let (erasures, next) = self.list(scope, cursor, PAGE).await?;
            count += erasures.len();
            if next.is_none() {
                return Ok(count);
            }
            cursor = next;
        }
    }

    /// Erasures that are not complete.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn open(&self, scope: &Scope) -> Result<Vec<Erasure>> {
        let open = Query::new(Selection::Equal("open", IndexValue::Integer(1)), PAGE);
        let (erasures, _) = self.erasures.list(scope, &open).await?;
        Ok(erasures.into_iter().map(|erasure| erasure.document).collect())
    }

    /// Tells of every erasure of a tenant again, for a log that was restored from before. Returns where each stands.
    ///
    /// # Errors
    /// Those of the engines.
    pub async fn replay(&self, scope: &Scope) -> Result<Vec<Appended>> {
        let (mut cursor, mut told) = (None, Vec::new());
        loop {
            let (erasures, next) = self.list(scope, cursor, PAGE).await?;
            for erasure in &erasures {
                told.extend(self.tell(scope, erasure).await?);
            }
            if next.is_none() {
                return Ok(told);
            }
            cursor = next;
        }
    }
}
