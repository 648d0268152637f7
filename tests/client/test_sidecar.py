from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pumas.client import NotReachable, PumasClient, discovery, sidecar
from pumas.client.discovery import Endpoint
from sidecar import Sidecar, eventually, process_gone


def test_start_and_stop(tmp_path: Path) -> None:
    one = sidecar.start(tmp_path)
    assert isinstance(one, sidecar.Sidecar)
    process = one.endpoint.process
    assert process is not None
    with PumasClient(url=one.endpoint.url, token=one.endpoint.token) as client:
        assert client.health_check() == {"status": "ok"}
    arguments = " ".join(process.cmdline())
    assert one.endpoint.token
    assert one.endpoint.token not in arguments
    one.stop()
    one.stop()
    assert process_gone(process.pid)
    assert not (tmp_path / "launcher-data" / "rpc.json").exists()


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        f"import sys, pumas.client as c; a = c.PumasClient({str(tmp_path)!r}, start=True); a.health_check();"
        "print(c.discovery.find(a._root).process.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid_text = eventually_line(parent)
    parent.kill()
    parent.wait()
    for pipe in (parent.stdin, parent.stdout):
        assert pipe is not None
        pipe.close()
    eventually(lambda: process_gone(int(pid_text)), what="the end of the sidecar")


def eventually_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.strip().isdecimal(), line
    return line


def test_a_root_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotReachable, match=r"ended with status 1 while starting: launcher-data is no folder"):
        sidecar.start(tmp_path / "file")


def test_no_port_in_time(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(NotReachable, match="told no port within 0 s"):
        sidecar.start(tmp_path, timeout_s=0.0)
    assert set(psutil.Process().children(recursive=True)) <= before, "nothing is left running"


def test_when_another_owns_the_root_it_is_used(launch: Callable[..., Sidecar]) -> None:
    owner = launch()
    found = sidecar.start(owner.root)
    assert isinstance(found, Endpoint)
    assert found.url == f"http://127.0.0.1:{owner.port}"
    assert found.token == owner.token


def test_an_owner_that_cannot_be_found_is_no_endless_wait(launch: Callable[..., Sidecar]) -> None:
    owner = launch()
    (owner.data / "rpc.json").unlink()
    began = time.monotonic()
    with pytest.raises(NotReachable, match="Another sidecar owns this launcher root"):
        sidecar.start(owner.root, timeout_s=5.0)
    assert time.monotonic() - began < 20


def test_clients_that_start_at_once_share_one_sidecar(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        clients = list(pool.map(lambda _: PumasClient(tmp_path, start=True), range(4)))
    try:
        assert len({client.url for client in clients}) == 1
        assert [client.started_sidecar for client in clients].count(True) == 1
        assert all(client.health_check() == {"status": "ok"} for client in clients)
    finally:
        for client in clients:
            client.close()
    assert discovery.find(tmp_path) is None


def test_one_that_dies_says_how(tmp_path: Path) -> None:
    with PumasClient(tmp_path, start=True) as client:
        client.health_check()
        found = discovery.find(tmp_path)
        assert found is not None
        assert found.process is not None
        found.process.kill()
        with pytest.raises(NotReachable, match="ended with status -9: it said nothing"):
            client.health_check()


def test_a_closed_client_says_so(tmp_path: Path) -> None:
    with PumasClient(tmp_path, start=True) as client:
        client.health_check()
    with pytest.raises(NotReachable, match="This client is closed"):
        client.health_check()
