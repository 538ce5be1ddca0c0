//! A proxy before the server that can be cut, as when the server is stopped, and frozen, as when a network is split.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Passes them on.
    Up,
    /// Holds them, and new connections too.
    Frozen,
    /// Closes every connection, and refuses new ones.
    Cut,
}

/// A proxy before the server.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) url: String,
    line: Arc<watch::Sender<Line>>,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let url = super::url();
        let rest = url.split_once('@').unwrap().1;
        let server: SocketAddr = rest.split_once('/').unwrap().0.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let line = Arc::new(watch::Sender::new(Line::Up));
        tokio::spawn(accept(listener, server, Arc::clone(&line)));
        Self { url: url.replace(&server.to_string(), &own.to_string()), line }
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, line: Arc<watch::Sender<Line>>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        if *line.borrow() == Line::Cut {
            continue;
        }
        let line = line.subscribe();
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(server).await else { return };
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            tokio::spawn(pass(near_read, far_write, line.clone()));
            tokio::spawn(pass(far_read, near_write, line));
        });
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if line.wait_for(|line| *line != Line::Frozen).await.is_err() || *line.borrow() == Line::Cut {
            return;
        }
        tokio::select! {
            count = from.read(&mut buffer) => {
                let Ok(count @ 1..) = count else { return };
                // Bytes that came while it was frozen arrive when it is not.
                if line.wait_for(|line| *line != Line::Frozen).await.is_err() { return }
                if to.write_all(&buffer[..count]).await.is_err() { return }
            }
            _ = line.changed() => {}
        }
    }
}
