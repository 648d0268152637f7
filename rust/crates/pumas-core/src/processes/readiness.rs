//! Whether an app is ready: its own process listens on its port, and answers there as its description says. Blocks.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ports::{HOST, Holder, holder};
use crate::apps::Ready;

const PROBE: Duration = Duration::from_secs(3);
const MAX_ANSWER: u64 = 1024 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Ready,
    NotYet,
    /// Somebody else has the port, so that the app cannot be reached there.
    Foreign,
}

/// Pauses between looks: each half as long again as the one before, up to a second.
pub(super) fn pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(FIRST_PAUSE), |pause| {
        Some(pause.mul_f64(1.5).min(LONGEST_PAUSE))
    })
}

/// One look. `pids` are all processes of the app.
pub(crate) fn probe(ready: &Ready, port: u16, pids: &[u32]) -> Found {
    // Asked between two looks at the owner: a port that changes hands is nobody's answer.
    for is_first in [true, false] {
        match holder(port, pids) {
            Holder::Others => return Found::Foreign,
            Holder::Nobody => return Found::NotYet,
            Holder::Ours if is_first && !answers(ready, port) => return Found::NotYet,
            Holder::Ours => {}
        }
    }
    Found::Ready
}

fn answers(ready: &Ready, port: u16) -> bool {
    let Some((status, headers, body)) = asked(&ready.path, port) else {
        return false;
    };
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    ready.accepts(status, |name| headers.contains(&name.to_lowercase()), &body)
}

type Answer = (u16, HashSet<String>, Vec<u8>);

/// Status, names of headers in lower case, body. HTTP/1.0, so that the answer ends with the connection and comes in one
/// piece: <https://www.rfc-editor.org/rfc/rfc1945>.
fn asked(path: &str, port: u16) -> Option<Answer> {
    let address = SocketAddr::new(HOST.parse().ok()?, port);
    let end = Instant::now() + PROBE;
    let mut stream = TcpStream::connect_timeout(&address, PROBE).ok()?;
    stream.set_write_timeout(Some(PROBE)).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut data = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let left = end.checked_duration_since(Instant::now())?;
        stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .ok()?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => data.extend_from_slice(&piece[..count]),
            Err(_) => return None,
        }
        if data.len() as u64 > MAX_ANSWER || is_whole(&data) {
            break;
        }
    }
    parsed(&data)
}

/// Whether all that the length in the head promises is there: some servers keep the connection all the same.
fn is_whole(data: &[u8]) -> bool {
    let Some(end) = head_end(data) else { return false };
    let head = String::from_utf8_lossy(&data[..end]);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| data.len() >= end + length)
}

fn head_end(data: &[u8]) -> Option<usize> {
    memchr::memmem::find(data, b"\r\n\r\n").map(|place| place + 4)
}

fn parsed(data: &[u8]) -> Option<Answer> {
    let end = head_end(data)?;
    let head = String::from_utf8_lossy(&data[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    if !first.next()?.starts_with("HTTP/1.") {
        return None;
    }
    let status = first.next()?.parse().ok()?;
    let names = lines.filter_map(|line| Some(line.split_once(':')?.0.trim().to_lowercase()));
    Some((status, names.collect(), data[end..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second() {
        let found: Vec<Duration> = pauses().take(20).collect();
        assert_eq!((found[0], found[19]), (FIRST_PAUSE, LONGEST_PAUSE));
        assert!(found.is_sorted());
    }

    #[test]
    fn answers_are_read() {
        let text = b"HTTP/1.1 200 OK\r\nX-App: 1\r\nContent-Length: 2\r\n\r\n{}";
        assert!(is_whole(text) && !is_whole(&text[..text.len() - 1]));
        let (status, headers, body) = parsed(text).unwrap();
        assert_eq!(
            (status, headers.contains("x-app"), body),
            (200, true, b"{}".to_vec())
        );
        assert!(parsed(b"SSH-2.0\r\n\r\n").is_none());
    }
}
