"""What settings are accepted, and what a file may hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from net.stub import ROOT
from pumas.errors import FileUnavailable, InvalidInput
from pumas.net.settings import DIRECT, NetworkSettings, changed, masked, read

EMPTY = NetworkSettings()


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("http://p:3128", "http://p:3128"),
        ("http://p", "http://p"),
        ("https://P.Example:443/", "https://p.example"),
        ("http://me:pass%40@p:1", "http://me:pass%40@p:1"),
        ("http://me@p:1", "http://me@p:1"),
        ("http://[::1]:1", "http://[::1]:1"),
        (DIRECT, DIRECT),
        ("", None),
    ],
)
def test_proxies(given_: str, kept: str | None) -> None:
    assert changed(NetworkSettings(proxy="http://old:1"), proxy=given_).proxy == kept


@pytest.mark.parametrize(
    "proxy",
    [
        "p:1", "p", "socks5://p:1", "http://", "http://p:1/x", "http://p:1?x", "http://a b@p:1", "http://a:b/c@p:1",
        "http://a:é@p:1", "http://a:\r\nX: y@p:1", "http://a:***@p:1", "http://p:99999", "ftp://p", "http://p\n",
    ],
)  # fmt: skip
def test_proxies_that_are_none(proxy: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        changed(EMPTY, proxy=proxy)
    assert caught.value.field == "proxy" and (len(proxy) < 5 or proxy not in str(caught.value))


def test_a_proxy_given_back_as_it_was_shown_keeps_its_password() -> None:
    now = changed(EMPTY, proxy="http://me:secret@p:1")
    assert now.shown_proxy == "http://me:***@p:1" and "secret" not in repr(now)
    assert changed(now, proxy=now.shown_proxy) == now
    with pytest.raises(InvalidInput):
        changed(now, proxy="http://me:***@other:1")


@pytest.mark.parametrize(
    ("url", "shown"),
    [("http://u:p@h:1", "http://u:***@h:1"), ("http://u@h", "http://u@h"), ("http://h", "http://h"), (DIRECT, DIRECT)],
)
def test_masking(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_what_is_left_out_stays() -> None:
    now = NetworkSettings(True, "http://p:1", {"h": "https://m"}, str(ROOT))
    assert changed(now) == now
    assert changed(now, offline=False) == NetworkSettings(False, "http://p:1", {"h": "https://m"}, str(ROOT))
    assert changed(now, proxy="", mirrors={}, ca_bundle="") == NetworkSettings(True)


@pytest.mark.parametrize("mirrors", [{"h": "m"}, {"h/x": "https://m"}, {f"h{n}": "https://m" for n in range(101)}])
def test_mirrors_that_are_none(mirrors: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        changed(EMPTY, mirrors=mirrors)
    assert caught.value.field == "mirrors"


def test_bundles(tmp_path: Path) -> None:
    assert changed(EMPTY, ca_bundle=str(ROOT)).ca_bundle == str(ROOT)
    wrong = tmp_path / "secret.pem"
    wrong.write_text("-----BEGIN SECRET-----")
    fifo = tmp_path / "fifo.pem"
    os.mkfifo(fifo)
    cases: list[tuple[str, type[Exception]]] = [
        (str(wrong), InvalidInput),
        ("relative.pem", InvalidInput),
        ("/\0", InvalidInput),
        (str(tmp_path / "none.pem"), FileUnavailable),
        (str(tmp_path), FileUnavailable),
        (str(fifo), FileUnavailable),
        ("/dev/zero", FileUnavailable),
    ]
    for path, kind in cases:
        with pytest.raises(kind) as caught:
            changed(EMPTY, ca_bundle=path)
        assert str(tmp_path) not in str(caught.value) and "BEGIN" not in str(caught.value)


@pytest.mark.parametrize(
    ("stored", "expected", "wrong"),
    [
        ({}, EMPTY, []),
        ({"offline": True, "future": [1]}, NetworkSettings(offline=True), []),
        ({"offline": None, "proxy": None, "mirrors": None, "ca_bundle": None}, EMPTY, []),
        ({"offline": "yes"}, EMPTY, ["offline"]),
        ({"offline": 1, "proxy": "http://p:1"}, NetworkSettings(proxy="http://p:1"), ["offline"]),
        ({"proxy": 5, "mirrors": [], "ca_bundle": {}}, EMPTY, ["proxy", "mirrors", "ca_bundle"]),
        ({"mirrors": {"h": 5}}, EMPTY, ["mirrors"]),
        ({"ca_bundle": "/gone.pem"}, NetworkSettings(ca_bundle="/gone.pem"), []),
    ],
)
def test_what_a_file_says(stored: dict[str, Any], expected: NetworkSettings, wrong: list[str]) -> None:
    assert read(stored) == (expected, wrong)


VALUES = (
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text())
)


@limits(deadline=None)
@given(st.dictionaries(st.sampled_from(["offline", "proxy", "mirrors", "ca_bundle", "x"]), VALUES))
def test_no_file_is_too_strange(stored: dict[str, Any]) -> None:
    settings, wrong = read(stored)
    assert read(settings.to_json()) == (settings, [])
    assert set(wrong) <= set(stored)
