"""Which port an app gets, and whose program listens there.

That something answers on a port proves nothing: it may be a server of the user's, or another sidecar's app. So the
kernel is asked who owns each socket that listens on it (proc_pid_net(5); elsewhere psutil).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import re
import socket
from collections.abc import Collection, Iterator
from enum import Enum
from typing import Final

from pumas.errors import LaunchFailed
from pumas.processes import kernel

HOST = "127.0.0.1"
OFFERED: Final = range(20_000, 30_000)
"""No system gives one of these to a connection, or to a program that takes any port (RFC 6335, section 6: from 49152
on; Linux: from 32768 on), so that an app seldom finds its port taken when it comes to bind it."""
_TRIES: Final = 100
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENING = "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


class Holder(Enum):
    """Who listens on a port for connections from this machine."""

    NOBODY = "nobody"
    OURS = "ours"
    OTHERS = "others"


def free_port(wanted: int = 0, taken: Collection[int] = ()) -> int:
    """`wanted` when nobody uses it, else another one (0: any); never one of `taken`. Somebody may still take it before
    the app binds it, which `holder` then shows.

    Raises:
        LaunchFailed: none was found.
    """
    offered = random.sample(OFFERED, _TRIES)
    for port in (wanted, *offered) if wanted else offered:
        if port not in taken and holder(port, ()) is Holder.NOBODY and _can_bind(port):
            return port
    raise LaunchFailed(f"No free port was found from {OFFERED.start} to {OFFERED.stop - 1}.")


def holder(port: int, pids: Collection[int]) -> Holder:
    """Whether those who listen on `port` are all among `pids`. One stranger, on a more special address say, would get
    connections that are meant for the app, so that counts as a stranger's port."""
    owners = list(_owners(port, pids))
    if not owners:
        return Holder.NOBODY
    return Holder.OURS if all(owners) else Holder.OTHERS


def _owners(port: int, pids: Collection[int]) -> Iterator[bool]:
    """For each socket that listens on `port`, whether one of `pids` has it open."""
    if not kernel.LINUX:
        yield from _owners_elsewhere(port, pids)
        return
    inodes = set(_listening(port))
    if not inodes:
        return
    held: set[int] = set()
    for pid in pids:
        held |= _sockets(pid)
    yield from (inode in held for inode in inodes)


def _listening(port: int) -> Iterator[int]:
    """Inodes of the sockets that listen on `port` and that a connection to loopback could reach."""
    wanted = f":{port:04X}"
    for table in _TABLES:
        try:
            with open(table, encoding="ascii") as file:
                rows = file.readlines()
        except OSError:
            continue
        for row in rows:
            if wanted not in row:
                continue
            fields = row.split()
            address, _, number = fields[1].partition(":")
            if fields[3] == _LISTENING and int(number, 16) == port and _reachable(address):
                yield int(fields[9])


def _reachable(text: str) -> bool:
    """/proc/net/tcp shows each 32-bit word of an address in host byte order."""
    packed = b"".join(int(text[i : i + 8], 16).to_bytes(4, "little") for i in range(0, len(text), 8))
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified


def _sockets(pid: int) -> set[int]:
    folder = f"/proc/{pid}/fd"
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                match = _SOCKET.fullmatch(os.readlink(f"{folder}/{name}"))
                if match:
                    found.add(int(match[1]))
    return found


def _owners_elsewhere(port: int, pids: Collection[int]) -> Iterator[bool]:
    """Without a table of all sockets, a port that can be connected to and is not ours is somebody else's."""
    import psutil

    ours = False
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError):
            for connection in psutil.Process(pid).net_connections(kind="tcp"):
                address = connection.laddr
                ours |= bool(address) and connection.status == psutil.CONN_LISTEN and address.port == port
    if ours:
        yield True
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.settimeout(0.2)
        if one.connect_ex((HOST, port)) == 0:
            yield False


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        # What an app does too: connections of the one before that linger are no hindrance.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, port))
        except OSError:
            return False
    return True
