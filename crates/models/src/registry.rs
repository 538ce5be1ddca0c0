//! Versions of models and the aliases that point at them.
//!
//! Every published artifact becomes the next version of its model and never changes again. An alias moves by
//! compare-and-set, so that two promotions at once cannot both win unseen. Loading an alias checks the bytes
//! against the checksum; where they fail, the newest older version that passes is loaded instead, and the log
//! says so.
//!
//! Each version appears among the registered models too, under the same number, written in the same transaction, with
//! its metrics and lineage; the alias `production` is the `champion` there. Such a model is managed: callers look at it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Error, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::{
    Blobs, Document, Expect, IndexValue, PutMode, Query, Records, Repository, Selection, Table, Write,
};
use tracing::warn;

use crate::Artifact;
use crate::registered::{
    CHAMPION, Lineage, RegisteredModel, RegisteredVersion, Told, change, point, version_key as registered_key,
};

/// One immutable version of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// The model's name, `a-z 0-9 _ -`.
    pub model: String,
    /// 1 for the first.
    pub version: u64,
    /// When it was published.
    pub created_at: Timestamp,
    /// The BLAKE3 hash of the artifact's bytes.
    pub blake3: String,
    /// The artifact's size.
    pub size_bytes: u64,
    /// How good it was when it was made.
    pub metrics: BTreeMap<String, f64>,
    /// What it was made from and how: settings, counts, the log position.
    pub tags: BTreeMap<String, String>,
}

impl Document for ModelVersion {
    const TABLE: Table = Table { name: "model_versions", indexes: &["model"] };

    fn key(&self) -> String {
        version_key(&self.model, self.version)
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("model", IndexValue::Text(self.model.clone()))]
    }
}

fn version_key(model: &str, version: u64) -> String {
    format!("{model}:{version:010}")
}

/// A name that points at a version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// The model's name.
    pub model: String,
    /// For example `production`.
    pub alias: String,
    /// The version that it points at.
    pub version: u64,
    /// When it was moved last.
    pub moved_at: Timestamp,
}

impl Document for Alias {
    const TABLE: Table = Table { name: "model_aliases", indexes: &[] };

    fn key(&self) -> String {
        format!("{}:{}", self.model, self.alias)
    }
}

/// Others who publish the same model at the same time, at most.
const MAX_PUBLISHERS: usize = 16;

/// The versions and aliases of every tenant's models.
#[derive(Debug, Clone)]
pub struct Registry {
    blobs: Arc<dyn Blobs>,
    versions: Repository<ModelVersion>,
    aliases: Repository<Alias>,
    records: Arc<dyn Records>,
    registered: Repository<RegisteredModel>,
}

/// The alias of the version that serves.
const PRODUCTION: &str = "production";
/// Longer metadata, such as a whole report, is not repeated as a tag.
const TAG_BYTES_MAX: usize = 500;

impl Registry {
    /// Over the engines.
    #[must_use]
    pub fn new(records: Arc<dyn Records>, blobs: Arc<dyn Blobs>) -> Self {
        Self {
            blobs,
            versions: Repository::new(Arc::clone(&records)),
            aliases: Repository::new(Arc::clone(&records)),
            registered: Repository::new(Arc::clone(&records)),
            records,
        }
    }

    /// Stores an artifact as the model's next version. The bytes are durable before the version exists.
    ///
    /// # Errors
    /// Those of the engines; `CONFLICT` when another publisher was faster too many times.
    pub async fn publish(
        &self,
        scope: &Scope,
        model: &str,
        artifact: &Artifact,
        metrics: BTreeMap<String, f64>,
        now: Timestamp,
    ) -> Result<ModelVersion> {
        check_name(model)?;
        let bytes = artifact.to_bytes()?;
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        let size_bytes = bytes.len() as u64;
        let mut version = self.newest(scope, model).await?.map_or(0, |newest| newest.version) + 1;
        let bytes = bytes::Bytes::from(bytes);
        let mut attempts = 0;
        while let Err(error) =
            self.blobs.put(scope, &path(model, version), bytes.clone(), PutMode::Create).await
        {
            attempts += 1;
            // Left by a publisher that died before its version was written, or by one that is at it now.
            if error.code() != codes::CONFLICT || attempts == MAX_PUBLISHERS {
                return Err(error);
            }
            version += 1;
        }
        let published = ModelVersion {
            model: model.to_owned(),
            version,
            created_at: now,
            blake3,
            size_bytes,
            metrics,
            tags: artifact.metadata.clone(),
        };
        let write = Repository::write(&published, Expect::Absent)?;
        self.commit_with_mirror(scope, model, write, now, |registered| {
            registered.latest_version = registered.latest_version.max(version);
            let told = Told { action: "model.version_created", to: Some(version), ..Told::default() };
            let mirrored = mirrored(&published, registered);
            Ok((told, vec![Repository::write(&mirrored, Expect::Any)?]))
        })
        .await?;
        Ok(published)
    }

    /// Commits a write together with what tells of it among the registered models.
    async fn commit_with_mirror(
        &self,
        scope: &Scope,
        model: &str,
        write: Write,
        now: Timestamp,
        edit: impl Fn(&mut RegisteredModel) -> Result<(Told<'static>, Vec<Write>)>,
    ) -> Result<()> {
        for attempt in 1.. {
            let found = self.registered.get(scope, model).await?;
            let expect = found.as_ref().map_or(Expect::Absent, |found| Expect::Version(found.version));
            let mut registered = found.map_or_else(|| managed(model, now), |found| found.document);
            let mut writes = vec![write.clone()];
            // A caller's own model of that name is left alone.
            if registered.managed_by.is_some() {
                let (told, more) = edit(&mut registered)?;
                writes.extend(more);
                registered.updated_ms = now.as_millisecond();
                writes.push(change(scope, &mut registered, now.as_millisecond(), &told)?);
                writes.push(Repository::write(&registered, expect)?);
            }
            match self.records.commit(scope, writes).await {
                Ok(_) => return Ok(()),
                Err(error) if error.code() == codes::CONFLICT && attempt < MAX_PUBLISHERS => {
                    let version = self.records.get(scope, write.table(), write.key()).await?;
                    let version = version.map(|found| found.version);
                    // The write itself came too late; the mirror alone is tried again.
                    write.expect().check(write.table(), write.key(), version)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Points an alias at a version that exists.
    ///
    /// # Errors
    /// `NOT_FOUND` when the version does not exist, `CONFLICT` when the alias moved in between.
    pub async fn promote(
        &self,
        scope: &Scope,
        model: &str,
        alias: &str,
        version: u64,
        now: Timestamp,
    ) -> Result<Alias> {
        check_name(alias)?;
        if self.versions.get(scope, &version_key(model, version)).await?.is_none() {
            return Err(no_version(model, version));
        }
        let alias = Alias { model: model.to_owned(), alias: alias.to_owned(), version, moved_at: now };
        let expect = match self.aliases.get(scope, &alias.key()).await? {
            Some(held) => Expect::Version(held.version),
            None => Expect::Absent,
        };
        let write = Repository::write(&alias, expect)?;
        if alias.alias != PRODUCTION {
            self.records.commit(scope, vec![write]).await?;
            return Ok(alias);
        }
        self.commit_with_mirror(scope, model, write, now, |registered| {
            let from = registered.aliases.get(CHAMPION).copied();
            point(registered, CHAMPION, version);
            let (alias, to) = (Some(CHAMPION), Some(version));
            Ok((Told { action: "model.promoted", alias, from, to, ..Told::default() }, Vec::new()))
        })
        .await?;
        Ok(alias)
    }

    /// The version that an alias points at.
    ///
    /// # Errors
    /// Those of the engines.
    pub async fn resolve(&self, scope: &Scope, model: &str, alias: &str) -> Result<Option<ModelVersion>> {
        let key = format!("{model}:{alias}");
        let Some(alias) = self.aliases.get(scope, &key).await? else { return Ok(None) };
        let key = version_key(model, alias.document.version);
        Ok(self.versions.get(scope, &key).await?.map(|found| found.document))
    }

    /// What `decode` makes of the artifact that an alias points at, or of the newest older one that is whole and can be
    /// decoded; none where the alias does not exist or there is no such version.
    ///
    /// # Errors
    /// Those of the engines, and those of `decode` but for `CORRUPTED`.
    pub async fn load<T>(
        &self,
        scope: &Scope,
        model: &str,
        alias: &str,
        decode: impl Fn(Artifact) -> Result<T>,
    ) -> Result<Option<(ModelVersion, T)>> {
        let Some(wanted) = self.resolve(scope, model, alias).await? else { return Ok(None) };
        let older = self.versions(scope, model).await?.into_iter().filter(|v| v.version < wanted.version);
        for version in std::iter::once(wanted.clone()).chain(older) {
            match self.read(scope, &version).await.and_then(&decode) {
                Ok(decoded) => return Ok(Some((version, decoded))),
                Err(error) if matches!(error.code(), codes::CORRUPTED | codes::NOT_FOUND) => {
                    warn!(model, version = version.version, error = %error.chain(), "a model version is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Every version of a model, newest first.
    ///
    /// # Errors
    /// Those of the engines.
    pub async fn versions(&self, scope: &Scope, model: &str) -> Result<Vec<ModelVersion>> {
        let found = self.versions.list_all(scope, newest_first(model, 1_000)).await?;
        Ok(found.into_iter().map(|version| version.document).collect())
    }

    /// Removes all but the newest `keep` versions, never one that an alias points at; returns how many went.
    ///
    /// # Errors
    /// Those of the engines.
    pub async fn prune(&self, scope: &Scope, model: &str, keep: usize) -> Result<usize> {
        let aliases =
            self.aliases.list(scope, &Query::new(Selection::Prefix(format!("{model}:")), 1_000)).await?;
        let held: Vec<u64> = aliases.0.iter().map(|alias| alias.document.version).collect();
        let mut removed = 0;
        for version in self.versions(scope, model).await?.into_iter().skip(keep) {
            if !held.contains(&version.version) {
                let (table, key) = (ModelVersion::TABLE, version.key());
                let mut writes = vec![Write::Delete { table, key, expect: Expect::Any }];
                if self
                    .registered
                    .get(scope, model)
                    .await?
                    .is_some_and(|found| found.document.managed_by.is_some())
                {
                    let (table, key) =
                        (RegisteredVersion::TABLE, registered_key(&managed_id(model), version.version));
                    writes.push(Write::Delete { table, key, expect: Expect::Any });
                }
                self.records.commit(scope, writes).await?;
                self.blobs.delete(scope, &path(model, version.version)).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    async fn newest(&self, scope: &Scope, model: &str) -> Result<Option<ModelVersion>> {
        let (page, _) = self.versions.list(scope, &newest_first(model, 1)).await?;
        Ok(page.into_iter().next().map(|version| version.document))
    }

    async fn read(&self, scope: &Scope, version: &ModelVersion) -> Result<Artifact> {
        let bytes = self.blobs.get(scope, &path(&version.model, version.version)).await?;
        if blake3::hash(&bytes).to_hex().as_str() != version.blake3 {
            return Err(Error::new(codes::CORRUPTED, "a model artifact fails its checksum"));
        }
        Artifact::from_bytes(&bytes)
    }
}

/// The registered model of a part of Watershed. Its id is no random one, so that nobody has to remember it.
fn managed(model: &str, now: Timestamp) -> RegisteredModel {
    RegisteredModel {
        name: model.to_owned(),
        id: managed_id(model),
        created_ms: now.as_millisecond(),
        updated_ms: now.as_millisecond(),
        description: "trained and promoted by this server; its artifacts are loaded here and not given out"
            .to_owned(),
        managed_by: Some(model.to_owned()),
        ..RegisteredModel::default()
    }
}

fn managed_id(model: &str) -> String {
    format!("managed-{model}")
}

fn mirrored(published: &ModelVersion, registered: &RegisteredModel) -> RegisteredVersion {
    let ModelVersion { model, version, created_at, blake3, size_bytes, metrics, tags } = published;
    let short = tags.iter().filter(|(_, value)| value.len() <= TAG_BYTES_MAX);
    let mut tags: BTreeMap<String, String> =
        short.map(|(key, value)| (format!("watershed.{key}"), value.clone())).collect();
    tags.insert("watershed.blake3".to_owned(), blake3.clone());
    tags.insert("watershed.size_bytes".to_owned(), size_bytes.to_string());
    let basis = ["interactions", "revision"]
        .map(|name| published.tags.get(name).map(|value| format!("{name}@{value}")));
    RegisteredVersion {
        model: model.clone(),
        model_id: registered.id.clone(),
        version: *version,
        id: format!("{model}/{version:010}"),
        created_ms: created_at.as_millisecond(),
        updated_ms: created_at.as_millisecond(),
        user_id: format!("system:{model}"),
        source: format!("watershed:{model}/{version}"),
        tags,
        checksum: blake3.clone(),
        lineage: Lineage {
            code_version: Some(format!("watershed {}", env!("CARGO_PKG_VERSION"))),
            source: Some("watershed train".to_owned()),
            data: basis.into_iter().flatten().collect(),
        },
        metrics: metrics.clone(),
        ..RegisteredVersion::default()
    }
}

fn newest_first(model: &str, limit: usize) -> Query {
    let mut query = Query::new(Selection::Equal("model", IndexValue::Text(model.to_owned())), limit);
    query.descending = true;
    query
}

fn path(model: &str, version: u64) -> String {
    format!("models/{model}/{version:010}.safetensors")
}

fn no_version(model: &str, version: u64) -> Error {
    Error::new(codes::NOT_FOUND, format!("model `{model}` has no version {version}"))
}

fn check_name(name: &str) -> Result<()> {
    let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(lawful) {
        let message = format!("a name is 1 to 64 characters of a-z 0-9 _ -, not `{}`", name.escape_debug());
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("model"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kernel::TenantId;

    use super::*;

    fn scope(tenant: &str) -> Scope {
        Scope::system(TenantId::new(tenant).unwrap(), "test")
    }

    fn artifact(mark: f32) -> Artifact {
        let mut artifact = Artifact::default();
        artifact.put("mark", crate::Tensor::F32(vec![1], vec![mark]));
        artifact
    }

    fn registry() -> (Registry, Arc<dyn Blobs>) {
        let blobs: Arc<dyn Blobs> = Arc::new(store::memory::memory_blobs());
        (Registry::new(Arc::new(store::memory::MemoryRecords::new()), Arc::clone(&blobs)), blobs)
    }

    #[tokio::test]
    async fn versions_grow_and_aliases_move() {
        let (registry, _) = registry();
        let scope = scope("shop");
        assert!(registry.load(&scope, "recommender", "production", Ok).await.unwrap().is_none());
        for mark in 1..=3 {
            let published = registry
                .publish(
                    &scope,
                    "recommender",
                    &artifact(mark as f32),
                    BTreeMap::new(),
                    Timestamp::UNIX_EPOCH,
                )
                .await
                .unwrap();
            assert_eq!(published.version, mark);
        }
        let promoted = registry.promote(&scope, "recommender", "production", 2, Timestamp::UNIX_EPOCH).await;
        assert_eq!(promoted.unwrap().version, 2);
        let (version, loaded) =
            registry.load(&scope, "recommender", "production", Ok).await.unwrap().unwrap();
        assert_eq!((version.version, loaded), (2, artifact(2.0)));
        let missing = registry.promote(&scope, "recommender", "production", 9, Timestamp::UNIX_EPOCH).await;
        assert_eq!(missing.unwrap_err().code(), codes::NOT_FOUND);
        assert_eq!(registry.prune(&scope, "recommender", 1).await.unwrap(), 1, "3 is newest, 2 is held");
        assert!(
            registry.load(&self::scope("other"), "recommender", "production", Ok).await.unwrap().is_none()
        );
    }

    #[tokio::test]
    async fn a_damaged_version_falls_back_to_the_last_good_one() {
        let (registry, blobs) = registry();
        let scope = scope("shop");
        for mark in 1..=2 {
            registry
                .publish(&scope, "m", &artifact(mark as f32), BTreeMap::new(), Timestamp::UNIX_EPOCH)
                .await
                .unwrap();
        }
        registry.promote(&scope, "m", "production", 2, Timestamp::UNIX_EPOCH).await.unwrap();
        blobs.put(&scope, &path("m", 2), Bytes::from_static(b"damage"), PutMode::Replace).await.unwrap();
        let (version, loaded) = registry.load(&scope, "m", "production", Ok).await.unwrap().unwrap();
        assert_eq!((version.version, loaded), (1, artifact(1.0)));
        // What is whole but cannot be understood is passed over like what is damaged.
        let picky = |found: Artifact| {
            if found == artifact(1.0) {
                Err(Error::new(codes::CORRUPTED, "unknown format"))
            } else {
                Ok(found)
            }
        };
        assert!(registry.load(&scope, "m", "production", picky).await.unwrap().is_none());
    }
}
