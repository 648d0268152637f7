from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.git import GitServer
from pumas.nodes.git import HTTP_VARIABLE


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    monkeypatch.setenv(HTTP_VARIABLE, "loopback")
    with GitServer(tmp_path / "server") as server:
        yield server
