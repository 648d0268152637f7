//! One client connection: requests one after the other, each with deadlines, so that a thousand idle, slow or half-open
//! connections cost the others nothing.
//!
//! The framing is ours (see `head.rs`): a general server lets through what must be refused here, and answers broken
//! requests in words of its own. What is a request goes to the axum router.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, SERVER, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use pumas_core::stop::Stop;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use super::access::MALFORMED;
use super::body::{Buffered, Channel, RequestBody};
use super::head::{self, Head, Malformed};

/// From the first byte, or none, to a whole head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// From the end of a reply to the next whole head.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// A caller that takes nothing of a reply for this long is gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(20);
/// How long what a refused caller still sends is read and thrown away, so that the refusal reaches it.
const LINGER: Duration = Duration::from_secs(2);
const WRITE: usize = 256 * 1024;
const READ: usize = 16 * 1024;

const COMMON_HEADERS: [(HeaderName, HeaderValue); 3] = [
    (SERVER, HeaderValue::from_static("pumas")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// The target of a request as it was sent.
#[derive(Clone)]
pub(super) struct Target(pub(super) Arc<str>);

/// The two ends of a connection, and whether the other one is a program of our own user (asked once).
#[derive(Clone)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) is_us: Arc<OnceLock<bool>>,
}

/// What all connections of a server share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) buffered: Buffered,
    pub(super) closing: Stop,
}

/// Serve a connection to its end.
pub(super) async fn serve(stream: TcpStream, service: Shared) {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
        return;
    };
    // Replies are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let ends = Ends {
        peer,
        local,
        is_us: Arc::default(),
    };
    let channel = Arc::new(Mutex::new(Channel::new(stream)));
    let mut deadline = HEAD_DEADLINE;
    while let Some(reply) = one(&channel, &ends, &service, deadline).await {
        if !reply {
            break;
        }
        deadline = KEEP_ALIVE;
    }
}

/// One request and its reply. Some(true): another may follow; None: the connection is over.
async fn one(
    channel: &Arc<Mutex<Channel>>,
    ends: &Ends,
    service: &Shared,
    patience: Duration,
) -> Option<bool> {
    let head = {
        let mut channel = channel.lock().await;
        let arriving = timeout(patience, next_head(&mut channel));
        let arrived = tokio::select! {
            arrived = arriving => arrived.ok()?,
            () = service.closing.asked() => return None,
        };
        match arrived {
            Ok(head) => head,
            Err(NoHead::Malformed) => {
                refuse_malformed(&mut channel).await;
                return None;
            }
            Err(NoHead::Gone) => return None,
        }
    };
    let how = How {
        method: head.method.clone(),
        keep_alive: head.keep_alive,
        is_http_11: head.is_http_11,
    };
    let response = answer(head, channel, ends, service).await;
    let mut channel = channel.lock().await;
    let refused = response
        .headers()
        .get(CONNECTION)
        .is_some_and(|value| value == "close");
    let goes_on = how.keep_alive && !refused && channel.is_at_end() && !service.closing.is_asked();
    let sent = send(&mut channel, response, &how, goes_on, &service.closing).await;
    if sent.is_err() {
        return None;
    }
    if !goes_on {
        linger(&mut channel).await;
    }
    Some(goes_on)
}

struct How {
    method: Method,
    keep_alive: bool,
    is_http_11: bool,
}

enum NoHead {
    Malformed,
    Gone,
}

async fn next_head(channel: &mut Channel) -> Result<Head, NoHead> {
    let mut looked_at = 0;
    loop {
        match head::parse(&channel.input, looked_at) {
            Ok(Some((head, length))) => {
                let _ = channel.input.split_to(length);
                channel.begin(head.framing, head.expects_continue);
                return Ok(head);
            }
            Ok(None) => looked_at = channel.input.len(),
            Err(Malformed) => return Err(NoHead::Malformed),
        }
        channel.input.reserve(READ);
        match channel.stream.read_buf(&mut channel.input).await {
            Ok(1..) => {}
            _ => return Err(NoHead::Gone),
        }
    }
}

async fn answer(head: Head, channel: &Arc<Mutex<Channel>>, ends: &Ends, service: &Shared) -> Response<Body> {
    let target: Arc<str> = head.target.into();
    let mut request = Request::new(Body::empty());
    // What is no address of ours, or has a part that addresses drop, has no route.
    let uri = Uri::try_from(&*target).ok().filter(|_| !target.contains('#'));
    *request.uri_mut() = uri.unwrap_or_else(|| Uri::from_static("/%"));
    *request.method_mut() = head.method;
    *request.headers_mut() = head.headers;
    let body = RequestBody {
        channel: Arc::clone(channel),
        buffered: Arc::clone(&service.buffered),
    };
    request.extensions_mut().insert(body);
    request.extensions_mut().insert(Target(target));
    request.extensions_mut().insert(ends.clone());
    let answered: Result<_, Infallible> = service.router.clone().call(request).await;
    match answered {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn refuse_malformed(channel: &mut Channel) {
    let mut response = Response::new(Body::from(MALFORMED.message.as_ref().to_owned()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let how = How {
        method: Method::GET,
        keep_alive: false,
        is_http_11: true,
    };
    let never = Stop::default();
    if send(channel, response, &how, false, &never).await.is_ok() {
        linger(channel).await;
    }
}

// -- writing ---------------------------------------------------------------------------------------------------------

/// The caller has left, or stopped reading.
struct Gone;

async fn send(
    channel: &mut Channel,
    response: Response<Body>,
    how: &How,
    goes_on: bool,
    closing: &Stop,
) -> Result<(), Gone> {
    let (parts, body) = response.into_parts();
    let mut headers = parts.headers;
    for (name, value) in COMMON_HEADERS {
        headers.entry(name).or_insert(value);
    }
    let length = body.size_hint().exact();
    let has_body = parts.status != StatusCode::NO_CONTENT && parts.status != StatusCode::NOT_MODIFIED;
    let chunked = length.is_none() && how.is_http_11;
    if let (Some(length), true) = (length, has_body) {
        headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    if chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if !goes_on {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    } else if !how.is_http_11 {
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    let head = head_text(parts.status, &headers);
    if how.method == Method::HEAD {
        return write(&mut channel.stream, &head).await;
    }
    match length {
        Some(_) => send_whole(channel, head, body).await,
        None => send_stream(channel, head, body, chunked, closing).await,
    }
}

fn head_text(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("Refused").as_bytes());
    for (name, value) in headers {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
    out
}

async fn send_whole(channel: &mut Channel, mut head: Vec<u8>, mut body: Body) -> Result<(), Gone> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Gone)?.into_data() else {
            continue;
        };
        // One packet for most replies.
        let first = if head.is_empty() { 0 } else { data.len().min(READ) };
        head.extend_from_slice(&data[..first]);
        write(&mut channel.stream, &head).await?;
        head.clear();
        write(&mut channel.stream, &data[first..]).await?;
    }
    write(&mut channel.stream, &head).await
}

/// Written piece by piece, each within the deadline.
async fn write(stream: &mut TcpStream, data: &[u8]) -> Result<(), Gone> {
    for piece in data.chunks(WRITE) {
        timeout(WRITE_DEADLINE, stream.write_all(piece))
            .await
            .map_err(|_| Gone)?
            .map_err(|_| Gone)?;
    }
    Ok(())
}

/// A body that goes on until it ends by itself, the caller leaves, or the server closes.
async fn send_stream(
    channel: &mut Channel,
    head: Vec<u8>,
    mut body: Body,
    chunked: bool,
    closing: &Stop,
) -> Result<(), Gone> {
    write(&mut channel.stream, &head).await?;
    let mut scrap = [0; 1024];
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            read = channel.stream.read(&mut scrap) => match read {
                // Whatever it sends while it listens is no request that could be answered.
                Ok(1..) => continue,
                _ => return Err(Gone),
            },
            () = closing.asked() => None,
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| Gone)?.into_data() else {
            continue;
        };
        write(&mut channel.stream, &if chunked { as_chunk(&data) } else { data }).await?;
    }
    if chunked {
        write(&mut channel.stream, b"0\r\n\r\n").await
    } else {
        Ok(())
    }
}

fn as_chunk(data: &Bytes) -> Bytes {
    let mut out = format!("{:x}\r\n", data.len()).into_bytes();
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
    out.into()
}

/// Say that nothing follows, then read what the caller still sends: a connection that is closed with unread bytes is
/// reset, and the reply may be lost with it.
async fn linger(channel: &mut Channel) {
    if timeout(LINGER, channel.stream.shutdown()).await.is_err() {
        return;
    }
    let end = Instant::now() + LINGER;
    let mut scrap = vec![0; READ];
    while let Ok(Ok(1..)) = timeout_at(end, channel.stream.read(&mut scrap)).await {}
}
