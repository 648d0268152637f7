//! The body of a request: read by the handler that wants it, within a limit, a deadline, and the room that all bodies
//! under way have together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::access::{MALFORMED, Refusal, too_long};
use super::head::Framing;

const DEADLINE: Duration = Duration::from_secs(20);
/// All bodies that are being received at one time, so that many half-sent ones cannot fill the memory.
const MAX_BUFFERED: usize = 96 * 1024 * 1024;
const READ: usize = 64 * 1024;
/// The line before a chunk.
const MAX_CHUNK_LINE: usize = 256;

const LATE: Refusal = Refusal::new(408, "The request body did not arrive within 20 s.");
const FULL: Refusal = Refusal::new(503, "Too many large requests at once; try again in a moment.");

/// Bytes of bodies that are under way, over all connections.
pub(super) type Buffered = Arc<AtomicUsize>;

/// Why a body was not read.
pub(super) enum BodyFailure {
    /// It is answered with this.
    Refused(Refusal),
    /// The caller has left.
    Gone,
}

impl From<Refusal> for BodyFailure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<std::io::Error> for BodyFailure {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

/// What is left of the body of the request that is answered now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Bytes(u64),
    Chunks,
    /// So much of the chunk under way, and other chunks.
    InChunk(u64),
}

/// The two directions of a connection, and what has arrived and is not used yet.
pub(super) struct Channel {
    pub(super) stream: TcpStream,
    pub(super) input: BytesMut,
    left: Left,
    expects_continue: bool,
}

impl Channel {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            left: Left::Bytes(0),
            expects_continue: false,
        }
    }

    /// A request begins whose body has this form.
    pub(super) fn begin(&mut self, framing: Framing, expects_continue: bool) {
        self.left = match framing {
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked => Left::Chunks,
        };
        self.expects_continue = expects_continue;
    }

    /// Whether nothing of the body is left, so that the next request may follow.
    pub(super) fn is_at_end(&self) -> bool {
        self.left == Left::Bytes(0)
    }

    /// The length that the head promised; None for chunks.
    fn promised(&self) -> Option<u64> {
        match self.left {
            Left::Bytes(length) => Some(length),
            Left::Chunks | Left::InChunk(_) => None,
        }
    }

    /// What comes next of the body, however long it is; `None` at its end.
    async fn piece(&mut self) -> Result<Option<Bytes>, BodyFailure> {
        self.say_continue().await?;
        let left = match self.left {
            Left::Bytes(0) => return Ok(None),
            Left::Bytes(left) | Left::InChunk(left) => left,
            Left::Chunks => match self.chunk_size().await? as u64 {
                0 => {
                    self.line_end().await?;
                    self.left = Left::Bytes(0);
                    return Ok(None);
                }
                size => size,
            },
        };
        let in_chunk = !matches!(self.left, Left::Bytes(_));
        if in_chunk {
            self.left = Left::InChunk(left);
        }
        if self.input.is_empty() {
            self.fill().await?;
        }
        let taken = usize::try_from(left).map_or(self.input.len(), |left| left.min(self.input.len()));
        let piece = self.input.split_to(taken).freeze();
        let left = left - taken as u64;
        self.left = match (in_chunk, left) {
            (true, 0) => {
                self.line_end().await?;
                Left::Chunks
            }
            (true, left) => Left::InChunk(left),
            (false, left) => Left::Bytes(left),
        };
        Ok(Some(piece))
    }

    async fn fill(&mut self) -> Result<(), BodyFailure> {
        self.input.reserve(READ);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(BodyFailure::Gone),
            _ => Ok(()),
        }
    }

    async fn say_continue(&mut self) -> Result<(), BodyFailure> {
        if std::mem::take(&mut self.expects_continue) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        Ok(())
    }

    async fn sized(&mut self, length: usize, account: &mut Account) -> Result<Bytes, BodyFailure> {
        if self.input.len() >= length {
            // All of it came with the head, as most bodies do.
            self.left = Left::Bytes(0);
            return Ok(self.input.split_to(length).freeze());
        }
        self.say_continue().await?;
        let mut body = Vec::with_capacity(length.min(READ));
        loop {
            let taken = self.input.len().min(length - body.len());
            account.add(taken)?;
            body.extend_from_slice(&self.input[..taken]);
            self.input.advance(taken);
            if body.len() == length {
                self.left = Left::Bytes(0);
                return Ok(body.into());
            }
            self.fill().await?;
        }
    }

    async fn chunked(&mut self, limit: usize, account: &mut Account) -> Result<Bytes, BodyFailure> {
        self.say_continue().await?;
        let mut body = Vec::new();
        loop {
            let size = self.chunk_size().await?;
            if size == 0 {
                // Trailers are nothing that a caller of ours has a use for.
                self.line_end().await?;
                self.left = Left::Bytes(0);
                return Ok(body.into());
            }
            if size > limit - body.len() {
                return Err(too_long(limit).into());
            }
            let end = body.len() + size;
            while body.len() < end {
                if self.input.is_empty() {
                    self.fill().await?;
                }
                let taken = self.input.len().min(end - body.len());
                account.add(taken)?;
                body.extend_from_slice(&self.input[..taken]);
                self.input.advance(taken);
            }
            self.line_end().await?;
        }
    }

    async fn chunk_size(&mut self) -> Result<usize, BodyFailure> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line = self.input.split_to(end + 1);
                return chunk_size(&line).ok_or(BodyFailure::Refused(MALFORMED));
            }
            if self.input.len() > MAX_CHUNK_LINE || !could_be_chunk_line(&self.input) {
                return Err(MALFORMED.into());
            }
            self.fill().await?;
        }
    }

    async fn line_end(&mut self) -> Result<(), BodyFailure> {
        while self.input.len() < 2 {
            if self.input.first().is_some_and(|byte| *byte != b'\r') {
                return Err(MALFORMED.into());
            }
            self.fill().await?;
        }
        if self.input.split_to(2).as_ref() == b"\r\n" {
            Ok(())
        } else {
            Err(MALFORMED.into())
        }
    }
}

fn could_be_chunk_line(start: &[u8]) -> bool {
    start.first().is_none_or(u8::is_ascii_hexdigit)
}

/// The number before a chunk, `1a2b\r\n`; extensions are nothing that a caller of ours has a use for.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.strip_suffix(b"\r\n")?;
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// What one body takes of the room for all, given back at its end.
struct Account {
    all: Buffered,
    own: usize,
}

impl Account {
    fn add(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.own += bytes;
        let before = self.all.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > MAX_BUFFERED {
            Err(FULL)
        } else {
            Ok(())
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// The body of one request, for its handler.
#[derive(Clone)]
pub(super) struct RequestBody {
    pub(super) channel: Arc<Mutex<Channel>>,
    pub(super) buffered: Buffered,
}

impl RequestBody {
    /// All of it, when it has at most `limit` bytes.
    pub(super) async fn read(&self, limit: usize) -> Result<Bytes, BodyFailure> {
        let mut channel = self.channel.lock().await;
        let mut account = Account {
            all: Arc::clone(&self.buffered),
            own: 0,
        };
        let reading = async {
            match channel.promised().map(usize::try_from) {
                Some(Ok(length)) if length <= limit => channel.sized(length, &mut account).await,
                Some(_) => Err(too_long(limit).into()),
                None => channel.chunked(limit, &mut account).await,
            }
        };
        tokio::time::timeout(DEADLINE, reading)
            .await
            .unwrap_or(Err(LATE.into()))
    }

    /// What comes next of it, however long it is; `None` at its end.
    pub(super) async fn piece(&self) -> Result<Option<Bytes>, BodyFailure> {
        self.channel.lock().await.piece().await
    }

    /// Refuse now what promises to be longer than `limit`.
    pub(super) async fn check_length(&self, limit: usize) -> Result<(), Refusal> {
        let promised = self.channel.lock().await.promised().unwrap_or_default();
        if promised > limit as u64 {
            Err(too_long(limit))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes() {
        for (line, size) in [("0\r\n", Some(0)), ("30\r\n", Some(48)), ("fF\r\n", Some(255))] {
            assert_eq!(chunk_size(line.as_bytes()), size);
        }
        for line in [
            "\r\n",
            "zz\r\n",
            "-30\r\n",
            "+30\r\n",
            "0x30\r\n",
            "30\n",
            "ffffffffffffffffff\r\n",
            "5;a=b\r\n",
            " 5\r\n",
        ] {
            assert_eq!(chunk_size(line.as_bytes()), None, "{line:?}");
        }
    }
}
