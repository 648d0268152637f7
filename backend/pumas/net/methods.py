"""The network methods: what went to and fro, and by which way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pumas.errors import DiskError, FileUnavailable, InvalidInput, NotEnoughSpace, ReadOnly
from pumas.net import contract as wire
from pumas.net.service import NetworkService
from pumas.net.settings import NetworkSettings
from pumas.rpc.models import NoParams
from pumas.rpc.registry import Methods

if TYPE_CHECKING:
    from pumas.net.hosts import HostState


def register(methods: Methods, network: NetworkService) -> None:
    @methods.row("get_network_status", NoParams, wire.NetworkStatus)
    async def get_network_status(_p: NoParams) -> wire.NetworkStatus:
        """Say how the sidecar's own requests fare, host by host.

        Made to be polled: it answers from memory. The `network.state` event tells when a host begins or ends to be left
        alone and when offline mode changes.
        """
        status = await network.status()
        counted = status.counted
        return wire.NetworkStatus(
            total_requests=counted.total,
            successful_requests=counted.succeeded,
            failed_requests=counted.failed,
            circuit_breaker_rejections=counted.rejected,
            withheld_requests=counted.withheld,
            interrupted_transfers=counted.interrupted,
            retries=counted.retries,
            success_rate=counted.success_rate,
            bytes_received=counted.received,
            circuit_states={host.host: host.circuit.value for host in status.hosts},
            is_offline=status.is_offline,
            offline=status.offline,
            proxy=status.proxy,
            hosts=[_host(host) for host in status.hosts],
        )

    @methods.row("get_network_settings", NoParams, wire.NetworkSettings)
    async def get_network_settings(_p: NoParams) -> wire.NetworkSettings:
        """Show offline mode, proxy, mirrors and additional root certificates."""
        return _settings(network.settings())

    @methods.row(
        "set_network_settings",
        wire.SetNetworkSettings,
        wire.NetworkSettings,
        errors=[InvalidInput, FileUnavailable, DiskError, NotEnoughSpace, ReadOnly],
    )
    async def set_network_settings(p: wire.SetNetworkSettings) -> wire.NetworkSettings:
        """Change what is given; it lasts, and holds from the next request on. Answers with all settings.

        A proxy may be given back as `get_network_settings` showed it; its password then stays. A `network.settings`
        event tells everybody what the settings are then.
        """
        return _settings(
            await network.change(offline=p.offline, proxy=p.proxy, mirrors=p.mirrors, ca_bundle=p.ca_bundle)
        )


def _settings(settings: NetworkSettings) -> wire.NetworkSettings:
    return wire.NetworkSettings(settings=wire.Settings(**settings.shown()))


def _host(host: HostState) -> wire.HostStatus:
    return wire.HostStatus(
        host=host.host,
        state=host.circuit.value,
        retry_after=round(max(host.circuit_wait_s, host.rate_limit_wait_s), 3),
        rate_limited=host.rate_limit_wait_s > 0,
        requests=host.counted.total,
        failures=host.counted.failed,
        retries=host.counted.retries,
        bytes_received=host.counted.received,
        last_error=host.last_error,
    )
