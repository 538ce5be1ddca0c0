//! The HTTP request of a delivery: a port, and the client that is behind it.
//!
//! It refuses redirects, proxies of the environment, addresses that are not allowed, and to wait longer than the time
//! limit. It reads nothing of an answer but the status.

use std::error::Error as _;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Client;
use reqwest::redirect::Policy;
use rustls::crypto::{CryptoProvider, ring};
use url::Url;

use crate::addresses::{Allowed, Checked, Lookup};

const REASON_CHARACTERS_MAX: usize = 300;

/// A request to a receiver.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub url: String,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: String,
}

/// Sends one request.
#[async_trait]
pub trait Sender: Send + Sync + Debug {
    /// Posts it and returns the status of the answer, or why there was none, in bounded time.
    async fn send(&self, request: Outgoing) -> Result<u16, String>;
}

/// Sends over HTTP.
#[derive(Debug)]
pub struct HttpSender {
    /// Made at the first request: who sends nothing needs no certificates of the system.
    client: OnceLock<Client>,
    allowed: Allowed,
    timeout: Duration,
    lookup: Arc<dyn Lookup>,
}

impl HttpSender {
    /// A client that reaches what is allowed, within `timeout`.
    #[must_use]
    pub fn new(allowed: Allowed, timeout: Duration, lookup: Arc<dyn Lookup>) -> Self {
        Self { client: OnceLock::new(), allowed, timeout, lookup }
    }

    fn client(&self) -> Result<&Client, String> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        if CryptoProvider::get_default().is_none() {
            // The client takes the provider of the process. Who set another one before has the say.
            let _ = ring::default_provider().install_default();
        }
        let client = Client::builder()
            .timeout(self.timeout)
            .redirect(Policy::none())
            .no_proxy()
            .https_only(!self.allowed.http)
            .user_agent(concat!("watershed/", env!("CARGO_PKG_VERSION")))
            // A connection that is kept would outlive the check of its address.
            .pool_max_idle_per_host(0)
            .dns_resolver(Arc::new(Checked { lookup: Arc::clone(&self.lookup), allowed: self.allowed }))
            .build();
        let client = client.map_err(|error| format!("no client: {error}"))?;
        Ok(self.client.get_or_init(|| client))
    }
}

#[async_trait]
impl Sender for HttpSender {
    async fn send(&self, request: Outgoing) -> Result<u16, String> {
        let url = Url::parse(&request.url).map_err(|cause| cause.to_string())?;
        if let Some(reason) = self.allowed.refuses(&url) {
            return Err(reason);
        }
        let mut outgoing = self.client()?.post(url).body(request.body);
        for (name, value) in request.headers {
            outgoing = outgoing.header(name, value);
        }
        match outgoing.send().await {
            Ok(answer) => Ok(answer.status().as_u16()),
            Err(error) => Err(reason(&error)),
        }
    }
}

/// The innermost cause says what to do; the address is left out, because it may hold a token.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let kind = if error.is_connect() { "no connection" } else { "no answer" };
    let text =
        if error.source().is_some() { cause.to_string() } else { "the request was not sent".to_owned() };
    format!("{kind}: {text}").chars().take(REASON_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Resolves every name to this machine.
    #[derive(Debug)]
    struct Here;

    #[async_trait]
    impl Lookup for Here {
        async fn addresses(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
            Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
        }
    }

    /// What comes of a request to a receiver here that answers so; none answers nothing.
    async fn sent(host: &str, allowed: Allowed, answer: Option<&'static str>) -> Result<u16, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{host}:{}/in?token=hidden", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1_024];
            let _ = stream.read(&mut head).await;
            match answer {
                Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                None => tokio::time::sleep(Duration::from_secs(60)).await,
            }
        });
        let sender = HttpSender::new(allowed, Duration::from_millis(300), Arc::new(Here));
        let headers = vec![("content-type", "application/json".to_owned())];
        sender.send(Outgoing { url, headers, body: "{}".to_owned() }).await
    }

    #[tokio::test]
    async fn an_answer_is_its_status_and_a_redirect_is_not_followed() {
        let open = Allowed { private: true, http: true };
        let check = async |answer: Option<&'static str>, expected: Result<u16, &str>| {
            let found = sent("hooks.example", open, answer).await;
            match (&found, expected) {
                (Ok(status), Ok(expected)) => assert_eq!(*status, expected),
                (Err(reason), Err(part)) => {
                    assert!(reason.contains(part) && !reason.contains("hidden"), "{reason}");
                }
                _ => panic!("{found:?} in place of {expected:?}"),
            }
        };
        check(Some("HTTP/1.1 204 No Content\r\n\r\n"), Ok(204)).await;
        check(Some("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"), Ok(500)).await;
        check(
            Some("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
            Ok(302),
        )
        .await;
        check(Some(""), Err("no answer")).await;
        check(None, Err("in time")).await;
    }

    #[tokio::test]
    async fn an_address_is_checked_when_the_connection_is_made() {
        let public_only = Allowed { private: false, http: true };
        for host in ["hooks.example", "127.0.0.1", "[::1]", "localhost"] {
            let reason = sent(host, public_only, Some("")).await.unwrap_err();
            assert!(reason.contains("is not a public address"), "{host}: {reason}");
        }
    }
}
