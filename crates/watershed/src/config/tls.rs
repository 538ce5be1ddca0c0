//! The `server.tls` section: certificates.

use std::path::PathBuf;

use edge::server::tls::TlsFiles;
use kernel::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sections::require;

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientAuthentication {
    /// Who shows none is cut off.
    #[default]
    Required,
    /// Who shows none is served; one that is shown must be good.
    Optional,
}

/// Certificates, in PEM. TLS is on where there is one. Files that change are taken over while serving.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsSettings {
    /// The file of the server's certificate and those between it and the authority.
    pub certificate: Option<PathBuf>,
    /// The file of its private key.
    pub key: Option<PathBuf>,
    /// The file of the authorities of client certificates; asks clients for one.
    pub client_ca: Option<PathBuf>,
    /// Whether clients must show a certificate: `required` or `optional`.
    pub client_auth: ClientAuthentication,
}

impl TlsSettings {
    pub(super) fn validate(&self) -> Result<()> {
        let pair = self.certificate.is_some() == self.key.is_some();
        require(pair, "server.tls", "needs both `certificate` and `key`")?;
        let is_used = self.certificate.is_some() || *self == Self::default();
        require(is_used, "server.tls", "asks no client for anything without `certificate` and `key`")
    }

    /// The files; none where there is no TLS.
    pub(crate) fn files(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.certificate.clone()?,
            key: self.key.clone()?,
            client_authorities: self.client_ca.clone(),
            is_client_optional: self.client_auth == ClientAuthentication::Optional,
        })
    }
}
