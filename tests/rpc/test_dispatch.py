"""JSON-RPC 2.0 in memory: envelope, ids, batches, notifications, parameters, failures, limits."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Literal

import pytest
from pydantic import Field

from pumas.errors import Busy, InvalidInput, ModelNotFound, NotAModel, TimedOut
from pumas.rpc import dispatch
from pumas.rpc.dispatch import MAX_BATCH, MAX_IN_FLIGHT, Dispatcher
from pumas.rpc.models import Name, NoParams, Params, Result
from pumas.rpc.registry import Methods, RpcFailure
from pumas.rpc.wrap import Wrapper, wrappers


class Inner(Params):
    file_path: str
    deep_flag: bool = True


class Echo(Params):
    legacy_names = {"q": "search_text"}  # noqa: RUF012 - a ClassVar of the base

    search_text: Name
    limit: int = Field(20, ge=1, le=100)
    scale: float | None = None
    kind: Literal["a", "b"] = "a"
    tags: list[str] = Field([], max_length=3)
    inner: Inner | None = None


class Echoed(Result):
    given: dict[str, Any]


KINDS = {
    "echo": Wrapper("pass", None, {"given": {}}),
    "bare_echo": Wrapper("raw", None, {}),
    "block": Wrapper("raw", None, {}),
    "fail_soft": Wrapper("list:K", None, {}),
    "fail_hard": Wrapper("raw", None, {}),
    "bug": Wrapper("pass", None, {}),
    "odd_text": Wrapper("raw", None, {}),
    "health_check": Wrapper("builtin", None, {}),
}


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> Methods:
    for name, wrapper in KINDS.items():
        monkeypatch.setitem(wrappers(), name, wrapper)
    table = Methods()
    failures: dict[str, Exception] = {}

    @table.row("echo", Echo, Echoed)
    async def echo(p: Echo) -> Echoed:
        """Say what arrived."""
        return Echoed(given=p.model_dump())

    @table.row("bare_echo", Echo, str)
    async def bare_echo(p: Echo) -> str:
        """Say the text."""
        return p.search_text

    @table.row("block", NoParams, bool)
    async def block(_p: NoParams) -> bool:
        """Wait until the test lets go."""
        await table.gate.wait()  # type: ignore[attr-defined]
        return True

    @table.row("fail_soft", NoParams, list[str], errors=[ModelNotFound])
    async def fail_soft(_p: NoParams) -> list[str]:
        """Fail inside an envelope."""
        raise failures["next"]

    @table.row("fail_hard", NoParams, bool, errors=[ModelNotFound])
    async def fail_hard(_p: NoParams) -> bool:
        """Fail without an envelope."""
        raise failures["next"]

    @table.row("bug", NoParams, Result)
    async def bug(_p: NoParams) -> Result:
        """Break."""
        raise KeyError("/home/somebody/secret-token")

    @table.row("odd_text", NoParams, str)
    async def odd_text(_p: NoParams) -> str:
        """Answer what has no JSON form."""
        return "half \ud800"

    @table.row("health_check", NoParams, dict[str, str])
    async def health_check(_p: NoParams) -> dict[str, str]:
        """Be there."""
        return {"status": "ok"}

    table.gate = asyncio.Event()  # type: ignore[attr-defined]
    table.failures = failures  # type: ignore[attr-defined]
    return table


@pytest.fixture
def dispatcher(methods: Methods) -> Dispatcher:
    return Dispatcher(methods)


async def ask(dispatcher: Dispatcher, body: Any) -> Any:
    """The reply as Python values; None when there is none."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await dispatcher.reply(data)
    return None if answer is None else json.loads(answer)


def call(method: str = "echo", params: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "method": method,
        "params": {"search_text": "x"} if params is None else params,
        "id": 1,
    } | more


# -- envelope -------------------------------------------------------------------------------------------------------

ENVELOPES: list[tuple[Any, int, Any]] = [
    (b"", -32700, None),
    (b"{", -32700, None),
    (b"nonsense", -32700, None),
    (b"\xff\xfe", -32700, None),
    (b"\xef\xbb\xbf{}", -32700, None),
    (b'{"jsonrpc":"2.0","method":"echo","id":NaN}', -32700, None),
    (b'{"jsonrpc":"2.0","method":"ec\\ud800ho","id":1}', -32700, None),
    (1, -32600, None),
    ("x", -32600, None),
    (None, -32600, None),
    (True, -32600, None),
    ({}, -32600, None),
    ([], -32600, None),
    ({"jsonrpc": "1.0", "method": "echo", "id": 1}, -32600, 1),
    ({"jsonrpc": 2.0, "method": "echo", "id": 1}, -32600, 1),
    ({"jsonrpc": None, "method": "echo", "id": 1}, -32600, 1),
    ({"jsonrpc": "2.0", "id": 1}, -32600, 1),
    ({"jsonrpc": "2.0", "method": "", "id": 1}, -32600, 1),
    ({"jsonrpc": "2.0", "method": None, "id": 1}, -32600, 1),
    ({"jsonrpc": "2.0", "method": 1, "id": "a"}, -32600, "a"),
    ({"jsonrpc": "2.0", "method": ["echo"], "id": 1}, -32600, 1),
    ({"jsonrpc": "2.0", "method": {"a": 1}, "id": 1}, -32600, 1),
    ({"jsonrpc": "2.0", "method": True}, -32600, None),
    (call(id=True), -32600, None),
    (call(id=[]), -32600, None),
    (call(id={"a": 1}), -32600, None),
    (call("nope"), -32601, 1),
    (call("__init__"), -32601, 1),
    (call("echo "), -32601, 1),
    (call("Echo"), -32601, 1),
    (call("rpc"), -32601, 1),
    (call(params=[]), -32602, 1),
    (call(params=["x"]), -32602, 1),
    (call(params="x"), -32602, 1),
    (call(params=0), -32602, 1),
    (call(params=False), -32602, 1),
    (call(params={}), -32602, 1),
    (call("health_check", []), -32602, 1),
    (call("health_check", 0), -32602, 1),
    (call("health_check", ""), -32602, 1),
    (b'{"jsonrpc":"2.0","method":"echo","params":{"limit":99999999999999999999},"id":1}', -32602, 1),
    (b'{"jsonrpc":"2.0","method":"echo","params":{"scale":1e999},"id":"z"}', -32602, "z"),
    (b'{"jsonrpc":"2.0","method":"echo","id":99999999999999999999}', -32602, None),
]


@pytest.mark.parametrize(("body", "code", "request_id"), ENVELOPES, ids=lambda v: repr(v)[:40])
async def test_refused(dispatcher: Dispatcher, body: Any, code: int, request_id: Any) -> None:
    answer = await ask(dispatcher, body)
    assert (answer["error"]["code"], answer["id"]) == (code, request_id)
    assert answer["jsonrpc"] == "2.0"
    assert answer["error"]["data"]["kind"] in {
        -32700: "parse_error", -32600: "invalid_request", -32601: "method_not_found", -32602: "invalid_params",
    }[code]  # fmt: skip
    assert "result" not in answer


@pytest.mark.parametrize(
    "request_id", [0, 1, -1, "", "abc", "ü😀", 1.5, 2**63, 2**64 - 1, -(2**63), None, 1760000000000, "a" * 1000]
)
async def test_ids_come_back(dispatcher: Dispatcher, request_id: Any) -> None:
    answer = await ask(dispatcher, call(id=request_id))
    assert answer["id"] == request_id
    assert type(answer["id"]) is type(request_id)
    assert answer["result"]["success"] is True


async def test_a_missing_version_and_further_keys_are_accepted(dispatcher: Dispatcher) -> None:
    answer = await ask(dispatcher, {"method": "echo", "params": {"search_text": "x"}, "id": 1, "extra": 1})
    assert answer["result"]["given"]["search_text"] == "x"


async def test_no_params_and_null_params_are_none(dispatcher: Dispatcher) -> None:
    for message in ({"method": "health_check", "id": 1}, {"method": "health_check", "params": None, "id": 1}):
        assert (await ask(dispatcher, message))["result"] == {"status": "ok"}


async def test_an_unknown_name_is_echoed_in_part_only(dispatcher: Dispatcher) -> None:
    answer = await ask(dispatcher, call("n" * 5000))
    assert answer["error"]["message"].count("n" * 100) == 1
    assert len(answer["error"]["message"]) < 150


async def test_health_check_ignores_parameters(dispatcher: Dispatcher) -> None:
    answer = await ask(dispatcher, call("health_check", {"anything": 1, "self": 2}))
    assert answer["result"] == {"status": "ok"}


# -- notifications and batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "echo", "params": {"search_text": "x"}},
        {"jsonrpc": "2.0", "method": "echo", "params": {}},
        {"jsonrpc": "2.0", "method": "echo", "params": [1]},
        {"jsonrpc": "2.0", "method": "nope"},
        {"jsonrpc": "2.0", "method": "bug"},
        {"method": "health_check"},
    ],
)
async def test_notifications_get_no_reply(dispatcher: Dispatcher, message: Any) -> None:
    assert await ask(dispatcher, message) is None
    assert await ask(dispatcher, [message, message]) is None


async def test_a_batch_of_junk_has_an_error_for_each(dispatcher: Dispatcher) -> None:
    answers = await ask(dispatcher, [1, 2, 3])
    assert [(a["error"]["code"], a["id"]) for a in answers] == [(-32600, None)] * 3
    (one,) = await ask(dispatcher, [[]])
    assert one["error"]["code"] == -32600


async def test_a_mixed_batch(dispatcher: Dispatcher) -> None:
    messages = [
        call(id="a"),
        {"jsonrpc": "2.0", "method": "echo", "params": {"search_text": "silent"}},
        call("nope", id="b"),
        {"foo": "boo"},
        call(params=[1], id="c"),
        call("health_check", {}, id="d"),
        call("odd_text", {}, id="e"),
    ]
    answers = {a["id"]: a for a in await ask(dispatcher, messages)}
    assert answers["a"]["result"]["success"] is True
    assert {k: a["error"]["code"] for k, a in answers.items() if "error" in a} == {
        "b": -32601,
        None: -32600,
        "c": -32602,
        "e": -32603,
    }
    assert answers["d"]["result"] == {"status": "ok"}


async def test_the_size_of_a_batch(dispatcher: Dispatcher) -> None:
    full = await ask(dispatcher, [call("health_check", {}, id=n) for n in range(MAX_BATCH)])
    assert sorted(a["id"] for a in full) == list(range(MAX_BATCH))
    over = await ask(dispatcher, [call("health_check", {}, id=n) for n in range(MAX_BATCH + 1)])
    assert (over["error"]["code"], over["id"]) == (-32600, None)
    assert (await ask(dispatcher, []))["error"]["code"] == -32600


# -- parameters -----------------------------------------------------------------------------------------------------

GOOD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"search_text": "x"}, {"search_text": "x"}),
    ({"searchText": "x"}, {"search_text": "x"}),
    ({"q": "x"}, {"search_text": "x"}),
    ({"search_text": "snake", "searchText": "camel"}, {"search_text": "snake"}),
    ({"searchText": "camel", "search_text": "snake"}, {"search_text": "snake"}),
    ({"search_text": "x", "limit": None, "tags": None, "kind": None, "inner": None}, {"limit": 20, "tags": []}),
    ({"search_text": "x", "limit": 100}, {"limit": 100}),
    ({"search_text": "x", "scale": 1}, {"scale": 1.0}),
    (
        {"search_text": "x", "inner": {"filePath": "/a", "deepFlag": None}},
        {"inner": {"file_path": "/a", "deep_flag": True}},
    ),
    ({"search_text": "ü\u0000\u202e😀"}, {"search_text": "ü\u0000\u202e😀"}),
]


@pytest.mark.parametrize(("params", "expected"), GOOD)
async def test_good_parameters(dispatcher: Dispatcher, params: dict[str, Any], expected: dict[str, Any]) -> None:
    given = (await ask(dispatcher, call(params=params)))["result"]["given"]
    assert {k: given[k] for k in expected} == expected


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({}, "search_text", "required"),
    ({"search_text": None}, "search_text", "string"),
    ({"search_text": ""}, "search_text", "at least 1"),
    ({"search_text": "x" * 1025}, "search_text", "at most 1024"),
    ({"search_text": 5}, "search_text", "string"),
    ({"search_text": ["x"]}, "search_text", "string"),
    ({"search_text": "x", "limit": "5"}, "limit", "integer"),
    ({"search_text": "x", "limit": 5.5}, "limit", "integer"),
    ({"search_text": "x", "limit": 5.0}, "limit", "integer"),
    ({"search_text": "x", "limit": True}, "limit", "integer"),
    ({"search_text": "x", "limit": 0}, "limit", "at least 1"),
    ({"search_text": "x", "limit": 101}, "limit", "at most 100"),
    ({"search_text": "x", "limit": -1}, "limit", "at least 1"),
    ({"search_text": "x", "scale": "1.0"}, "scale", "number"),
    ({"search_text": "x", "kind": "c"}, "kind", "one of"),
    ({"search_text": "x", "tags": "a"}, "tags", "list"),
    ({"search_text": "x", "tags": ["a"] * 4}, "tags", "at most 3"),
    ({"search_text": "x", "tags": [1]}, "tags.0", "string"),
    ({"search_text": "x", "inner": []}, "inner", "object"),
    ({"search_text": "x", "inner": {}}, "inner.file_path", "required"),
    ({"search_text": "x", "inner": {"file_path": "a", "x": 1}}, "inner.x", "not a parameter"),
    ({"search_text": "x", "unknown": 1}, "unknown", "not a parameter"),
    ({"search_text": "x", "unknown": None}, "unknown", "not a parameter"),
    ({"search_text": "x", "self": 1}, "self", "not a parameter"),
    ({"search_text": "x", "": 1}, "", "not a parameter"),
    ({"search_text": "x", "__class__": 1}, "__class__", "not a parameter"),
    ({"search_text": "x", "model_config": {}}, "model_config", "not a parameter"),
    ({"search_text": "x", "legacy_names": {}}, "legacy_names", "not a parameter"),
    ({"search_text": "x", "n" * 5000: 1}, "n" * 100, "not a parameter"),
]


@pytest.mark.parametrize(("params", "name", "reason"), BAD, ids=lambda v: repr(v)[:40])
async def test_bad_parameters_are_named(dispatcher: Dispatcher, params: dict[str, Any], name: str, reason: str) -> None:
    error = (await ask(dispatcher, call(params=params)))["error"]
    assert error["code"] == -32602
    assert any(e["param"] == name and reason in e["message"] for e in error["data"]["errors"]), error
    assert reason in error["message"]
    assert "pydantic" not in json.dumps(error)


async def test_values_are_not_quoted_back(dispatcher: Dispatcher) -> None:
    answer = await ask(
        dispatcher, call(params={"search_text": ["my-secret"], "limit": "my-secret", "kind": "my-secret"})
    )
    assert "my-secret" not in json.dumps(answer)


async def test_many_problems_stay_a_short_reply(dispatcher: Dispatcher) -> None:
    answer = await ask(dispatcher, call(params={f"{'k' * 200}{n}": n for n in range(1000)}))
    assert len(json.dumps(answer)) < 8000


# -- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ModelNotFound("llm/x"), -32002),
        (NotAModel("no"), -32005),
        (InvalidInput("tag", "must be short"), -32005),
        (Busy("later"), -32000),
        (TimedOut("too slow"), -32000),
    ],
)
async def test_failures_with_and_without_envelope(
    dispatcher: Dispatcher, methods: Methods, failure: Any, code: int
) -> None:
    methods.failures["next"] = failure  # type: ignore[attr-defined]
    hard = (await ask(dispatcher, call("fail_hard", {})))["error"]
    assert (hard["code"], hard["message"], hard["data"]["kind"]) == (code, str(failure), failure.kind)
    soft = (await ask(dispatcher, call("fail_soft", {})))["result"]
    assert soft == {"success": False, "error": str(failure), "error_code": failure.kind}
    with pytest.raises(RpcFailure):
        await methods.call("fail_hard")
    assert (await methods.call("fail_soft"))["success"] is False


async def test_a_bug_is_logged_once_and_tells_nothing(dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("bug", "odd_text"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            error = (await ask(dispatcher, call(name, {})))["error"]
        assert (error["code"], error["data"]) == (-32603, {"kind": "internal_error"})
        assert "secret" not in json.dumps(error)
        assert len([r for r in caplog.records if r.exc_info]) == 1, caplog.records


def test_the_limits_are_those_that_callers_were_told() -> None:
    assert (MAX_BATCH, MAX_IN_FLIGHT) == (100, 64)
    assert dispatch.CALL_TIMEOUT_S <= 30


# -- limits ---------------------------------------------------------------------------------------------------------


async def test_sixty_four_in_flight_then_busy_at_once(dispatcher: Dispatcher, methods: Methods) -> None:
    waiting = [asyncio.create_task(ask(dispatcher, call("block", {}, id=n))) for n in range(MAX_IN_FLIGHT)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    refused = await asyncio.wait_for(ask(dispatcher, call("block", {}, id="over")), 30)
    assert (refused["error"]["code"], refused["error"]["data"]["kind"], refused["id"]) == (-32000, "busy", "over")
    assert await ask(dispatcher, {"jsonrpc": "2.0", "method": "block"}) is None
    assert (await ask(dispatcher, call("health_check", {})))["result"] == {"status": "ok"}
    (in_batch,) = await ask(dispatcher, [call("echo", id=5)])
    assert in_batch["error"]["code"] == -32000
    methods.gate.set()  # type: ignore[attr-defined]
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 30)
    assert [a["result"] for a in answers] == [True] * MAX_IN_FLIGHT
    assert (await ask(dispatcher, call(id=1)))["result"]["success"] is True


async def test_places_are_given_back_after_every_kind_of_end(dispatcher: Dispatcher, methods: Methods) -> None:
    methods.failures["next"] = NotAModel("no")  # type: ignore[attr-defined]
    for _ in range(MAX_IN_FLIGHT + 5):
        for message in (
            call("bug", {}),
            call("nope"),
            call("fail_hard", {}),
            call(params={}),
            call(),
            call("odd_text", {}),
        ):
            await ask(dispatcher, message)
    cut = [asyncio.create_task(ask(dispatcher, call("block", {}))) for _ in range(MAX_IN_FLIGHT)]
    await asyncio.sleep(0.01)
    for task in cut:
        task.cancel()
    await asyncio.gather(*cut, return_exceptions=True)
    assert (await ask(dispatcher, call()))["result"]["success"] is True


async def test_a_call_that_never_ends_is_answered_for(methods: Methods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "CALL_TIMEOUT_S", 0.05)
    error = (await asyncio.wait_for(ask(Dispatcher(methods), call("block", {})), 30))["error"]
    assert (error["code"], error["data"]["kind"]) == (-32000, "busy")


# -- the table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "A", "echo", "a-b", "a b", "_x", "a.b.c", "9a", "é"])
def test_names_of_rows(methods: Methods, name: str) -> None:
    async def handler(_p: NoParams) -> None:
        """Documented."""

    with pytest.raises(ValueError, match="taken or not snake_case"):
        methods.row(name, NoParams, None)(handler)


def test_a_row_needs_words(methods: Methods) -> None:
    async def handler(_p: NoParams) -> None: ...

    with pytest.raises(ValueError, match="docstring"):
        methods.row("undocumented", NoParams, None)(handler)


async def test_unknown_in_memory(methods: Methods) -> None:
    assert "echo" in methods
    assert methods.get("nope") is None
    with pytest.raises(RpcFailure) as caught:
        await methods.call("nope")
    assert caught.value.error.code == -32601
