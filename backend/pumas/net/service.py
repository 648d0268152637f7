"""The network as its callers see it: settings that last, and a status that costs nothing to ask for.

Owns the one `NetworkClient`, which other domains get as `client`. Events: `network.state` whenever offline mode or a
host's circuit changes, `network.settings` whenever they were set. Nothing here waits for the network; only changing
settings touches the disk.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pumas.config import Layout
from pumas.errors import CorruptState
from pumas.events.stream import EventStream
from pumas.net import children
from pumas.net import settings as rules
from pumas.net.client import NetworkClient
from pumas.net.settings import NetworkSettings
from pumas.storage import json_file
from pumas.storage.files import disk_errors, make_folders
from pumas.storage.troubles import Troubles

if TYPE_CHECKING:
    from pumas.net.hosts import NetworkStatus

log = logging.getLogger(__name__)

TOPIC = "network.state"
SETTINGS_TOPIC = "network.settings"
_SUBJECT = "launcher-data/metadata/network.json"


class NetworkService:
    """Thread-safe."""

    def __init__(self, layout: Layout, events: EventStream, troubles: Troubles | None = None) -> None:
        """Reads the settings; a file that cannot be read is a trouble, and the defaults hold."""
        self._path = layout.network_settings
        self._file_lock = json_file.StateLock(layout.state_lock)
        self._events, self._troubles = events, troubles or Troubles()
        self._lock = threading.Lock()
        self._settings = self._load()
        self._certificates = layout.cache / "trusted.pem"
        self._tell_children(self._settings)
        self._client = NetworkClient(self._settings, changed=self._announce)

    @property
    def client(self) -> NetworkClient:
        return self._client

    async def status(self) -> NetworkStatus:
        """From memory, also when all worker threads wait for hosts. The first call loads the client."""
        if self._client.loaded:
            return self._status()
        with ThreadPoolExecutor(1) as own:
            return await asyncio.get_running_loop().run_in_executor(own, self._status)

    def settings(self) -> NetworkSettings:
        return self._settings

    async def change(
        self,
        *,
        offline: bool | None = None,
        proxy: str | None = None,
        mirrors: Mapping[str, str] | None = None,
        ca_bundle: str | None = None,
    ) -> NetworkSettings:
        """Replace what is not None, save it, and use it from the next request on; see `settings.changed`.

        Raises:
            InvalidInput, FileUnavailable: a value cannot be used; nothing was changed.
            DiskError, NotEnoughSpace, ReadOnly: it could not be saved; nothing was changed.
        """
        wishes: dict[str, Any] = {"offline": offline, "proxy": proxy, "mirrors": mirrors, "ca_bundle": ca_bundle}
        return await asyncio.to_thread(self._change, wishes)

    def close(self) -> None:
        """End every request that is under way."""
        self._client.close()

    def _change(self, wishes: dict[str, Any]) -> NetworkSettings:
        with self._lock:
            settings = rules.changed(self._settings, **wishes)
            self._save(settings)
            self._client.configure(settings)
            self._tell_children(settings)
            self._settings = settings
            self._events.publish_threadsafe(SETTINGS_TOPIC, settings.shown())
        return settings

    def _tell_children(self, settings: NetworkSettings) -> None:
        trusted = None
        if settings.ca_bundle is not None:
            from pumas.net.certificates import gathered

            trusted = gathered(settings.ca_bundle, self._certificates)
        children.choose(settings.proxy, trusted, offline=settings.offline)

    def _save(self, settings: NetworkSettings) -> None:
        with self._file_lock.held():
            try:
                stored = json_file.load(self._path).value or {}
            except CorruptState:
                # The user says anew how it shall be; what could not be read stays under a dated name.
                stored = {}
            # The proxy's password is for this user alone.
            with disk_errors("Writing network.json"):
                make_folders(self._path.parent)
            json_file.save(self._path, stored | settings.to_json(), private=True)
        self._troubles.clear(_SUBJECT)

    def _load(self) -> NetworkSettings:
        try:
            loaded = json_file.load(self._path)
        except CorruptState as error:
            self._report(error.kind, f"{error} Until the network settings are set anew, the defaults hold.")
            return NetworkSettings()
        settings, wrong = rules.read(loaded.value or {})
        if loaded.recovered:
            self._report("recovered_state", f"network.json was damaged ({loaded.recovered}); its backup is used.")
        if wrong:
            names = ", ".join(wrong)
            self._report("damaged_settings", f"network.json: {names} cannot be used; the defaults hold for that.")
        return settings

    def _report(self, kind: str, message: str) -> None:
        self._troubles.report(_SUBJECT, kind, message)
        log.warning("%s", message)

    def _status(self) -> NetworkStatus:
        from pumas.net.hosts import NetworkStatus

        hosts = self._client.hosts
        return NetworkStatus(self._client.offline(), self._client.proxy, hosts.tally.now, hosts.states())

    def _announce(self) -> None:
        status = self._status()
        data = {"offline": status.offline, "is_offline": status.is_offline, "circuit_states": status.circuits}
        self._events.publish_threadsafe(TOPIC, data)
