//! A small HTTP/1.1 client over one connection that is kept open: as little work as can be, so that what is measured
//! is the server.
//!
//! It refuses answers without a `content-length`, which are none of those that it asks for.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;

/// Nothing that is asked here takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 64 << 20;

/// Whom to ask.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Where the server listens; an address of this machine
    #[arg(long, value_parser = local)]
    pub(crate) address: SocketAddr,
    /// The API key
    #[arg(long)]
    pub(crate) key: String,
}

pub(crate) fn local(text: &str) -> std::result::Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|cause| format!("{cause}"))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("must be an address of this machine".to_owned())
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// What every head ends with.
    tail: String,
    sent: Vec<u8>,
    received: Vec<u8>,
}

/// An answer, until the next question.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// Whether it says when to come again.
    pub(crate) says_when: bool,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// Passes a success.
    ///
    /// # Errors
    /// Any other status, with the body.
    pub(crate) fn ok(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let shown = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]).into_owned();
        Err(Error::other(format!("answered {}: {shown}", self.status)))
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Those of the network.
    pub(crate) fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&target.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let tail = format!("host: {}\r\nauthorization: Bearer {}\r\n", target.address, target.key);
        Ok(Self { stream, tail, sent: Vec::new(), received: Vec::new() })
    }

    /// Asks.
    ///
    /// # Errors
    /// Those of the network; an answer that is not HTTP.
    pub(crate) fn get(&mut self, path: &str) -> Result<Answer<'_>> {
        self.sent.clear();
        write!(self.sent, "GET {path} HTTP/1.1\r\n{}\r\n", self.tail)?;
        self.exchange()
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As [`Connection::get`].
    pub(crate) fn post(&mut self, path: &str, media_type: &str, body: &[u8]) -> Result<Answer<'_>> {
        self.sent.clear();
        let (tail, length) = (&self.tail, body.len());
        write!(
            self.sent,
            "POST {path} HTTP/1.1\r\n{tail}content-type: {media_type}\r\ncontent-length: {length}\r\n\r\n"
        )?;
        self.sent.extend_from_slice(body);
        self.exchange()
    }

    fn exchange(&mut self) -> Result<Answer<'_>> {
        self.stream.write_all(&self.sent)?;
        self.received.clear();
        let head_end = loop {
            if let Some(end) = end_of_head(&self.received) {
                break end;
            }
            if self.received.len() > HEAD_BYTES_MAX {
                return Err(Error::new(ErrorKind::InvalidData, "the head of the answer does not end"));
            }
            self.receive()?;
        };
        let Head { status, length, says_when } = read_head(&self.received[..head_end])?;
        while self.received.len() < head_end + length {
            self.receive()?;
        }
        Ok(Answer { status, says_when, body: &self.received[head_end..head_end + length] })
    }

    fn receive(&mut self) -> Result<()> {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece)? {
            0 => Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
            count => {
                self.received.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }
}

/// The place behind the empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|start| start + 4)
}

/// What is read of a head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Of the body.
    length: usize,
    says_when: bool,
}

fn read_head(head: &[u8]) -> Result<Head> {
    let fault = |message: &str| Error::new(ErrorKind::InvalidData, message.to_owned());
    let text = std::str::from_utf8(head).map_err(|_| fault("the head of the answer is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let (mut length, mut says_when) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        }
        says_when |= name.eq_ignore_ascii_case("retry-after");
    }
    let length = length.ok_or_else(|| fault("the answer has no content-length"))?;
    if length > BODY_BYTES_MAX {
        return Err(fault("the answer is too long"));
    }
    let status = status.ok_or_else(|| fault("the answer has no status"))?;
    Ok(Head { status, length, says_when })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let check = |head: &str, expected: Option<(u16, usize, bool)>| {
            let expected = expected.map(|(status, length, says_when)| Head { status, length, says_when });
            assert_eq!(read_head(head.as_bytes()).ok(), expected, "{head}");
        };
        check("HTTP/1.1 200 OK\r\ncontent-type: x\r\nContent-Length: 12\r\n\r\n", Some((200, 12, false)));
        check("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\ncontent-length:0\r\n\r\n", Some((503, 0, true)));
        check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", None);
        check("nonsense\r\ncontent-length: 1\r\n\r\n", None);
        check("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", None);
        assert_eq!(end_of_head(b"a\r\n\r\nbody"), Some(5));
        assert_eq!(end_of_head(b"a\r\n"), None);
    }

    #[test]
    fn only_this_machine_is_loaded() {
        assert!(local("127.0.0.1:80").is_ok());
        assert!(local("10.0.0.1:80").is_err());
        assert!(local("somewhere").is_err());
    }
}
