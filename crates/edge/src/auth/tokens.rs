//! JSON Web Tokens (RFC 7519) of an identity provider: HS256 under a shared secret, or RS, PS, ES and EdDSA under the
//! provider's published keys.
//!
//! The tenant and the permission come from the token and from nowhere else. It refuses: tokens without an end,
//! `alg: none`, algorithms that are not listed, a shared-secret algorithm under a published key, extensions that a token
//! calls critical, a tenant that is missing or the server's own, roles that nobody gave a permission.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation, decode, decode_header};
use kernel::{Clock, Error, Permission, Result, Scope, TenantId, codes};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::published_keys::PublishedKeys;
use super::{Authenticator, KeySource};
use crate::metrics::AccessMetrics;

const MIN_SECRET_BYTES: usize = 32;
const MAX_SUBJECT_BYTES: usize = 255;
/// What a list of algorithms may hold under published keys.
const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What is expected of tokens.
#[derive(Clone)]
pub struct TokenSettings {
    /// The shared secret of HS256, at least 32 bytes.
    pub secret: Option<String>,
    /// The names of the algorithms that are taken. Empty: HS256 where there is a secret, and all that published keys are
    /// for where there is a source of them.
    pub algorithms: Vec<String>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must be or hold.
    pub audience: Option<String>,
    /// How far the provider's clock may differ, in seconds.
    pub leeway_seconds: u32,
    /// The claim that names the tenant: its name, or a JSON pointer that begins with `/`.
    pub tenant_claim: String,
    /// The claim that holds the roles, named likewise: a text, words in a text, or a list.
    pub roles_claim: String,
    /// The permission of each role. Empty: the roles are `read`, `write` and `admin` themselves.
    pub roles: BTreeMap<String, Permission>,
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

/// Proves tokens.
pub struct Tokens {
    settings: TokenSettings,
    algorithms: Vec<Algorithm>,
    secret: Option<Arc<DecodingKey>>,
    published: Option<PublishedKeys>,
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
    /// `VALIDATION_ERROR` for a short secret, where there is neither a secret nor a source of keys, and for an algorithm
    /// that is unknown or that no key is for. Keys that cannot be had yet are no error: until they come, no token passes.
    pub async fn open(
        settings: TokenSettings,
        source: Option<Arc<dyn KeySource>>,
        clock: Arc<dyn Clock>,
        metrics: AccessMetrics,
    ) -> Result<Self> {
        if settings.secret.as_ref().is_some_and(|secret| secret.len() < MIN_SECRET_BYTES) {
            return Err(fault("secret", "has at least 32 bytes"));
        }
        if settings.secret.is_none() && source.is_none() {
            return Err(fault("secret", "give a secret or the provider's published keys"));
        }
        let algorithms = algorithms(&settings, source.is_some())?;
        let secret =
            settings.secret.as_ref().map(|secret| Arc::new(DecodingKey::from_secret(secret.as_bytes())));
        let published = match source {
            Some(source) => Some(PublishedKeys::open(source, Arc::clone(&clock), metrics).await),
            None => None,
        };
        Ok(Self { settings, algorithms, secret, published, clock })
    }

    /// Follows the provider's keys until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if let Some(published) = &self.published {
            published.run(stop).await;
        }
    }

    /// The header of a token that may be judged at all.
    fn header(&self, token: &str) -> Option<Header> {
        if token.split('.').count() != 3 {
            return None;
        }
        let header = decode_header(token).ok()?;
        // RFC 7515, 4.1.11: who does not know a critical extension refuses the token. None is known here.
        (self.algorithms.contains(&header.alg) && header.crit.is_none()).then_some(header)
    }

    fn key(&self, header: &Header) -> Option<Arc<DecodingKey>> {
        match header.alg.family() {
            AlgorithmFamily::Hmac => self.secret.clone(),
            _ => self.published.as_ref()?.find(header.alg, header.kid.as_deref()),
        }
    }

    fn claims(&self, token: &str) -> Option<Value> {
        let header = self.header(token)?;
        let key = self.key(&header)?;
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
        decode::<Value>(token, &key, &validation).ok().map(|token| token.claims)
    }

    fn is_valid_now(&self, claims: &Value) -> bool {
        let now = self.clock.now().as_second() as f64;
        let leeway = f64::from(self.settings.leeway_seconds);
        let ends = claims.get("exp").and_then(Value::as_f64).is_some_and(|ends| now < ends + leeway);
        let begins =
            claims.get("nbf").is_none_or(|from| from.as_f64().is_some_and(|from| from <= now + leeway));
        ends && begins
    }

    fn permission(&self, claims: &Value) -> Option<Permission> {
        let words: Vec<&str> = match claim(claims, &self.settings.roles_claim)? {
            Value::String(text) => text.split_whitespace().collect(),
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            _ => return None,
        };
        let roles = &self.settings.roles;
        let permission =
            |word: &str| if roles.is_empty() { word.parse().ok() } else { roles.get(word).copied() };
        words.into_iter().filter_map(permission).max()
    }
}

fn fault(setting: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message.into()).with_field(format!("auth.jwt.{setting}"))
}

/// The algorithms that are taken: those of the settings, each of which some key must be for.
fn algorithms(settings: &TokenSettings, publishes: bool) -> Result<Vec<Algorithm>> {
    let has_secret = settings.secret.is_some();
    if settings.algorithms.is_empty() {
        let symmetric = has_secret.then_some(Algorithm::HS256).into_iter();
        return Ok(symmetric.chain(ASYMMETRIC.into_iter().filter(|_| publishes)).collect());
    }
    let listed = settings.algorithms.iter().map(|name| {
        let algorithm = Algorithm::from_str(name)
            .map_err(|_| fault("algorithms", format!("`{name}` is not an algorithm that is known here")))?;
        let is_symmetric = algorithm.family() == AlgorithmFamily::Hmac;
        match (is_symmetric, has_secret, publishes) {
            (true, false, _) => Err(fault("algorithms", format!("{name} needs `secret`"))),
            (false, _, false) => {
                Err(fault("algorithms", format!("{name} needs the provider's published keys")))
            }
            _ => Ok(algorithm),
        }
    });
    listed.collect()
}

/// A claim by its name, or by a JSON pointer.
fn claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) }
}

/// The name under which a subject is limited and audited; none for one that would spoil a log.
fn subject(claims: &Value) -> Option<&str> {
    match claims.get("sub") {
        None => Some("unnamed"),
        Some(name) => name
            .as_str()
            .filter(|name| name.len() <= MAX_SUBJECT_BYTES && !name.chars().any(char::is_control)),
    }
}

#[async_trait]
impl Authenticator for Tokens {
    fn scope_of(&self, credential: &str) -> Option<Scope> {
        let claims = self.claims(credential)?;
        if !self.is_valid_now(&claims) {
            return None;
        }
        let tenant = claim(&claims, &self.settings.tenant_claim)?.as_str()?;
        let tenant = TenantId::new(tenant).ok().filter(|tenant| !tenant.as_str().starts_with('_'))?;
        let subject = subject(&claims)?;
        let permission = self.permission(&claims)?;
        #[expect(clippy::disallowed_methods, reason = "the token was proven on the lines above")]
        Some(Scope::proven(tenant, format!("token:{subject}"), permission))
    }

    async fn learn(&self, credential: &str) -> bool {
        let (Some(published), Some(header)) = (&self.published, self.header(credential)) else {
            return false;
        };
        if header.alg.family() == AlgorithmFamily::Hmac || self.key(&header).is_some() {
            return false;
        }
        published.look_again().await;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::{EncodingKey, encode};
    use kernel::ManualClock;
    use prometheus_client::registry::Registry;
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

        fn interval(&self) -> Duration {
            Duration::from_secs(300)
        }
    }

    fn settings() -> TokenSettings {
        TokenSettings {
            secret: Some(SECRET.to_owned()),
            algorithms: Vec::new(),
            issuer: Some("https://id.example".to_owned()),
            audience: Some("watershed".to_owned()),
            leeway_seconds: 30,
            tenant_claim: "tenant_id".to_owned(),
            roles_claim: "scope".to_owned(),
            roles: BTreeMap::new(),
        }
    }

    async fn opened(settings: TokenSettings, source: Option<Arc<dyn KeySource>>) -> Result<Tokens> {
        let clock = ManualClock::at(kernel::Timestamp::from_second(NOW).unwrap());
        Tokens::open(settings, source, Arc::new(clock), AccessMetrics::register(&mut Registry::default()))
            .await
    }

    async fn tokens() -> Tokens {
        opened(settings(), Some(Arc::new(Published))).await.unwrap()
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
        check(json!({"sub": "x".repeat(256)}), None);
        check(json!({"sub": "a\nb"}), None);
        check(json!({"sub": 7}), None);
        check(json!({"sub": null}), Some(Permission::Write));
    }

    #[tokio::test]
    async fn roles_have_the_permissions_of_the_settings_and_no_other() {
        let roles =
            [("viewer", Permission::Read), ("editor", Permission::Write), ("owner", Permission::Admin)];
        let settings = TokenSettings {
            roles: roles.into_iter().map(|(role, permission)| (role.to_owned(), permission)).collect(),
            roles_claim: "/realm_access/roles".to_owned(),
            tenant_claim: "https://id.example/tenant".to_owned(),
            ..settings()
        };
        let tokens = opened(settings, None).await.unwrap();
        let check = |roles: Value, permission: Option<Permission>| {
            let told = json!({"realm_access": {"roles": roles}, "https://id.example/tenant": "shop"});
            let scope = tokens.scope_of(&signed(&claims(&told), Algorithm::HS256, SECRET));
            for asked in [Permission::Read, Permission::Write, Permission::Admin] {
                let may = scope.as_ref().is_some_and(|scope| scope.require(asked).is_ok());
                assert_eq!(may, permission.is_some_and(|has| has >= asked), "{told} {asked}");
            }
        };
        check(json!(["viewer"]), Some(Permission::Read));
        check(json!(["editor", "unknown"]), Some(Permission::Write));
        check(json!(["viewer", "owner"]), Some(Permission::Admin));
        check(json!(["admin"]), None);
        check(json!([]), None);
        check(json!({"viewer": true}), None);
    }

    #[tokio::test]
    async fn settings_that_make_no_sense_are_refused() {
        let check = async |settings: TokenSettings, publishes: bool, field: &str| {
            let source = publishes.then(|| Arc::new(Published) as Arc<dyn KeySource>);
            let error = opened(settings, source).await.unwrap_err();
            assert_eq!(error.field(), Some(field), "{error}");
        };
        let listed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        check(TokenSettings { secret: None, ..settings() }, false, "auth.jwt.secret").await;
        check(TokenSettings { secret: Some("short".to_owned()), ..settings() }, true, "auth.jwt.secret")
            .await;
        for (names, secret, publishes) in [
            (&["none"][..], true, true),
            (&["HS256", "RS256"], true, false),
            (&["HS256"], false, true),
            (&["hs256"], true, true),
        ] {
            let secret = secret.then(|| SECRET.to_owned());
            let settings = TokenSettings { secret, algorithms: listed(names), ..settings() };
            check(settings, publishes, "auth.jwt.algorithms").await;
        }
        let only = TokenSettings { algorithms: listed(&["EdDSA"]), ..settings() };
        let tokens = opened(only, Some(Arc::new(Published))).await.unwrap();
        assert!(tokens.scope_of(&signed(&claims(&json!({})), Algorithm::HS256, SECRET)).is_none());
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
        let critical = Header { crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::HS256) };
        let secret = EncodingKey::from_secret(SECRET.as_bytes());
        for forged in [
            encode(&critical, &claims(&json!({})), &secret).unwrap(),
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
