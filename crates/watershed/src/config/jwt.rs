//! The `auth.jwt` section: tokens of an identity provider.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use edge::auth::TokenSettings;
use kernel::{Error, Permission, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sections::require;

/// Tokens of an identity provider. They are taken where there is a secret or a place of published keys.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JwtSettings {
    /// The secret that the provider signs with, at least 32 bytes.
    #[serde(skip_serializing)]
    pub secret: Option<String>,
    /// Where the provider publishes its keys (JWKS): an `https://` address. Read again every five minutes, and when a
    /// token names an unknown key.
    pub jwks_url: Option<String>,
    /// A file with the provider's keys (JWKS), in place of an address. Read again every two seconds.
    pub jwks_file: Option<PathBuf>,
    /// The algorithms that are taken, such as `RS256`. Empty takes HS256 under a secret, and every RS, PS, ES and EdDSA
    /// algorithm under published keys.
    pub algorithms: Vec<String>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must be or hold. Where missing, tokens that the provider made for other services pass too.
    pub audience: Option<String>,
    /// How far the provider's clock may differ, in seconds, 300 at most.
    pub leeway_secs: u32,
    /// The claim that names the tenant, or a JSON pointer to it that begins with `/`.
    pub tenant_claim: String,
    /// The claim that holds the roles, or a JSON pointer such as `/realm_access/roles`: words in a text, or a list.
    pub roles_claim: String,
    /// The permission (`read`, `write` or `admin`) of each role. Empty takes the roles `read`, `write` and `admin`
    /// themselves; otherwise a role that is not here has none.
    #[schemars(with = "BTreeMap<String, String>")]
    pub roles: BTreeMap<String, Permission>,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            secret: None,
            jwks_url: None,
            jwks_file: None,
            algorithms: Vec::new(),
            issuer: None,
            audience: None,
            leeway_secs: 30,
            tenant_claim: "tenant_id".to_owned(),
            roles_claim: "roles".to_owned(),
            roles: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for JwtSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JwtSettings")
            .field("jwks_url", &self.jwks_url)
            .field("jwks_file", &self.jwks_file)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

const LEEWAY_SECONDS_MAX: u32 = 300;
const SECRET_BYTES_MIN: usize = 32;

impl JwtSettings {
    /// Whether tokens are taken at all.
    pub(crate) fn is_enabled(&self) -> bool {
        self.secret.is_some() || self.publishes()
    }

    /// Whether the provider publishes keys.
    pub(crate) fn publishes(&self) -> bool {
        self.jwks_url.is_some() || self.jwks_file.is_some()
    }

    pub(super) fn validate(&self) -> Result<()> {
        let is_used = self.is_enabled() || *self == Self::default();
        require(is_used, "auth.jwt", "takes no token without `secret`, `jwks_url` or `jwks_file`; give one")?;
        let both = self.jwks_url.is_some() && self.jwks_file.is_some();
        require(!both, "auth.jwt.jwks_file", "stands in place of `jwks_url`; give one of them")?;
        let is_short = |limit: usize, text: &Option<String>| text.as_ref().is_some_and(|t| t.len() < limit);
        let rule = "has at least 32 bytes; make another, such as with `openssl rand -base64 32`";
        require(!is_short(SECRET_BYTES_MIN, &self.secret), "auth.jwt.secret", rule)?;
        require(!is_short(1, &self.issuer), "auth.jwt.issuer", "must not be empty")?;
        require(!is_short(1, &self.audience), "auth.jwt.audience", "must not be empty")?;
        require(self.leeway_secs <= LEEWAY_SECONDS_MAX, "auth.jwt.leeway_secs", "must be at most 300")?;
        for (setting, claim) in [("tenant_claim", &self.tenant_claim), ("roles_claim", &self.roles_claim)] {
            require(!claim.is_empty(), &format!("auth.jwt.{setting}"), "must not be empty")?;
        }
        if let Some(url) = &self.jwks_url {
            jwks_url(url)?;
        }
        Ok(())
    }

    /// What tokens must be.
    pub(crate) fn expected(&self) -> TokenSettings {
        TokenSettings {
            secret: self.secret.clone(),
            algorithms: self.algorithms.clone(),
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            leeway_seconds: self.leeway_secs,
            tenant_claim: self.tenant_claim.clone(),
            roles_claim: self.roles_claim.clone(),
            roles: self.roles.clone(),
        }
    }
}

/// The address of published keys: whoever can change them on the way can make tokens, so that plain HTTP stays on this
/// machine.
///
/// # Errors
/// `VALIDATION_ERROR`
pub(crate) fn jwks_url(text: &str) -> Result<url::Url> {
    let fault = |rule: &str| Error::new(codes::VALIDATION_ERROR, rule).with_field("auth.jwt.jwks_url");
    let url = url::Url::parse(text).map_err(|cause| fault("is not an address").with_source(cause))?;
    let is_near = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && is_near) {
        return Err(fault("must begin with `https://`; plain `http://` is for this machine alone"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(fault("must not hold a user, a password or a query: it is shown in `/api/config`"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_the_setting() {
        let good = "Zk3vX9pQ2mL7sT4yB8wR1cN6hJ5dF0gA".to_owned();
        let check = |change: &dyn Fn(&mut JwtSettings), field: Option<&str>| {
            let mut settings = JwtSettings { secret: Some(good.clone()), ..JwtSettings::default() };
            change(&mut settings);
            let fault = settings.validate().err();
            assert_eq!(fault.as_ref().and_then(Error::field), field, "{fault:?}");
            assert!(!format!("{settings:?}").contains(&good));
        };
        let fine = |change: &dyn Fn(&mut JwtSettings)| check(change, None);
        let bad = |change: &dyn Fn(&mut JwtSettings), field: &str| {
            check(change, Some(&format!("auth.jwt{field}")));
        };
        fine(&|_| {});
        fine(&|settings| *settings = JwtSettings::default());
        bad(&|settings| settings.secret = Some("x".repeat(31)), ".secret");
        bad(&|settings| *settings = JwtSettings { audience: Some("a".into()), ..JwtSettings::default() }, "");
        bad(&|settings| settings.issuer = Some(String::new()), ".issuer");
        bad(&|settings| settings.audience = Some(String::new()), ".audience");
        bad(&|settings| settings.leeway_secs = 301, ".leeway_secs");
        bad(&|settings| settings.tenant_claim.clear(), ".tenant_claim");
        bad(
            &|settings| {
                settings.jwks_url = Some("https://id.example/keys".into());
                settings.jwks_file = Some("keys".into());
            },
            ".jwks_file",
        );
        for url in ["https://id.example/keys", "http://127.0.0.1:80/", "http://[::1]/", "http://localhost/k"]
        {
            fine(&|settings| settings.jwks_url = Some(url.into()));
        }
        for url in
            ["http://id.example/keys", "ftp://localhost/", "keys", "https://u:p@id.example/", "file:///k"]
        {
            bad(&|settings| settings.jwks_url = Some(url.into()), ".jwks_url");
        }
    }
}
