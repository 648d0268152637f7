//! One run of the server: it owns the root, opens the port and says so, builds the services, serves, and leaves.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use pumas_core::storage::owner::{self, OwnerLock, RpcFile};
use pumas_core::system::tell_load;
use pumas_core::{Error, PumasApi};
use tokio::signal::unix::{SignalKind, signal};

use crate::dispatch::Dispatcher;
use crate::http::{Server, Settings};
use crate::{footprint, logs, methods, params, parent};

/// What clients read in `rpc.json`.
pub const BACKEND: &str = "rust";

const OPEN_FILES: u64 = 16_384;
const FAILED: u8 = 1;
const IN_USE: u8 = 3;
/// How long threads that are in a system call are waited for.
const THREAD_GRACE: Duration = Duration::from_millis(150);
/// The reply that says so is written first.
const STOP_DELAY: Duration = Duration::from_millis(50);
/// Calls are short and mostly wait; more threads would only cost memory.
const MAX_THREADS: usize = 4;
const BLOCKING_THREADS: usize = 32;

/// How to run.
#[derive(Debug)]
pub struct Run {
    /// The launcher root.
    pub root: PathBuf,
    /// How to listen.
    pub settings: Settings,
    /// Log more.
    pub debug: bool,
    /// The process to end with; 0 is none.
    pub parent: u32,
}

/// Run until stopped: 0 stopped, 1 could not start, 3 another sidecar owns the root.
#[must_use]
pub fn run(run: &Run) -> ExitCode {
    allow_many_connections();
    let folder = pumas_core::config::Layout::new(&run.root).logs();
    let log = logs::start(
        Some(&folder),
        run.debug,
        run.settings.token.clone().into_iter().collect(),
    );
    let status = match serve(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Service(error)) => {
            tracing::error!("{error}");
            ExitCode::from(if error.kind() == "root_in_use" {
                IN_USE
            } else {
                FAILED
            })
        }
        Err(Failed::Listening(error)) => {
            let Settings { host, port, .. } = &run.settings;
            tracing::error!("cannot listen on {host} port {port}: {error}");
            ExitCode::from(FAILED)
        }
    };
    log.stop();
    status
}

enum Failed {
    Service(Error),
    Listening(io::Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Service(error)
    }
}

fn serve(run: &Run) -> Result<(), Failed> {
    let threads = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(MAX_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(Failed::Listening)?;
    let served = runtime.block_on(serve_until_stopped(run));
    runtime.shutdown_timeout(THREAD_GRACE);
    served
}

async fn serve_until_stopped(run: &Run) -> Result<(), Failed> {
    let api = Arc::new(PumasApi::new(&run.root)?);
    let lock = own_root(&api)?;
    watch_signals(&api).map_err(Failed::Listening)?;
    let server =
        Server::listen(&run.settings, &api.events, api.layout.uploads()).map_err(Failed::Listening)?;
    if let Some(lock) = &lock {
        lock.tell(server.port());
    }
    // Before the port is told: who reads that may look for the token next.
    write_rpc_file(&api, server.port(), run.settings.token.as_deref());
    announce(server.port());
    parent::watch(run.parent, api.stop.clone());
    api.open().await;
    server.ready(Dispatcher::new(Arc::clone(&api), methods::all()));
    tokio::task::spawn_blocking(|| {
        params::load();
        footprint::settle();
    });
    tokio::spawn(tell_load(Arc::clone(&api.system), api.events.clone()));
    api.stop.asked().await;
    tokio::time::sleep(STOP_DELAY).await;
    api.close().await;
    server.close().await;
    owner::remove_rpc_file(&api.layout);
    let closing = Arc::clone(&api);
    // A disk that hangs is not waited for: the runtime gives its threads a moment, and no more.
    let _ = tokio::time::timeout(
        THREAD_GRACE,
        tokio::task::spawn_blocking(move || closing.close_files_sync()),
    )
    .await;
    Ok(())
}

/// A root that cannot be written can be owned by nobody, so nobody is harmed: reading goes on.
fn own_root(api: &PumasApi) -> Result<Option<OwnerLock>, Error> {
    match OwnerLock::acquire(&api.layout) {
        Ok(lock) => Ok(Some(lock)),
        Err(error @ Error::ReadOnly(_)) => {
            api.troubles
                .report("launcher-data", error.kind(), &error.to_string());
            tracing::warn!("read-only launcher root: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn watch_signals(api: &Arc<PumasApi>) -> io::Result<()> {
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ] {
        let mut arriving = signal(kind)?;
        let stop = api.stop.clone();
        tokio::spawn(async move {
            while arriving.recv().await.is_some() {
                stop.ask();
            }
        });
    }
    Ok(())
}

/// The one line on stdout. A shell that does not listen any more is no reason to stop.
fn announce(port: u16) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "RPC_PORT={port}").and_then(|()| out.flush());
}

fn write_rpc_file(api: &PumasApi, port: u16, token: Option<&str>) {
    let written =
        RpcFile::own(port, token, BACKEND).and_then(|facts| owner::write_rpc_file(&api.layout, &facts));
    if let Err(error) = written {
        api.troubles.report("rpc.json", error.kind(), &error.to_string());
        tracing::warn!("clients cannot find this sidecar by its root: {error}");
    }
}

/// Desktops start programs with room for 1,024 open files; idle connections could use that up.
fn allow_many_connections() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = getrlimit(Resource::Nofile);
    let wanted = limits.maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if limits.current.is_some_and(|now| now < wanted) {
        // Fewer connections are no reason not to start.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum: limits.maximum,
            },
        );
    }
}
