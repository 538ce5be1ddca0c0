//! What of HTTP/1.1 two servers may read differently is refused before the parser sees it: whoever stands in front must
//! not be made to believe in another request than this server answers (request smuggling, RFC 9112 section 11.2).
//!
//! The parser behind takes a bare line feed for the end of a line, `Content-Length` twice, and `Content-Length` beside
//! `Transfer-Encoding`, all of which RFC 9112 allows a server to refuse. Here each of them becomes a byte that no request
//! begins with, so that the parser answers 400 in its place in the order of answers, and closes. It also keeps the time
//! between the first byte of a head and its end, which the parser counts from the request before.
//!
//! The bytes of requests that are fine pass unchanged. Those that come after the server itself agreed to speak another
//! protocol (101) are no requests, and pass too; that a caller asked for it is not enough.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use httparse::{EMPTY_HEADER, Status, parse_chunk_size};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::MAX_HEAD_BYTES;
use super::connection::Place;

/// As many as the parser behind takes.
const MAX_HEADERS: usize = 100;
const MAX_CHUNK_LINE_BYTES: usize = 1024;
const READ_BYTES: usize = 16 << 10;
/// What the parser answers with 400, and the reader of a chunk with an error.
const REFUSAL: &[u8] = b"\0";

/// What stands after the bytes that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Head,
    ChunkSize,
    Trailer,
    /// The parser refuses what comes: nothing is looked at any more.
    Anything,
    /// What came was refused.
    End,
}

/// What the held bytes are.
enum Judgement {
    Incomplete,
    /// So many bytes pass; then comes something else.
    Pass(u64, Next),
    Refuse,
}

/// A stream that lets only plain requests through.
#[derive(Debug)]
pub(super) struct Strict<S> {
    stream: S,
    held: BytesMut,
    /// Bytes that may pass, held or still to come.
    passing: u64,
    next: Next,
    patience: Duration,
    late: Option<Pin<Box<Sleep>>>,
    /// Whether the server agreed to speak another protocol.
    is_upgraded: Arc<AtomicBool>,
    /// The connection's place, which it holds in the other protocol too.
    _place: Option<Place>,
}

impl<S> Strict<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            held: BytesMut::new(),
            passing: 0,
            next: Next::Head,
            patience,
            late: None,
            is_upgraded: Arc::default(),
            _place: None,
        }
    }

    /// That of a connection with a place. Everything passes from when `is_upgraded` is set.
    pub(super) fn with_place(
        stream: S,
        patience: Duration,
        place: Place,
        is_upgraded: Arc<AtomicBool>,
    ) -> Self {
        Self { is_upgraded, _place: Some(place), ..Self::new(stream, patience) }
    }

    fn judge(&self) -> Judgement {
        match self.next {
            Next::Head => head(&self.held),
            Next::ChunkSize => chunk_size(&self.held),
            Next::Trailer => trailer(&self.held),
            Next::Anything | Next::End => Judgement::Pass(u64::MAX, self.next),
        }
    }

    fn pass(&mut self, bytes: u64, next: Next) {
        (self.passing, self.next, self.late) = (bytes, next, None);
    }

    fn refuse(&mut self) {
        self.held = BytesMut::from(REFUSAL);
        self.pass(REFUSAL.len() as u64, Next::End);
    }

    fn hand_on(&mut self, out: &mut ReadBuf<'_>) {
        let allowed = usize::try_from(self.passing).unwrap_or(usize::MAX);
        let count = self.held.len().min(allowed).min(out.remaining());
        out.put_slice(&self.held[..count]);
        self.held.advance(count);
        self.passing -= count as u64;
        if self.held.is_empty() {
            // An idle connection holds no memory.
            self.held = BytesMut::new();
        }
    }

    /// Whether a head was begun too long ago. Waits with the reader for it.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        if self.next != Next::Head || self.passing > 0 || self.held.is_empty() {
            return false;
        }
        let patience = self.patience;
        let timer = self.late.get_or_insert_with(|| Box::pin(sleep(patience)));
        timer.as_mut().poll(context).is_ready()
    }
}

impl<S: AsyncRead + Unpin> Strict<S> {
    /// Reads more into what is held; false at the end.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        self.held.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(!buffer.filled().is_empty()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.next == Next::Head && this.is_upgraded.load(Ordering::Acquire) {
            this.pass(u64::MAX, Next::Anything);
        }
        loop {
            if this.passing > 0 && !this.held.is_empty() {
                this.hand_on(out);
                return Poll::Ready(Ok(()));
            }
            if this.passing == 0 && this.next == Next::End {
                return Poll::Ready(Ok(()));
            }
            if this.passing >= out.remaining() as u64 {
                let before = out.filled().len();
                ready!(Pin::new(&mut this.stream).poll_read(context, out))?;
                this.passing -= (out.filled().len() - before) as u64;
                return Poll::Ready(Ok(()));
            }
            if this.passing == 0 {
                match this.judge() {
                    Judgement::Incomplete => {}
                    Judgement::Pass(bytes, next) => {
                        this.pass(bytes, next);
                        continue;
                    }
                    Judgement::Refuse => {
                        this.refuse();
                        continue;
                    }
                }
            }
            match this.fill(context) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) if this.held.is_empty() => return Poll::Ready(Ok(())),
                // The parser says what is to be said of a request that is cut off.
                Poll::Ready(Ok(false)) => this.pass(u64::MAX, Next::Anything),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if this.is_late(context) => this.refuse(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The bytes of the first line with its end; none before it ended, a fault where a line feed stands alone.
fn line(bytes: &[u8]) -> Result<Option<usize>, ()> {
    match memchr::memchr(b'\n', bytes) {
        None => Ok(None),
        Some(end) if end > 0 && bytes[end - 1] == b'\r' => Ok(Some(end + 1)),
        Some(_) => Err(()),
    }
}

fn head(held: &[u8]) -> Judgement {
    let mut end = 0;
    loop {
        match line(&held[end..]) {
            Err(()) => return Judgement::Refuse,
            // The parser refuses what is too large, with 431.
            Ok(None) if held.len() > MAX_HEAD_BYTES => return Judgement::Pass(u64::MAX, Next::Anything),
            Ok(None) => return Judgement::Incomplete,
            // RFC 9112 section 2.2: an empty line before a request is passed over.
            Ok(Some(2)) if end == 0 => return Judgement::Pass(2, Next::Head),
            Ok(Some(2)) => return body_after(&held[..end + 2]),
            Ok(Some(length)) => end += length,
        }
    }
}

/// What follows a whole head.
fn body_after(head: &[u8]) -> Judgement {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(Status::Complete(_)) = request.parse(head) else {
        return Judgement::Pass(u64::MAX, Next::Anything);
    };
    let values = |name: &str| {
        let named = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value).collect::<Vec<_>>()
    };
    let head_bytes = head.len() as u64;
    match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        ([], []) => Judgement::Pass(head_bytes, Next::Head),
        ([length], []) => match decimal(length).and_then(|length| length.checked_add(head_bytes)) {
            Some(bytes) => Judgement::Pass(bytes, Next::Head),
            None => Judgement::Refuse,
        },
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => {
            Judgement::Pass(head_bytes, Next::ChunkSize)
        }
        _ => Judgement::Refuse,
    }
}

/// A number of decimal digits alone: no sign, no space, no list.
fn decimal(text: &[u8]) -> Option<u64> {
    let is_plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}

fn chunk_size(held: &[u8]) -> Judgement {
    let end = match line(held) {
        Ok(Some(end)) if end <= MAX_CHUNK_LINE_BYTES => end,
        Ok(None) if held.len() <= MAX_CHUNK_LINE_BYTES => return Judgement::Incomplete,
        _ => return Judgement::Refuse,
    };
    let Ok(Status::Complete((used, size))) = parse_chunk_size(&held[..end]) else { return Judgement::Refuse };
    let line_bytes = end as u64;
    // The data of a chunk ends with a line end, which the parser checks.
    let whole = size.checked_add(line_bytes + 2);
    match (used == end && held[0].is_ascii_hexdigit(), size, whole) {
        (true, 0, _) => Judgement::Pass(line_bytes, Next::Trailer),
        (true, _, Some(whole)) => Judgement::Pass(whole, Next::ChunkSize),
        _ => Judgement::Refuse,
    }
}

fn trailer(held: &[u8]) -> Judgement {
    match line(held) {
        Ok(Some(2)) => Judgement::Pass(2, Next::Head),
        Ok(Some(end)) => Judgement::Pass(end as u64, Next::Trailer),
        Ok(None) if held.len() <= MAX_HEAD_BYTES => Judgement::Incomplete,
        _ => Judgement::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const FINE: [&str; 8] = [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\nContent-Length: 5\r\n\r\na\nb\n\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: Chunked\r\n\r\n5\r\na\nb\n\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nA;x=y\r\n0123456789\r\n0\r\nt: v\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\nGET / HTTP/1.1\r\n\r\n\n\n",
        "PUT /a?b=c HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nx",
    ];

    /// What comes out where the bytes arrive in parts that end at these places.
    async fn through(bytes: &[u8], cuts: &[usize], space: usize) -> Vec<u8> {
        let mut stream = in_parts(bytes, cuts);
        let mut out = Vec::new();
        let mut buffer = vec![0; space];
        let mut strict = Strict::new(&mut stream, PATIENCE);
        loop {
            match strict.read(&mut buffer).await.unwrap() {
                0 => return out,
                count => out.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn in_parts<'a>(bytes: &'a [u8], cuts: &[usize]) -> impl AsyncRead + Unpin + use<'a> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect::<Vec<_>>();
        parts.into_iter().fold(Box::new(&[][..]) as Box<dyn AsyncRead + Unpin + 'a>, |before, part| {
            Box::new(before.chain(part))
        })
    }

    fn ready<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    proptest! {
        #[test]
        fn fine_requests_pass_unchanged_however_they_arrive(
            which in prop::collection::vec(0..FINE.len(), 1..6),
            cuts in prop::collection::vec(0..2_000_usize, 0..12),
            space in 1..64_usize,
        ) {
            let bytes: String = which.iter().map(|which| FINE[*which]).collect();
            let out = ready(through(bytes.as_bytes(), &cuts, space));
            prop_assert_eq!(String::from_utf8(out).unwrap(), bytes);
        }

        #[test]
        fn nothing_passes_after_a_refusal_however_it_arrives(
            cuts in prop::collection::vec(0..200_usize, 0..12),
        ) {
            let smuggled = "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
            let bytes = [FINE[0], smuggled, FINE[0]].concat();
            let out = ready(through(bytes.as_bytes(), &cuts, 64));
            prop_assert_eq!(out, [FINE[0].as_bytes(), REFUSAL].concat());
        }
    }

    #[test]
    fn what_others_read_differently_is_refused() {
        let check = |head: &str| {
            let out = ready(through(format!("POST / HTTP/1.1\r\nhost: x\r\n{head}").as_bytes(), &[], 4_096));
            assert!(out.ends_with(REFUSAL), "{head:?} became {:?}", String::from_utf8_lossy(&out));
        };
        for length in ["+5", "-1", "5, 5", "0x5", "", "18446744073709551616", "5 5"] {
            check(&format!("content-length: {length}\r\n\r\n"));
        }
        for coding in ["identity", "gzip, chunked", "chunked, chunked", "chunked;x", "xchunked", ""] {
            check(&format!("transfer-encoding: {coding}\r\n\r\n"));
        }
        check("content-length: 5\r\ncontent-length: 5\r\n\r\n");
        check("content-length: 5\r\nContent-Length: 6\r\n\r\n");
        check("content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n");
        check("transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n");
        check("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n");
        check("a: b\nc: d\r\n\r\n");
        check("a: b\r\n\n");
        let chunked = |body: &str| check(&format!("transfer-encoding: chunked\r\n\r\n{body}"));
        for body in
            ["5\nabcde\r\n", "\r\n", "-1\r\n", "0x5\r\n", "g\r\n", "fffffffffffffffff\r\n", "0\r\na: b\n\r\n"]
        {
            chunked(body);
        }
        chunked(&"0".repeat(MAX_CHUNK_LINE_BYTES + 1));
        chunked("ffffffffffffffff\r\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_is_refused_and_an_idle_connection_is_not() {
        let (mut client, server) = tokio::io::duplex(1_024);
        let mut strict = Strict::new(server, PATIENCE);
        let mut buffer = [0; 64];
        let idle = tokio::time::timeout(PATIENCE * 10, strict.read(&mut buffer)).await;
        assert!(idle.is_err());
        tokio::io::AsyncWriteExt::write_all(&mut client, b"GET / HT").await.unwrap();
        let read = tokio::time::timeout(PATIENCE * 2, strict.read(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(&buffer[..read], REFUSAL);
    }

    #[tokio::test]
    async fn what_is_no_request_passes_only_once_the_server_agreed() {
        const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        const FRAMES: &[u8] = b"\n\x81\n\0POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n";
        for agrees in [false, true] {
            let (mut client, server) = tokio::io::duplex(1_024);
            let is_upgraded = Arc::new(AtomicBool::new(false));
            let mut strict =
                Strict { is_upgraded: Arc::clone(&is_upgraded), ..Strict::new(server, PATIENCE) };
            let mut buffer = [0; 256];
            tokio::io::AsyncWriteExt::write_all(&mut client, HANDSHAKE).await.unwrap();
            let read = strict.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..read], HANDSHAKE, "that a caller asks changes nothing");
            is_upgraded.store(agrees, Ordering::Release);
            tokio::io::AsyncWriteExt::write_all(&mut client, FRAMES).await.unwrap();
            let read = strict.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..read], if agrees { FRAMES } else { REFUSAL }, "agrees: {agrees}");
        }
    }
}
