//! A credential becomes a [`Scope`], here and nowhere else. Without a proven credential there is no scope, and
//! without a scope no handler can touch data. An answer never says why a credential was refused.
//!
//! To add a kind of credential: a file with its [`Authenticator`], and a line where the binary lists them.

mod api_keys;
mod published_keys;
mod static_key;
mod tokens;

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kernel::{Error, Permission, Result, Scope, codes};
use store::Secret;

use crate::ApiError;
use crate::middleware::AskedBy;
pub use api_keys::{ApiKey, KeyRing, NewKey};
pub use published_keys::KeySource;
pub use static_key::StaticKey;
pub use tokens::{TokenSettings, Tokens};

/// What the name of a WebSocket protocol begins with that is a credential.
const BEARER_PROTOCOL: &str = "bearer.";

/// Proves credentials of one kind.
#[async_trait]
pub trait Authenticator: Send + Sync + Debug {
    /// The scope of whoever holds this credential; none when it is of another kind or not valid.
    fn scope_of(&self, credential: &str) -> Option<Scope>;

    /// Fetches, in bounded time, what is missing to judge this credential; whether asking again may help.
    async fn learn(&self, _credential: &str) -> bool {
        false
    }
}

/// Every kind of credential that is taken, asked in order.
#[derive(Debug, Clone)]
pub struct Authenticators(Arc<[Arc<dyn Authenticator>]>);

impl Authenticators {
    /// These kinds.
    #[must_use]
    pub fn new(kinds: Vec<Arc<dyn Authenticator>>) -> Self {
        Self(kinds.into())
    }

    /// The scope of whoever sent these headers.
    ///
    /// # Errors
    /// `AUTH_ERROR` when the credential is missing or wrong. It never says which.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Scope> {
        let scope = match credential_of(headers) {
            Some(credential) => self.scope_of(credential).await,
            None => None,
        };
        scope.ok_or_else(|| {
            let message = "send a valid key or token as `Authorization: Bearer KEY` or `X-API-Key: KEY`";
            Error::new(codes::AUTH_ERROR, message)
        })
    }

    async fn scope_of(&self, credential: &str) -> Option<Scope> {
        if let Some(scope) = self.0.iter().find_map(|kind| kind.scope_of(credential)) {
            return Some(scope);
        }
        for kind in self.0.iter() {
            if kind.learn(credential).await {
                return kind.scope_of(credential);
            }
        }
        None
    }
}

/// The credential in `Authorization: Bearer KEY`, `Authorization: KEY` or `X-API-Key: KEY`; none when two disagree. As browsers
/// let pages set nothing else on a WebSocket, also what stands after `bearer.` in the protocols of its handshake.
fn credential_of(headers: &HeaderMap) -> Option<&str> {
    let mut found = None;
    let is_handshake =
        headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter(|_| is_handshake) {
        let names = value.to_str().ok()?.split(',');
        for key in names.filter_map(|name| name.trim().strip_prefix(BEARER_PROTOCOL)) {
            if found.replace(key).is_some_and(|earlier| earlier != key) {
                return None;
            }
        }
    }
    for name in [header::AUTHORIZATION.as_str(), "x-api-key"] {
        for value in headers.get_all(name) {
            let text = value.to_str().ok()?.trim();
            let key = match text.split_once(' ') {
                Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim(),
                Some(_) => return None,
                None => text,
            };
            if found.replace(key).is_some_and(|earlier| earlier != key) {
                return None;
            }
        }
    }
    found.filter(|key| !key.is_empty())
}

/// Middleware that puts the scope of a proven credential into the request, or answers 401.
pub async fn require(
    State(authenticators): State<Authenticators>,
    mut request: Request,
    next: Next,
) -> Response {
    match authenticators.authenticate(request.headers()).await {
        Ok(scope) => {
            if let Some(asked_by) = request.extensions().get::<AskedBy>() {
                asked_by.note(scope.tenant());
            }
            request.extensions_mut().insert(Caller(scope));
            request.extensions_mut().insert(authenticators);
            next.run(request).await
        }
        Err(error) => ApiError(error).into_response(),
    }
}

/// Extracts the scope of the caller. A route that is not behind [`require`] answers 401.
#[derive(Debug, Clone)]
pub struct Caller(pub Scope);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let missing = || ApiError(Error::new(codes::AUTH_ERROR, "this needs a credential"));
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

/// Whether the credential of a request is still good: for an answer that goes on, because keys are revoked and tokens end.
#[derive(Debug, Clone)]
pub struct StillProven {
    authenticators: Authenticators,
    credential: Secret,
    scope: Scope,
}

impl StillProven {
    /// Whether who holds the credential may still read what is of this tenant. It waits for nothing and nobody.
    #[must_use]
    pub fn may_read(&self) -> bool {
        let now = self.authenticators.0.iter().find_map(|kind| kind.scope_of(self.credential.expose()));
        now.is_some_and(|now| now.tenant() == self.scope.tenant() && now.require(Permission::Read).is_ok())
    }
}

impl<S: Sync> FromRequestParts<S> for StillProven {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Caller(scope) = <Caller as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        let missing = || ApiError(Error::new(codes::AUTH_ERROR, "this needs a credential"));
        let authenticators = parts.extensions.get::<Authenticators>().cloned().ok_or_else(missing)?;
        let credential = Secret::new(credential_of(&parts.headers).ok_or_else(missing)?);
        Ok(Self { authenticators, credential, scope })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use kernel::TenantId;
    use parking_lot::Mutex;

    use super::*;

    const KEY: &str = "correct-horse-battery";

    #[tokio::test]
    async fn only_the_right_key_passes() {
        let key = StaticKey::new(KEY, TenantId::new("shop").unwrap()).unwrap();
        let authenticators = Authenticators::new(vec![Arc::new(key)]);
        let check = async |headers: &[(&str, &str)], good: bool| {
            let map: HeaderMap = headers
                .iter()
                .map(|(name, value)| {
                    (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
                })
                .collect();
            let scope = authenticators.authenticate(&map).await;
            assert_eq!(scope.is_ok(), good, "{headers:?}");
            if let Err(error) = scope {
                assert_eq!(error.code(), codes::AUTH_ERROR);
                assert!(!error.to_string().contains(KEY));
            }
        };
        check(&[("authorization", "Bearer correct-horse-battery")], true).await;
        check(&[("authorization", "bearer correct-horse-battery")], true).await;
        check(&[("authorization", "correct-horse-battery")], true).await;
        check(&[("x-api-key", "correct-horse-battery")], true).await;
        check(&[("x-api-key", KEY), ("authorization", "Bearer correct-horse-battery")], true).await;
        check(&[("x-api-key", KEY), ("authorization", "Bearer other-key-of-length")], false).await;
        let shake = ("upgrade", "WebSocket");
        let offers = |protocols| ("sec-websocket-protocol", protocols);
        check(&[shake, offers("watershed.v1, bearer.correct-horse-battery")], true).await;
        check(&[shake, offers("watershed.v1")], false).await;
        check(&[shake, offers("bearer.")], false).await;
        check(&[shake, offers("bearer.other-key-of-length"), ("x-api-key", KEY)], false).await;
        check(&[shake, offers("bearer.other-key-of-length, bearer.correct-horse-battery")], false).await;
        check(&[offers("bearer.correct-horse-battery")], false).await;
        check(&[("upgrade", "h2c"), offers("bearer.correct-horse-battery")], false).await;
        check(&[("authorization", "Basic correct-horse-battery")], false).await;
        check(&[("authorization", "Bearer correct-horse-batter")], false).await;
        check(&[("authorization", "Bearer ")], false).await;
        check(&[("x-tenant-id", "shop")], false).await;
        check(&[], false).await;
    }

    /// Proves one credential for as long as it is told to.
    #[derive(Debug)]
    struct Passing(Mutex<Option<Scope>>);

    impl Authenticator for Passing {
        fn scope_of(&self, credential: &str) -> Option<Scope> {
            self.0.lock().clone().filter(|_| credential == KEY)
        }
    }

    #[tokio::test]
    async fn a_credential_that_ended_is_proven_no_more() {
        #[expect(clippy::disallowed_methods, reason = "the test is what proves it")]
        let reader = |tenant: &str| Scope::proven(TenantId::new(tenant).unwrap(), "k", Permission::Read);
        let passing = Arc::new(Passing(Mutex::new(Some(reader("shop")))));
        let authenticators = Authenticators::new(vec![Arc::clone(&passing) as _]);
        let (mut parts, ()) = Request::builder().header("x-api-key", KEY).body(()).unwrap().into_parts();
        let extract = async |parts: &mut Parts| StillProven::from_request_parts(parts, &()).await;
        assert!(extract(&mut parts).await.is_err(), "nobody proved it");
        parts.extensions.insert(Caller(reader("shop")));
        parts.extensions.insert(authenticators);
        let still = extract(&mut parts).await.unwrap();
        assert!(still.may_read());
        assert!(!format!("{still:?}").contains(KEY));
        *passing.0.lock() = Some(reader("other"));
        assert!(!still.may_read(), "of another tenant");
        *passing.0.lock() = None;
        assert!(!still.may_read());
    }
}
