//! The `compliance` section of the configuration.

use std::fmt;

use kernel::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::MasterKeys;

/// How personal data is kept.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacySettings {
    /// Seal what is about a person under a key of that person, and checkpoints, models, kept answers and dead letters
    /// under a key of the store, from now on. What is sealed already stays readable where this is false.
    pub encrypt_personal: bool,
    /// The master keys, the newest first, each of at least 32 characters (`openssl rand -base64 32`); the same on every
    /// replica. A new one goes in front; `watershed encryption rotate` wraps every key anew, and then the old one may
    /// go. Without any, on the embedded engine, one is made in the file `encryption-key` of the data folder.
    #[serde(skip_serializing)]
    pub encryption_keys: Vec<String>,
}

impl fmt::Debug for PrivacySettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("PrivacySettings");
        shown.field("encrypt_personal", &self.encrypt_personal).finish_non_exhaustive()
    }
}

impl PrivacySettings {
    /// Passes when every setting makes sense.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn validate(&self) -> Result<()> {
        MasterKeys::new(&self.encryption_keys).map(drop)
    }
}
