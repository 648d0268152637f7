"""Answers that a plain client can check: ranges, permissions, signed links, pages."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.hub import Hub, HubContent, Repo, User
from fixtures.hub.api import span_asked
from fixtures.hub.repositories import GATED, LLM, PRIVATE

from .client import ask, fetch
from .conftest import DATA, TEXT

FILE = "/a/b/resolve/main/w.bin"
SIZE = len(DATA)


# RFC 9110 §14.1.2 and §14.2
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-1000", (0, 100)),
        ("BYTES = 5 - 6", (5, 7)),
        ("bytes=100-", "beyond"),
        ("bytes=100-200", "beyond"),
        ("bytes=-0", "beyond"),
        ("bytes=9-3", "whole"),
        ("bytes=-", "whole"),
        ("bytes=0-1,5-6", "whole"),
        ("lines=0-1", "whole"),
        ("", "whole"),
    ],
)
def test_ranges(header: str, expected: object) -> None:
    assert span_asked(header, 100) == expected


@given(st.integers(0, 99), st.integers(0, 200))
def test_a_range_is_never_more_than_asked(first: int, last: int) -> None:
    got = span_asked(f"bytes={first}-{last}", 100)
    assert got == ("whole" if last < first else (first, min(last, 99) + 1))


@pytest.mark.parametrize(
    ("range_", "status", "body", "said"),
    [
        ("bytes=5-9", 206, DATA[5:10], f"bytes 5-9/{SIZE}"),
        (f"bytes={SIZE - 3}-", 206, DATA[-3:], f"bytes {SIZE - 3}-{SIZE - 1}/{SIZE}"),
        ("bytes=-4", 206, DATA[-4:], f"bytes {SIZE - 4}-{SIZE - 1}/{SIZE}"),
        (f"bytes={SIZE}-", 416, b"", f"bytes */{SIZE}"),
        ("bytes=1-2,4-5", 200, DATA, None),
    ],
)
def test_partial_answers(small: Hub, range_: str, status: int, body: bytes, said: str | None) -> None:
    answer = fetch(small.url + FILE, {"Range": range_})
    assert (answer.status, answer.body, answer.headers["Content-Range"]) == (status, body, said)


def test_a_link_of_the_second_host_is_signed_and_runs_out(small: Hub) -> None:
    location = ask(small.url + FILE).headers["Location"]
    assert location.startswith(small.cdn_url)
    assert ask(location).body == DATA
    for spoilt in (location[:-1] + "x", location.replace("Expires=", "Expires=9"), location.partition("?")[0]):
        assert ask(spoilt).status == 403
    small.options = replace(small.options, link_ttl_s=-1)
    assert ask(ask(small.url + FILE).headers["Location"]).status == 403


def test_etags(small: Hub) -> None:
    file = small.content.repos["a/b"].file("w.bin")
    head = ask(small.url + FILE, "HEAD")
    assert (head.headers["X-Linked-ETag"], head.headers["X-Linked-Size"]) == (f'"{file.sha256}"', str(SIZE))
    assert ask(head.headers["Location"]).headers["ETag"] == f'"{file.sha256}"'
    small.options = replace(small.options, cdn_etags="opaque")
    assert ask(head.headers["Location"]).headers["ETag"] not in (f'"{file.sha256}"', None)


def test_small_files_come_by_the_cache_or_at_once(small: Hub) -> None:
    address = f"{small.url}/a/b/resolve/main/text.txt"
    assert ask(address).headers["Location"].startswith("/api/resolve-cache/models/a/b/")
    small.options = replace(small.options, plain_redirects=False)
    answer = ask(address)
    assert (answer.status, answer.body) == (200, TEXT)
    assert answer.headers["X-Repo-Commit"] == small.content.repos["a/b"].branches["main"]


STRANGER, GRANTED, MEMBER = "hf_stranger", "hf_granted", "hf_member"


@pytest.mark.parametrize(
    ("path", "token", "status", "code"),
    [
        (f"/{GATED}/resolve/main/config.json", None, 401, "GatedRepo"),
        (f"/{GATED}/resolve/main/config.json", STRANGER, 403, "GatedRepo"),
        (f"/{GATED}/resolve/main/config.json", GRANTED, 307, None),
        (f"/{GATED}/resolve/main/model.safetensors", GRANTED, 302, None),
        (f"/api/models/{GATED}", None, 200, None),
        (f"/api/models/{GATED}/auth-check", STRANGER, 403, "GatedRepo"),
        (f"/api/models/{GATED}/auth-check", GRANTED, 200, None),
        (f"/api/models/{PRIVATE}", None, 401, "RepoNotFound"),
        (f"/api/models/{PRIVATE}", STRANGER, 404, "RepoNotFound"),
        (f"/api/models/{PRIVATE}", MEMBER, 200, None),
        ("/api/models/no/such", None, 401, "RepoNotFound"),
        ("/api/models/no/such", MEMBER, 404, "RepoNotFound"),
        (f"/{LLM}/resolve/nosuch/config.json", None, 404, "RevisionNotFound"),
        (f"/{LLM}/resolve/main/nosuch.json", None, 404, "EntryNotFound"),
        (f"/api/models/{LLM}/tree/main/nosuch", None, 404, "EntryNotFound"),
        (f"/api/models/{LLM}", "hf_wrong", 401, None),
        ("/api/whoami-v2", None, 401, None),
        ("/api/whoami-v2", MEMBER, 200, None),
        ("/api/datasets", None, 404, None),
        ("/api/models?sort=beauty", None, 400, None),
    ],
)
def test_who_gets_what(hub: Hub, path: str, token: str | None, status: int, code: str | None) -> None:
    answer = ask(hub.url + path, headers={"Authorization": f"Bearer {token}"} if token else {})
    assert (answer.status, answer.headers["X-Error-Code"]) == (status, code)


def test_a_private_repository_is_listed_to_its_own_only() -> None:
    content = HubContent.of(Repo("me/mine", private=True), Repo("me/open"), users={"t": User("me"), "u": User("you")})
    with Hub(content) as hub:
        for token, expected in ({}, 1), ({"Authorization": "Bearer u"}, 1), ({"Authorization": "Bearer t"}, 2):
            assert len(json.loads(ask(f"{hub.url}/api/models", headers=token).body)) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pages_hold_everything_once(hub: Hub, size: int) -> None:
    hub.options = replace(hub.options, page_size=size, tree_page=size)
    for path in ("/api/models", f"/api/models/{LLM}/tree/main"):
        address: str | None = hub.url + path
        names: list[Any] = []
        while address:
            answer = ask(address)
            page = json.loads(answer.body)
            assert len(page) <= size
            names += [row.get("path", row.get("id")) for row in page]
            address = (answer.headers["Link"] or "").partition(">")[0].lstrip("<")
        expected = (
            sum(not repo.private for repo in hub.content.repos.values())
            if path == "/api/models"
            else len(hub.content.repos[LLM].commits[hub.content.repos[LLM].branches["main"]].files)
        )
        assert len(names) == len(set(names)) == expected
