//! The head of an HTTP/1.1 request, read strictly (<https://www.rfc-editor.org/rfc/rfc9112>): what two programs could read
//! in two ways is refused, so that no proxy and no page can smuggle one request inside another.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// All of a head.
pub(super) const MAX_HEAD: usize = 64 * 1024;
const MAX_LINE: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;
/// So much is looked at while it trickles in; more only once its end is there.
const SMALL: usize = 1024;
/// What no number of bytes needs more digits than.
const MAX_DIGITS: usize = 18;

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// A request without its body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    /// As it was sent: a tidied form would let `/x/../rpc` and `/%72pc` pass for `/rpc`.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) is_http_11: bool,
}

/// It is not HTTP as we read it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The head at the start of `input` and its length; None while it is not whole. `looked_at` is how much of `input` was
/// there at the last call.
pub(super) fn parse(input: &[u8], looked_at: usize) -> Result<Option<(Head, usize)>, Malformed> {
    let whole = input[looked_at.saturating_sub(3).min(input.len())..]
        .windows(4)
        .any(|four| four == b"\r\n\r\n");
    if !whole && input.len() > SMALL {
        return if input.len() > MAX_HEAD {
            Err(Malformed)
        } else {
            Ok(None)
        };
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(input) {
        Ok(httparse::Status::Complete(length)) => {
            ends_lines_properly(&input[..length])?;
            Ok(Some((Head::of(&request)?, length)))
        }
        Ok(httparse::Status::Partial) if whole || input.len() > MAX_HEAD => Err(Malformed),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(Malformed),
    }
}

/// Every line feed behind a carriage return, and the other way round.
fn ends_lines_properly(head: &[u8]) -> Result<(), Malformed> {
    let bare = |(at, byte): (usize, &u8)| match byte {
        b'\n' => at == 0 || head[at - 1] != b'\r',
        b'\r' => head.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    if head.iter().enumerate().any(bare) {
        Err(Malformed)
    } else {
        Ok(())
    }
}

impl Head {
    fn of(request: &httparse::Request<'_, '_>) -> Result<Self, Malformed> {
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            return Err(Malformed);
        };
        let is_http_11 = version == 1;
        let upper = method.bytes().all(|byte| !byte.is_ascii_lowercase());
        if !upper || !target.starts_with('/') || target.len() > MAX_LINE {
            return Err(Malformed);
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed)?;
        let headers = collect(request.headers)?;
        let framing = framing(&headers, is_http_11)?;
        let says = |word: &str| {
            let mut words = headers
                .get_all(CONNECTION)
                .iter()
                .flat_map(|v| v.as_bytes().split(|b| *b == b','));
            words.any(|one| one.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        };
        let keep_alive = if is_http_11 {
            !says("close")
        } else {
            says("keep-alive")
        };
        let expects = headers
            .get(EXPECT)
            .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let target = target.to_owned();
        let expects_continue = expects && is_http_11;
        Ok(Self {
            method,
            target,
            headers,
            framing,
            keep_alive,
            expects_continue,
            is_http_11,
        })
    }
}

fn collect(raw: &[httparse::Header<'_>]) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::with_capacity(raw.len());
    for header in raw {
        if header.name.len() > MAX_LINE || header.value.len() > MAX_LINE {
            return Err(Malformed);
        }
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Malformed)?;
        headers.append(
            name,
            HeaderValue::from_bytes(header.value).map_err(|_| Malformed)?,
        );
    }
    Ok(headers)
}

fn framing(headers: &HeaderMap, is_http_11: bool) -> Result<Framing, Malformed> {
    let all = |name: HeaderName| {
        headers
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect::<Vec<_>>()
    };
    match (&all(CONTENT_LENGTH)[..], &all(TRANSFER_ENCODING)[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([length], []) => length_of(length).map(Framing::Length),
        ([], [coding]) if is_http_11 && coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        _ => Err(Malformed),
    }
}

fn length_of(digits: &[u8]) -> Result<u64, Malformed> {
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    Ok(digits
        .iter()
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(lines: &str) -> Result<Option<(Head, usize)>, Malformed> {
        parse(
            format!("POST /rpc HTTP/1.1\r\nHost: x\r\n{lines}\r\n").as_bytes(),
            0,
        )
    }

    #[test]
    fn good_heads() {
        let (read, length) = head("Content-Length: 48\r\nX-A: \u{fc}\r\n").unwrap().unwrap();
        assert_eq!(
            (read.framing, read.keep_alive, read.target.as_str()),
            (Framing::Length(48), true, "/rpc")
        );
        assert_eq!(length, 60);
        let (read, _) = head("Transfer-Encoding: Chunked\r\nConnection: x, Close\r\n")
            .unwrap()
            .unwrap();
        assert_eq!((read.framing, read.keep_alive), (Framing::Chunked, false));
        assert!(
            head("Expect: 100-continue\r\n")
                .unwrap()
                .unwrap()
                .0
                .expects_continue
        );
        assert!(parse(b"POST /rpc HTTP/1.1\r\nHost: x\r\n", 0).unwrap().is_none());
        assert!(parse(b"", 0).unwrap().is_none());
    }

    #[test]
    fn ambiguous_framing() {
        for lines in [
            "Content-Length: 48\r\nContent-Length: 48\r\n",
            "Content-Length: 48, 48\r\n",
            "Content-Length: 48\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 48\r\n",
            "Content-Length: +48\r\n",
            "Content-Length: -48\r\n",
            "Content-Length: 0x30\r\n",
            "Content-Length: 4_8\r\n",
            "Content-Length: \r\n",
            "Content-Length: 9999999999999999999999\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Content-Length : 48\r\n",
            "X-A: 1\r\n Content-Length: 48\r\n",
            "X-A: a\0b\r\n",
            "X-A: a\rb\r\n",
            "X-A: a\nX-B: b\r\n",
            ": x\r\n",
            "NoColonHere\r\n",
            "X\u{1}A: x\r\n",
        ] {
            assert_eq!(head(lines).err(), Some(Malformed), "{lines:?}");
        }
        assert_eq!(
            head(&format!("X-A: {}\r\n", "a".repeat(20_000))).err(),
            Some(Malformed)
        );
    }

    #[test]
    fn what_is_no_request() {
        let cases: [&[u8]; 11] = [
            b"POST /rpc HTTP/1.1\nHost: x\n\n",
            b"POST /rpc\r\n\r\n",
            b"POST /rpc HTTP/9.9\r\n\r\n",
            b"POST /rpc HTTP/1.1.1\r\n\r\n",
            b"POST  /rpc HTTP/1.1\r\n\r\n",
            b"POST /a b HTTP/1.1\r\n\r\n",
            b"post /rpc HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n",
            b"GET http://127.0.0.1/rpc HTTP/1.1\r\n\r\n",
        ];
        for bytes in cases {
            assert_eq!(
                parse(bytes, 0).err(),
                Some(Malformed),
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
        assert_eq!(parse(&b"a".repeat(MAX_HEAD + 1), 0).err(), Some(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..400) {
            let _ = parse(&bytes, at);
        }

        #[test]
        fn a_head_in_pieces_is_the_same_head(cut in 1usize..60) {
            let text = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n";
            prop_assert!(parse(&text[..cut], 0).unwrap().is_none());
            prop_assert_eq!(parse(text, cut).unwrap().unwrap().1, text.len());
        }
    }
}
