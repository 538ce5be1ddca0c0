//! A server of one test, with its data in a folder, that can be ended between two instructions and started again.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use store::Secret;
use store_clickhouse::Settings;
use tempfile::TempDir;
use tokio::net::TcpStream;

const ACCOUNT: [&str; 2] = ["watershed", "watershed-test"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that ends with this.
pub(crate) struct OwnServer {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl OwnServer {
    /// Returns when it answers.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = launch(&folder, port);
        let server = Self { folder, port, child };
        server.wait().await;
        server
    }

    pub(crate) fn settings(&self) -> Settings {
        let [user, password] = ACCOUNT;
        let url = Secret::new(format!("http://{user}:{password}@127.0.0.1:{}", self.port));
        Settings { url, ..Settings::default() }
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it where it was. Returns when it answers.
    pub(crate) async fn restart(&mut self) {
        self.child = launch(&self.folder, self.port);
        self.wait().await;
    }

    async fn wait(&self) {
        // It listens when it can answer.
        let answers = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.expect("the server answers");
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(folder: &TempDir, port: u16) -> Child {
    let program = super::told("WATERSHED_TEST_CLICKHOUSE_PROGRAM");
    let (python, script) = program.split_once(':').unwrap();
    Command::new(python)
        .arg(script)
        .arg(port.to_string())
        .arg(folder.path())
        .args(ACCOUNT)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
