"""The user's way out, told to programs that make their own connections: git, uv and pip read it from their environment.

One for the whole process, as the environment itself is. Loaded with the sidecar, so it imports nothing that is not
there already.
"""

from __future__ import annotations

from collections.abc import Mapping

from pumas.net.settings import DIRECT

_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_SKIPPED = "no_proxy"
_LOOPBACK = "localhost,127.0.0.1,::1"
_chosen: list[str] = []


def choose(proxy: str | None) -> None:
    """`proxy` as in `NetworkSettings`."""
    _chosen[:] = [] if proxy is None else [proxy]


def with_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with the proxy of the settings in it; as it is where they name none."""
    if not _chosen:
        return dict(environment)
    proxy = _chosen[0]
    kept = {name: value for name, value in environment.items() if name.lower() not in _PROXIES}
    if proxy == DIRECT:
        return kept
    named = [value for name, value in kept.items() if name.lower() == _SKIPPED and value]
    skipped = ",".join([*named[:1], _LOOPBACK])
    # Some programs read the one spelling, some the other; curl, and with it git, never `HTTP_PROXY`.
    ours = {"http_proxy": proxy, "https_proxy": proxy, _SKIPPED: skipped}
    return kept | ours | {name.upper(): value for name, value in ours.items()}
