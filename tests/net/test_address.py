"""What counts as an address, and where mirrors send it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.util import parse_url

from pumas.errors import InvalidInput
from pumas.net.address import Address, Mirrors, Origin, base, parse


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("https://huggingface.co", Origin("https", "huggingface.co", 443), "/"),
        ("HTTPS://HuggingFace.CO:443/A?b=C#d", Origin("https", "huggingface.co", 443), "/A?b=C"),
        ("http://h:8080/a%2Fb", Origin("http", "h", 8080), "/a%2Fb"),
        ("http://h./", Origin("http", "h", 80), "/"),
        ("http://[::1]:80/x", Origin("http", "::1", 80), "/x"),
        ("http://[0:0:0:0:0:0:0:1]/", Origin("http", "::1", 80), "/"),
        ("http://bücher.example/", Origin("http", "xn--bcher-kva.example", 80), "/"),
        ("http://h/?", Origin("http", "h", 80), "/"),
        ("http://h?x", Origin("http", "h", 80), "/?x"),
    ],
)
def test_a_url_is_taken_apart(url: str, origin: Origin, target: str) -> None:
    address = parse(url)
    assert (address.origin, address.target) == (origin, target)
    assert parse(address.url) == address


@pytest.mark.parametrize(
    "url",
    [
        "", "h", "/a", "//h/a", "ftp://h/", "file:///etc/passwd", "http:", "http://", "http:///a", "http://:80/",
        "http://u@h/", "http://u:p@h/", "http://@h/", "http://h:0/", "http://h:65536/", "http://h:x/", "http://h:-1/",
        "http://h /", "http://h/\n", "http://h/\x00", "http://h\\@g/", "http://g\\.h/", "http://[::1", "http://[::g]/",
        "http://[fe80::1%25eth0]/", "http://h%41/", "http://h,g/", "http://h;g/", "http://..", "http://h..g/",
        "http://" + "h" * 300, "http://h/" + "x" * 20_000, "http://‥/", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(url, "endpoint")
    assert caught.value.field == "endpoint"
    assert str(caught.value).startswith("endpoint: ") and "u:p" not in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"https?://[^\s]{0,40}", fullmatch=True))
def test_whatever_is_accepted_reads_the_same_to_everybody(url: str) -> None:
    try:
        address = parse(url)
    except InvalidInput:
        return
    seen = parse_url(address.url)
    assert (seen.scheme, (seen.host or "").strip("[]"), seen.port or {"http": 80, "https": 443}[seen.scheme or ""]) == (
        address.origin.scheme,
        address.origin.host,
        address.origin.port,
    )
    assert seen.auth is None and parse(address.url) == address


@pytest.mark.parametrize(
    ("url", "label", "loopback"),
    [
        ("https://h", "h", False),
        ("https://h:8443", "h:8443", False),
        ("http://h", "http://h", False),
        ("http://127.0.0.1:9", "http://127.0.0.1:9", True),
        ("http://127.9.9.9", "http://127.9.9.9", True),
        ("https://localhost", "localhost", True),
        ("https://a.localhost", "a.localhost", True),
        ("https://[::1]:9", "[::1]:9", True),
        ("https://localhost.example", "localhost.example", False),
        ("https://10.0.0.1", "10.0.0.1", False),
    ],
)
def test_how_a_host_is_shown(url: str, label: str, loopback: bool) -> None:
    origin = parse(url).origin
    assert (origin.label, origin.loopback) == (label, loopback)


def test_an_address_does_not_show_what_follows_the_host() -> None:
    assert "secret" not in repr(parse("https://h/secret?x=secret"))


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/b", "http://h:1/b"),
        ("b?x", "http://h:1/a/b?x"),
        ("//g/c", "http://g/c"),
        ("https://g", "https://g/"),
        ("?y", "http://h:1/a/x?y"),
        ("../c", "http://h:1/c"),
    ],
)
def test_a_location_is_read_from_where_it_stands(location: str, expected: str) -> None:
    assert parse("http://h:1/a/x?q").join(location).url == expected


@pytest.mark.parametrize(
    ("mirrors", "url", "expected"),
    [
        ({}, "https://h/a", "https://h/a"),
        ({"h": "https://m"}, "https://h/a?b", "https://m/a?b"),
        ({"h": "https://m/"}, "http://h/a", "https://m/a"),
        ({"H": "https://m/x/"}, "https://h", "https://m/x/"),
        ({"h": "https://m"}, "https://h:8443/a", "https://h:8443/a"),
        ({"h:8443": "https://m"}, "https://h:8443/a", "https://m/a"),
        ({"h": "https://m"}, "https://g.h/a", "https://g.h/a"),
        ({"https://h": "https://m"}, "http://h/a", "http://h/a"),
        ({"https://h/api": "https://m"}, "https://h/api/x", "https://m/x"),
        ({"https://h/api": "https://m"}, "https://h/api?x", "https://m?x"),
        ({"https://h/api": "https://m/y"}, "https://h/api", "https://m/y"),
        ({"https://h/api": "https://m"}, "https://h/api", "https://m/"),
        ({"https://h/api": "https://m"}, "https://h/apix", "https://h/apix"),
        ({"h": "https://all", "https://h/api": "https://m"}, "https://h/api/x", "https://m/x"),
        ({"h": "https://all", "https://h/api": "https://m"}, "https://h/x", "https://all/x"),
        ({"h": "https://g", "g": "https://m"}, "https://h/a", "https://g/a"),
    ],
)
def test_mirrors(mirrors: dict[str, str], url: str, expected: str) -> None:
    assert Mirrors(mirrors).apply(parse(url)) == parse(expected)


@pytest.mark.parametrize(
    "mirrors",
    [
        {"": "https://m"},
        {"h/x": "https://m"},
        {"h": "m"},
        {"h": "ftp://m"},
        {"h": "https://m?x"},
        {"h": "https://u:p@m"},
        {"h i": "https://m"},
    ],
)
def test_mirrors_that_are_none(mirrors: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        Mirrors(mirrors)
    assert caught.value.field == "mirrors"


@pytest.mark.parametrize("url", ["https://h/?x", "https://h/#x", "h"])
def test_a_base_has_neither_query_nor_fragment(url: str) -> None:
    with pytest.raises(InvalidInput):
        base(url, "field")


def test_addresses_are_values() -> None:
    assert parse("https://h/a") == Address(Origin("https", "h", 443), "/a") != parse("https://h/b")
