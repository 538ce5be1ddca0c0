//! What is kept of registered models, their versions, and what was done to them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use store::{Document, IndexValue, Table};

use crate::search::{Entity, Grammar, Kind, Subject, Value};
use crate::tracking::{entry, number, text};

/// The alias of the version that serves.
pub const CHAMPION: &str = "champion";
/// The alias of the version that is tried on a part of the requests.
pub const CANARY: &str = "canary";
/// The alias of the version that answers beside the champion and is not heard.
pub const SHADOW: &str = "shadow";

/// The guide's stages, a view on aliases: one version serves, one is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// No alias says anything of it.
    None,
    /// It is the `canary`.
    Staging,
    /// It is the `champion`.
    Production,
    /// It was the `champion`, or was put away.
    Archived,
}

impl Stage {
    /// Reads a stage in any case; also `shadow`, `canary` and `champion`, which name their alias.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Some(Self::None),
            "staging" | CANARY => Some(Self::Staging),
            "production" | CHAMPION => Some(Self::Production),
            "archived" => Some(Self::Archived),
            _ => None,
        }
    }

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Staging => "Staging",
            Self::Production => "Production",
            Self::Archived => "Archived",
        }
    }

    /// The alias that stands for it.
    #[must_use]
    pub fn alias(self) -> Option<&'static str> {
        match self {
            Self::Staging => Some(CANARY),
            Self::Production => Some(CHAMPION),
            Self::None | Self::Archived => None,
        }
    }
}

/// A model with its aliases. Whatever is done to one is a change of this document, so that nothing is half done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredModel {
    /// Unique within the tenant.
    pub name: String,
    /// Stays when the name changes.
    pub id: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970.
    pub updated_ms: i64,
    /// For people.
    pub description: String,
    /// Free text.
    pub tags: BTreeMap<String, String>,
    /// The version that each alias points at.
    pub aliases: BTreeMap<String, u64>,
    /// Versions that were put away.
    pub archived: BTreeSet<u64>,
    /// The number of the newest version, also where that was deleted.
    pub latest_version: u64,
    /// The number of changes that its history has.
    pub changes: u64,
    /// The part of Watershed that makes and promotes its versions; others only look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

impl Document for RegisteredModel {
    const TABLE: Table = Table { name: "registered_models", indexes: &[] };

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl RegisteredModel {
    /// The stage of a version.
    #[must_use]
    pub fn stage(&self, version: u64) -> Stage {
        let is = |alias| self.aliases.get(alias) == Some(&version);
        match () {
            () if is(CHAMPION) => Stage::Production,
            () if is(CANARY) => Stage::Staging,
            () if self.archived.contains(&version) => Stage::Archived,
            () => Stage::None,
        }
    }

    /// The aliases of a version.
    #[must_use]
    pub fn aliases_of(&self, version: u64) -> Vec<String> {
        self.aliases.iter().filter(|(_, of)| **of == version).map(|(alias, _)| alias.clone()).collect()
    }
}

/// What can be said of registered models.
pub(super) const MODELS: Grammar = Grammar {
    attributes: &[
        ("name", Kind::Text, &[]),
        ("creation_timestamp", Kind::Number, &["timestamp"]),
        ("last_updated_timestamp", Kind::Number, &[]),
    ],
    entities: &[],
};

impl Subject for RegisteredModel {
    fn values(&self, entity: Entity, key: &str) -> Vec<Value> {
        match (entity, key) {
            (Entity::Attribute, "name") => text(&self.name),
            (Entity::Attribute, "creation_timestamp") => number(self.created_ms),
            (Entity::Attribute, _) => number(self.updated_ms),
            (Entity::Tag, key) => entry(&self.tags, key),
            _ => Vec::new(),
        }
    }

    #[expect(
        clippy::misnamed_getters,
        reason = "searches page by the name, which is unique and sorts for people"
    )]
    fn id(&self) -> &str {
        &self.name
    }
}

/// A file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionFile {
    /// The path below the version.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// What a version was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The code: a commit where the run names one, or a release.
    pub code_version: Option<String>,
    /// The program that made it.
    pub source: Option<String>,
    /// The data: each set as `name@digest`.
    pub data: Vec<String>,
}

/// One version. Its number, files, checksum, signature and lineage never change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RegisteredVersion {
    /// The model's name.
    pub model: String,
    /// The model's id.
    pub model_id: String,
    /// 1 for the first.
    pub version: u64,
    /// Its place among all versions, which makes it unique: the model and the number.
    pub id: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970.
    pub updated_ms: i64,
    /// Who registered it.
    pub user_id: String,
    /// For people.
    pub description: String,
    /// Where its files came from, as the caller said.
    pub source: String,
    /// The run that made it.
    pub run_id: String,
    /// A page about the run.
    pub run_link: String,
    /// The logged model that it was.
    pub logged_model_id: Option<String>,
    /// Free text.
    pub tags: BTreeMap<String, String>,
    /// Where its own files are; none where they are not kept here.
    pub root: Option<String>,
    /// Its files.
    pub files: Vec<VersionFile>,
    /// SHA-256 over the paths, sizes and checksums of its files; another's where they are not kept here.
    pub checksum: String,
    /// What goes in and comes out, as the model says.
    pub signature: Option<String>,
    /// What it was made from.
    pub lineage: Lineage,
    /// How good it was when it was made.
    pub metrics: BTreeMap<String, f64>,
}

impl RegisteredVersion {
    /// Its size.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

pub(crate) fn version_key(model_id: &str, version: u64) -> String {
    format!("{model_id}/{version:010}")
}

impl Document for RegisteredVersion {
    const TABLE: Table = Table { name: "registered_versions", indexes: &["model"] };

    fn key(&self) -> String {
        version_key(&self.model_id, self.version)
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("model", IndexValue::Text(self.model.clone()))]
    }
}

/// What can be said of versions.
pub(super) const VERSIONS: Grammar = Grammar {
    attributes: &[
        ("name", Kind::Text, &[]),
        ("run_id", Kind::Text, &[]),
        ("source_path", Kind::Text, &["source"]),
        ("version_number", Kind::Number, &["version"]),
        ("creation_timestamp", Kind::Number, &["timestamp"]),
        ("last_updated_timestamp", Kind::Number, &[]),
    ],
    entities: &[],
};

impl Subject for RegisteredVersion {
    fn values(&self, entity: Entity, key: &str) -> Vec<Value> {
        match (entity, key) {
            (Entity::Attribute, "name") => text(&self.model),
            (Entity::Attribute, "run_id") => text(&self.run_id),
            (Entity::Attribute, "source_path") => text(&self.source),
            (Entity::Attribute, "version_number") => vec![Value::Number(self.version as f64)],
            (Entity::Attribute, "creation_timestamp") => number(self.created_ms),
            (Entity::Attribute, _) => number(self.updated_ms),
            (Entity::Tag, key) => entry(&self.tags, key),
            _ => Vec::new(),
        }
    }

    fn id(&self) -> &str {
        &self.id
    }
}

/// One thing that was done to a model, written in the transaction that did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The model's id.
    pub model_id: String,
    /// 1 for the first.
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The name of a credential, or `system:` and the part of Watershed.
    pub actor: String,
    /// Such as `promoted`.
    pub action: String,
    /// The alias that moved.
    pub alias: Option<String>,
    /// The version that it pointed at.
    pub from: Option<u64>,
    /// The version that it points at, or that was made or removed.
    pub to: Option<u64>,
    /// Why, as the caller says.
    pub reason: String,
}

impl Document for Change {
    const TABLE: Table = Table { name: "model_changes", indexes: &[] };

    fn key(&self) -> String {
        version_key(&self.model_id, self.sequence)
    }
}
