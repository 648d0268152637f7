"""A host to ask, a client to ask it with, and time that does not pass by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from net.stub import Stub, Time, serve
from pumas.net.client import NetworkClient


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say themselves which proxies there are."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def client(time: Time) -> Iterator[NetworkClient]:
    one = NetworkClient(**time.options())
    yield one
    one.close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serve() as one:
        yield one


@pytest.fixture
def other() -> Iterator[Stub]:
    with serve() as one:
        yield one
