//! `GET /events`: the event stream as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! `?topics=job,model` chooses topics, `Last-Event-ID` replays what was missed. The first event is `ready`, with the
//! cursor from which this reader follows; `resync` says that events were missed and the state must be loaded anew.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use pumas_core::events::{Event, EventStream, Subscription};

use super::access::Refusal;
use super::routes::refuse;

const KEEP_ALIVE: Duration = Duration::from_secs(20);
const MAX_TOPICS: usize = 32;
const BAD_TOPICS: Refusal = Refusal::new(400, "topics is a comma-separated list of topic names.");

pub(super) fn serve(events: &EventStream, request: &Request<Body>) -> Response<Body> {
    let Some(topics) = topics(request.uri().query().unwrap_or_default()) else {
        return refuse(&BAD_TOPICS);
    };
    let reader = events.subscribe(topics, cursor(request.headers()));
    // With an id, so that a reader whose connection drops before the first event misses nothing either.
    let ready = format!(
        "retry: 2000\nid: {0}\nevent: ready\ndata: {{\"cursor\":{0}}}\n\n",
        reader.start()
    );
    let told = stream::unfold((reader, Some(ready)), |(mut reader, first)| async move {
        let text = match first {
            Some(ready) => Bytes::from(ready),
            None => next(&mut reader).await,
        };
        Some((Ok::<_, Infallible>(text), (reader, None)))
    });
    let mut response = Response::new(Body::from_stream(told));
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn next(reader: &mut Subscription) -> Bytes {
    match tokio::time::timeout(KEEP_ALIVE, reader.next()).await {
        Ok(events) => events.iter().flat_map(wire).collect::<Vec<u8>>().into(),
        Err(_) => Bytes::from_static(b": still here\n\n"),
    }
}

fn wire(event: &Event) -> Vec<u8> {
    let head = format!("id: {}\nevent: {}\ndata: ", event.cursor, event.topic);
    [head.as_bytes(), &event.data, b"\n\n"].concat()
}

/// None when the query is anything but a list of topics.
fn topics(query: &str) -> Option<Vec<String>> {
    let mut topics = Vec::new();
    let mut given = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let list = pair.strip_prefix("topics=")?;
        if std::mem::replace(&mut given, true) {
            continue;
        }
        topics.extend(
            list.replace("%2C", ",")
                .replace("%2c", ",")
                .split(',')
                .filter(|t| !t.is_empty())
                .map(str::to_owned),
        );
    }
    let good = topics.len() <= MAX_TOPICS && topics.iter().all(|topic| is_topic(topic));
    good.then_some(topics)
}

/// Lower-case words joined by dots.
fn is_topic(text: &str) -> bool {
    text.split('.')
        .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
}

/// A cursor that cannot be one is a fresh start, not an error.
fn cursor(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get("last-event-id")?.to_str().ok()?;
    let is_one = !text.is_empty() && text.len() <= 19 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_one.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        for (query, expected) in [
            ("", Some(vec![])),
            ("topics=", Some(vec![])),
            ("topics=job,model.added", Some(vec!["job", "model.added"])),
            ("topics=job,,model", Some(vec!["job", "model"])),
            ("topics=job%2Cmodel", Some(vec!["job", "model"])),
            ("topics=Job", None),
            ("topics=job%00", None),
            ("topics=job.", None),
            ("topics=../x", None),
            ("token=x", None),
            ("topics=job&x=1", None),
        ] {
            let expected = expected.map(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(topics(query), expected, "{query}");
        }
        assert_eq!(topics(&format!("topics={}", vec!["a"; 33].join(","))), None);
    }

    #[test]
    fn cursors() {
        for (text, expected) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("+1", None),
        ] {
            let headers =
                HeaderMap::from_iter([("last-event-id".parse().unwrap(), HeaderValue::from_static(text))]);
            assert_eq!(cursor(&headers), expected, "{text}");
        }
    }
}
