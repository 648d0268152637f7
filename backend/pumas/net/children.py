"""The user's way out, if there is to be one, and whom to trust there, told to programs that make their own connections:
git, uv and pip read it from their environment.

One for the whole process, as the environment itself is. Loaded with the sidecar, so it imports nothing that is not
there already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pumas.errors import Offline
from pumas.net.settings import DIRECT

_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_SKIPPED = "no_proxy"
_LOOPBACK = "localhost,127.0.0.1,::1"
# Of git; of uv, and of all that is made with OpenSSL; of pip:
# https://git-scm.com/docs/git#Documentation/git.txt-GITSSLCAINFO https://docs.astral.sh/uv/concepts/authentication/certificates/
# https://pip.pypa.io/en/stable/topics/https-certificates/
_TRUSTED = ("GIT_SSL_CAINFO", "SSL_CERT_FILE", "PIP_CERT")

# Nobody: the port of RFC 863. pip asks addresses among requirements also without an index, and some of them by git.
_NOBODY = "http://127.0.0.1:9"
# What is at hand may be used: a cache of uv's, a folder of wheels.
_OFFLINE = {"UV_OFFLINE": "1", "PIP_NO_INDEX": "1", "PIP_PROXY": _NOBODY}


class _Chosen(NamedTuple):
    proxy: str | None = None
    certificates: str | None = None
    offline: bool = False


_chosen = [_Chosen()]


def choose(proxy: str | None, certificates: str | None = None, *, offline: bool = False) -> None:
    """`certificates`: a PEM file of all to trust, None for the system's; the others as in `NetworkSettings`."""
    _chosen[:] = [_Chosen(proxy, certificates, offline)]


def require_online(host: str) -> None:
    """Raises Offline."""
    if _chosen[0].offline:
        raise Offline(host)


def with_network(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with what the network settings say in it; as it is where they say nothing."""
    proxy, certificates, offline = _chosen[0]
    trusted = {} if certificates is None else dict.fromkeys(_TRUSTED, certificates)
    if offline:
        return _through(environment, _NOBODY, skipped="") | trusted | _OFFLINE
    return (dict(environment) if proxy is None else _with_proxy(environment, proxy)) | trusted


def _with_proxy(environment: Mapping[str, str], proxy: str) -> dict[str, str]:
    if proxy == DIRECT:
        return {name: value for name, value in environment.items() if name.lower() not in _PROXIES}
    named = [value for name, value in environment.items() if name.lower() == _SKIPPED and value]
    return _through(environment, proxy, skipped=",".join([*named[:1], _LOOPBACK]))


def _through(environment: Mapping[str, str], proxy: str, *, skipped: str) -> dict[str, str]:
    kept = {name: value for name, value in environment.items() if name.lower() not in (*_PROXIES, _SKIPPED)}
    # Some programs read the one spelling, some the other; curl, and with it git, never `HTTP_PROXY`.
    ours = {"http_proxy": proxy, "https_proxy": proxy, _SKIPPED: skipped}
    return kept | ours | {name.upper(): value for name, value in ours.items()}
