//! Where an identity provider's keys are read from: a file, or an address.
//!
//! It refuses documents over 256 KiB, answers that redirect elsewhere, and to wait longer than five seconds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use edge::auth::KeySource;
use kernel::{Error, Result, codes};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::crypto::{CryptoProvider, ring};

use crate::config::{JwtSettings, jwks_url};

const TIMEOUT: Duration = Duration::from_secs(5);
const DOCUMENT_BYTES_MAX: usize = 256 << 10;
const FILE_INTERVAL: Duration = Duration::from_secs(2);
const URL_INTERVAL: Duration = Duration::from_secs(300);

/// The place that the settings name; none where there is none.
///
/// # Errors
/// `VALIDATION_ERROR` for an address that is not taken.
pub(crate) fn source(settings: &JwtSettings) -> Result<Option<Arc<dyn KeySource>>> {
    Ok(match (&settings.jwks_url, &settings.jwks_file) {
        (Some(url), _) => Some(Arc::new(FromUrl::new(jwks_url(url)?)?)),
        (None, Some(path)) => Some(Arc::new(FromFile(path.clone()))),
        (None, None) => None,
    })
}

#[derive(Debug)]
struct FromFile(PathBuf);

#[async_trait]
impl KeySource for FromFile {
    async fn fetch(&self) -> Result<String> {
        tokio::fs::read_to_string(&self.0).await.map_err(|cause| {
            Error::new(codes::UNAVAILABLE, format!("{} cannot be read", self.0.display())).with_source(cause)
        })
    }

    fn interval(&self) -> Duration {
        FILE_INTERVAL
    }
}

/// Clients take the cryptography of the process. Who chose another one before has the say.
pub(crate) fn settle_provider() {
    if CryptoProvider::get_default().is_none() {
        let _ = ring::default_provider().install_default();
    }
}

/// A client that waits so long, and follows nobody elsewhere.
///
/// # Errors
/// `INTERNAL_ERROR` where there can be none.
pub(crate) fn client(timeout: Duration) -> Result<Client> {
    settle_provider();
    Client::builder().timeout(timeout).redirect(Policy::none()).build().map_err(Error::internal)
}

#[derive(Debug)]
struct FromUrl {
    client: Client,
    url: Url,
}

impl FromUrl {
    fn new(url: Url) -> Result<Self> {
        Ok(Self { client: client(TIMEOUT)?, url })
    }
}

#[async_trait]
impl KeySource for FromUrl {
    async fn fetch(&self) -> Result<String> {
        let away = |cause| {
            Error::new(codes::UNAVAILABLE, format!("{} does not answer", self.url)).with_source(cause)
        };
        let fault = |what: &str| Error::new(codes::UNAVAILABLE, format!("{} {what}", self.url));
        let mut answer = self.client.get(self.url.clone()).send().await.map_err(away)?;
        if !answer.status().is_success() {
            return Err(fault(&format!("answers {}", answer.status().as_u16())));
        }
        let mut document = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(away)? {
            if document.len() + part.len() > DOCUMENT_BYTES_MAX {
                return Err(fault("answers more than keys can be"));
            }
            document.extend_from_slice(&part);
        }
        String::from_utf8(document).map_err(|cause| fault("does not answer text").with_source(cause))
    }

    fn interval(&self) -> Duration {
        URL_INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What is read from an address that answers so.
    async fn fetched(answer: String) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1_024];
            let _ = stream.read(&mut head).await;
            // Who was refused may have gone already.
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let settings = JwtSettings { jwks_url: Some(url), ..JwtSettings::default() };
        source(&settings).unwrap().unwrap().fetch().await
    }

    #[tokio::test]
    async fn an_address_gives_a_document_or_a_reason() {
        let answer = |head: &str, body: &str| {
            format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        assert_eq!(fetched(answer("200 OK", "{}")).await.unwrap(), "{}");
        for (answer, reason) in [
            (answer("500 No", ""), "answers 500"),
            (answer("302 Found\r\nlocation: http://127.0.0.1:1/", ""), "answers 302"),
            (answer("200 OK", &" ".repeat(DOCUMENT_BYTES_MAX + 1)), "more than keys can be"),
            (String::new(), "does not answer"),
        ] {
            let error = fetched(answer).await.unwrap_err();
            assert_eq!(error.code(), codes::UNAVAILABLE);
            assert!(error.message().contains(reason), "{error}");
        }
    }
}
