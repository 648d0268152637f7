"""Who is at the other end of a connection: the kernel's answer, its tables, and real sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pumas.rpc import peers

P = 43210
HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
PEER, LOCAL = ("127.0.0.1", 50000), ("127.0.0.1", P)
OURS, THEIRS = "0100007F:C350", f"0100007F:{P:04X}"


def row(local: str, remote: str, state: str, uid: int, inode: int) -> str:
    return f"   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000 {uid:5}        0 {inode} 1 0 20 4\n"


@pytest.mark.parametrize(
    ("rows", "uid", "allowed"),
    [
        ([row(OURS, THEIRS, "01", 1000, 77)], 1000, True),
        ([row(OURS, THEIRS, "01", 0, 77)], 0, True),
        ([row(OURS, THEIRS, "01", 1001, 77)], 1000, False),
        ([row(OURS, THEIRS, "01", 1000, 77)], 0, False),
        ([row(OURS, THEIRS, "01", 0, 77)], 1000, False),
        # our own end of the same connection, which belongs to us whoever calls
        ([row(THEIRS, OURS, "01", 1000, 77)], 1000, False),
        ([], 1000, False),
        # same port, other address
        ([row("0200007F:C350", THEIRS, "01", 1000, 77)], 1000, False),
        ([row("0100007F:C351", THEIRS, "01", 1000, 77)], 1000, False),
        # half closed by the caller, who still waits for the answer
        ([row(OURS, THEIRS, "04", 1000, 77)], 1000, True),
        ([row(OURS, THEIRS, "05", 1000, 77)], 1000, True),
        # closed by the caller: the kernel shows uid 0 for sockets without an owner
        ([row(OURS, THEIRS, "05", 0, 0)], 0, False),
        ([row(OURS, THEIRS, "06", 0, 0)], 0, False),
        ([row(OURS, THEIRS, "04", 1000, 0)], 1000, False),
        # the owner is found among others
        ([row("0100007F:1234", THEIRS, "01", 1001, 5), row(OURS, THEIRS, "01", 1000, 77)], 1000, True),
    ],
)
def test_peer_of_the_kernel_table(
    rows: list[str], uid: int, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "tcp"
    table.write_text(HEADER + "".join(rows))
    monkeypatch.setattr(peers, "_ask_kernel", lambda *_: None)
    monkeypatch.setattr(peers, "TCP_TABLES", (str(table), str(tmp_path / "absent")))
    monkeypatch.setattr("os.getuid", lambda: uid)
    assert peers.peer_is_us(PEER, LOCAL) is allowed


def test_dual_stack_clients_are_found_in_the_other_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = "0000000000000000FFFF00000100007F"
    four, six = tmp_path / "tcp", tmp_path / "tcp6"
    four.write_text(HEADER)
    six.write_text(HEADER + row(f"{mapped}:C350", f"{mapped}:{P:04X}", "01", 1000, 9))
    monkeypatch.setattr(peers, "_ask_kernel", lambda *_: None)
    monkeypatch.setattr(peers, "TCP_TABLES", (str(four), str(six)))
    monkeypatch.setattr("os.getuid", lambda: 1000)
    assert peers.peer_is_us(PEER, LOCAL)
    monkeypatch.setattr("os.getuid", lambda: 1001)
    assert not peers.peer_is_us(PEER, LOCAL)


@pytest.mark.parametrize("way", ["kernel", "table"])
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_real_connections(
    family: socket.AddressFamily, address: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "table":
        monkeypatch.setattr(peers, "_ask_kernel", lambda *_: None)
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()[:2]) as client:
            local, peer = client.getpeername()[:2], client.getsockname()[:2]
            assert peers.peer_is_us(peer, local)
            client.shutdown(socket.SHUT_WR)
            assert peers.peer_is_us(peer, local)
            with monkeypatch.context() as other:
                other.setattr("os.getuid", lambda: 4321)
                assert not peers.peer_is_us(peer, local)
            assert not peers.peer_is_us((address, 1), local)
        assert not peers.peer_is_us(peer, local)
        # a port where somebody listens, but from which nobody called
        assert not peers.peer_is_us(listener.getsockname()[:2], (address, 1))


def test_both_ways_agree() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        ends = client.getsockname(), client.getpeername()
        row = peers._look_up(*ends)  # pyright: ignore[reportPrivateUsage]
        assert row is not None
        assert row[0] == os.getuid()
        # None where a sandbox closes netlink
        assert peers._ask_kernel(*ends) in (row, None)  # pyright: ignore[reportPrivateUsage]
        server.close()
        client.close()


def test_without_any_table_loopback_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_ask_kernel", lambda *_: None)
    monkeypatch.setattr(peers, "TCP_TABLES", (str(tmp_path / "absent"),))
    assert peers.peer_is_us(PEER, LOCAL)
