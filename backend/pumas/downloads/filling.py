"""Read so many bytes of an answer: at the pace that is allowed, told as they come, and not from one that trickles.

What the bytes are, and what becomes of them, is known to `large.py` and `fetching.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pumas.downloads.content import Reply, invalid
from pumas.downloads.shared import Shared
from pumas.errors import NetworkError

# A connection that brings less than this for so long is given up for a new one.
SLOWEST, SLOWEST_FOR_S = 256.0, 20.0


def fill(
    shared: Shared, reply: Reply, path: str, view: memoryview, rescue: Callable[[memoryview], bool] | None = None
) -> None:
    """Fill `view`. The bytes count as pending for `path`; on a failure of the network, what had come is offered to
    `rescue` and goes on counting when that takes it (True), else it is lost.

    Raises:
        InvalidReply: the answer ends too early or trickles.
        ConnectionFailed: it broke off, or was closed here; and what `shared.stop` raises.
    """
    filled, seconds = 0, 0.0
    try:
        while filled < len(view):
            began = time.monotonic()
            count = reply.read_into(view[filled : filled + shared.bandwidth.bite()])
            if not count:
                raise invalid(reply, f"{path} ends too early")
            filled += count
            # Without the waits for our own limit, which are not the server's.
            seconds += time.monotonic() - began
            if shared.meter.received(path, count):
                shared.patience.progressed()
            shared.bandwidth.take(count, shared.stop)
            if seconds > SLOWEST_FOR_S and filled / seconds < SLOWEST:
                raise invalid(reply, f"{path} comes with less than {SLOWEST:.0f} bytes per second")
    except BaseException as error:
        if not (rescue and filled and isinstance(error, NetworkError) and rescue(view[:filled])):
            shared.meter.dropped(path, filled)
        raise
