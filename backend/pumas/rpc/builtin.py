"""The methods that belong to the server itself: is it there, what can it do, stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pumas.config import contracts_folder
from pumas.rpc.jsontext import Encoded
from pumas.rpc.models import NoParams, Result
from pumas.rpc.registry import Methods


class Health(Result):
    status: Literal["ok"]


class Stopping(Result):
    status: Literal["shutting_down"]


def register(methods: Methods, stop: Callable[[], None]) -> None:
    @methods.row("health_check", NoParams, Health)
    async def health_check(_p: NoParams) -> Any:
        """Say that the server answers. Cheap, and answered during any other work."""
        return Encoded(b'{"status":"ok"}')

    @methods.row("shutdown", NoParams, Stopping)
    async def shutdown(_p: NoParams) -> Stopping:
        """Stop the sidecar: it answers, parks running jobs, and exits 0 within a second."""
        stop()
        return Stopping(status="shutting_down")

    @methods.row("rpc.discover", NoParams, dict[str, Any])
    async def discover(_p: NoParams) -> Encoded:
        """Return the OpenRPC document of this server (https://spec.open-rpc.org)."""
        return Encoded((contracts_folder() / "openrpc.json").read_bytes())
