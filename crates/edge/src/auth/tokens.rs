//! JSON Web Tokens (RFC 7519) of an identity provider: HS256 under a shared secret, or RS, PS, ES and EdDSA under the
//! provider's published keys (JWKS, RFC 7517).
//!
//! The tenant and the permission come from the token and from nowhere else. It refuses: tokens without an end,
//! `alg: none`, a shared-secret algorithm under a published key, a tenant that is missing or the server's own.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use kernel::{Clock, Error, Permission, Result, Scope, TenantId, codes};
use parking_lot::RwLock;
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Authenticator;

/// How far the provider's clock may differ.
const LEEWAY_SECONDS: i64 = 30;
/// Between two looks at the published keys.
const REFRESH: Duration = Duration::from_secs(300);
/// The shortest time between two looks, whatever tokens name.
const PAUSE: Duration = Duration::from_secs(10);
const MIN_SECRET_BYTES: usize = 32;

/// What is expected of tokens.
#[derive(Clone)]
pub struct TokenSettings {
    /// The shared secret of HS256, at least 32 bytes.
    pub secret: Option<String>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must be or hold.
    pub audience: Option<String>,
    /// The claim that names the tenant.
    pub tenant_claim: String,
    /// The claim that holds `read`, `write` or `admin`: a text, words in a text, or a list.
    pub permission_claim: String,
}

impl Debug for TokenSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TokenSettings")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// Where a provider publishes its keys.
#[async_trait]
pub trait KeySource: Send + Sync + Debug {
    /// The JWKS document.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be had.
    async fn fetch(&self) -> Result<String>;
}

/// Proves tokens.
pub struct Tokens {
    settings: TokenSettings,
    secret: Option<DecodingKey>,
    source: Option<Arc<dyn KeySource>>,
    keys: RwLock<JwkSet>,
    unknown_key: Notify,
    clock: Arc<dyn Clock>,
}

impl Debug for Tokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tokens").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads the provider's keys where it publishes any.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a short secret, and where there is neither a secret nor a source of keys. Keys that cannot
    /// be had yet are no error: until they come, no token passes.
    pub async fn open(
        settings: TokenSettings,
        source: Option<Arc<dyn KeySource>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let fault =
            |message: &str| Error::new(codes::VALIDATION_ERROR, message).with_field("auth.jwt_secret");
        if settings.secret.as_ref().is_some_and(|secret| secret.len() < MIN_SECRET_BYTES) {
            return Err(fault("has at least 32 bytes"));
        }
        if settings.secret.is_none() && source.is_none() {
            return Err(fault("give a secret or the address of the provider's keys"));
        }
        let secret = settings.secret.as_ref().map(|secret| DecodingKey::from_secret(secret.as_bytes()));
        let keys = RwLock::new(JwkSet { keys: Vec::new() });
        let tokens = Self { settings, secret, source, keys, unknown_key: Notify::new(), clock };
        tokens.refresh().await;
        Ok(tokens)
    }

    async fn refresh(&self) {
        let Some(source) = &self.source else { return };
        let found = source.fetch().await.and_then(|text| {
            serde_json::from_str::<JwkSet>(&text).map_err(|cause| {
                Error::new(codes::UNAVAILABLE, "the provider's keys cannot be read").with_source(cause)
            })
        });
        match found {
            Ok(keys) => *self.keys.write() = keys,
            Err(error) => warn!(error = %error.chain(), "the provider's keys stay as they were"),
        }
    }

    /// Follows the provider's keys until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(REFRESH) => {}
                () = self.unknown_key.notified() => {}
            }
            self.refresh().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    fn key(&self, algorithm: Algorithm, id: Option<&str>) -> Option<DecodingKey> {
        match algorithm {
            Algorithm::HS256 => self.secret.clone(),
            Algorithm::HS384 | Algorithm::HS512 => None,
            _ => {
                let keys = self.keys.read();
                let found = match id {
                    Some(id) => keys.find(id),
                    None => keys.keys.first().filter(|_| keys.keys.len() == 1),
                };
                if found.is_none() {
                    self.unknown_key.notify_one();
                }
                found.and_then(|key| DecodingKey::from_jwk(key).ok())
            }
        }
    }

    fn claims(&self, token: &str) -> Option<Map<String, Value>> {
        let header = decode_header(token).ok()?;
        let key = self.key(header.alg, header.kid.as_deref())?;
        let mut validation = Validation::new(header.alg);
        // Times are checked against the clock that was handed in.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.required_spec_claims.clear();
        match &self.settings.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.required_spec_claims.insert("aud".to_owned());
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.settings.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        decode::<Map<String, Value>>(token, &key, &validation).ok().map(|token| token.claims)
    }

    fn is_valid_now(&self, claims: &Map<String, Value>) -> bool {
        let now = self.clock.now().as_second() as f64;
        let leeway = LEEWAY_SECONDS as f64;
        let ends = claims.get("exp").and_then(Value::as_f64).is_some_and(|ends| now < ends + leeway);
        let begins =
            claims.get("nbf").is_none_or(|from| from.as_f64().is_some_and(|from| from <= now + leeway));
        ends && begins
    }

    fn permission(&self, claims: &Map<String, Value>) -> Option<Permission> {
        let claim = claims.get(&self.settings.permission_claim)?;
        let words: Vec<&str> = match claim {
            Value::String(text) => text.split_whitespace().collect(),
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            _ => return None,
        };
        words.into_iter().filter_map(|word| word.parse().ok()).max()
    }
}

impl Authenticator for Tokens {
    fn scope_of(&self, credential: &str) -> Option<Scope> {
        if credential.split('.').count() != 3 {
            return None;
        }
        let claims = self.claims(credential)?;
        if !self.is_valid_now(&claims) {
            return None;
        }
        let tenant = claims.get(&self.settings.tenant_claim)?.as_str()?;
        let tenant = TenantId::new(tenant).ok().filter(|tenant| !tenant.as_str().starts_with('_'))?;
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or("unnamed");
        let permission = self.permission(&claims)?;
        #[expect(clippy::disallowed_methods, reason = "the token was proven on the lines above")]
        Some(Scope::proven(tenant, format!("token:{subject}"), permission))
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use kernel::ManualClock;
    use serde_json::json;

    use super::*;

    const SECRET: &str = "a-shared-secret-of-thirty-two-bytes";
    const NOW: i64 = 1_767_225_600;
    // A key pair of RFC 8037, appendix A: made public there to be tested with.
    const PUBLISHED: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","alg":"EdDSA","use":"sig",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    const SIGNED_BY_OTHERS: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6Im9uZSJ9.e30.AAAA";

    #[derive(Debug)]
    struct Published;

    #[async_trait]
    impl KeySource for Published {
        async fn fetch(&self) -> Result<String> {
            Ok(PUBLISHED.to_owned())
        }
    }

    async fn tokens() -> Tokens {
        let settings = TokenSettings {
            secret: Some(SECRET.to_owned()),
            issuer: Some("https://id.example".to_owned()),
            audience: Some("watershed".to_owned()),
            tenant_claim: "tenant_id".to_owned(),
            permission_claim: "scope".to_owned(),
        };
        let clock = ManualClock::at(kernel::Timestamp::from_second(NOW).unwrap());
        Tokens::open(settings, Some(Arc::new(Published)), Arc::new(clock)).await.unwrap()
    }

    fn claims(change: &Value) -> Value {
        let mut claims = json!({"iss": "https://id.example", "aud": "watershed", "sub": "ada", "exp": NOW + 60,
            "tenant_id": "shop", "scope": "openid read write"});
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        claims
    }

    fn signed(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
        encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[tokio::test]
    async fn claims_decide_and_fail_closed() {
        let tokens = tokens().await;
        let check = |change: Value, permission: Option<Permission>| {
            let scope = tokens.scope_of(&signed(&claims(&change), Algorithm::HS256, SECRET));
            let found = scope.as_ref().map(|scope| {
                [Permission::Admin, Permission::Write, Permission::Read]
                    .into_iter()
                    .find(|permission| scope.require(*permission).is_ok())
                    .unwrap()
            });
            assert_eq!(found, permission, "{change}");
        };
        check(json!({}), Some(Permission::Write));
        check(json!({"scope": ["admin"]}), Some(Permission::Admin));
        check(json!({"scope": "read"}), Some(Permission::Read));
        check(json!({"scope": "everything"}), None);
        check(json!({"scope": null}), None);
        check(json!({"tenant_id": null}), None);
        check(json!({"tenant_id": "_system"}), None);
        check(json!({"tenant_id": "a/b"}), None);
        check(json!({"exp": null}), None);
        check(json!({"exp": NOW - 31}), None);
        check(json!({"exp": NOW - 29}), Some(Permission::Write));
        check(json!({"nbf": NOW + 31}), None);
        check(json!({"nbf": "soon"}), None);
        check(json!({"iss": "https://other.example"}), None);
        check(json!({"iss": null}), None);
        check(json!({"aud": "other"}), None);
        check(json!({"aud": null}), None);
        check(json!({"aud": ["other", "watershed"]}), Some(Permission::Write));
    }

    #[tokio::test]
    async fn forged_tokens_are_refused() {
        let tokens = tokens().await;
        let good = signed(&claims(&json!({})), Algorithm::HS256, SECRET);
        assert!(tokens.scope_of(&good).is_some());
        let (head, rest) = good.split_once('.').unwrap();
        let payload = rest.split_once('.').unwrap().0;
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
        let published =
            serde_json::from_str::<Value>(PUBLISHED).unwrap()["keys"][0]["x"].as_str().unwrap().to_owned();
        for forged in [
            format!("{none}.{payload}."),
            format!("{head}.{payload}."),
            format!("{head}.{payload}.AAAA"),
            signed(&claims(&json!({})), Algorithm::HS256, "another-secret-of-thirty-two-bytes!"),
            signed(&claims(&json!({})), Algorithm::HS512, SECRET),
            // The published key as if it were a shared secret.
            signed(&claims(&json!({})), Algorithm::HS256, &published),
            SIGNED_BY_OTHERS.to_owned(),
            "..".to_owned(),
            "a.b.c".to_owned(),
            String::new(),
        ] {
            assert!(tokens.scope_of(&forged).is_none(), "{forged}");
        }
    }

    #[tokio::test]
    async fn tokens_of_published_keys_pass() {
        let tokens = tokens().await;
        // The private half of the pair in RFC 8037, as PKCS #8.
        let private = [
            &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20]
                [..],
            &[
                0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c,
                0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
                0x7f, 0x60,
            ][..],
        ]
        .concat();
        let check = |id: Option<&str>, passes: bool| {
            let header = Header { kid: id.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
            let token = encode(&header, &claims(&json!({})), &EncodingKey::from_ed_der(&private)).unwrap();
            assert_eq!(tokens.scope_of(&token).is_some(), passes, "{id:?}");
        };
        check(Some("one"), true);
        check(None, true);
        check(Some("two"), false);
    }
}
