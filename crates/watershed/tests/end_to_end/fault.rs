//! A wire between a server and an engine that a test can cut (connections end, new ones are closed) or freeze (bytes
//! and connections are held, as when a network swallows them).
//!
//! It refuses nothing that passes through it. To add a kind of fault: a variant of [`Wire`], a line in [`Line::may_pass`].

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Whole,
    Frozen,
    Cut,
}

struct State {
    wire: Wire,
    open: Vec<TcpStream>,
}

struct Line {
    state: Mutex<State>,
    changed: Condvar,
    server: SocketAddr,
}

/// A wire to one server.
pub(crate) struct Fault {
    /// The server's URL, through the wire.
    pub(crate) url: String,
    line: Arc<Line>,
}

impl Fault {
    /// To the server that the URL names by address and port.
    pub(crate) fn before(url: &str) -> Self {
        let after_scheme = url.split_once("://").unwrap().1;
        let authority = after_scheme.split('/').next().unwrap();
        let address = authority.rsplit('@').next().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let line = Arc::new(Line {
            state: Mutex::new(State { wire: Wire::Whole, open: Vec::new() }),
            changed: Condvar::new(),
            server: address.parse().unwrap(),
        });
        let accepting = Arc::clone(&line);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let line = Arc::clone(&accepting);
                std::thread::spawn(move || line.connect(near.unwrap()));
            }
        });
        Self { url: url.replace(address, &own), line }
    }

    pub(crate) fn set(&self, wire: Wire) {
        let mut state = self.line.state.lock().unwrap();
        state.wire = wire;
        if wire == Wire::Cut {
            for stream in state.open.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.line.changed.notify_all();
    }
}

impl Line {
    /// Waits while the wire is frozen; false where it is cut.
    fn may_pass(&self) -> bool {
        let state = self.state.lock().unwrap();
        let state = self.changed.wait_while(state, |state| state.wire == Wire::Frozen).unwrap();
        state.wire == Wire::Whole
    }

    fn connect(self: Arc<Self>, near: TcpStream) {
        // Known before it waits, so that a cut ends those too that a freeze holds.
        self.state.lock().unwrap().open.push(near.try_clone().unwrap());
        let far = if self.may_pass() { TcpStream::connect(self.server).ok() } else { None };
        let Some(far) = far else {
            let _ = near.shutdown(Shutdown::Both);
            return;
        };
        self.state.lock().unwrap().open.push(far.try_clone().unwrap());
        for stream in [&near, &far] {
            stream.set_nodelay(true).unwrap();
        }
        let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let line = Arc::clone(&self);
        std::thread::spawn(move || line.pass(near_too, far_too));
        self.pass(far, near);
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if !self.may_pass() || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
