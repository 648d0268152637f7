"""How a page in a browser gets the token: by a code that is good once, for a short time.

Whoever holds the token makes a code and opens `http://HOST:PORT/#code=…`; the page takes the code out of its address
and sends it back for the token. The fragment of an address is sent to no server and stands in no log, and a code that
somebody finds later in a browser's history is used up.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable

CODE_BYTES = 32
LIFE_S = 120.0
"""A browser that starts cold on a slow machine takes its time."""
MOST_OPEN = 16


class SessionCodes:
    """Codes that were given out and not yet come back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expiry: dict[str, float] = {}

    def issue(self) -> str:
        """A new code. Of too many that never come back the oldest ends."""
        code = new_code()
        self.admit(code)
        return code

    def admit(self, code: str) -> None:
        """Take a code that was made elsewhere, by `new_code`."""
        self._forget_old()
        while len(self._expiry) >= MOST_OPEN:
            del self._expiry[next(iter(self._expiry))]
        self._expiry[code] = self._clock() + LIFE_S

    def redeem(self, given: str) -> bool:
        """Whether it is good; from now on it is not."""
        self._forget_old()
        # Compared with all of them, in constant time and as bytes: text that is not ASCII would raise.
        sent = given.encode("utf-8", "surrogatepass")
        found = [code for code in self._expiry if hmac.compare_digest(code.encode(), sent)]
        for code in found:
            del self._expiry[code]
        return bool(found)

    def _forget_old(self) -> None:
        now = self._clock()
        self._expiry = {code: end for code, end in self._expiry.items() if end > now}


def new_code() -> str:
    return secrets.token_urlsafe(CODE_BYTES)
