//! One JSON-RPC message in, one reply out (<https://www.jsonrpc.org/specification>). Knows nothing of HTTP.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use pumas_core::PumasApi;
use serde_json::{Map, Value};

use crate::jsontext::{Refused, decode};
use crate::registry::{Methods, Row};
use crate::reply::Text;
use crate::wire::{Problem, WireError};

/// Calls in one batch.
pub const MAX_BATCH: usize = 100;
/// Calls that are worked on at one time.
pub const MAX_IN_FLIGHT: usize = 64;
/// A call that has not answered by then is answered for. Long work is a job, so this is only met by a bug or a dead
/// disk.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A larger text takes long to read: a thread does that beside the other calls.
const LARGE_BODY: usize = 64 * 1024;

/// Answers messages with the rows of a table.
pub struct Dispatcher {
    api: Arc<PumasApi>,
    methods: Methods,
    in_flight: AtomicUsize,
}

/// A place among those that are worked on, given back however the call ends.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dispatcher {
    /// The rows work on `api`.
    #[must_use]
    pub fn new(api: Arc<PumasApi>, methods: Methods) -> Self {
        Self {
            api,
            methods,
            in_flight: AtomicUsize::new(0),
        }
    }

    /// The reply's text, or None when there is nothing to say (notifications).
    pub async fn reply(&self, body: bytes::Bytes) -> Option<Text> {
        let message = if body.len() <= LARGE_BODY {
            decode(&body)
        } else {
            let read = tokio::task::spawn_blocking(move || decode(&body)).await;
            read.unwrap_or_else(|_| Err(Refused::Text("the text cannot be read".into())))
        };
        match message {
            Ok(Value::Array(messages)) => self.batch(messages).await,
            Ok(message) => self.one(message).await,
            Err(Refused::Number {
                reason,
                without_numbers,
            }) => {
                let error = WireError::invalid_params(&[Problem::new("", reason)]);
                Some(failed(&error, &usable_id(&without_numbers)).into())
            }
            Err(Refused::Text(reason)) => Some(failed(&WireError::parse(&reason), &Value::Null).into()),
        }
    }

    async fn batch(&self, messages: Vec<Value>) -> Option<Text> {
        if messages.is_empty() {
            let error = WireError::invalid_request("the batch is empty");
            return Some(failed(&error, &Value::Null).into());
        }
        if messages.len() > MAX_BATCH {
            let detail = format!("a batch may hold at most {MAX_BATCH} calls");
            return Some(failed(&WireError::invalid_request(&detail), &Value::Null).into());
        }
        let mut out = Text::default();
        for message in messages {
            if let Some(answer) = self.one(message).await {
                out.push(if out.is_empty() { b"[" } else { b"," });
                out.append(answer);
            }
        }
        if out.is_empty() {
            return None;
        }
        out.push(b"]");
        Some(out)
    }

    async fn one(&self, message: Value) -> Option<Text> {
        let call = match Call::read(message) {
            Ok(call) => call,
            Err(refused) => return Some(failed(&refused.0, &refused.1).into()),
        };
        let answer = match call.params {
            Some(params) => self.run(&call.method, params).await,
            None => {
                let reason = "parameters are named: params must be an object";
                Err(WireError::invalid_params(&[Problem::new("", reason)]))
            }
        };
        let id = call.id?;
        Some(match answer {
            Ok(result) => succeeded(result, &id),
            Err(error) => failed(&error, &id).into(),
        })
    }

    async fn run(&self, name: &str, params: Map<String, Value>) -> Result<Text, WireError> {
        let row = self.methods.get(name);
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.in_flight);
        if before >= MAX_IN_FLIGHT && !row.is_some_and(Row::is_builtin) {
            return Err(WireError::busy(&format!(
                "{MAX_IN_FLIGHT} calls are in flight; try again in a moment"
            )));
        }
        let Some(row) = row else {
            return Err(WireError::method_not_found(name));
        };
        let work = AssertUnwindSafe(row.call(Arc::clone(&self.api), params)).catch_unwind();
        match tokio::time::timeout(CALL_TIMEOUT, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                tracing::error!("{name} failed by a bug");
                Err(WireError::internal())
            }
            Err(_) => {
                tracing::error!("{name} gave no answer in {} s", CALL_TIMEOUT.as_secs());
                Err(WireError::busy(&format!(
                    "{name} took longer than {} s",
                    CALL_TIMEOUT.as_secs()
                )))
            }
        }
    }
}

/// A message that is a call. `id` None is a notification, `params` None are parameters that are no object.
struct Call {
    method: String,
    params: Option<Map<String, Value>>,
    id: Option<Value>,
}

impl Call {
    fn read(message: Value) -> Result<Self, Box<(WireError, Value)>> {
        let Value::Object(mut message) = message else {
            return Err(Box::new((
                WireError::invalid_request("a call is a JSON object"),
                Value::Null,
            )));
        };
        if let Some(problem) = envelope_problem(&message) {
            return Err(Box::new((
                WireError::invalid_request(problem),
                usable_id(&Value::Object(message)),
            )));
        }
        let method = match message.remove("method") {
            Some(Value::String(method)) => method,
            _ => String::new(),
        };
        let params = match message.remove("params") {
            None | Some(Value::Null) => Some(Map::new()),
            Some(Value::Object(params)) => Some(params),
            Some(_) => None,
        };
        Ok(Self {
            method,
            params,
            id: message.remove("id"),
        })
    }
}

fn envelope_problem(message: &Map<String, Value>) -> Option<&'static str> {
    // Older clients leave the version out; a wrong one is a different protocol.
    if message.get("jsonrpc").is_some_and(|version| version != "2.0") {
        return Some("jsonrpc must be \"2.0\"");
    }
    if message
        .get("method")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        return Some("method must be a non-empty string");
    }
    let id_is_one = message.get("id").is_none_or(is_id);
    (!id_is_one).then_some("id must be a string, a number or null")
}

fn is_id(value: &Value) -> bool {
    matches!(value, Value::Null | Value::String(_) | Value::Number(_))
}

fn usable_id(message: &Value) -> Value {
    message
        .get("id")
        .filter(|id| is_id(id))
        .cloned()
        .unwrap_or_default()
}

fn succeeded(result: Text, id: &Value) -> Text {
    let mut out = Text::from(b"{\"jsonrpc\":\"2.0\",\"result\":".to_vec());
    out.append(result);
    out.push(format!(",\"id\":{id}}}").as_bytes());
    out
}

fn failed(error: &WireError, id: &Value) -> Vec<u8> {
    serde_json::json!({"jsonrpc": "2.0", "error": error, "id": id})
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{NoParams, row};
    use http_body_util::BodyExt as _;
    use pumas_core::stop::Stop;
    use serde_json::json;

    async fn ask(body: &[u8]) -> Option<Value> {
        let api = Arc::new(PumasApi::new("/nowhere").unwrap());
        let dispatcher = Dispatcher::new(api, crate::methods::all());
        let answer = dispatcher.reply(bytes::Bytes::copy_from_slice(body)).await;
        assert_eq!(dispatcher.in_flight.load(Ordering::Relaxed), 0);
        match answer {
            Some(text) => Some(read(text).await),
            None => None,
        }
    }

    async fn read(text: Text) -> Value {
        let text = text.collect().await.unwrap().to_bytes();
        serde_json::from_slice(&text).unwrap()
    }

    #[tokio::test]
    async fn envelopes() {
        let cases: &[(&[u8], i64, Value)] = &[
            (b"", -32700, json!(null)),
            (b"nonsense", -32700, json!(null)),
            (b"1", -32600, json!(null)),
            (b"[]", -32600, json!(null)),
            (br#"{"jsonrpc":"1.0","method":"x","id":1}"#, -32600, json!(1)),
            (br#"{"jsonrpc":null,"method":"x","id":1}"#, -32600, json!(1)),
            (br#"{"id":"a"}"#, -32600, json!("a")),
            (br#"{"method":"","id":1}"#, -32600, json!(1)),
            (br#"{"method":"x","id":true}"#, -32600, json!(null)),
            (br#"{"method":"x","id":{}}"#, -32600, json!(null)),
            (br#"{"method":"nope","id":1.5}"#, -32601, json!(1.5)),
            (
                br#"{"method":"health_check","params":[],"id":1}"#,
                -32602,
                json!(1),
            ),
            (
                br#"{"method":"health_check","params":0,"id":1}"#,
                -32602,
                json!(1),
            ),
            (
                br#"{"method":"x","params":{"a":1e999},"id":"z"}"#,
                -32602,
                json!("z"),
            ),
            (
                br#"{"method":"x","id":99999999999999999999}"#,
                -32602,
                json!(null),
            ),
        ];
        for (body, code, id) in cases {
            let answer = ask(body).await.unwrap();
            assert_eq!(
                (&answer["error"]["code"], &answer["id"]),
                (&json!(code), id),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }

    #[tokio::test]
    async fn notifications_and_batches() {
        for silent in [
            r#"{"method":"health_check"}"#,
            r#"{"method":"nope"}"#,
            r#"{"method":"nope","params":[1]}"#,
        ] {
            assert_eq!(ask(silent.as_bytes()).await, None);
            assert_eq!(ask(format!("[{silent},{silent}]").as_bytes()).await, None);
        }
        let junk = ask(b"[1,2,3]").await.unwrap();
        assert_eq!(junk.as_array().unwrap().len(), 3);
        let mixed = ask(br#"[{"method":"health_check","id":null},{"method":"health_check"},1]"#)
            .await
            .unwrap();
        assert_eq!(
            mixed[0],
            json!({"jsonrpc": "2.0", "result": {"status": "ok"}, "id": null})
        );
        assert_eq!(mixed.as_array().unwrap().len(), 2);
        let many = vec!["1"; MAX_BATCH + 1].join(",");
        assert_eq!(
            ask(format!("[{many}]").as_bytes()).await.unwrap()["error"]["code"],
            -32600
        );
    }

    #[tokio::test]
    async fn health_check_ignores_parameters() {
        let answer = ask(br#"{"method":"health_check","params":{"self":2},"id":7}"#)
            .await
            .unwrap();
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "result": {"status": "ok"}, "id": 7})
        );
    }

    /// Rows that wait for the test, panic, and say that they are there; only their names are the contract's.
    fn bench(gate: &Stop) -> Arc<Dispatcher> {
        let gate = gate.clone();
        let wait = move |_, _: NoParams| {
            let gate = gate.clone();
            async move {
                gate.asked().await;
                Ok(true)
            }
        };
        let rows = vec![
            row("check_git", wait),
            row("check_brave", |_, _: NoParams| async {
                assert!(std::env::args().count() == 0, "secret");
                Ok(true)
            }),
            row("health_check", |_, _: NoParams| async { Ok("here") }),
        ];
        let api = Arc::new(PumasApi::new("/nowhere").unwrap());
        Arc::new(Dispatcher::new(api, Methods::new(rows)))
    }

    async fn call(dispatcher: &Dispatcher, method: &str) -> Value {
        let body = json!({"method": method, "id": method}).to_string();
        read(dispatcher.reply(body.into()).await.unwrap()).await
    }

    #[tokio::test]
    async fn sixty_four_in_flight_then_busy_at_once() {
        let gate = Stop::default();
        let dispatcher = bench(&gate);
        let begin = || {
            let dispatcher = Arc::clone(&dispatcher);
            tokio::spawn(async move { call(&dispatcher, "check_git").await })
        };
        let waiting: Vec<_> = (0..MAX_IN_FLIGHT).map(|_| begin()).collect();
        while dispatcher.in_flight.load(Ordering::Relaxed) < MAX_IN_FLIGHT {
            tokio::task::yield_now().await;
        }
        let refused = call(&dispatcher, "check_git").await;
        assert_eq!(
            (&refused["error"]["code"], &refused["id"]),
            (&json!(-32000), &json!("check_git"))
        );
        assert_eq!(call(&dispatcher, "nope").await["error"]["code"], -32000);
        assert_eq!(call(&dispatcher, "health_check").await["result"], "here");
        gate.ask();
        for one in waiting {
            assert_eq!(one.await.unwrap()["result"], true);
        }
        assert_eq!(call(&dispatcher, "check_git").await["result"], true);
        assert_eq!(dispatcher.in_flight.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_bug_tells_nothing_and_gives_its_place_back() {
        let dispatcher = bench(&Stop::default());
        for _ in 0..=MAX_IN_FLIGHT {
            let answer = call(&dispatcher, "check_brave").await;
            assert_eq!(answer["error"], json!(WireError::internal()));
        }
        assert_eq!(dispatcher.in_flight.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_ends_is_answered_for() {
        let dispatcher = bench(&Stop::default());
        let answer = call(&dispatcher, "check_git").await;
        assert_eq!(answer["error"]["data"]["kind"], "busy");
        assert_eq!(dispatcher.in_flight.load(Ordering::Relaxed), 0);
    }
}
