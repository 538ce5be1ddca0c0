//! AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits before the text, and the master keys that wrap others.
//!
//! A key here seals far fewer than 2^32 messages: the events of one person, or the objects of one store. It refuses
//! master keys under 32 characters.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kernel::{Entropy, Error, Result, codes, hex};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::corrupted;

const KEY_CHARACTERS_MIN: usize = 32;
const NAME_CHARACTERS: usize = 16;
const MASTER_CONTEXT: &str = "watershed privacy 2026 master key";
const NAME_CONTEXT: &str = "watershed privacy 2026 name of a master key";

/// The bytes of a key.
pub(crate) type KeyBytes = [u8; 32];

/// So many random bytes, from `entropy`.
pub(crate) fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&entropy.next_u64().to_le_bytes()[..chunk.len()]);
    }
    bytes
}

/// A key, ready for use.
pub(crate) struct Cipher(LessSafeKey);

impl fmt::Debug for Cipher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Cipher")
    }
}

impl Cipher {
    pub(crate) fn new(key: &KeyBytes) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of this length")))
    }

    /// Nonce, text, tag. `about` must be given again to open it.
    pub(crate) fn seal(&self, entropy: &dyn Entropy, about: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random(entropy);
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(about), &mut sealed[NONCE_LEN..]);
        sealed.extend_from_slice(tag.expect("a text below 64 GiB").as_ref());
        sealed
    }

    /// What [`Cipher::seal`] was given.
    ///
    /// # Errors
    /// `CORRUPTED` when it was changed, or sealed under another key or about something else.
    pub(crate) fn open(&self, about: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let fault = || corrupted("what is sealed does not open: it was changed, or the key is another");
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or_else(fault)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| fault())?;
        let mut text = text.to_vec();
        let length = self.0.open_in_place(nonce, Aad::from(about), &mut text).map_err(|_| fault())?.len();
        text.truncate(length);
        Ok(text)
    }

    /// A key, as text that only this one opens.
    pub(crate) fn wrap(&self, entropy: &dyn Entropy, about: &str, key: &KeyBytes) -> String {
        encode(&self.seal(entropy, about.as_bytes(), key))
    }

    /// What [`Cipher::wrap`] was given.
    pub(crate) fn unwrap(&self, about: &str, wrapped: &str) -> Result<KeyBytes> {
        let key = self.open(about.as_bytes(), &decode(wrapped)?)?;
        key.try_into().map_err(|_| corrupted("a stored key has another length"))
    }
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|cause| corrupted("what is sealed is not base64").with_source(cause))
}

/// The keys of the settings, the newest first. Keys in the store are wrapped by the newest and name it.
#[derive(Debug, Default)]
pub struct MasterKeys(Vec<(String, Cipher)>);

impl MasterKeys {
    /// These keys; none is fine where nothing is sealed.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a short one.
    pub fn new(keys: &[String]) -> Result<Self> {
        if keys.iter().any(|key| key.len() < KEY_CHARACTERS_MIN) {
            let message = format!(
                "a key has at least {KEY_CHARACTERS_MIN} characters, as of `openssl rand -base64 32`"
            );
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("compliance.encryption_keys"));
        }
        let named = |key: &String| {
            let name = hex(&blake3::derive_key(NAME_CONTEXT, key.as_bytes()))[..NAME_CHARACTERS].to_owned();
            (name, Cipher::new(&blake3::derive_key(MASTER_CONTEXT, key.as_bytes())))
        };
        Ok(Self(keys.iter().map(named).collect()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the newest.
    #[must_use]
    pub fn newest_name(&self) -> Option<&str> {
        self.0.first().map(|(name, _)| name.as_str())
    }

    pub(crate) fn newest(&self) -> Result<(&str, &Cipher)> {
        let missing = || {
            let message =
                "nothing can be sealed without a key; set compliance.encryption_keys (ENCRYPTION_KEYS)";
            Error::new(codes::VALIDATION_ERROR, message).with_field("compliance.encryption_keys")
        };
        self.0.first().map(|(name, cipher)| (name.as_str(), cipher)).ok_or_else(missing)
    }

    /// The key of that name.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where the settings do not have it.
    pub(crate) fn named(&self, name: &str) -> Result<&Cipher> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, cipher)| cipher).ok_or_else(|| {
            let message = format!(
                "the store is sealed under master key {name}, which is not among the keys; add it (or bring the file \
                 `encryption-key` of the data folder), and leave it there until `watershed encryption rotate` is done"
            );
            Error::new(codes::VALIDATION_ERROR, message).with_field("compliance.encryption_keys")
        })
    }
}
