//! What is served where: `POST /rpc`, `GET /health`, `GET /events`, the page, and the checks before any of them.
//!
//! Up to the length a refusal is an HTTP status; after it everything is a JSON-RPC reply with HTTP 200. Two things need no
//! token, since they are how a page in a browser gets it: the page's own files, which hold no secret, and `POST /session`,
//! which takes a code instead.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::any;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use pumas_core::events::EventStream;
use tokio::sync::watch;

use super::access::{Guard, Refusal, check_content, opens_a_page};
use super::body::{BodyFailure, RequestBody};
use super::connection::{Ends, Target};
use super::page::Page;
use super::session::SessionCodes;
use super::uploads::Uploads;
use super::{events, peers};
use crate::dispatch::Dispatcher;

const MAX_BODY: usize = 32 * 1024 * 1024;
const MAX_SESSION: usize = 1024;
const WITH_QUERY: [&str; 2] = ["/events", "/uploads"];

const NOT_FOUND: Refusal = Refusal::new(404, "Not found.");
const NOT_OUR_USER: Refusal = Refusal::new(
    403,
    "Forbidden: this server answers only programs of the user who started it.",
);
const OLD_CODE: Refusal = Refusal::new(
    403,
    "Forbidden: this code was used, or is too old. Open the page anew.",
);

/// What the handlers work with.
pub(super) struct Door {
    pub(super) guard: Guard,
    pub(super) token: Option<String>,
    pub(super) events: EventStream,
    pub(super) page: Page,
    pub(super) codes: SessionCodes,
    pub(super) uploads: Uploads,
    /// None until the services are there: calls wait for them.
    pub(super) dispatcher: watch::Receiver<Option<Arc<Dispatcher>>>,
}

const NO_CODE: Refusal = Refusal::new(
    503,
    "This system gives no random numbers, so no code can be made.",
);

type Asked = Request<Body>;
type Answer = Response<Body>;

pub(super) fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/rpc", any(rpc))
        .route("/health", any(health))
        .route("/events", any(event_stream))
        .route("/uploads", any(upload))
        .route("/session", any(session))
        .route("/session/code", any(session_code))
        .fallback(page)
        .layer(from_fn_with_state(Arc::clone(&door), check_access))
        .with_state(door)
}

async fn check_access(State(door): State<Arc<Door>>, request: Asked, next: Next) -> Answer {
    match access(&door, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refuse(&refusal),
    }
}

fn access(door: &Door, request: &Asked) -> Result<(), Refusal> {
    let target = target(request);
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let for_page = reads && Page::has(target);
    let without_token = for_page || (request.method() == Method::POST && target == "/session");
    let as_tab = for_page && target == "/" && opens_a_page(request.method(), request.headers());
    door.guard.check(request.headers(), without_token, as_tab)?;
    if door.guard.needs_token() {
        Ok(())
    } else {
        check_user(request)
    }
}

/// Once per connection: only programs of our own user may call without a token.
fn check_user(request: &Asked) -> Result<(), Refusal> {
    let ends = request.extensions().get::<Ends>();
    let is_us = ends.is_some_and(|ends| {
        *ends
            .is_us
            .get_or_init(|| peers::peer_is_us(ends.peer, ends.local))
    });
    if is_us { Ok(()) } else { Err(NOT_OUR_USER) }
}

fn target(request: &Asked) -> &str {
    request
        .extensions()
        .get::<Target>()
        .map_or("", |target| &target.0)
}

/// Answers for a route that is asked in another way than by `method` for exactly its path.
fn turned_away(request: &Asked, path: &str, method: &Method) -> Option<Answer> {
    let (asked, query) = target(request).split_once('?').unwrap_or((target(request), ""));
    if target(request) != path && (asked != path || query.is_empty() || !WITH_QUERY.contains(&path)) {
        return Some(refuse(&NOT_FOUND));
    }
    wrong_method(request.method(), path, &[method])
}

fn wrong_method(asked: &Method, path: &str, methods: &[&Method]) -> Option<Answer> {
    if methods.contains(&asked) {
        return None;
    }
    let names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    let mut response = if *asked == Method::OPTIONS {
        // No CORS headers: pages of other origins were refused before, and our own need none.
        Response::new(Body::empty())
    } else {
        refuse(&Refusal {
            status: 405,
            message: format!("Use {} for {path}.", names.join(" or ")).into(),
        })
    };
    let allowed = format!("{}, OPTIONS", names.join(", "));
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    Some(response)
}

async fn health(request: Asked) -> Answer {
    turned_away(&request, "/health", &Method::GET).unwrap_or_else(|| json(Body::from("{\"status\":\"ok\"}")))
}

async fn event_stream(State(door): State<Arc<Door>>, request: Asked) -> Answer {
    turned_away(&request, "/events", &Method::GET).unwrap_or_else(|| events::serve(&door.events, &request))
}

async fn rpc(State(door): State<Arc<Door>>, request: Asked) -> Answer {
    if let Some(answer) = turned_away(&request, "/rpc", &Method::POST) {
        return answer;
    }
    let body = match json_body(request, MAX_BODY).await {
        Ok(body) => body,
        Err(failure) => return failed_body(&failure),
    };
    let mut waiting = door.dispatcher.clone();
    let Ok(dispatcher) = waiting.wait_for(Option::is_some).await.map(|ready| ready.clone()) else {
        return gone();
    };
    let Some(dispatcher) = dispatcher else {
        return gone();
    };
    match dispatcher.reply(body).await {
        Some(reply) => json(Body::new(reply)),
        None => status(StatusCode::NO_CONTENT, Body::empty()),
    }
}

/// The bytes of a file in, `{"path": …}` out.
async fn upload(State(door): State<Arc<Door>>, request: Asked) -> Answer {
    if let Some(answer) = turned_away(&request, "/uploads", &Method::POST) {
        return answer;
    }
    let Some(body) = request.extensions().get::<RequestBody>() else {
        return gone();
    };
    let query = target(&request).split_once('?').map_or("", |(_, query)| query);
    match door.uploads.receive(request.headers(), query, body).await {
        Ok(path) => {
            let mut response = json(
                serde_json::json!({ "path": path.to_string_lossy() })
                    .to_string()
                    .into(),
            );
            *response.status_mut() = StatusCode::CREATED;
            response
        }
        Err(failure) => failed_body(&failure),
    }
}

/// `{"code": …}` in, `{"token": …}` out; null where none is needed.
async fn session(State(door): State<Arc<Door>>, request: Asked) -> Answer {
    if let Some(answer) = turned_away(&request, "/session", &Method::POST) {
        return answer;
    }
    let body = match json_body(request, MAX_SESSION).await {
        Ok(body) => body,
        Err(failure) => return failed_body(&failure),
    };
    let message: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let known = message
        .get("code")
        .and_then(serde_json::Value::as_str)
        .is_some_and(|code| door.codes.redeem(code));
    if door.token.is_some() && !known {
        return refuse(&OLD_CODE);
    }
    json(serde_json::json!({ "token": door.token }).to_string().into())
}

/// A new code, for who has the token: `{"code": …}`.
async fn session_code(State(door): State<Arc<Door>>, request: Asked) -> Answer {
    if let Some(answer) = turned_away(&request, "/session/code", &Method::POST) {
        return answer;
    }
    match json_body(request, MAX_SESSION).await {
        Ok(_) => door.codes.issue().map_or_else(
            || refuse(&NO_CODE),
            |code| json(serde_json::json!({ "code": code }).to_string().into()),
        ),
        Err(failure) => failed_body(&failure),
    }
}

async fn page(State(door): State<Arc<Door>>, request: Asked) -> Answer {
    let path = target(&request).to_owned();
    if !Page::has(&path) {
        return refuse(&NOT_FOUND);
    }
    match wrong_method(request.method(), &path, &[&Method::GET, &Method::HEAD]) {
        Some(answer) => answer,
        None => door.page.serve(&path, request.headers()).await,
    }
}

async fn json_body(request: Asked, limit: usize) -> Result<Bytes, BodyFailure> {
    check_content(request.headers())?;
    let Some(body) = request.extensions().get::<RequestBody>().cloned() else {
        return Err(BodyFailure::Gone);
    };
    body.check_length(limit).await?;
    body.read(limit).await
}

fn failed_body(failure: &BodyFailure) -> Answer {
    match failure {
        BodyFailure::Refused(refusal) => refuse(refusal),
        BodyFailure::Gone => gone(),
    }
}

/// Nobody reads it.
fn gone() -> Answer {
    refuse(&Refusal::new(400, "The request ended early."))
}

fn status(status: StatusCode, body: Body) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn json(body: Body) -> Answer {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A refused request may have a body that nobody reads, so its connection ends.
pub(super) fn refuse(refusal: &Refusal) -> Answer {
    let text = Body::from(refusal.message.clone().into_owned());
    let code = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = status(code, text);
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if code == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
