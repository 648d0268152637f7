"""Builds the running sidecar: opens what it needs, connects the services, registers the rows, starts and stops them.

The one place that knows all domains. A new domain is one folder, and its lines in `build_services` and `domains`.
The port is announced before the domains and pydantic are imported; calls that arrive earlier wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pumas import footprint, logs
from pumas.config import Layout, ServerSettings
from pumas.errors import PumasError, ReadOnly
from pumas.events.stream import EventStream
from pumas.parent import ParentWatch
from pumas.rpc.http import HttpServer
from pumas.rpc.session import SessionCodes
from pumas.rpc.uploads import Uploads
from pumas.storage.owner import OwnerLock, own_rpc_file, remove_rpc_file, write_rpc_file
from pumas.storage.troubles import Troubles

if TYPE_CHECKING:
    from pumas.adoption.service import AdoptionService
    from pumas.desktop.service import DesktopService
    from pumas.downloads.service import DownloadService
    from pumas.hub.service import HubService
    from pumas.jobs.service import JobService
    from pumas.library.service import LibraryService
    from pumas.links.service import LinkService
    from pumas.net.service import NetworkService
    from pumas.nodes.service import NodeService
    from pumas.processes.patching import Patching
    from pumas.processes.service import ProcessService
    from pumas.processes.status import AppsStatus
    from pumas.rpc.registry import Methods
    from pumas.storage.database import Database
    from pumas.system.service import SystemService
    from pumas.updates.service import UpdateService
    from pumas.versions.service import VersionService

log = logging.getLogger(__name__)

BACKEND = "python"
# Worker threads wake the event loop often; the default of 5 ms would let each of them hold it up that long.
SWITCH_INTERVAL_S = 0.0005
WORKERS = 16
THREAD_GRACE_S = 0.15
OPEN_FILES = 16_384

EXIT_OK, EXIT_FAILED, EXIT_IN_USE = 0, 1, 3


@dataclass
class Services:
    """Every service of the sidecar, each built with just what it needs."""

    events: EventStream
    troubles: Troubles
    databases: tuple[Database, ...]
    jobs: JobService
    system: SystemService
    library: LibraryService
    adoption: AdoptionService
    network: NetworkService
    hub: HubService
    downloads: DownloadService
    links: LinkService
    versions: VersionService
    processes: ProcessService
    patching: Patching
    apps_status: AppsStatus
    desktop: DesktopService
    nodes: NodeService
    updates: UpdateService

    async def close(self) -> None:
        """Park what runs. Calls that are under way still find their databases."""
        # Jobs are told first, so that one whose connection then ends knows why.
        await asyncio.gather(self.processes.close(), self.jobs.close(), asyncio.to_thread(self.network.close))
        self.hub.close()
        self.downloads.close()
        self.adoption.close()
        self.links.close()
        await self.versions.close()
        await self.library.close()
        await asyncio.gather(self.system.close(), self.apps_status.close())

    def close_databases(self) -> None:
        for database in self.databases:
            database.close_sync()


def build_services(layout: Layout, events: EventStream, troubles: Troubles) -> Services:
    """Connect the services of all domains. Imports them, so it runs after the port is open."""
    from pumas.adoption.service import AdoptionService
    from pumas.apps.catalog import DEFAULT_APP, Apps
    from pumas.connections import follow_runs, follow_versions
    from pumas.desktop.service import DesktopService
    from pumas.downloads.service import DownloadService
    from pumas.hub.client import HubClient
    from pumas.hub.service import HubService
    from pumas.jobs.service import JobService
    from pumas.jobs.store import JobStore
    from pumas.library.catalog import Catalog
    from pumas.library.service import LibraryService
    from pumas.links.keeping import LinkKeeper
    from pumas.links.service import LinkService
    from pumas.links.store import LinkStore
    from pumas.net.service import NetworkService
    from pumas.nodes.service import NodeService
    from pumas.processes.patching import Patching
    from pumas.processes.service import ProcessService
    from pumas.processes.status import AppsStatus, Shortcuts, Sources
    from pumas.storage.database import Database, Schema
    from pumas.system.service import SystemService
    from pumas.updates.service import UpdateService
    from pumas.versions.service import VersionService

    jobs_db = Database(
        layout.jobs_db,
        Schema.load("jobs"),
        disposable=False,
        synchronous="FULL",
        on_quarantine=lambda kept, reason: troubles.report(
            "jobs.db", "damaged_database", f"The list of jobs was damaged ({reason}) and begins anew; see {kept.name}."
        ),
    )
    adoptions_db = Database(
        layout.adoptions_db,
        Schema.load("adoptions"),
        disposable=False,
        synchronous="FULL",
        on_quarantine=lambda kept, reason: troubles.report(
            "adoptions.db",
            "damaged_database",
            f"The list of adoptions was damaged ({reason}) and begins anew; see {kept.name}.",
        ),
    )
    hub_db = Database(layout.hub_db, Schema.load("hub"), disposable=True)
    jobs = JobService(JobStore(jobs_db), events)
    link_store = LinkStore(layout, troubles)
    keeper = LinkKeeper(layout, link_store)
    library = LibraryService(layout, Catalog(layout, events, troubles), jobs, troubles, keeper)
    network = NetworkService(layout, events, troubles)
    hub = HubClient(network.client)
    apps = Apps(layout, troubles)
    downloads = DownloadService(layout, events, troubles, jobs, library.parts, network.client, hub)
    versions = VersionService(layout, apps, troubles, events, jobs, network.client, downloads.bandwidth)
    processes = ProcessService(layout, events, troubles, apps, versions)
    links = LinkService(layout, apps, versions.state, library.catalog, jobs, events, link_store, keeper)
    nodes = NodeService(layout, apps, versions, jobs)
    patching, desktop = Patching(versions), DesktopService(layout, versions)
    follow_versions(versions, apps, keeper, links, nodes, desktop)
    follow_runs(versions, processes, patching, desktop)

    async def shortcuts(tag: str) -> Shortcuts:
        state = await desktop.state(tag)
        return Shortcuts(state.menu, state.desktop)

    sources = Sources(
        active=lambda: versions.active(DEFAULT_APP),
        newest=versions.offers.newest,
        shortcuts=shortcuts,
        changes=lambda: versions.changes + patching.changes + desktop.changes,
    )
    apps_status = AppsStatus(processes, sources)
    return Services(
        events=events,
        troubles=troubles,
        databases=(jobs_db, adoptions_db, hub_db, link_store.database),
        jobs=jobs,
        system=SystemService(layout.root, apps=apps_status, offline=lambda: network.settings().offline),
        library=library,
        adoption=AdoptionService(layout, library.parts, jobs, adoptions_db),
        network=network,
        hub=HubService(layout, hub, library, jobs, hub_db, downloads.room),
        downloads=downloads,
        links=links,
        versions=versions,
        processes=processes,
        patching=patching,
        apps_status=apps_status,
        desktop=desktop,
        nodes=nodes,
        updates=UpdateService(layout, jobs, network.client),
    )


def domains(services: Services, stop: Callable[[], None]) -> dict[str, tuple[object, ...]]:
    """What the `register` of each domain's `methods.py` is called with, by the domain's folder."""
    return {
        "jobs": (services.jobs,),
        "library": (services.library,),
        "adoption": (services.adoption,),
        "links": (services.links,),
        "net": (services.network,),
        "hub": (services.hub,),
        "downloads": (services.downloads,),
        "processes": (services.processes, services.patching, services.apps_status),
        "versions": (services.versions,),
        "desktop": (services.desktop,),
        "nodes": (services.nodes,),
        "updates": (services.updates, stop),
        "system": (services.system,),
    }


def build_methods(services: Services, stop: Callable[[], None]) -> Methods:
    """The rows of all domains. Imports pydantic, so it runs after the port is open.

    A domain's rows are declared when one of them is first called: the wire models of all would be a tenth of the
    process. Which names are whose is generated (`contracts/domains.json`).
    """
    from pumas.rpc import builtin
    from pumas.rpc.registry import Methods, names_by_domain

    methods, names = Methods(), names_by_domain()
    builtin.register(methods, stop)
    for domain, given in domains(services, stop).items():
        methods.later(names.get(domain, ()), functools.partial(declare, domain, given))
    return methods


def declare(domain: str, given: tuple[object, ...], methods: Methods) -> None:
    """Declare the rows of one domain."""
    importlib.import_module(f"pumas.{domain}.methods").register(methods, *given)


class Sidecar:
    """One run of the server."""

    def __init__(self, layout: Layout, settings: ServerSettings, announce: Callable[[int], None]) -> None:
        self._layout = layout
        self._settings = settings
        self._announce = announce
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to stop.

        Raises:
            PumasError, OSError: it could not start; the message says why.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with contextlib.suppress(NotImplementedError, AttributeError):
                loop.add_signal_handler(number, self._stop.set)
        events, troubles = EventStream(), Troubles()
        events.bind(loop)
        self._own_root(troubles)
        codes = SessionCodes()
        if self._settings.session_code is not None:
            codes.admit(self._settings.session_code)
        http = HttpServer(token=self._settings.token, events=events, codes=codes, uploads=Uploads(self._layout.uploads))
        port = await http.listen(self._settings.host, self._settings.port)
        watch: ParentWatch | None = None
        services: Services | None = None
        try:
            # Before the port is told: who reads that may look for the token next.
            await asyncio.to_thread(self._write_rpc_file, troubles, port)
            self._announce(port)
            if self._settings.parent is not None:
                watch = ParentWatch(self._settings.parent, self._stop.set)
            services = await asyncio.to_thread(build_services, self._layout, events, troubles)
            await self._serve(services, http)
        finally:
            if watch is not None:
                watch.close()
            if services is not None:
                await services.close()
            await http.close()
            remove_rpc_file(self._layout)
            if services is not None:
                services.close_databases()

    def _own_root(self, troubles: Troubles) -> None:
        lock = OwnerLock(self._layout)
        try:
            lock.acquire()
        except ReadOnly as error:
            # Nothing can be changed there, so a second owner could do no harm; reading goes on.
            troubles.report("launcher-data", ReadOnly.kind, str(error))
            log.warning("read-only launcher root: %s", error)
        self._lock = lock

    async def _serve(self, services: Services, http: HttpServer) -> None:
        methods = await asyncio.to_thread(lambda: build_methods(services, self._stop_soon))
        footprint.import_jsonrpcserver()
        from pumas.rpc.dispatch import Dispatcher
        from pumas.storage.leftovers import remove_leftovers
        from pumas.system.watching import tell_load

        await asyncio.to_thread(remove_leftovers, self._layout)
        begins = (
            ("jobs.db", services.jobs.open),
            ("library", services.library.open),
            ("links", services.links.open),
            ("adoption", services.adoption.open),
            ("downloads", services.downloads.open),
            ("versions", services.versions.open),
            ("links", services.links.go_on),
            ("custom nodes", services.nodes.open),
            ("processes", services.processes.open),
            ("launcher update", services.updates.open),
        )
        for name, begin in begins:
            try:
                await begin()
            except PumasError as error:
                services.troubles.report(name, error.kind, str(error))
                log.error("%s: %s", name, error)
        http.ready(Dispatcher(methods))
        footprint.settle()
        telling = asyncio.create_task(tell_load(services.system, services.events), name="load")
        await self._stop.wait()
        telling.cancel()

    def _stop_soon(self) -> None:
        """Stop after the reply that says so has been written."""
        asyncio.get_running_loop().call_later(0.05, self._stop.set)

    def _write_rpc_file(self, troubles: Troubles, port: int) -> None:
        self._lock.tell(port)
        try:
            write_rpc_file(self._layout, own_rpc_file(port, self._settings.token, BACKEND))
        except PumasError as error:
            troubles.report("rpc.json", error.kind, str(error))
            log.warning("clients cannot find this sidecar by its root: %s", error)


def announce_port(port: int) -> None:
    """The one line on stdout."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"RPC_PORT={port}\n")
        sys.stdout.flush()


def _allow_many_connections() -> None:
    """Desktops start programs with room for 1,024 open files; idle connections could use that up."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run_sidecar(layout: Layout, settings: ServerSettings, announce: Callable[[int], None] = announce_port) -> int:
    """Run until stopped and return the exit status: 0 stopped, 1 could not start, 3 another sidecar owns the root."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _allow_many_connections()
    footprint.keep_heap_small()
    listener = logs.start_logging(
        layout.logs, debug=settings.debug, secrets=(settings.token,) if settings.token else ()
    )
    status = EXIT_OK
    loop = asyncio.new_event_loop()
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="worker")
    loop.set_default_executor(pool)
    try:
        loop.run_until_complete(Sidecar(layout, settings, announce).run())
    except PumasError as error:
        status = EXIT_IN_USE if error.kind == "root_in_use" else EXIT_FAILED
        log.error("%s", error)
    except OSError as error:
        status = EXIT_FAILED
        log.error("cannot listen on %s port %d: %s", settings.host, settings.port, error.strerror or error)
    except Exception:
        status = EXIT_FAILED
        log.exception("the sidecar stopped by a bug")
    finally:
        with contextlib.suppress(Exception):
            listener.stop()
    if listener.stuck:
        os._exit(status)
    _leave(pool, status)
    return status


def _leave(pool: ThreadPoolExecutor, status: int) -> None:
    """End now when a worker thread is stuck in a system call: the interpreter would wait for it for ever."""
    pool.shutdown(wait=False, cancel_futures=True)
    end = time.monotonic() + THREAD_GRACE_S
    for worker in threading.enumerate():
        if worker is not threading.current_thread() and not worker.daemon:
            worker.join(max(0.0, end - time.monotonic()))
            if worker.is_alive():
                os._exit(status)
