//! Starts the binary, talks to it, and looks after it: its exit code, and the warnings in its log.
//!
//! A [`Home`] is a folder with settings and data, a [`Server`] a process that serves it. To add a setting to a test:
//! TOML for [`Home::with_settings`], which every command of that home reads.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

/// The key that every server here is started with.
pub(crate) const KEY: &str = "end-to-end-test-key";

/// The longest wait for the server to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

/// What stands in a line that complains, as text and as JSON.
const COMPLAINTS: [&str; 5] = [" WARN ", " ERROR ", "\"level\":\"WARN\"", "\"level\":\"ERROR\"", "panicked"];

/// No recurrent model and no training behind the test's back, so that tests are quick and exact.
pub(crate) const SETTINGS: &str = "
[server.rate_limit]
enabled = false
[recommend.training]
blend_users = 200
[recommend.training.algorithms]
sequence = false
[recommend.schedule]
incremental_update_interval_secs = 3600
";

/// A folder with settings and data. Removed at the end.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
    allowed: Vec<&'static str>,
}

/// What a command left.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    /// An empty data folder and settings that suit tests.
    pub(crate) fn new() -> Self {
        Self::with_settings(SETTINGS)
    }

    /// An empty data folder and these settings alone.
    pub(crate) fn with_settings(toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("watershed.toml"), toml).unwrap();
        Self { folder, environment: Vec::new(), allowed: Vec::new() }
    }

    /// Adds settings at the end of the file.
    pub(crate) fn append_settings(&self, toml: &str) {
        let path = self.path("watershed.toml");
        let settings = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, settings + toml).unwrap();
    }

    /// A generated shop of 60 users, 80 products and 2,500 interactions, with a trained model.
    pub(crate) fn with_shop() -> Self {
        let home = Self::new();
        let shop = ["--users", "60", "--entities", "80", "--interactions", "2500", "--categories", "8"];
        home.run(&[&["demo", "--prepare-only"], &shop[..]].concat()).succeeded();
        home
    }

    /// Sets a variable for every command of this home.
    pub(crate) fn environment(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Lets log lines with this text be warnings or errors.
    pub(crate) fn allowing(mut self, text: &'static str) -> Self {
        self.allowed.push(text);
        self
    }

    /// A place in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watershed"));
        command.args(arguments).env_clear().env("API_KEY", KEY).env("WATERSHED_DATA_DIR", "data");
        command.envs(self.environment.iter().cloned());
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command of the binary to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Serves this folder.
    pub(crate) fn serve(self) -> Server {
        let mut server = Server {
            home: Some(self),
            child: None,
            address: String::new(),
            parts: Vec::new(),
            agent: agent(),
            asked: AtomicBool::new(false),
        };
        server.start();
        server
    }
}

impl Ran {
    /// The same, where the command ended well.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert!(self.status.success(), "{}: {}{}", self.status, self.stdout, self.stderr);
        self
    }

    /// The same, where the command failed and said so with `part`.
    #[track_caller]
    pub(crate) fn failed_with(self, part: &str) -> Self {
        assert_eq!(self.status.code(), Some(1), "{}{}", self.stdout, self.stderr);
        assert!(
            self.stderr.contains("error: ") && self.stderr.contains(part),
            "no `{part}` in {}",
            self.stderr
        );
        self
    }
}

/// An answer as it came.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    /// The body as JSON; null where there is none.
    pub(crate) fn json(&self) -> Value {
        if self.bytes.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header, empty where missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A serving process. Dropping it stops it and fails the test where it ended badly or logged an unexpected warning.
pub(crate) struct Server {
    home: Option<Home>,
    child: Option<Child>,
    address: String,
    /// Of parts with a port of their own: an address and a name.
    parts: Vec<(String, String)>,
    agent: Agent,
    /// The process was asked to stop; once more would end it at once.
    asked: AtomicBool,
}

impl Server {
    /// Over a new home.
    pub(crate) fn new() -> Self {
        Home::new().serve()
    }

    /// The folder that is served.
    pub(crate) fn home(&self) -> &Home {
        self.home.as_ref().expect("a server has a home until it is stopped")
    }

    /// Where it listens: an address and a port.
    pub(crate) fn address(&self) -> &str {
        self.address.strip_prefix("http://").unwrap()
    }

    /// Its own port, as a URL.
    pub(crate) fn of_all(&self) -> String {
        self.address.clone()
    }

    /// The port of a part, as a URL.
    pub(crate) fn of_part(&self, name: &str) -> String {
        let found = self.parts.iter().find(|(_, known)| known == name);
        found.unwrap_or_else(|| panic!("no port of {name}: {:?}", self.parts)).0.clone()
    }

    fn start(&mut self) {
        let address_file = self.home().path("address");
        let _ = std::fs::remove_file(&address_file);
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let flags = ["serve", "--host", "127.0.0.1", "--port", "0", "--address-file", "address"];
        let mut command = self.home().command(&flags);
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let mut address = String::new();
        let started = wait(|| {
            address = std::fs::read_to_string(&address_file).unwrap_or_default();
            let ended = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            assert!(!ended, "the server ended: {}", self.log());
            address.ends_with('\n')
        });
        assert!(started, "the server did not start: {}", self.log());
        let mut lines = address.lines().map(|line| format!("http://{line}"));
        self.address = lines.next().unwrap();
        let part = |line: String| line.split_once(' ').map(|(at, name)| (at.to_owned(), name.to_owned()));
        self.parts = lines.filter_map(part).collect();
        // Connections of an earlier process are of no use.
        self.agent = agent();
    }

    fn log_path(&self) -> PathBuf {
        self.home().path("server.log")
    }

    /// What the server logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap()
    }

    /// Ends the process at once, as a crash would, and starts another on the same folder.
    pub(crate) fn crash_and_restart(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.start();
    }

    /// Stops the process and starts another on the same folder.
    pub(crate) fn restart(&mut self) {
        self.terminate();
        self.start();
    }

    /// Stops the process and hands its folder back.
    pub(crate) fn stop(mut self) -> Home {
        self.terminate();
        self.home.take().unwrap()
    }

    /// Asks the process to stop, without waiting for it.
    pub(crate) fn ask_to_stop(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.signal("-TERM");
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the process to end by itself; its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let mut status = None;
        wait(|| {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    fn terminate(&mut self) {
        if !self.asked.swap(false, Ordering::Relaxed) {
            self.ask_to_stop();
            self.asked.store(false, Ordering::Relaxed);
        }
        let mut child = self.child.take().unwrap();
        let mut status = None;
        wait(|| {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        if status.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(
            status.and_then(|status| status.code()),
            Some(0),
            "exit code after SIGTERM: {}",
            self.log()
        );
        self.check_log();
    }

    fn check_log(&self) {
        let allowed = &self.home().allowed;
        for line in self.log().lines() {
            let is_complaint = COMPLAINTS.iter().any(|mark| line.contains(mark));
            let is_allowed = allowed.iter().any(|text| line.contains(text));
            assert!(!is_complaint || is_allowed, "the server complained: {line}");
        }
    }

    /// Sends anything at all.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Reply {
        self.send_to(&self.address, method, path, headers, body)
    }

    /// As [`Server::send`], to one of its ports.
    pub(crate) fn send_to(
        &self,
        address: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(format!("{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answered = match body {
            Some(body) => self.agent.run(request.body(body).unwrap()),
            None => self.agent.run(request.body(()).unwrap()),
        };
        let mut answered = answered.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let mut bytes = Vec::new();
        answered.body_mut().as_reader().read_to_end(&mut bytes).unwrap();
        Reply { status: answered.status().as_u16(), headers: answered.headers().clone(), bytes }
    }

    /// Sends a body of some content type with the key.
    pub(crate) fn post_as(&self, content_type: &str, path: &str, body: impl AsRef<[u8]>) -> (u16, Value) {
        let headers = [("x-api-key", KEY), ("content-type", content_type)];
        pair(&self.send("POST", path, &headers, Some(body.as_ref())))
    }

    /// Sends JSON with the key and an idempotency key.
    pub(crate) fn post_once(&self, key: &str, path: &str, body: &Value) -> (u16, Value) {
        let headers = [("x-api-key", KEY), ("content-type", "application/json"), ("idempotency-key", key)];
        pair(&self.send("POST", path, &headers, Some(body.to_string().as_bytes())))
    }

    /// Gets with the key; the answer as it came.
    pub(crate) fn fetch(&self, path: &str) -> Reply {
        self.send("GET", path, &[("x-api-key", KEY)], None)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        pair(&self.fetch(path))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.with_body("POST", path, body)
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        self.with_body("PUT", path, body)
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> (u16, Value) {
        self.with_body("PATCH", path, body)
    }

    pub(crate) fn delete(&self, path: &str) -> (u16, Value) {
        pair(&self.send("DELETE", path, &[("x-api-key", KEY)], None))
    }

    /// As [`Server::get`], where the answer is 200.
    #[track_caller]
    pub(crate) fn read(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// As [`Server::post`], where the answer is 201.
    #[track_caller]
    pub(crate) fn create(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body);
        assert_eq!(status, 201, "{path} {body}: {answer}");
        answer
    }

    fn with_body(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let headers = [("x-api-key", KEY), ("content-type", "application/json")];
        pair(&self.send(method, path, &headers, Some(body.to_string().as_bytes())))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_none() {
            return;
        }
        if std::thread::panicking() {
            // The test failed already; a second panic would hide why.
            let log = self.log();
            let mut child = self.child.take().unwrap();
            let _ = child.kill();
            let _ = child.wait();
            eprintln!("log of the server:\n{log}");
            return;
        }
        self.terminate();
    }
}

fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .proxy(None)
        .timeout_global(Some(PATIENCE));
    config.build().new_agent()
}

fn pair(reply: &Reply) -> (u16, Value) {
    (reply.status, reply.json())
}

/// Waits until `done`, or for as long as there is patience.
pub(crate) fn wait(mut done: impl FnMut() -> bool) -> bool {
    let turns = PATIENCE.as_millis() / PAUSE.as_millis();
    (0..turns).any(|turn| {
        if turn > 0 {
            sleep(PAUSE);
        }
        done()
    })
}

/// The value of the series of `/metrics` with this name and these labels.
#[track_caller]
pub(crate) fn metric(server: &Server, name: &str, labels: &[&str]) -> f64 {
    let reply = server.send("GET", "/metrics", &[], None);
    let text = reply.text();
    let is_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
            && labels.iter().all(|label| line.contains(label))
    };
    let line = text.lines().find(is_it).unwrap_or_else(|| panic!("no {name} {labels:?} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Fails unless the answer is a problem with this status, code and field.
#[track_caller]
pub(crate) fn refused(answer: &(u16, Value), status: u16, code: &str, field: Option<&str>) {
    let (found, problem) = answer;
    let told = (*found, problem["status"].as_u64(), problem["code"].as_str(), problem["field"].as_str());
    assert_eq!(told, (status, Some(u64::from(status)), Some(code), field), "{problem}");
    assert_eq!(problem["type"].as_str(), Some(format!("urn:watershed:problem:{code}").as_str()));
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
}

/// Text as it stands in a query.
pub(crate) fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The ids of an answer, best first.
#[track_caller]
pub(crate) fn ids(answer: &Value) -> Vec<String> {
    let list = answer["recommendations"].as_array().unwrap_or_else(|| panic!("no list in {answer}"));
    list.iter().map(|line| line["entity_id"].as_str().unwrap().to_owned()).collect()
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
