//! What receivers check: `Watershed-Signature: t=UNIX,v1=HEX`, where `v1` is HMAC-SHA256 (RFC 2104) over `t.body`. For a
//! while after a webhook's secret was rotated there are two, `t=UNIX,v1=HEX,v1=HEX`: of the new one and of the one before.
//!
//! No secret is stored. The secret of a webhook is derived from a key of the settings, the tenant and the webhook's id,
//! so that a copy of the database signs nothing; a rotation counts the secret's number up. A webhook names the key that its secret was made under: with another
//! key in front, new webhooks are made under that one and the earlier ones go on.
//!
//! It refuses keys under 32 characters, and to sign where the key is gone.

use std::fmt;

use kernel::{Error, Result, Scope, codes, hex};
use ring::hmac;
use serde::{Deserialize, Serialize};

/// The header of the signature.
pub const SIGNATURE: &str = "watershed-signature";

const KEY_CHARACTERS_MIN: usize = 32;
const FINGERPRINT_BYTES: usize = 8;

/// What a secret is derived from besides tenant and webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The name of the key.
    pub key: String,
    /// How often the secret was rotated.
    #[serde(default)]
    pub number: u32,
}

/// The keys that secrets are derived from, the one for new webhooks first.
#[derive(Clone, Default)]
pub struct Keys(Vec<(String, hmac::Key)>);

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Keys {
    /// These keys.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a short one.
    pub fn new(keys: &[String]) -> Result<Self> {
        if keys.iter().any(|key| key.len() < KEY_CHARACTERS_MIN) {
            let message = format!("a key has at least {KEY_CHARACTERS_MIN} characters");
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("webhooks.secret_keys"));
        }
        let named = |key: &String| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
            let name = hex(&hmac::sign(&key, b"name").as_ref()[..FINGERPRINT_BYTES]);
            (name, key)
        };
        Ok(Self(keys.iter().map(named).collect()))
    }

    /// The name of the key for new webhooks.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where there is none.
    pub fn newest(&self) -> Result<&str> {
        self.0.first().map(|(name, _)| name.as_str()).ok_or_else(|| {
            let message =
                "no webhook can be made without a key; set webhooks.secret_keys, the same on every replica";
            Error::new(codes::VALIDATION_ERROR, message)
        })
    }

    /// The secret of a webhook of the scope's tenant: `whsec_` and 64 hexadecimal digits.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where the key it was made under is not among the settings.
    pub fn secret(&self, scope: &Scope, webhook_id: &str, made: &Made) -> Result<String> {
        let found = self.0.iter().find(|(name, _)| *name == made.key).ok_or_else(|| {
            let message = "the key that the secret was made under is not in webhooks.secret_keys";
            Error::new(codes::VALIDATION_ERROR, message)
        })?;
        let mut text = format!("webhook/{}/{webhook_id}", scope.tenant());
        if made.number > 0 {
            text = format!("{text}/{}", made.number);
        }
        Ok(format!("whsec_{}", hex(hmac::sign(&found.1, text.as_bytes()).as_ref())))
    }
}

/// The value of the signature's header, with a tag under each secret.
#[must_use]
pub fn signature(secrets: &[String], unix_seconds: i64, body: &str) -> String {
    let signed = format!("{unix_seconds}.{body}");
    let tag = |secret: &String| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        format!(",v1={}", hex(hmac::sign(&key, signed.as_bytes()).as_ref()))
    };
    format!("t={unix_seconds}{}", secrets.iter().map(tag).collect::<String>())
}

#[cfg(test)]
mod tests {
    use kernel::TenantId;

    use super::*;

    fn scope(tenant: &str) -> Scope {
        Scope::system(TenantId::new(tenant).unwrap(), "test")
    }

    #[test]
    fn a_signature_is_what_other_programs_make_of_it() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac whsec_test
        let expected = "t=1700000000,v1=38877139021993b830af32feea6e18a8da83eb2f6e49ee50bd9e4cf4ca4d3789";
        let secrets = ["whsec_test".to_owned()];
        assert_eq!(signature(&secrets, 1_700_000_000, r#"{"a":1}"#), expected);
        let two = signature(&["whsec_other".to_owned(), secrets[0].clone()], 1_700_000_000, r#"{"a":1}"#);
        let (other, tag) = two.rsplit_once(",v1=").unwrap();
        assert!(
            expected.ends_with(tag) && other.starts_with("t=1700000000,v1=") && other.len() == expected.len()
        );
    }

    #[test]
    fn secrets_differ_by_key_tenant_and_webhook_and_outlive_a_new_key() {
        let (old, new) = ("a".repeat(32), "b".repeat(32));
        let before = Keys::new(std::slice::from_ref(&old)).unwrap();
        let name = Made { key: before.newest().unwrap().to_owned(), number: 0 };
        let secret = before.secret(&scope("shop"), "one", &name).unwrap();
        assert_eq!(secret.len(), "whsec_".len() + 64);
        assert_ne!(before.secret(&scope("other"), "one", &name).unwrap(), secret);
        assert_ne!(before.secret(&scope("shop"), "two", &name).unwrap(), secret);

        let after = Keys::new(&[new.clone(), old]).unwrap();
        assert_ne!(after.newest().unwrap(), name.key);
        let rotated = Made { number: 1, ..name.clone() };
        assert_ne!(after.secret(&scope("shop"), "one", &rotated).unwrap(), secret);
        assert_eq!(after.secret(&scope("shop"), "one", &name).unwrap(), secret);
        let without = Keys::new(std::slice::from_ref(&new)).unwrap();
        assert!(without.secret(&scope("shop"), "one", &name).is_err());
        assert!(!format!("{after:?}").contains(&new));
        assert!(Keys::new(&["short".to_owned()]).is_err() && Keys::default().newest().is_err());
    }
}
