//! The `client` section: which running server commands ask, in place of opening the data.
//!
//! It refuses addresses with a user, a password or a query, which would be shown in errors.

use kernel::Result;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sections::require;

/// Which running server commands ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClientSettings {
    /// The server that `promote`, `rollback`, `history`, `cleanup-artifacts`, `rollout` and `train … --register` ask, with `auth.api_key`, in place of
    /// opening the data themselves; `--server` of each names another. `serve` does not look at it.
    pub server: Option<String>,
}

impl ClientSettings {
    /// The address; none where none is named.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for what is none.
    pub(crate) fn address(&self) -> Result<Option<Url>> {
        let Some(text) = &self.server else { return Ok(None) };
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let is_plain = |url: &Url| {
            let has_secret = !url.username().is_empty() || url.password().is_some();
            !has_secret && url.query().is_none() && url.fragment().is_none()
        };
        let url = url.filter(is_plain);
        let rule = "is the address of a server, such as http://localhost:8080, without a user, a password or a query";
        require(url.is_some(), "client.server", rule)?;
        Ok(url)
    }

    pub(super) fn validate(&self) -> Result<()> {
        self.address().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_http_and_shows_no_secret() {
        let check = |text: &str, expected: Option<&str>| {
            let found = ClientSettings { server: Some(text.to_owned()) }.address();
            let found = found.map(|url| url.map(|url| url.to_string()));
            assert_eq!(found.ok().flatten().as_deref(), expected, "{text}");
        };
        check("http://localhost:8080", Some("http://localhost:8080/"));
        check("https://models.example/behind/", Some("https://models.example/behind/"));
        for wrong in [
            "",
            "localhost:8080",
            "sqlite:///mlflow.db",
            "http://",
            "http://ada:hunter2@host",
            "http://h/?key=x",
        ] {
            check(wrong, None);
        }
        let refused =
            ClientSettings { server: Some("http://ada:hunter2@host".to_owned()) }.validate().unwrap_err();
        assert_eq!(refused.field(), Some("client.server"));
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
}
