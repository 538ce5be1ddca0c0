//! One key from the settings, which speaks for one tenant with every permission. Only its hash is held.

use std::fmt::Debug;

use kernel::{Error, Permission, Result, Scope, TenantId, codes};

use super::Authenticator;

/// The key of the settings.
pub struct StaticKey {
    hash: blake3::Hash,
    tenant: TenantId,
}

impl StaticKey {
    /// The shortest key that is taken, in bytes.
    pub const MIN_BYTES: usize = 16;

    /// Takes the key.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` when it is shorter than 16 bytes.
    pub fn new(key: &str, tenant: TenantId) -> Result<Self> {
        if key.len() < Self::MIN_BYTES {
            let message = format!("an API key has at least {} characters", Self::MIN_BYTES);
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("api_key"));
        }
        Ok(Self { hash: blake3::hash(key.as_bytes()), tenant })
    }
}

impl Debug for StaticKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StaticKey").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl Authenticator for StaticKey {
    fn scope_of(&self, credential: &str) -> Option<Scope> {
        // Comparing hashes takes the same time whatever the key; `blake3::Hash` compares in constant time.
        if blake3::hash(credential.as_bytes()) != self.hash {
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "the credential was proven on the lines above")]
        Some(Scope::proven(self.tenant.clone(), "static-key", Permission::Admin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_keys_are_refused_and_never_shown() {
        let tenant = || TenantId::new("shop").unwrap();
        assert!(StaticKey::new("short", tenant()).is_err());
        let key = "correct-horse-battery";
        let authenticator = StaticKey::new(key, tenant()).unwrap();
        assert!(!format!("{authenticator:?}").contains(key));
        assert!(authenticator.scope_of(key).is_some());
        assert!(authenticator.scope_of("correct-horse-batterx").is_none());
    }
}
