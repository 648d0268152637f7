//! `GET /events`: the event stream as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! `?topics=job,model` chooses topics, `Last-Event-ID` replays what was missed. The first event is `ready`, with the
//! cursor from which this reader follows; `resync` says that events were missed and the state must be loaded anew.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use pumas_core::contracts;
use pumas_core::events::{Event, EventStream, Subscription};
use serde::Deserialize;
use url::form_urlencoded;

use super::access::Refusal;
use super::routes::refuse;

const KEEP_ALIVE: Duration = Duration::from_secs(20);
const MAX_TOPICS: usize = 32;
const MAX_ECHO: usize = 40;

pub(super) fn serve(events: &EventStream, request: &Request<Body>) -> Response<Body> {
    let topics = match topics(request.uri().query().unwrap_or_default()) {
        Ok(topics) => topics,
        Err(problem) => {
            return refuse(&Refusal {
                status: 400,
                message: problem.into(),
            });
        }
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

#[derive(Deserialize, Default)]
struct Table {
    topics: Vec<String>,
}

fn known() -> &'static [String] {
    static TABLE: LazyLock<Table> =
        LazyLock::new(|| serde_json::from_str(contracts::tables::TOPICS).unwrap_or_default());
    &TABLE.topics
}

/// The topics that the query names, or why nothing of it can be followed: who misspelt one would else wait for ever.
fn topics(query: &str) -> Result<Vec<String>, String> {
    let mut topics = Vec::new();
    for (name, list) in form_urlencoded::parse(query.as_bytes()) {
        if name != "topics" {
            return Err("topics is the only parameter.".to_owned());
        }
        topics.extend(list.split(',').filter(|t| !t.is_empty()).map(str::to_owned));
    }
    if topics.len() > MAX_TOPICS {
        return Err(format!("At most {MAX_TOPICS} topics can be named."));
    }
    let groups: BTreeSet<&str> = known().iter().map(|topic| group(topic)).collect();
    let is_known = |topic: &String| known().contains(topic) || groups.contains(topic.as_str());
    let Some(wrong) = topics.iter().find(|topic| !is_known(topic)) else {
        return Ok(topics);
    };
    let mut there: Vec<&str> = known().iter().map(String::as_str).collect();
    there.retain(|topic| wrong.contains('.') && group(topic) == group(wrong));
    if there.is_empty() {
        there = groups.into_iter().collect();
    }
    let word = if is_plain(wrong) { wrong } else { "of that name" };
    Err(format!("There is no topic {word}, only: {}.", there.join(", ")))
}

fn group(topic: &str) -> &str {
    topic.split_once('.').map_or(topic, |(group, _)| group)
}

/// Nothing is said again that is not a plain word.
fn is_plain(topic: &str) -> bool {
    let mut bytes = topic.bytes().filter(|byte| !b"._".contains(byte)).peekable();
    topic.len() <= MAX_ECHO && bytes.peek().is_some() && bytes.all(|byte| byte.is_ascii_alphanumeric())
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
            ("", vec![]),
            ("topics=", vec![]),
            ("topics=job,model.added", vec!["job", "model.added"]),
            ("topics=job,,model", vec!["job", "model"]),
            ("topics=job%2Cmodel", vec!["job", "model"]),
            ("topics=job&topics=mode%6C", vec!["job", "model"]),
        ] {
            assert_eq!(topics(query).unwrap(), expected, "{query}");
        }
        for (query, word) in [
            ("topics=nope", "topic nope, only: download, install, job,"),
            (
                "topics=job,job.nope",
                "topic job.nope, only: job.progress, job.state.",
            ),
            ("topics=Job", "topic Job, only: download,"),
            ("topics=job%00", "topic of that name, only: download,"),
            ("topics=job.", "topic job., only: job.progress, job.state."),
            ("topics=../x", "topic of that name, only: download,"),
            ("token=x", "topics is the only"),
            ("topics=job&x=1", "topics is the only"),
        ] {
            let problem = topics(query).unwrap_err();
            assert!(problem.contains(word), "{query}: {problem}");
        }
        assert!(topics(&format!("topics={}", vec!["job"; 33].join(","))).is_err());
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
