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
use kernel::{Error, Result, Scope, codes};

use crate::ApiError;
use crate::middleware::AskedBy;
pub use api_keys::{ApiKey, KeyRing, NewKey};
pub use published_keys::KeySource;
pub use static_key::StaticKey;
pub use tokens::{TokenSettings, Tokens};

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

/// The credential in `Authorization: Bearer KEY`, `Authorization: KEY` or `X-API-Key: KEY`; none when two disagree.
fn credential_of(headers: &HeaderMap) -> Option<&str> {
    let mut found = None;
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

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use kernel::TenantId;

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
        check(&[("authorization", "Basic correct-horse-battery")], false).await;
        check(&[("authorization", "Bearer correct-horse-batter")], false).await;
        check(&[("authorization", "Bearer ")], false).await;
        check(&[("x-tenant-id", "shop")], false).await;
        check(&[], false).await;
    }
}
