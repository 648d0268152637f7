"""Read so many bytes of an answer: at the pace that is allowed, told as they come, and not from one that trickles.

What the bytes are, and what becomes of them, is known to `large.py` and `fetching.py`.
"""

from __future__ import annotations

import time

from pumas.downloads.content import Reply, invalid
from pumas.downloads.shared import Shared

# A connection that brings less than this for so long is given up for a new one.
SLOWEST, SLOWEST_FOR_S = 256.0, 20.0


def fill(shared: Shared, reply: Reply, path: str, view: memoryview) -> None:
    """Fill `view`; on a failure what had come is lost. The bytes count as pending for `path`.

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
    except BaseException:
        shared.meter.dropped(path, filled)
        raise
