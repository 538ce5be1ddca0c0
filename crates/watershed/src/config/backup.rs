//! The `backup` section: where backups go, and how often a server makes one.

use kernel::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sections::require;
use super::storage::S3Settings;

/// Where backups go, and how often a server makes one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BackupSettings {
    /// The place: a folder outside the data folder, or `s3://bucket/prefix`.
    pub to: Option<String>,
    /// A server makes a backup, waits so many seconds, and makes the next; 0 for never. At most this much, and the time
    /// that a backup takes, is lost with the store.
    pub every_secs: u64,
    /// Backups that are kept, the newest; 0 for all. The events of older ones stay: only the records as they were then,
    /// and the exactness of a restore to a time, go with them.
    pub keep: usize,
    /// How the bucket of `to` is reached; as `storage.s3` says where missing. Its `bucket` and `prefix` are not used.
    pub s3: Option<S3Settings>,
}

impl Default for BackupSettings {
    fn default() -> Self {
        Self { to: None, every_secs: 0, keep: 100, s3: None }
    }
}

impl BackupSettings {
    pub(super) fn validate(&self) -> Result<()> {
        // It is shown in the configuration.
        let has_credentials = self.to.as_ref().is_some_and(|to| {
            to.strip_prefix("s3://")
                .and_then(|rest| rest.split('/').next())
                .is_some_and(|host| host.contains('@'))
        });
        let rule =
            "must not hold a user or a password; set `backup.s3.access_key_id` and `secret_access_key`";
        require(!has_credentials, "backup.to", rule)?;
        let has_place = self.to.as_ref().is_some_and(|to| !to.is_empty());
        require(self.every_secs == 0 || has_place, "backup.to", "must name a place when `every_secs` is set")
    }
}
