//! Servers of a test's own, which it may stop. They end with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{until, variable};

pub(crate) const PASSWORD: &str = "own-secret";
const START: Duration = Duration::from_secs(20);

/// One process.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    pub(crate) async fn start(folder: &Path, port: u16, options: &[&str]) -> Self {
        let own = folder.join(port.to_string());
        std::fs::create_dir_all(&own).unwrap();
        let child = Command::new(variable("WATERSHED_TEST_REDIS_SERVER"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"])
            .arg("--dir")
            .arg(&own)
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        until(START, "the server answers", async || server.ask(&["PING"]).contains("PONG")).await;
        server
    }

    async fn start_sentinel(folder: &Path, primary: u16) -> Self {
        let port = free_port();
        let file = folder.join(format!("sentinel-{port}.conf"));
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {primary} 2\n\
             sentinel auth-pass main {PASSWORD}\nsentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 5000\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(variable("WATERSHED_TEST_REDIS_SERVER"));
        let child = command.arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
        let server = Self { child, port };
        until(START, "the sentinel answers", async || server.ask(&["PING"]).contains("PONG")).await;
        server
    }

    /// What `redis-cli` prints.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let asked = cli().args(["-p", &self.port.to_string()]).args(command).output().unwrap();
        String::from_utf8_lossy(&asked.stdout).into_owned()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops or continues it, as a machine that hangs.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

fn cli() -> Command {
    let path = PathBuf::from(variable("WATERSHED_TEST_REDIS_SERVER")).with_file_name("redis-cli");
    let mut command = Command::new(path);
    command.env("REDISCLI_AUTH", PASSWORD).stderr(Stdio::null());
    command
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One primary, two replicas, three sentinels.
pub(crate) struct SentinelSet {
    pub(crate) servers: Vec<Server>,
    pub(crate) sentinels: Vec<Server>,
    _folder: TempDir,
}

impl SentinelSet {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut servers = vec![Server::start(folder.path(), free_port(), &[]).await];
        let primary = servers[0].port;
        for _ in 0..2 {
            let options = ["--replicaof", "127.0.0.1", &primary.to_string()];
            servers.push(Server::start(folder.path(), free_port(), &options).await);
        }
        let count = async || servers[0].ask(&["INFO", "replication"]).contains("connected_slaves:2");
        until(START, "the replicas are there", count).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Server::start_sentinel(folder.path(), primary).await);
        }
        for sentinel in &sentinels {
            let knows = async || {
                let state = sentinel.ask(&["SENTINEL", "MASTER", "main"]).replace('\n', " ");
                state.contains("num-slaves 2") && state.contains("num-other-sentinels 2")
            };
            until(START, "the sentinels know each other", knows).await;
        }
        Self { servers, sentinels, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis://:{PASSWORD}@{}/main", hosts.join(","))
    }
}

/// Three primaries, with a replica each or with none.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    _folder: TempDir,
}

impl Cluster {
    pub(crate) async fn start(replicas: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut servers = Vec::new();
        for _ in 0..3 * (1 + replicas) {
            let bus = free_port().to_string();
            let options = [
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-port",
                &bus,
                "--cluster-require-full-coverage",
                "no",
            ];
            servers.push(Server::start(folder.path(), free_port(), &options).await);
        }
        let nodes = servers.iter().map(|server| format!("127.0.0.1:{}", server.port));
        let mut create = cli();
        create.args(["--cluster", "create"]).args(nodes).args([
            "--cluster-replicas",
            &replicas.to_string(),
            "--cluster-yes",
        ]);
        assert!(create.stdout(Stdio::null()).status().unwrap().success(), "the cluster is made");
        let complete =
            async || servers[0].ask(&["CLUSTER", "NODES"]).matches("slave").count() == 3 * replicas;
        until(START, "every primary has its replicas", complete).await;
        for server in &servers {
            let joined = async || server.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
            until(START, "the cluster is up", joined).await;
        }
        Self { servers, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> =
            self.servers.iter().take(3).map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis://:{PASSWORD}@{}", hosts.join(","))
    }
}
