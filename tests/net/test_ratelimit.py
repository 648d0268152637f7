"""When an answer asks to wait, and how long."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumas.net.address import parse
from pumas.net.ratelimit import LONGEST_S, Gates, quota_of, told

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {}, None),
        (429, {"retry-after": "5"}, 5),
        (429, {"retry-after": " 5 "}, 5),
        (503, {"retry-after": "5"}, 5),
        (403, {"retry-after": "5"}, 5),
        (200, {"retry-after": "5"}, None),
        (301, {"retry-after": "5"}, None),
        (429, {"retry-after": "0"}, None),
        (429, {"retry-after": "-5"}, None),
        (429, {"retry-after": "1.5"}, None),
        (429, {"retry-after": "soon"}, None),
        (429, {"retry-after": ""}, None),
        (429, {"retry-after": "٣"}, None),
        (429, {"retry-after": "9" * 400}, LONGEST_S),
        (429, {"retry-after": formatdate(NOW + 30, usegmt=True)}, 30),
        (429, {"retry-after": formatdate(NOW + 30, usegmt=False)}, 30),
        (429, {"retry-after": formatdate(NOW - 30, usegmt=True)}, None),
        (429, {"retry-after": formatdate(NOW + 86_400, usegmt=True)}, LONGEST_S),
        (429, {"retry-after": "Fri, 99 Xyz 9999 99:99:99 GMT"}, None),
        (429, {"ratelimit": '"api";r=0;t=55'}, 55),
        (200, {"ratelimit": '"api";r=0;t=55'}, 55),
        (200, {"ratelimit": '"api"; r=0 ; t=55'}, 55),
        (200, {"ratelimit": '"api";r=1;t=55'}, None),
        (200, {"ratelimit": '"api";r=00;t=55'}, 55),
        (200, {"ratelimit": '"api";r=5;t=55, "burst";r=0;t=7'}, 7),
        (200, {"ratelimit": '"api";t=55'}, None),
        (200, {"ratelimit": "limit=10, remaining=0, reset=50"}, None),
        (429, {"ratelimit": '"api";r=0;t=55', "retry-after": "9"}, 55),
        (429, {"ratelimit": '"api";r=0;t=999999999999999'}, LONGEST_S),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 40)}, 40),
        (429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 4000)}, LONGEST_S),
        (403, {"x-ratelimit-remaining": "1", "x-ratelimit-reset": str(int(NOW) + 40)}, None),
        (403, {"x-ratelimit-remaining": "0"}, None),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 40)}, None),
    ],
)
def test_what_an_answer_asks_for(status: int, headers: dict[str, str], expected: float | None) -> None:
    assert told(status, headers, NOW) == expected


NAMES = st.sampled_from(["retry-after", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset"])


@settings(deadline=None)
@given(st.integers(100, 599), st.dictionaries(NAMES, st.text(max_size=40)))
def test_no_header_makes_it_wait_for_ever(status: int, headers: dict[str, str]) -> None:
    wait = told(status, headers, NOW)
    assert wait is None or 0 < wait <= LONGEST_S


@pytest.mark.parametrize(
    ("path", "quota"),
    [
        ("/api/models", "api"),
        ("/api", "pages"),
        ("/a/b/resolve/main/x", "resolvers"),
        ("/a/b", "pages"),
        ("/", "pages"),
        ("/x?y=/api/", "pages"),
    ],
)
def test_the_hub_counts_three_things_apart(path: str, quota: str) -> None:
    assert quota_of(parse(f"https://h{path}")) == quota


def test_a_gate_opens_by_itself_and_is_never_shortened() -> None:
    gates = Gates()
    assert gates.wait("api", 100) == 0 == gates.longest(100)
    gates.shut("api", 130)
    gates.shut("api", 110)
    gates.shut("pages", 150)
    assert (gates.wait("api", 100), gates.wait("pages", 100), gates.wait("resolvers", 100)) == (30, 50, 0)
    assert (gates.longest(100), gates.wait("api", 130), gates.longest(151)) == (50, 0, 0)
