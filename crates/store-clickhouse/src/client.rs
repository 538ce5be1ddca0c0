//! One statement at a time over HTTP: its account, its time limits, what is done when nobody answers.
//!
//! The server is told to end a statement before it begins to answer (`wait_end_of_query`), so that a status of 200 means that
//! it was done. Statements that change nothing, or the same whether they are done once or twice, are tried again when the
//! server is away; an INSERT is not: whoever sends rows looks first which of them arrived. Nothing is compressed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kernel::{Clock, Entropy, Error, Result, codes};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Url};
use rustls::crypto::{CryptoProvider, ring};
use store::backoff;
use tokio::sync::Semaphore;

use crate::breaker::Breaker;
use crate::config::Settings;
use crate::failure::Failure;

const USER: &str = "x-clickhouse-user";
const PASSWORD: &str = "x-clickhouse-key";
const FAILURE_NUMBER: &str = "x-clickhouse-exception-code";
/// Statements that name many rows are long.
const MAX_STATEMENT_BYTES: &str = "67108864";
/// How long migrations and deletes may take.
const WORK_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Settings of an INSERT: it is done when it is answered; several months are several parts, however many; and the server does
/// not compare it with earlier ones, because what was deleted may come again.
const OF_INSERT: &[(&str, &str)] = &[
    ("async_insert", "0"),
    ("wait_for_async_insert", "1"),
    ("insert_deduplicate", "0"),
    ("max_partitions_per_insert_block", "0"),
];
/// A delete is done when it is answered.
const OF_WORK: &[(&str, &str)] = &[("mutations_sync", "2")];

/// What became of the statements since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Those that were done.
    pub answered: u64,
    /// Those that the server refused, and those without an answer.
    pub failed: u64,
    /// Those that were sent once more.
    pub retried: u64,
    /// Whether calls are refused at once.
    pub is_open_circuit: bool,
}

/// A server and an account there.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: Url,
    account: HeaderMap,
    permits: Semaphore,
    breaker: Breaker,
    entropy: Arc<dyn Entropy>,
    connection_timeout: Duration,
    request_timeout: Duration,
    retries: u32,
    answered: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
}

/// One request.
struct Call<'a> {
    /// Beside the body, where that holds data.
    statement: Option<&'a str>,
    body: Vec<u8>,
    settings: &'a [(&'static str, &'static str)],
    timeout: Duration,
}

impl Client {
    pub(crate) fn new(settings: &Settings, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self> {
        settings.check()?;
        let address = settings.address()?;
        if CryptoProvider::get_default().is_none() {
            // The client takes the provider of the process. Who set another one before has the say.
            let _ = ring::default_provider().install_default();
        }
        let mut http = reqwest::Client::builder()
            .connect_timeout(settings.connection_timeout())
            .pool_max_idle_per_host(settings.max_connections)
            // Before the server's own ten seconds, so that no statement goes to a connection that it is closing.
            .pool_idle_timeout(Duration::from_secs(5))
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("watershed/", env!("CARGO_PKG_VERSION")));
        if !settings.ca_file.is_empty() {
            http = http.tls_certs_only(authorities(&settings.ca_file)?);
        }
        let mut account = HeaderMap::new();
        for (name, value) in [(USER, &*address.user), (PASSWORD, address.password.expose())] {
            if !value.is_empty() {
                let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unsendable())?;
                value.set_sensitive(true);
                account.insert(name, value);
            }
        }
        Ok(Self {
            http: http.build().map_err(|cause| Error::internal(cause.without_url()))?,
            address: address.url,
            account,
            permits: Semaphore::new(settings.max_connections),
            breaker: Breaker::new(settings.failures_to_open, clock),
            entropy,
            connection_timeout: settings.connection_timeout(),
            request_timeout: settings.request_timeout(),
            retries: settings.retries,
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            retried: AtomicU64::new(0),
        })
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            is_open_circuit: self.breaker.is_open(),
        }
    }

    /// What a statement finds, as `RowBinary`.
    pub(crate) async fn read(&self, statement: String) -> Result<Vec<u8>> {
        self.patiently(statement, &[("max_query_size", MAX_STATEMENT_BYTES)], self.request_timeout).await
    }

    /// Does a statement that may be done twice and may take long.
    pub(crate) async fn work(&self, statement: String) -> Result<()> {
        self.patiently(statement, OF_WORK, WORK_TIMEOUT).await.map(drop)
    }

    /// Sends rows once.
    pub(crate) async fn insert(&self, statement: &str, rows: Vec<u8>) -> Result<(), Failure> {
        let statement = Some(statement);
        let call = Call { statement, body: rows, settings: OF_INSERT, timeout: self.request_timeout };
        self.send(call).await.map(drop)
    }

    /// Whether a call that failed so often may be sent again; if so, after a pause.
    pub(crate) async fn may_go_on(&self, failure: &Failure, attempts: u32) -> bool {
        // One that took too long would take as long again.
        let is_away = failure.is_outage && failure.error.code() != codes::TIMED_OUT;
        if !is_away || attempts >= self.retries {
            return false;
        }
        self.retried.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(backoff(attempts, &*self.entropy)).await;
        true
    }

    async fn patiently(
        &self,
        statement: String,
        settings: &[(&'static str, &'static str)],
        timeout: Duration,
    ) -> Result<Vec<u8>> {
        let mut attempts = 0;
        loop {
            let body = statement.clone().into_bytes();
            match self.send(Call { statement: None, body, settings, timeout }).await {
                Ok(found) => return Ok(found),
                Err(failure) if self.may_go_on(&failure, attempts).await => attempts += 1,
                Err(failure) => return Err(failure.error),
            }
        }
    }

    async fn send(&self, call: Call<'_>) -> Result<Vec<u8>, Failure> {
        self.breaker.check().map_err(Failure::refused)?;
        let Ok(permit) = tokio::time::timeout(self.connection_timeout, self.permits.acquire()).await else {
            let message = "every connection to ClickHouse is in use; try again";
            return Err(Failure::refused(Error::new(codes::OVERLOADED, message)));
        };
        let outcome = self.exchange(call).await;
        drop(permit);
        match &outcome {
            Err(failure) if failure.is_outage => {
                if self.breaker.failed() {
                    tracing::warn!(
                        cause = failure.error.chain(),
                        "ClickHouse is away; calls are refused at once"
                    );
                }
            }
            _ => self.breaker.succeeded(),
        }
        let counter = if outcome.is_ok() { &self.answered } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Vec<u8>, Failure> {
        let mut url = self.address.clone();
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("default_format", "RowBinary").append_pair("wait_end_of_query", "1");
            query.append_pair("max_execution_time", &call.timeout.as_secs().to_string());
            query.extend_pairs(call.settings);
            if let Some(statement) = call.statement {
                query.append_pair("query", statement);
            }
        }
        // The server ends it a moment before, and says why.
        let limit = call.timeout + Duration::from_secs(1);
        let request = self.http.post(url).headers(self.account.clone()).timeout(limit).body(call.body);
        let answer = request.send().await.map_err(Failure::of_request)?;
        let status = answer.status().as_u16();
        let number = answer.headers().get(FAILURE_NUMBER);
        let number = number.and_then(|number| number.to_str().ok()?.parse().ok());
        let body = answer.bytes().await.map_err(Failure::of_request)?;
        if status == 200 && number.is_none() {
            return Ok(body.into());
        }
        Err(Failure::of_answer(status, number, &String::from_utf8_lossy(&body)))
    }

    /// Asks whether the server is there, beside the circuit, which an answer closes.
    pub(crate) async fn ping(&self, limit: Duration) -> Result<()> {
        let mut url = self.address.clone();
        url.set_path("ping");
        let answer = self.http.get(url).timeout(limit).send().await;
        let answer = answer.map_err(|cause| Failure::of_request(cause).error)?;
        if answer.status().as_u16() != 200 {
            return Err(Error::new(
                codes::UNAVAILABLE,
                "ClickHouse does not answer as itself; check its URL",
            ));
        }
        self.breaker.succeeded();
        Ok(())
    }
}

fn unsendable() -> Error {
    Error::new(codes::VALIDATION_ERROR, "has a user or a password that a header cannot hold")
        .with_field("url")
}

fn authorities(file: &str) -> Result<Vec<Certificate>> {
    let wrong = |cause: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!("`{file}` cannot be read as certificates in PEM");
        Error::new(codes::VALIDATION_ERROR, message).with_field("ca_file").with_source(cause)
    };
    let bytes = std::fs::read(file).map_err(|cause| wrong(cause.into()))?;
    Certificate::from_pem_bundle(&bytes).map_err(|cause| wrong(cause.into()))
}
