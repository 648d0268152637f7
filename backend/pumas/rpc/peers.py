"""Which user of this machine is at the other end of a loopback connection, as the kernel knows it.

Linux answers for one connection by netlink (sock_diag(7)) or, where that is closed, by its TCP tables in /proc.
`http.py` asks once per connection, and only when the server runs without a token.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import sys
from pathlib import Path

TCP_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _NLMSG_ERROR = 4, 20, 1, 2
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_PORTS = struct.Struct("!HH")
_AFTER_ADDRESSES = struct.Struct("=IQ")
_ALL_STATES, _NO_COOKIE = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_ANSWER = struct.Struct("=4x4s44x12xII")

Address = tuple[str, int]
_NOBODY = (-1, 0)


def peer_is_us(peer: Address, local: Address) -> bool:
    """Whether the other end of a loopback connection belongs to our own user.

    Where the kernel offers no way to know, the answer is True: the socket is bound to loopback and nothing better
    exists. A socket that its owner has closed already is nobody's: the kernel shows uid 0 for it, whoever it was.
    """
    owner = _ask_kernel(peer, local)
    if owner is None:
        owner = _look_up(peer, local)
    if owner is None:
        return True
    uid, inode = owner
    return inode != 0 and uid == os.getuid()


def _ask_kernel(peer: Address, local: Address) -> tuple[int, int] | None:
    """(uid, inode) of the peer's socket, None when netlink does not answer. Takes the same short time however many
    connections there are."""
    if sys.platform != "linux":
        return None
    message = _question(peer, local)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
            netlink.setblocking(False)  # the kernel answers before send returns
            netlink.send(message)
            reply = netlink.recv(4096)
        kind = _HEADER.unpack_from(reply)[1]
        body = memoryview(reply)[_HEADER.size :]
        if kind == _NLMSG_ERROR:
            return _NOBODY if -struct.unpack_from("=i", body)[0] == errno.ENOENT else None
        ports, uid, inode = _ANSWER.unpack_from(body)
    except (OSError, struct.error):
        return None
    # Without such a connection the kernel may answer with a listener on that port.
    return (uid, inode) if ports == _PORTS.pack(peer[1], local[1]) else _NOBODY


def _question(peer: Address, local: Address) -> bytes:
    ends = [ipaddress.ip_address(host) for host, _ in (peer, local)]
    family = socket.AF_INET if ends[0].version == 4 else socket.AF_INET6
    body = (
        _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ALL_STATES)
        + _PORTS.pack(peer[1], local[1])
        + b"".join(end.packed.ljust(16, b"\0") for end in ends)
        + _AFTER_ADDRESSES.pack(0, _NO_COOKIE)
    )
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body


def _look_up(peer: Address, local: Address) -> tuple[int, int] | None:
    """(uid, inode) of the peer's row in the kernel's TCP tables, None when there are no tables."""
    seen = False
    for table in TCP_TABLES:
        try:
            rows = Path(table).read_text(encoding="ascii")
        except OSError:
            continue
        seen = True
        for a, b in _forms(peer, local):
            # One search in C instead of a loop over what may be thousands of rows.
            _, found, rest = rows.partition(f" {_kernel_form(a)} {_kernel_form(b)} ")
            if found:
                fields = rest.split("\n", 1)[0].split()
                return int(fields[4]), int(fields[6])
    return _NOBODY if seen else None


def _forms(peer: Address, local: Address) -> list[tuple[Address, Address]]:
    """The pair as given, and with IPv4 mapped into IPv6, as a dual-stack client's row shows it."""
    mapped = [(f"::ffff:{host}" if "." in host and ":" not in host else host, port) for host, port in (peer, local)]
    return [(peer, local), (mapped[0], mapped[1])]


def _kernel_form(address: Address) -> str:
    """/proc/net/tcp shows each 32-bit word of an address in host byte order."""
    packed = ipaddress.ip_address(address[0]).packed
    words = [int.from_bytes(packed[i : i + 4], "little") for i in range(0, len(packed), 4)]
    return f"{''.join(f'{word:08X}' for word in words)}:{address[1]:04X}"
