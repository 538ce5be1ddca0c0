//! A broker of a test's own, which it kills and starts again.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A broker whose records outlive it.
pub(crate) struct Broker {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Broker {
    /// One that does not run yet.
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), port: free_port(), child: None }
    }

    pub(crate) fn url(&self) -> String {
        format!("kafka://127.0.0.1:{}", self.port)
    }

    pub(crate) fn start(&mut self) {
        let address = format!("tcp://127.0.0.1:{}", self.port);
        let program = PathBuf::from(super::variable("WATERSHED_TEST_KAFKA_BROKER"));
        let mut command = Command::new(program);
        command.args(["broker", "--listener-url", &address, "--advertised-listener-url", &address]);
        command.args(["--storage-engine", "sqlite://tansu.db"]).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
