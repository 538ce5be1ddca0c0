//! A running server, asked over HTTP by commands about what it has open itself.
//!
//! It refuses to ask without a key, and to follow a server that sends it elsewhere. To add a question: a call of
//! [`Remote::get`] or [`Remote::post`] with the steps of the path behind `/api/v1`, or of [`Remote::mlflow`].

use std::fmt;
use std::time::Duration;

use kernel::{Error, ErrorCode, Result, codes};
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::Config;
use crate::jwks::settle_provider;
use crate::terminal;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A version is loaded and tried before it is promoted; the server says itself when that takes too long.
const TIMEOUT: Duration = Duration::from_secs(600);
/// So long a command waits in all where the server says that its key asked too often.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server.
pub(super) struct Remote {
    client: Client,
    address: Url,
    key: String,
}

// The key is in no log.
impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Remote").field("address", &self.address.as_str()).finish_non_exhaustive()
    }
}

impl Remote {
    /// The server that the settings name; none where they name none.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for what is no address, and where there is no key to ask with.
    pub(super) fn of(config: &Config) -> Result<Option<Self>> {
        let Some(address) = config.client.address()? else { return Ok(None) };
        let key = key_to(&format!("ask {address}"), config)?;
        settle_provider();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .user_agent(concat!("watershed/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Error::internal)?;
        terminal::note(format!("asking {address}"));
        Ok(Some(Self { client, address, key }))
    }

    /// Where it is.
    pub(super) fn address(&self) -> &str {
        self.address.as_str()
    }

    /// Reads what is at a path, with these parameters.
    ///
    /// # Errors
    /// As the server refuses; `UNAVAILABLE` where it does not answer, or not as this one does.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.ask(Method::GET, url, None).await
    }

    /// Sends JSON to a path.
    ///
    /// # Errors
    /// As for [`Remote::get`].
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &Value) -> Result<T> {
        self.ask(Method::POST, self.url(path)?, Some(body.to_string().into())).await
    }

    /// Sends JSON to a path behind `/api/2.0/mlflow`.
    ///
    /// # Errors
    /// As for [`Remote::get`].
    pub(super) async fn mlflow<T: DeserializeOwned>(&self, path: &[&str], body: &Value) -> Result<T> {
        self.ask(Method::POST, self.beside(&["2.0", "mlflow"], path)?, Some(body.to_string().into())).await
    }

    /// Puts a file among the artifacts, by its path there.
    ///
    /// # Errors
    /// As for [`Remote::get`].
    pub(super) async fn upload(&self, path: &[&str], bytes: Vec<u8>) -> Result<()> {
        let url = self.beside(&["2.0", "mlflow-artifacts", "artifacts"], path)?;
        self.ask::<Value>(Method::PUT, url, Some(bytes)).await.map(drop)
    }

    fn url(&self, path: &[&str]) -> Result<Url> {
        self.beside(&["v1"], path)
    }

    fn beside(&self, api: &[&str], path: &[&str]) -> Result<Url> {
        // These two would be taken for steps up and down.
        if let Some(name) = path.iter().find(|step| matches!(**step, "" | "." | "..")) {
            return Err(Error::new(codes::NOT_FOUND, format!("there is nothing named `{name}`")));
        }
        let mut url = self.address.clone();
        let no_base = |()| Error::internal("an address of HTTP has no path");
        url.path_segments_mut().map_err(no_base)?.pop_if_empty().push("api").extend(api).extend(path);
        Ok(url)
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, url: Url, body: Option<Vec<u8>>) -> Result<T> {
        let mut request = self.client.request(method.clone(), url).header("x-api-key", &self.key);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let away = |cause: reqwest::Error| self.away(&method, cause);
        let answer = patient(request).await.map_err(away)?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(away)?;
        if (200..300).contains(&status) {
            return serde_json::from_str(&text).map_err(|cause| {
                let message =
                    format!("{} does not answer as Watershed does; name another server", self.address);
                Error::new(codes::UNAVAILABLE, message).with_source(cause)
            });
        }
        Err(self.refused(status, &serde_json::from_str(&text).unwrap_or_default()))
    }

    /// Why there is no answer, and what that leaves open.
    fn away(&self, method: &Method, cause: reqwest::Error) -> Error {
        let address = &self.address;
        let message = if cause.is_builder() {
            format!("{address} cannot be asked; see whether the API key is one")
        } else if cause.is_connect() {
            format!(
                "{address} does not answer; see whether the server runs, and whether `--server` or `client.server` names it"
            )
        } else if *method == Method::GET {
            format!("{address} did not answer to the end; ask again")
        } else {
            format!("{address} did not answer to the end: it may have been done; look before you ask again")
        };
        Error::new(codes::UNAVAILABLE, message).with_source(cause.without_url())
    }

    /// What the server says of a request that it does not take.
    fn refused(&self, status: u16, problem: &Value) -> Error {
        let told = |name: &str| problem[name].as_str().filter(|text| !text.is_empty());
        let why = told("detail").or_else(|| told("title")).unwrap_or("no reason is given; is it Watershed?");
        let code = told("code").map(|code| format!(" {code}")).unwrap_or_default();
        Error::new(code_of(status), format!("{} answers {status}{code}: {why}", self.address))
    }
}

/// The key that a server is asked with; `what` says what for.
///
/// # Errors
/// `VALIDATION_ERROR` where none is set.
pub(super) fn key_to(what: &str, config: &Config) -> Result<String> {
    config.auth.api_key.clone().ok_or_else(|| {
        let message = format!("is needed to {what}: set it, or API_KEY");
        Error::new(codes::VALIDATION_ERROR, message).with_field("auth.api_key")
    })
}

/// The answer; where a limit of requests stood before it, once that lets it through.
async fn patient(mut request: RequestBuilder) -> reqwest::Result<Response> {
    let mut waited = Duration::ZERO;
    loop {
        let again = request.try_clone();
        let answer = request.send().await?;
        match (again, pause_asked(&answer)) {
            (Some(again), Some(pause)) if waited + pause <= PATIENCE => {
                if waited.is_zero() {
                    terminal::note("others ask with this key as well, more often than it may; waiting");
                }
                tokio::time::sleep(pause).await;
                waited += pause;
                request = again;
            }
            _ => return Ok(answer),
        }
    }
}

/// How long to wait before the same is asked again, which was not done.
fn pause_asked(answer: &Response) -> Option<Duration> {
    let header =
        answer.headers().get(RETRY_AFTER).filter(|_| answer.status() == StatusCode::TOO_MANY_REQUESTS)?;
    let seconds: u64 = header.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.max(1)))
}

fn code_of(status: u16) -> ErrorCode {
    match status {
        401 => codes::AUTH_ERROR,
        403 => codes::PERMISSION_DENIED,
        404 => codes::NOT_FOUND,
        409 => codes::CONFLICT,
        413 => codes::TOO_LARGE,
        429 => codes::OVERLOADED,
        400..=499 => codes::VALIDATION_ERROR,
        _ => codes::UNAVAILABLE,
    }
}

/// The error of opening the data, with how to ask the server that has them.
pub(super) fn or_ask(error: Error, call: &str) -> Error {
    if error.code() != codes::CONFLICT {
        return error;
    }
    let message = format!(
        "{}; where that is a server, ask it: `--server URL` (such as http://localhost:8080) calls `{call}`",
        error.message()
    );
    // Its text is told here; as the source it would be told twice.
    Error::new(error.code(), message)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    fn remote(address: &str) -> Remote {
        settle_provider();
        Remote { client: Client::new(), address: address.parse().unwrap(), key: "k".to_owned() }
    }

    #[test]
    fn names_are_steps_of_the_path() {
        let check = |address: &str, name: &str, expected: Option<&str>| {
            let found = remote(address).url(&["models", name, "promote"]).ok();
            assert_eq!(found.as_ref().map(Url::as_str), expected, "{address} {name}");
        };
        check("http://h:5000", "churn", Some("http://h:5000/api/v1/models/churn/promote"));
        check("http://h:5000/ml/", "a/b c?", Some("http://h:5000/ml/api/v1/models/a%2Fb%20c%3F/promote"));
        check("http://h:5000/ml", "ü", Some("http://h:5000/ml/api/v1/models/%C3%BC/promote"));
        for none in ["", ".", ".."] {
            check("http://h:5000", none, None);
        }
    }

    #[tokio::test]
    async fn what_a_limit_holds_back_is_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answers = [
            ("429 Too Many Requests", "retry-after: 1"),
            ("200 OK", "x-none: 0"),
            ("429 Too Many Requests", "retry-after: 31"),
        ];
        let server = std::thread::spawn(move || {
            answers.map(|(status, header)| {
                let (mut socket, _) = listener.accept().unwrap();
                let read = socket.read(&mut [0; 4_096]).unwrap();
                write!(
                    socket,
                    "HTTP/1.1 {status}\r\n{header}\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
                )
                .unwrap();
                read
            })
        });
        let remote = remote(&address);
        let body = json!({"reason": "why"});
        assert_eq!(remote.post::<Value>(&["x"], &body).await.unwrap(), json!({}));
        let refused = remote.get::<Value>(&["x"], &[]).await.unwrap_err();
        assert_eq!(refused.code(), codes::OVERLOADED, "it would wait for too long");
        let [first, second, _] = server.join().unwrap();
        assert_eq!(first, second, "the same is asked again, with its body");
    }

    #[test]
    fn a_refusal_says_what_the_server_said() {
        let problem = json!({"code": "CONFLICT", "detail": "alias: another was first", "field": "alias"});
        let error = remote("http://h").refused(409, &problem);
        assert_eq!(error.code(), codes::CONFLICT);
        assert_eq!(error.message(), "http://h/ answers 409 CONFLICT: alias: another was first");
        let foreign = remote("http://h").refused(404, &Value::Null);
        assert!(foreign.message().ends_with("is it Watershed?"), "{foreign}");
    }

    #[test]
    fn only_data_that_another_has_are_asked_for() {
        let conflict = or_ask(Error::new(codes::CONFLICT, "open elsewhere"), "GET /api/v1/x");
        assert!(conflict.message().contains("--server URL") && conflict.message().contains("GET /api/v1/x"));
        let other = or_ask(Error::new(codes::CORRUPTED, "damaged"), "GET /api/v1/x");
        assert_eq!(other.message(), "damaged");
    }
}
