"""What a user chose about the network, as it is kept in `network.json`, and what is accepted.

`service.py` loads and saves it and gives it to `client.py`. Keys of the file that are not known here stay in it.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from pumas.errors import FileUnavailable, InvalidInput
from pumas.net.address import Mirrors, base
from pumas.storage.paths import display_name

MAX_MIRRORS = 100
MAX_BUNDLE_BYTES = 16 * 1024 * 1024
HIDDEN = "***"
DIRECT = "direct"
"""The proxy setting that means: none, whatever the environment says."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """`proxy`: an http(s) URL, maybe with user name and password; `DIRECT` for none; None as the environment says.

    `ca_bundle`: a PEM file of root certificates trusted beside the system's. `mirrors`: as `address.Mirrors`.
    """

    offline: bool = False
    proxy: str | None = field(default=None, repr=False)
    mirrors: Mapping[str, str] = field(default_factory=dict[str, str])
    ca_bundle: str | None = None

    @property
    def shown_proxy(self) -> str | None:
        """The proxy without its password."""
        return None if self.proxy is None else masked(self.proxy)

    def to_json(self) -> dict[str, Any]:
        return {
            "offline": self.offline,
            "proxy": self.proxy,
            "mirrors": dict(self.mirrors),
            "ca_bundle": self.ca_bundle,
        }

    def shown(self) -> dict[str, Any]:
        """What may be told to anybody who may ask: the proxy without its password."""
        return self.to_json() | {"proxy": self.shown_proxy}


def read(stored: Mapping[str, Any]) -> tuple[NetworkSettings, list[str]]:
    """The settings in a file, and the keys whose values make no sense; for those the defaults hold."""
    settings, wrong = NetworkSettings(), list[str]()
    for key, check in _CHECKS.items():
        value = stored.get(key)
        if value is None:
            continue
        try:
            settings = replace(settings, **{key: check(value)})
        except InvalidInput:
            wrong.append(key)
    return settings, wrong


def changed(
    now: NetworkSettings,
    *,
    offline: bool | None = None,
    proxy: str | None = None,
    mirrors: Mapping[str, str] | None = None,
    ca_bundle: str | None = None,
) -> NetworkSettings:
    """`now` with what is not None replaced; "" takes `proxy` or `ca_bundle` back to None. Reads the bundle.

    A proxy as `shown_proxy` shows it keeps its password.

    Raises:
        InvalidInput: a value that cannot be used; the message does not repeat it.
        FileUnavailable: the bundle cannot be read.
    """
    if offline is not None:
        now = replace(now, offline=offline)
    if proxy is not None and proxy != now.shown_proxy:
        now = replace(now, proxy=_proxy(proxy) if proxy else None)
    if mirrors is not None:
        now = replace(now, mirrors=_mirrors(dict(mirrors)))
    if ca_bundle is not None:
        now = replace(now, ca_bundle=_usable_bundle(ca_bundle) if ca_bundle else None)
    return now


def masked(proxy: str) -> str:
    """A proxy's URL with the password hidden."""
    user, found, host = urlsplit(proxy).netloc.rpartition("@")
    if not found or ":" not in user:
        return proxy
    return f"{urlsplit(proxy).scheme}://{user.partition(':')[0]}:{HIDDEN}@{host}"


def _offline(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput("offline", "it is not true or false")
    return value


def _proxy(value: object) -> str:
    if value == DIRECT:
        return DIRECT
    if not isinstance(value, str) or ("@" in value and HIDDEN in value):
        raise InvalidInput("proxy", "it is no URL with a usable password")
    scheme, _, rest = value.partition("://")
    user, _, host = rest.rpartition("@")
    if any(ord(letter) <= 0x20 or ord(letter) >= 0x7F for letter in user) or set("/?#\\") & set(user):
        raise InvalidInput("proxy", "its user name or password must be percent-encoded")
    address = base(f"{scheme}://{host}", "proxy")
    if address.target != "/":
        raise InvalidInput("proxy", "it has a path")
    return f"{scheme}://{user}@{address.origin.netloc}" if user else address.url.rstrip("/")


def _mirrors(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(cast(dict[object, object], value)) > MAX_MIRRORS:
        raise InvalidInput("mirrors", f"it is not an object of at most {MAX_MIRRORS} entries")
    mirrors = cast(dict[object, object], value)
    if not all(isinstance(key, str) and isinstance(url, str) for key, url in mirrors.items()):
        raise InvalidInput("mirrors", "a key or value is no text")
    Mirrors(cast(dict[str, str], mirrors))
    return cast(dict[str, str], mirrors)


def _bundle(value: object) -> str:
    if not isinstance(value, str) or "\0" in value or not Path(value).is_absolute():
        raise InvalidInput("ca_bundle", "it is no absolute path")
    return value


def _usable_bundle(value: str) -> str:
    import ssl

    from pumas.net.transport import tls_context

    path = Path(_bundle(value))
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_BUNDLE_BYTES:
            raise FileUnavailable(display_name(path.name), "it is no file of certificates")
        tls_context(value)
    except ssl.SSLError:
        raise InvalidInput("ca_bundle", "it holds no certificate in PEM form") from None
    except OSError as error:
        raise FileUnavailable(display_name(path.name), error.strerror or "it cannot be read") from None
    return value


_CHECKS = {"offline": _offline, "proxy": _proxy, "mirrors": _mirrors, "ca_bundle": _bundle}
