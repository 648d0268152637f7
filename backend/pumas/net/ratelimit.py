"""When a host wants to be asked again: what its answers say about waiting, and the gates that make everybody wait.

`sending.py` shows every answer to `told` and keeps one `Gates` per host. Nothing here sleeps.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from pumas.net.address import Address

LONGEST_S = 300.0
"""Longer waits than this are taken for a mistake, and the host is asked again after it."""

_QUOTA = re.compile(r";\s*r\s*=\s*(\d{1,15})\b")
_RESET = re.compile(r";\s*t\s*=\s*(\d{1,15})\b")
_BUSY = (429, 503)


def told(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait before the next request, None when the answer does not ask for it.

    Read are `Retry-After` in both its forms (RFC 9110 10.2.3) where the status asks to come back, `RateLimit` with no
    request left (draft-ietf-httpapi-ratelimit-headers-09, as Hugging Face sends it), and `X-RateLimit-Reset` as GitHub
    sends it (https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api).

    Args:
        now: seconds since the epoch, for the forms that name a time of day.
    """
    waits: list[float] = []
    if status in _BUSY or (status == 403 and "retry-after" in headers):
        waits.append(_retry_after(headers.get("retry-after", ""), now))
    waits.append(_quota(headers.get("ratelimit", "")))
    if status in (403, 429) and headers.get("x-ratelimit-remaining", "").strip() == "0":
        waits.append(_seconds(headers.get("x-ratelimit-reset", "")) - now)
    longest = max(waits)
    return min(longest, LONGEST_S) if longest > 0 else None


def _retry_after(value: str, now: float) -> float:
    value = value.strip()
    if value.isascii() and value.isdigit():
        return _seconds(value)
    try:
        when = parsedate_to_datetime(value)
        # The form with "-0000" names no zone; HTTP dates are always in UTC.
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, OverflowError, TypeError, IndexError):
        return 0.0


def _quota(value: str) -> float:
    """The longest wait of the quotas in the list that have nothing left."""
    waits = [0.0]
    for item in value[:4096].split(","):
        left, reset = _QUOTA.search(item), _RESET.search(item)
        if left and reset and int(left[1]) == 0:
            waits.append(_seconds(reset[1]))
    return max(waits)


def _seconds(text: str) -> float:
    text = text.strip()
    return float(text[:15]) if text.isascii() and text.isdigit() else 0.0


def quota_of(address: Address) -> str:
    """Which of a host's quotas an address draws on: the hub counts its API, its file links and its pages apart.

    https://huggingface.co/docs/hub/rate-limits. Other hosts then have one quota for `/api/` and one for the rest.
    """
    if address.path.startswith("/api/"):
        return "api"
    return "resolvers" if "/resolve/" in address.path else "pages"


class Gates:
    """The gates of one host, one per quota. Thread-safe; times are those of a monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opens: dict[str, float] = {}

    def shut(self, quota: str, until: float) -> None:
        """Ask everybody who draws on the quota to wait. A later answer never shortens what an earlier one asked."""
        with self._lock:
            self._opens[quota] = max(until, self._opens.get(quota, until))

    def wait(self, quota: str, now: float) -> float:
        """Seconds until the gate opens, 0.0 when it is open."""
        with self._lock:
            return max(0.0, self._opens.get(quota, now) - now)

    def longest(self, now: float) -> float:
        with self._lock:
            return max([0.0, *(until - now for until in self._opens.values())])
