from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pumas.client import PumasClient, discovery
from pumas.config import Layout
from pumas.storage.owner import own_rpc_file, write_rpc_file
from sidecar import TOKEN, Sidecar, eventually, run_to_end


@pytest.fixture(scope="module", autouse=True)
def port() -> Iterator[int]:
    """One on which this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        PORT.append(listening.getsockname()[1])
        yield PORT[0]


PORT: list[int] = []


def write(root: Path, **changes: Any) -> None:
    """An rpc.json of this very process, with some facts changed."""
    layout = Layout(root)
    layout.data.mkdir(exist_ok=True)
    write_rpc_file(layout, own_rpc_file(PORT[0], "t", "python"))
    facts = json.loads(layout.rpc_file.read_text())
    layout.rpc_file.write_text(json.dumps({**facts, **changes}))


def test_a_running_sidecar_is_found(sidecar: Sidecar) -> None:
    found = discovery.find(sidecar.root)
    assert found is not None
    assert (found.url, found.token) == (f"http://127.0.0.1:{sidecar.port}", TOKEN)
    assert found.process is not None
    assert found.process.pid == sidecar.pid
    assert found.alive
    sidecar.kill()
    assert not found.alive
    assert (sidecar.data / "rpc.json").exists(), "kill -9 leaves the file behind, which is the case to survive"
    assert discovery.find(sidecar.root) is None


def test_a_running_sidecar_is_found_after_the_clock_was_set(sidecar: Sidecar) -> None:
    """Then the start of a process, by the clock, is another than the one that it wrote down."""
    path = sidecar.data / "rpc.json"
    eventually(path.exists, what="rpc.json")
    facts = json.loads(path.read_text())
    assert facts.keys() == {"pid", "port", "token", "backend", "started_at"}
    for hours in (-5, 7):
        moved = datetime.fromisoformat(facts["started_at"]) + timedelta(hours=hours)
        path.write_text(json.dumps(facts | {"started_at": moved.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}))
        with PumasClient(sidecar.root) as client:
            assert client.health_check() == {"status": "ok"}
        second = run_to_end(sidecar.root)
        assert (second.returncode, f"process {sidecar.pid}," in second.stderr) == (3, True), "the owner is named"
    sidecar.kill()
    assert discovery.find(sidecar.root) is None
    # Somebody else has the number now, by chance since the very time that the file says.
    write(sidecar.root)
    assert discovery.find(sidecar.root) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"started_at": "2020-01-01T00:00:00.000000Z"},
        {"pid": 2**22 + 1},
        {"pid": -1},
        {"pid": 0},
        {"pid": "x"},
        {"port": None},
        {"port": 9},
        {"started_at": "yesterday"},
        {"started_at": 5},
    ],
)
def test_a_file_that_names_no_living_owner_is_not_believed(tmp_path: Path, changes: dict[str, Any]) -> None:
    write(tmp_path)
    assert discovery.find(tmp_path) is not None, "unchanged it is good"
    write(tmp_path, **changes)
    assert discovery.find(tmp_path) is None


@pytest.mark.parametrize(("host", "url"), [("::1", "http://[::1]"), ("0.0.0.0", "http://127.0.0.1")])  # noqa: S104
def test_it_is_called_where_it_listens(launch: Callable[..., Sidecar], host: str, url: str) -> None:
    one = launch("--host", host, ready=False)
    eventually(lambda: discovery.find(one.root), what="rpc.json")
    with PumasClient(one.root) as client:
        assert client.url == f"{url}:{one.port}"
        assert client.health_check() == {"status": "ok"}


@pytest.mark.parametrize("content", ["", "[]", "null", "{", '{"pid": 1}'])
def test_damaged_files(tmp_path: Path, content: str) -> None:
    write(tmp_path)
    Layout(tmp_path).rpc_file.write_text(content)
    assert discovery.find(tmp_path) is None


def test_no_file(tmp_path: Path) -> None:
    assert discovery.find(tmp_path) is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80", "http://localhost:1/", "https://box.example:8443", "http://[::1]:9"]
)
def test_good_urls(url: str) -> None:
    assert discovery.at(url, "t").url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:80", "ftp://a:1", "http://", "http://u:p@127.0.0.1:1", "http://a/rpc", "http://a?x=1", "file:///x"],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        discovery.at(url, "t")


def test_the_token_is_not_shown() -> None:
    assert "s3cret" not in repr(discovery.at("http://127.0.0.1:1", "s3cret"))


def test_default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PUMAS_ROOT", raising=False)
    checkout = Path(__file__).resolve().parents[2]
    assert discovery.default_root() == checkout
    monkeypatch.setenv("PUMAS_ROOT", str(tmp_path))
    assert discovery.default_root() == tmp_path


def test_default_root_of_an_installed_package(tmp_path: Path) -> None:
    """Away from a checkout, the user's data folder."""
    backend = Path(__file__).resolve().parents[2] / "backend"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "pumas").symlink_to(backend / "pumas")
    code = (
        "import pathlib, pumas.client.discovery as d\n"
        "d.__file__ = str(pathlib.Path('/opt/lib/site/pumas/client/discovery.py'))\n"
        "print(d.default_root())"
    )
    env = {k: v for k, v in os.environ.items() if k != "PUMAS_ROOT"} | {
        "PYTHONPATH": str(tmp_path / "site"),
        "XDG_DATA_HOME": "/data/home",
    }
    shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "/data/home/pumas" or sys.platform != "linux"
