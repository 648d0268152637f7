"""Fixtures shared by all tests: a sidecar per test, or one per module for tests that only ask.

A test never depends on a port number: every sidecar binds port 0 and says what it got.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sidecar as running
from sidecar import Sidecar


@pytest.fixture(autouse=True)
def own_hub_client() -> Iterator[None]:
    """A network client that a test gave huggingface_hub is for the whole process; it ends with the test."""
    yield
    http = sys.modules.get("huggingface_hub.utils._http")
    if http is not None and http._GLOBAL_CLIENT_FACTORY is not http.default_client_factory:
        http.set_client_factory(http.default_client_factory)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Sidecar]]:
    """Start sidecars that end with the test: `launch(root=..., token=..., ...)` as `sidecar.start`."""
    started: list[Sidecar] = []

    def go(*arguments: str, root: Path | None = None, **options: object) -> Sidecar:
        place = root or tmp_path / "root"
        place.mkdir(exist_ok=True)
        one = running.start(place, *arguments, **options)  # type: ignore[arg-type]
        started.append(one)
        return one

    yield go
    for one in started:
        one.close()


@pytest.fixture
def sidecar(launch: Callable[..., Sidecar]) -> Sidecar:
    """A sidecar with a token, on a root of its own."""
    return launch()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One sidecar with a token for a module whose tests only ask and leave nothing behind."""
    one = running.start(tmp_path_factory.mktemp("shared") / "root")
    yield one
    one.close()


@pytest.fixture(scope="module")
def open_sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One sidecar without a token: callers are told apart by their user alone."""
    one = running.start(tmp_path_factory.mktemp("open") / "root", token=None)
    yield one
    one.close()
