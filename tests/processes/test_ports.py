"""Whose program listens on a port, and which port is free."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pumas.errors import LaunchFailed
from pumas.processes import kernel, ports
from pumas.processes.ports import OFFERED, Holder, free_port, holder

ME = [os.getpid()]


@contextmanager
def stranger(host: str, port: int, *, reuse: bool = False) -> Iterator[int]:
    """Another process that listens there; its number."""
    code = (
        "import socket, sys; f = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET; s = socket.socket(f);"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1) if sys.argv[3] == '1' else None;"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);"
        "s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, host, str(port), str(int(reuse))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "127.0.0.2"])  # noqa: S104
def test_ours_and_others(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        assert holder(port, ME) is Holder.OURS
        assert holder(port, [1, *ME]) is Holder.OURS
        assert holder(port, []) is Holder.OTHERS
        assert holder(port, [1, 2**22 + 7]) is Holder.OTHERS
    assert holder(port, ME) is Holder.NOBODY


def test_a_socket_that_does_not_listen_is_nobodys() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert holder(bound.getsockname()[1], ME) is Holder.NOBODY


def test_a_connection_on_that_port_is_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert holder(client.getsockname()[1], ME) is Holder.NOBODY


def test_a_stranger_beside_us_gets_connections_that_are_meant_for_us() -> None:
    with socket.socket() as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.bind(("0.0.0.0", 0))  # noqa: S104
        ours.listen()
        port = ours.getsockname()[1]
        assert holder(port, ME) is Holder.OURS
        with stranger("0.0.0.0", port, reuse=True) as pid:  # noqa: S104
            assert holder(port, ME) is Holder.OTHERS
            assert holder(port, [pid]) is Holder.OTHERS
            assert holder(port, [pid, *ME]) is Holder.OURS


def test_a_free_port_is_kept_and_a_taken_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert free_port(port) in OFFERED
    assert free_port(port) == port
    assert free_port(port, [port]) in OFFERED
    assert free_port() in OFFERED
    with stranger("0.0.0.0", port):  # noqa: S104
        assert free_port(port) in OFFERED, "also one that could be bound beside it"


def test_offered_is_none_that_the_system_gives_to_others() -> None:
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert OFFERED.stop <= first or first <= 1024, "unless somebody has it give away all"
    with pytest.raises(LaunchFailed, match="No free port was found from 20000 to 29999"):
        free_port(0, OFFERED)


@pytest.mark.parametrize(
    ("text", "reachable"),
    [
        ("0100007F", True),
        ("00000000", True),
        ("0200007F", True),
        ("0101A8C0", False),
        ("00000000000000000000000000000000", True),
        ("00000000000000000000000001000000", True),
        ("0000000000000000FFFF00000100007F", True),
        ("0000000000000000FFFF00000101A8C0", False),
    ],
)
def test_addresses_as_the_kernel_writes_them(text: str, reachable: bool) -> None:
    assert ports._reachable(text) is reachable


def test_without_proc_the_same_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that macOS goes, tried here."""
    monkeypatch.setattr(kernel, "LINUX", False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert (holder(port, ME), holder(port, [])) == (Holder.OURS, Holder.OTHERS)
    assert holder(port, ME) is Holder.NOBODY
