"""Which answers are the bytes that were asked for: the rules of ranges and validators (RFC 9110 §13.1.5, §14)."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import pytest

from pumas.downloads.content import Changed, Content
from pumas.downloads.part import Span
from pumas.downloads.wanted import WantedFile
from pumas.errors import GatedRepo, HttpStatus, InvalidReply, PumasError, RateLimited

HUB, CDN = "http://hub.test/maker/model/resolve/0/w.gguf", "http://cdn.test/w?Signature=1"
SIZE = 1000
SPAN = Span(100, 300)
ETAG = '"digest"'


class Answer:
    def __init__(self, status: int, url: str = CDN, wait_s: float | None = None, **headers: str | None) -> None:
        self.status, self.url, self.wait_s = status, url, wait_s
        given = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        self.headers: Mapping[str, str] = _Headers({name: value for name, value in given.items() if value is not None})
        self.closed = False

    def read_into(self, target: memoryview, /) -> int:
        raise AssertionError("nothing is read here")

    def read(self, limit: int) -> bytes:
        raise AssertionError("nothing is read here")

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


class _Headers(dict[str, str]):
    """As urllib3's: letter case does not count."""

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        return super().get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())


class Server:
    """Gives these answers one after the other and remembers what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Mapping[str, str]]] = []

    def __call__(self, url: str, headers: Mapping[str, str]) -> Answer:
        self.asked.append((url, dict(headers)))
        return self.answers[len(self.asked) - 1]


def content(server: Server, size: int = SIZE) -> Content:
    return Content(WantedFile("w.gguf", size, "a" * 64, ""), "maker/model", "http://hub.test/page", HUB, server)


def part(**headers: str | None) -> Answer:
    return Answer(206, **{"Content_Range": "bytes 100-299/1000", "Content_Length": "200", "ETag": ETAG, **headers})


def whole(**headers: str | None) -> Answer:
    return Answer(200, **{"Content_Length": "1000", "ETag": ETAG, **headers})


def check(answer: Answer, error: type[PumasError] | None, span: Span | None = SPAN, etag: str = ETAG) -> PumasError:
    """One answer to one question; whatever is refused is closed."""
    server = Server(answer)
    if error is None:
        assert content(server).open(span, etag) is answer
        assert not answer.closed
        return PumasError()
    with pytest.raises(error) as raised:
        content(server).open(span, etag)
    assert answer.closed
    return raised.value


@pytest.mark.parametrize("headers", [
    {}, {"ETag": None}, {"Content_Length": None}, {"Content_Range": "bytes 100-299/*"},
    {"Content_Range": " bytes 100-299/1000 "},
])  # fmt: skip
def test_a_part_that_fits(headers: dict[str, str | None]) -> None:
    check(part(**headers), None)


def test_a_part_of_a_content_that_has_no_name_yet() -> None:
    check(part(), None, etag="")


@pytest.mark.parametrize("headers", [
    {"Content_Range": None}, {"Content_Range": ""}, {"Content_Range": "bytes */1000"},
    {"Content_Range": "bytes 100-299"},
    {"Content_Range": "items 100-299/1000"}, {"Content_Range": "bytes 100-299/1000, bytes 0-1/1000"},
    {"Content_Range": "bytes -100-299/1000"}, {"Content_Range": "bytes 100-299/1001"},
    {"Content_Range": "bytes 100-299/0"},
    {"Content_Range": "bytes 100-299/" + "9" * 5000}, {"Content_Range": f"bytes {'1' * 5000}-299/1000"},
    {"Content_Length": "199"}, {"Content_Length": "201"}, {"Content_Length": "-200"}, {"Content_Length": "abc"},
    {"Content_Length": "2e2"}, {"Content_Length": "9" * 5000}, {"Content_Length": "²00"}, {"Content_Length": ""},
])  # fmt: skip
def test_a_part_that_makes_no_sense(headers: dict[str, str | None]) -> None:
    error = check(part(**headers), InvalidReply)
    assert not isinstance(error, Changed) and len(str(error)) < 400


@pytest.mark.parametrize("headers", [
    {"Content_Range": "bytes 101-300/1000"}, {"Content_Range": "bytes 100-300/1000"},
    {"Content_Range": "bytes 0-199/1000"},
    {"ETag": '"another"'}, {"ETag": 'W/"digest"'},
])  # fmt: skip
def test_a_part_of_something_else(headers: dict[str, str | None]) -> None:
    error = check(part(**headers), Changed)
    assert isinstance(error, Changed) and error.ranges


def test_the_whole_file_when_a_part_was_asked_for() -> None:
    ignored = check(whole(), Changed)
    assert isinstance(ignored, Changed) and not ignored.ranges, "this server gives no parts"
    changed = check(whole(ETag='"another"'), Changed)
    assert isinstance(changed, Changed) and changed.ranges, "If-Range did its work"


def test_the_whole_file_when_it_was_asked_for() -> None:
    check(whole(), None, span=None)
    check(whole(ETag='"another"'), None, span=None)
    check(part(), InvalidReply, span=None)
    check(whole(Content_Length=None), None, span=None)


@pytest.mark.parametrize("span", [None, SPAN])
def test_a_page_in_the_place_of_a_file_says_so(span: Span | None) -> None:
    error = check(whole(Content_Length="70", Content_Type="text/html; charset=utf-8"), InvalidReply, span)
    assert "sign-in" in str(error)


def test_the_length_of_a_compressed_form_says_nothing() -> None:
    check(whole(Content_Length="70", Content_Encoding="gzip"), None, span=None)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(404, HUB), HttpStatus),
        (Answer(410, HUB), HttpStatus),
        (Answer(401, HUB), HttpStatus),
        (Answer(403, HUB, X_Error_Code="GatedRepo"), GatedRepo),
        (Answer(401, HUB, X_Error_Code="GatedRepo"), GatedRepo),
        (Answer(416, CDN), InvalidReply),
        (Answer(500, CDN), HttpStatus),
        (Answer(503, CDN), HttpStatus),
        (Answer(429, HUB), HttpStatus),
        (Answer(204, CDN), HttpStatus),
        (Answer(304, CDN), HttpStatus),
        (Answer(302, CDN), HttpStatus),
        (Answer(404, CDN), InvalidReply),  # the signed address is refused, not the file
        (Answer(403, CDN), InvalidReply),
        (Answer(403, CDN, X_Error_Code="GatedRepo"), GatedRepo),
    ],
)
def test_refusals(answer: Answer, error: type[PumasError]) -> None:
    check(answer, error)
    check(answer, error, span=None)


@pytest.mark.parametrize("status", [429, 503, 403])
def test_a_wait_that_the_server_asks_for_is_passed_on(status: int) -> None:
    error = check(Answer(status, HUB, wait_s=7.5), RateLimited)
    assert isinstance(error, RateLimited) and error.retry_after_s == 7.5


# -- what is asked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "etag", "asked"),
    [
        (None, ETAG, {}),
        (Span(0, 1), "", {"Range": "bytes=0-0"}),
        (SPAN, "", {"Range": "bytes=100-299"}),
        (SPAN, ETAG, {"Range": "bytes=100-299", "If-Range": ETAG}),
        (SPAN, 'W/"weak"', {"Range": "bytes=100-299"}),
    ],
)
def test_headers(span: Span | None, etag: str, asked: Mapping[str, str]) -> None:
    server = Server(Answer(500))
    with pytest.raises(HttpStatus):
        content(server).open(span, etag)
    assert server.asked == [(HUB, {"Accept-Encoding": "identity", **asked})]


def test_the_signed_address_is_kept_until_it_is_refused() -> None:
    other = part()
    other.url = "http://cdn.test/w?Signature=2"
    server = Server(part(), part(), Answer(403), other, part())
    made = content(server)
    for _ in range(4):
        made.open(SPAN, ETAG)
    assert [url for url, _headers in server.asked] == [HUB, CDN, CDN, HUB, other.url]
    assert server.answers[2].closed


def test_a_failure_of_the_other_host_does_not_cost_the_signed_address() -> None:
    server = Server(part(), Answer(503), part())
    made = content(server)
    made.open(SPAN, ETAG)
    with pytest.raises(HttpStatus):
        made.open(SPAN, ETAG)
    made.open(SPAN, ETAG)
    assert [url for url, _headers in server.asked] == [HUB, CDN, CDN]


def test_a_refusal_is_never_kept_as_the_signed_address() -> None:
    server = Server(Answer(403), part())
    made = content(server)
    with pytest.raises(InvalidReply):
        made.open(SPAN, ETAG)
    made.open(SPAN, ETAG)
    assert [url for url, _headers in server.asked] == [HUB, HUB]
