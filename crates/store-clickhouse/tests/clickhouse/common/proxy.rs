//! A proxy before the server that can be cut, frozen, and made to lose INSERTs on their way there or their answers on the way
//! back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use store::Secret;
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

/// How many INSERTs are still to be lost.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    pub(crate) requests: AtomicU32,
    pub(crate) answers: AtomicU32,
}

/// A proxy before the server.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) url: Secret,
    pub(crate) losses: Arc<Losses>,
    line: Arc<watch::Sender<Line>>,
}

/// What the two directions of a connection know.
#[derive(Debug, Clone)]
struct Connection {
    line: watch::Receiver<Line>,
    losses: Arc<Losses>,
    is_insert: Arc<AtomicBool>,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let url = super::url();
        let server: SocketAddr = url.split_once('@').unwrap().1.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let (line, losses) = (Arc::new(watch::Sender::new(Line::Up)), Arc::default());
        tokio::spawn(accept(listener, server, Arc::clone(&line), Arc::clone(&losses)));
        Self { url: Secret::new(url.replace(&server.to_string(), &own.to_string())), losses, line }
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    line: Arc<watch::Sender<Line>>,
    losses: Arc<Losses>,
) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        if *line.borrow() == Line::Cut {
            continue;
        }
        let (line, losses) = (line.subscribe(), Arc::clone(&losses));
        let connection = Connection { line, losses, is_insert: Arc::default() };
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(server).await else { return };
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            // Both end with the first, so that the connection closes.
            tokio::select! {
                () = pass(near_read, far_write, connection.clone(), is_lost_request) => {}
                () = pass(far_read, near_write, connection, is_lost_answer) => {}
            }
        });
    }
}

fn one_less(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn is_lost_request(connection: &Connection, bytes: &[u8]) -> bool {
    let is_begun = bytes.starts_with(b"POST ");
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    if is_begun {
        connection.is_insert.store(has(b"query=INSERT"), Ordering::SeqCst);
    }
    is_begun && connection.is_insert.load(Ordering::SeqCst) && one_less(&connection.losses.requests)
}

fn is_lost_answer(connection: &Connection, _: &[u8]) -> bool {
    connection.is_insert.load(Ordering::SeqCst) && one_less(&connection.losses.answers)
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut connection: Connection,
    is_lost: fn(&Connection, &[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let line = &mut connection.line;
        if line.wait_for(|line| *line != Line::Frozen).await.is_err() || *line.borrow() == Line::Cut {
            return;
        }
        tokio::select! {
            count = from.read(&mut buffer) => {
                let Ok(count @ 1..) = count else { return };
                // Bytes that came while it was frozen arrive when it is not.
                if line.wait_for(|line| *line != Line::Frozen).await.is_err() { return }
                if is_lost(&connection, &buffer[..count]) { return }
                if to.write_all(&buffer[..count]).await.is_err() { return }
            }
            _ = line.changed() => {}
        }
    }
}
