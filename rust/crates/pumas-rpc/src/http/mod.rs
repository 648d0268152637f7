//! The HTTP server: it listens, guards, and hands bodies to the dispatcher once that is ready.
//!
//! The port is open before the services are built, so that a shell learns it at once; calls wait for [`Server::ready`].
//! Order of the checks: framing, Host, Origin, token or user, path, content type and encoding, length, body with a
//! deadline, JSON-RPC.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pumas_core::events::EventStream;
use pumas_core::stop::Stop;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};

use crate::dispatch::Dispatcher;

pub mod access;
mod body;
mod connection;
mod events;
mod head;
mod page;
mod peers;
mod routes;
mod session;
mod uploads;

const BACKLOG: u32 = 2048;
const PORT_TRIES: u32 = 50;
/// How long replies under way may take when the server closes.
const GRACE: Duration = Duration::from_millis(100);
/// How long nothing is accepted when there are too many open files.
const BREATH: Duration = Duration::from_millis(50);

/// How the server listens.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A name or an address.
    pub host: String,
    /// 0 means any that is free.
    pub port: u16,
    /// None means that callers are told apart by the operating-system user alone.
    pub token: Option<String>,
    /// Where the built page is.
    pub page: Option<PathBuf>,
    /// With it a page can get the token once, soon after the start.
    pub session_code: Option<String>,
}

/// A listening server.
pub struct Server {
    port: u16,
    ready: watch::Sender<Option<Arc<Dispatcher>>>,
    closing: Stop,
    /// Held by every connection; the receiver hears of the end of the last one.
    alive: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Server {
    /// Bind and begin to answer. Files that a page hands over go to `uploads`.
    ///
    /// # Errors
    /// The port is taken, or no address of the host is this machine's.
    pub fn listen(settings: &Settings, stream: &EventStream, uploads: PathBuf) -> io::Result<Self> {
        let listeners = bind(&settings.host, settings.port)?;
        let port = listeners
            .first()
            .map_or(Ok(0), |one| one.local_addr().map(|address| address.port()))?;
        let guard = access::Guard::new(port, settings.token.as_deref(), &extra_hosts(&settings.host));
        let (ready, dispatcher) = watch::channel(None);
        let codes = session::SessionCodes::default();
        if let Some(code) = &settings.session_code {
            codes.admit(code.clone());
        }
        let door = routes::Door {
            guard,
            token: settings.token.clone(),
            events: stream.clone(),
            page: page::Page::new(settings.page.clone()),
            codes,
            uploads: uploads::Uploads::new(uploads),
            dispatcher,
        };
        let closing = Stop::default();
        let shared = connection::Shared {
            router: routes::router(Arc::new(door)),
            buffered: Arc::default(),
            closing: closing.clone(),
        };
        let (alive, ended) = mpsc::channel(1);
        for listener in listeners {
            tokio::spawn(accept(listener, shared.clone(), alive.clone()));
        }
        Ok(Self {
            port,
            ready,
            closing,
            alive,
            ended,
        })
    }

    /// The port, the same for every address that the host stands for.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on calls are answered.
    pub fn ready(&self, dispatcher: Dispatcher) {
        self.ready.send_replace(Some(Arc::new(dispatcher)));
    }

    /// Stop listening, end event streams, give replies under way a moment.
    pub async fn close(mut self) {
        self.closing.ask();
        drop((self.alive, self.ready));
        let _ = tokio::time::timeout(GRACE, self.ended.recv()).await;
    }
}

async fn accept(listener: TcpListener, shared: connection::Shared, alive: mpsc::Sender<()>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.closing.asked() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (shared, alive) = (shared.clone(), alive.clone());
                tokio::spawn(async move {
                    connection::serve(stream, shared).await;
                    drop(alive);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {}", error.kind());
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// One listener per address of the host, all with one port; 0 means any that is free for all of them.
fn bind(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let addresses = addresses(host, port)?;
    for tries_left in (0..PORT_TRIES).rev() {
        match bind_all(&addresses, port) {
            Ok(listeners) if listeners.is_empty() => break,
            // The port that the system chose for the first address is taken at another one.
            Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse && tries_left > 0 => {}
            other => return other,
        }
    }
    Err(io::ErrorKind::AddrNotAvailable.into())
}

fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let mut found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn bind_all(addresses: &[SocketAddr], port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for address in addresses {
        let port = listeners
            .first()
            .map_or(Ok(port), |one| one.local_addr().map(|address| address.port()))?;
        match bind_one(SocketAddr::new(address.ip(), port)) {
            Ok(listener) => listeners.push(listener),
            // An address that this machine does not have, as `::1` where IPv6 is switched off.
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

fn is_missing(error: &io::Error) -> bool {
    let family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(family)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Elsewhere the option would let another program take the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    #[cfg(unix)]
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The IP literals under which a server that listens on `host` can be reached, besides loopback. Names are not among
/// them: a foreign name that resolves to us is exactly what DNS rebinding uses.
fn extra_hosts(host: &str) -> Vec<String> {
    if access::LOOPBACK_NAMES.contains(&host) {
        return Vec::new();
    }
    if !matches!(host, "" | "0.0.0.0" | "::") {
        return vec![host.to_lowercase()];
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let found = (name.as_str(), 0)
        .to_socket_addrs()
        .map(|all| all.map(|one| one.ip()).collect::<Vec<IpAddr>>());
    let mut texts: Vec<String> = found.unwrap_or_default().iter().map(IpAddr::to_string).collect();
    texts.sort();
    texts.dedup();
    texts
}
