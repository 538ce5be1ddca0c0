//! A credential becomes a [`Scope`], here and nowhere else. Without a proven credential there is no scope, and
//! without a scope no handler can touch data.

use std::fmt::Debug;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kernel::{Error, Permission, Result, Scope, TenantId, codes};

use crate::ApiError;

/// Proves credentials.
pub trait Authenticator: Send + Sync + Debug {
    /// The scope of whoever sent these headers.
    ///
    /// # Errors
    /// `AUTH_ERROR` when the credential is missing or wrong. It never says which.
    fn authenticate(&self, headers: &HeaderMap) -> Result<Scope>;
}

/// One key that speaks for one tenant. Only its hash is held.
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
    fn authenticate(&self, headers: &HeaderMap) -> Result<Scope> {
        let refused = || {
            Error::new(
                codes::AUTH_ERROR,
                "send a valid key as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            )
        };
        let key = key_of(headers).ok_or_else(refused)?;
        // Comparing hashes takes the same time whatever the key; `blake3::Hash` compares in constant time.
        if blake3::hash(key.as_bytes()) != self.hash {
            return Err(refused());
        }
        #[expect(clippy::disallowed_methods, reason = "the credential was proven on the line above")]
        Ok(Scope::proven(self.tenant.clone(), "static-key", Permission::Admin))
    }
}

/// The key in `Authorization: Bearer KEY`, `Authorization: KEY` or `X-API-Key: KEY`; none when two disagree.
fn key_of(headers: &HeaderMap) -> Option<&str> {
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
    State(authenticator): State<Arc<dyn Authenticator>>,
    mut request: Request,
    next: Next,
) -> Response {
    match authenticator.authenticate(request.headers()) {
        Ok(scope) => {
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

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const KEY: &str = "correct-horse-battery";

    #[test]
    fn only_the_right_key_passes() {
        let authenticator = StaticKey::new(KEY, TenantId::new("shop").unwrap()).unwrap();
        let check = |headers: &[(&str, &str)], good: bool| {
            let map: HeaderMap = headers
                .iter()
                .map(|(name, value)| {
                    (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
                })
                .collect();
            let scope = authenticator.authenticate(&map);
            assert_eq!(scope.is_ok(), good, "{headers:?}");
            if let Err(error) = scope {
                assert_eq!(error.code(), codes::AUTH_ERROR);
                assert!(!error.to_string().contains(KEY));
            }
        };
        check(&[("authorization", "Bearer correct-horse-battery")], true);
        check(&[("authorization", "bearer correct-horse-battery")], true);
        check(&[("authorization", "correct-horse-battery")], true);
        check(&[("x-api-key", "correct-horse-battery")], true);
        check(&[("x-api-key", KEY), ("authorization", "Bearer correct-horse-battery")], true);
        check(&[("x-api-key", KEY), ("authorization", "Bearer other-key-of-length")], false);
        check(&[("authorization", "Basic correct-horse-battery")], false);
        check(&[("authorization", "Bearer correct-horse-batter")], false);
        check(&[("authorization", "Bearer ")], false);
        check(&[("x-tenant-id", "shop")], false);
        check(&[], false);
    }

    #[test]
    fn short_keys_are_refused_and_never_shown() {
        assert!(StaticKey::new("short", TenantId::new("shop").unwrap()).is_err());
        let authenticator = StaticKey::new(KEY, TenantId::new("shop").unwrap()).unwrap();
        assert!(!format!("{authenticator:?}").contains(KEY));
    }
}
