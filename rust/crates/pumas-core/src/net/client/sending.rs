//! What happens to a request: offline mode, mirrors, gates, breakers, attempts, redirects, in this order.
//!
//! A request carries its token to the host it was meant for and to no other: not to a redirect's target, not to a mirror.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, Method, header};
use jiff::Timestamp;

use super::{NetworkClient, Request};
use crate::error::{Error, Result};
use crate::net::address::Address;
use crate::net::hosts::Host;
use crate::net::ratelimit::{quota_of, told};
use crate::net::response::Response;
use crate::net::retry::{ATTEMPTS, error_passes, is_idempotent, jitter, spread, status_passes};

const MAX_REDIRECTS: u32 = 5;
const SECRET: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// Send it, over all its attempts; an answer that means failure is an answer here.
pub(super) async fn exchange(client: &NetworkClient, request: Request) -> Result<Response> {
    let exchange = Exchange {
        client,
        request,
        at: None,
        down: false,
        was_trial: false,
    };
    exchange.counted().await
}

/// One call of `send`, over all its attempts.
struct Exchange<'a> {
    client: &'a NetworkClient,
    request: Request,
    /// The host that was asked last, with or without a redirect.
    at: Option<Arc<Host>>,
    /// Whether that host failed. One that asks to come back later did not.
    down: bool,
    was_trial: bool,
}

/// What goes where.
struct Hop {
    method: Method,
    address: Address,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl Exchange<'_> {
    /// Send it, and tell the breaker and the counters how it ended: once, after all attempts.
    async fn counted(mut self) -> Result<Response> {
        let asked = self.asked();
        let outcome = self.repeated().await;
        match &outcome {
            Ok(response) if !response.failed() => asked.count(|counted| counted.succeeded += 1),
            Ok(response) => {
                self.blame(&response.failure());
                asked.count(|counted| counted.failed += 1);
            }
            Err(Error::CircuitOpen { .. }) => asked.count(|counted| counted.rejected += 1),
            Err(Error::Offline { .. } | Error::RateLimited { .. }) => {
                asked.count(|counted| counted.withheld += 1);
            }
            Err(Error::Interrupted(_) | Error::Cancelled(_) | Error::InvalidInput { .. }) => {}
            Err(error) => {
                self.blame(error);
                asked.count(|counted| counted.failed += 1);
            }
        }
        outcome
    }

    fn asked(&self) -> Arc<Host> {
        let address = self.client.way().mirrors.apply(&self.request.address);
        self.client.shared.hosts.get(&address.origin)
    }

    fn blame(&self, error: &Error) {
        let Some(host) = &self.at else { return };
        host.blame(error);
        if self.down && host.breaker.failed(Instant::now()) {
            self.client.tell();
        }
    }

    async fn repeated(&mut self) -> Result<Response> {
        let asked = self.asked();
        let repeats = self.request.retry && is_idempotent(&self.request.method);
        for number in 1.. {
            let outcome = self.attempt().await;
            let passes = match &outcome {
                Ok(response) => status_passes(response.status),
                Err(error) => error_passes(error),
            };
            let wait = match &outcome {
                Ok(Response { wait: Some(wait), .. }) => spread(*wait),
                _ => jitter(number),
            };
            if !repeats || !passes || number >= ATTEMPTS || wait > self.request.patience || self.was_trial {
                return outcome;
            }
            let reason = match outcome {
                Err(error) => error.to_string(),
                Ok(response) => {
                    let failure = response.failure().to_string();
                    response.drain().await;
                    failure
                }
            };
            self.pause(wait, &reason).await;
            asked.count(|counted| counted.retries += 1);
        }
        Err(Error::Bug(
            "the attempts of a request ended without an outcome".to_owned(),
        ))
    }

    /// Follow the redirects of one attempt to its answer.
    async fn attempt(&mut self) -> Result<Response> {
        let request = &self.request;
        let mut hop = Hop {
            method: request.method.clone(),
            address: request.address.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
        };
        for _ in 0..=MAX_REDIRECTS {
            let (response, asked) = self.hop(&hop).await?;
            let location = response.header("location").to_owned();
            let redirects = matches!(response.status, 301 | 302 | 303 | 307 | 308) && !location.is_empty();
            if !self.request.follow || !redirects {
                return match self.request.preload {
                    Some(limit) if !response.failed() => response.preload(limit).await,
                    _ => Ok(response),
                };
            }
            let status = response.status;
            response.drain().await;
            hop = next(hop, &asked, status, &location)?;
        }
        let host = hop.address.origin.netloc();
        Err(Error::InvalidReply {
            host,
            reason: "it redirects too often".to_owned(),
        })
    }

    /// Ask one host once; also answers the address that was really asked.
    async fn hop(&mut self, hop: &Hop) -> Result<(Response, Address)> {
        let way = self.client.way();
        let asked = way.mirrors.apply(&hop.address);
        if way.offline {
            return Err(Error::Offline {
                host: asked.origin.netloc(),
            });
        }
        let same = asked.origin == hop.address.origin;
        let headers = if same {
            hop.headers.clone()
        } else {
            without_secrets(&hop.headers)
        };
        let host = self.client.shared.hosts.get(&asked.origin);
        self.at = Some(Arc::clone(&host));
        self.down = false;
        self.pass_gate(&host, &asked).await?;
        self.was_trial = host.breaker.admit(&host.origin.netloc(), Instant::now())?;
        if self.was_trial {
            self.client.tell();
        }
        let trial = Trial {
            host: &host,
            settled: !self.was_trial,
        };
        let read = self.request.timeouts.read;
        let sent = way
            .transport
            .send(&hop.method, &asked, &headers, hop.body.as_deref(), read)
            .await;
        trial.settle();
        let raw = sent.inspect_err(|_| self.down = true)?;
        let closed = self.client.shared.closed.clone();
        let mut response = Response::new(raw, asked.url(), Arc::clone(&host), read, closed);
        response.wait = told(response.status, &response.headers, Timestamp::now());
        if let Some(wait) = response.wait {
            host.gates.shut(quota_of(&asked), Instant::now() + wait);
        }
        if response.status >= 500 && response.wait.is_none() {
            self.down = true;
        } else if host.breaker.succeeded() {
            self.client.tell();
        }
        Ok((response, asked))
    }

    async fn pass_gate(&mut self, host: &Host, address: &Address) -> Result<()> {
        loop {
            let wait = host.gates.wait(quota_of(address), Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            let netloc = host.origin.netloc();
            if !self.request.retry || wait > self.request.patience {
                return Err(Error::RateLimited {
                    host: netloc,
                    retry_after_s: wait.as_secs_f64(),
                });
            }
            self.pause(spread(wait), &format!("{netloc} allows no more requests now"))
                .await;
        }
    }

    async fn pause(&mut self, wait: Duration, reason: &str) {
        self.request.patience = self.request.patience.saturating_sub(wait);
        if let Some(on_wait) = &self.request.on_wait {
            on_wait(wait, reason);
        }
        tokio::time::sleep(wait).await;
    }
}

/// A trial whose caller gives up tells nothing about the host.
struct Trial<'a> {
    host: &'a Host,
    settled: bool,
}

impl Trial<'_> {
    fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.host.breaker.abandoned();
        }
    }
}

fn without_secrets(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for name in &SECRET {
        kept.remove(name);
    }
    kept
}

/// Where an answer of `asked` redirects to.
fn check_redirect(asked: &Address, location: &str) -> Result<Address> {
    let invalid = |reason: String| Error::InvalidReply {
        host: asked.origin.netloc(),
        reason,
    };
    let address = asked.join(location.trim()).map_err(|error| {
        invalid(format!(
            "it redirects to an address that cannot be used ({error})"
        ))
    })?;
    if asked.url().starts_with("https:") && address.url().starts_with("http:") {
        return Err(invalid("it redirects to a place without encryption".to_owned()));
    }
    if address.origin.is_loopback() && !asked.origin.is_loopback() {
        return Err(invalid("it redirects into this machine".to_owned()));
    }
    Ok(address)
}

/// The hop that a redirect asks for.
fn next(hop: Hop, asked: &Address, status: u16, location: &str) -> Result<Hop> {
    let address = check_redirect(asked, location)?;
    let same = address.origin == hop.address.origin && hop.address.origin == asked.origin;
    let mut headers = if same {
        hop.headers
    } else {
        without_secrets(&hop.headers)
    };
    // RFC 9110 15.4: 303 always, 301 and 302 by long habit for POST.
    let becomes_get = (status == 303 && hop.method != Method::HEAD)
        || (matches!(status, 301 | 302) && hop.method == Method::POST);
    if !becomes_get {
        return Ok(Hop {
            method: hop.method,
            address,
            headers,
            body: hop.body,
        });
    }
    let of_content: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("content-"))
        .cloned()
        .collect();
    for name in of_content {
        headers.remove(name);
    }
    Ok(Hop {
        method: Method::GET,
        address,
        headers,
        body: None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::settings::NetworkSettings;
    use crate::storage::locked;

    /// A server that gives each connection the next answer and keeps what was asked.
    async fn server(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (base, heard) = (url.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let size = stream.read(&mut head).await.unwrap();
                locked(&heard).push(String::from_utf8_lossy(&head[..size]).to_lowercase());
                stream
                    .write_all(answer.replace("$base", &base).as_bytes())
                    .await
                    .unwrap();
            }
        });
        (url, asked)
    }

    fn answer(head: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn client() -> NetworkClient {
        NetworkClient::new(&NetworkSettings::default()).unwrap()
    }

    #[tokio::test]
    async fn passing_failures_are_tried_again_and_counted_once() {
        let (url, _) = server(vec![answer("503 Busy", ""), answer("200 OK", "{\"a\":1}")]).await;
        let client = client();
        let mut found = client.send(client.get(&url).unwrap()).await.unwrap();
        assert_eq!(found.json::<serde_json::Value>().await.unwrap()["a"], 1);
        let counted = client.status().counted;
        assert_eq!((counted.total(), counted.retries, counted.received), (1, 1, 7));
    }

    #[tokio::test]
    async fn redirects_are_followed_without_secrets_elsewhere() {
        let (other, heard) = server(vec![answer("200 OK", "x")]).await;
        let (url, first) = server(vec![answer(&format!("302 Found\r\nLocation: {other}/y"), "")]).await;
        let client = client();
        let request = client
            .get(&url)
            .unwrap()
            .header("Authorization", "Bearer secret")
            .unwrap();
        let found = client.send(request).await.unwrap();
        assert_eq!(found.url, format!("{other}/y"));
        assert!(locked(&first)[0].contains("bearer secret") && !locked(&heard)[0].contains("secret"));
    }

    #[tokio::test]
    async fn what_is_refused_is_an_error_with_its_meaning() {
        let (url, _) = server(vec![answer("404 Not Found", ""), answer("200 OK", "<html>")]).await;
        let client = client();
        let missing = client.send(client.get(&url).unwrap()).await.err().unwrap();
        assert!(
            missing.to_string().ends_with("has no such thing (HTTP 404)."),
            "{missing}"
        );
        let mut page = client.send(client.get(&url).unwrap()).await.unwrap();
        let error = page.json::<serde_json::Value>().await.unwrap_err();
        assert!(error.to_string().contains("a web page came"), "{error}");
    }

    #[tokio::test]
    async fn offline_nothing_is_sent_and_a_dead_host_is_left_alone() {
        let client = client();
        let port = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let url = format!("http://127.0.0.1:{port}/");
        let ask = || client.send(client.get(&url).unwrap().once());
        for _ in 0..3 {
            let error = ask().await.err().unwrap();
            assert_eq!(
                error.to_string(),
                format!("127.0.0.1:{port} refused the connection.")
            );
        }
        assert!(matches!(ask().await, Err(Error::CircuitOpen { .. })));
        assert!(client.status().is_offline() && client.wait_for(&url).unwrap() > Duration::from_secs(50));
        client
            .configure(&NetworkSettings {
                offline: true,
                ..NetworkSettings::default()
            })
            .unwrap();
        assert!(matches!(ask().await, Err(Error::Offline { .. })));
        let counted = client.status().counted;
        assert_eq!((counted.failed, counted.rejected, counted.withheld), (3, 1, 1));
        client.close();
        assert!(matches!(
            ask().await,
            Err(Error::Interrupted(_) | Error::Offline { .. })
        ));
    }
}
