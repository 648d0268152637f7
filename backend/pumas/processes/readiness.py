"""Whether an app is ready: its own process listens on its port, and answers there as its description says.

Blocking; called from a thread, again and again with the pauses of `pauses`. What an answer must look like stands in
`pumas.apps.description.Ready`.
"""

from __future__ import annotations

import http.client
import itertools
import json
from collections.abc import Collection, Iterator
from enum import Enum

from multidict import CIMultiDict

from pumas.apps.description import Ready
from pumas.processes import ports
from pumas.processes.ports import Holder

PROBE_S = 3.0
MAX_BODY = 1024 * 1024
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0


class Answer(Enum):
    """`FOREIGN`: somebody else has the port, so that the app cannot be reached there."""

    READY = "ready"
    NOT_YET = "not yet"
    FOREIGN = "foreign"


def pauses() -> Iterator[float]:
    """Seconds between looks: each half as long again as the one before, up to a second."""
    for number in itertools.count():
        yield min(FIRST_PAUSE_S * 1.5 ** min(number, 32), LONGEST_PAUSE_S)


def probe(ready: Ready, port: int, pids: Collection[int], timeout_s: float = PROBE_S) -> Answer:
    """One look. `pids` are all processes of the app."""
    for is_first in (True, False):
        whose = ports.holder(port, pids)
        if whose is not Holder.OURS:
            return Answer.FOREIGN if whose is Holder.OTHERS else Answer.NOT_YET
        # Asked between two looks at the owner: a port that changes hands is nobody's answer.
        if is_first and not _answers(ready, port, timeout_s):
            return Answer.NOT_YET
    return Answer.READY


def _answers(ready: Ready, port: int, timeout_s: float) -> bool:
    connection = http.client.HTTPConnection(ports.HOST, port, timeout=timeout_s)
    try:
        connection.request("GET", ready.path, headers={"Host": f"{ports.HOST}:{port}", "Connection": "close"})
        response = connection.getresponse()
        body = response.read(MAX_BODY) if response.status == 200 and (ready.field or ready.equals) else b""
        return ready.accepts(response.status, CIMultiDict(response.headers.items()), _parsed(body))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None
