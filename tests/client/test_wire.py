from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pumas.client import errors, wire
from pumas.client.failures import BY_KIND
from pumas.config import contracts_folder


def reply(**parts: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, **parts}).encode()


def rpc_error(kind: str, code: int = -32003) -> bytes:
    return reply(error={"code": code, "message": "It failed.", "data": {"kind": kind}})


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, {}),
        ({"limit": 5, "kind": None}, {"limit": 5}),
        ({"path": Path("/a b/ü")}, {"path": "/a b/ü"}),
        ({"tags": ("x", "y")}, {"tags": ["x", "y"]}),
        ({"flag": False, "n": 0, "text": ""}, {"flag": False, "n": 0, "text": ""}),
    ],
)
def test_request_leaves_out_none(given: dict[str, Any] | None, sent: dict[str, Any]) -> None:
    message = json.loads(wire.request("m", given))
    assert message == {"jsonrpc": "2.0", "method": "m", "params": sent, "id": message["id"]}


def test_ids_differ() -> None:
    assert json.loads(wire.request("m", None))["id"] != json.loads(wire.request("m", None))["id"]


@pytest.mark.parametrize("value", [math.nan, math.inf, object()])
def test_what_is_no_json_is_refused_here(value: object) -> None:
    with pytest.raises(errors.InvalidParams):
        wire.request("m", {"x": value})


@pytest.mark.parametrize(
    "result",
    [None, True, [], "text", {"success": True}, {"success": False}, {"success": False, "results": [1]}],
)
def test_results_pass(result: Any) -> None:
    assert wire.value(200, reply(result=result)) == result


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (rpc_error("invalid_params", -32602), errors.InvalidParams, -32602),
        (rpc_error("method_not_found", -32601), errors.MethodNotFound, -32601),
        (rpc_error("internal_error", -32603), errors.InternalError, -32603),
        (rpc_error("job_not_found"), BY_KIND["job_not_found"], -32003),
        (rpc_error("a_kind_of_tomorrow"), errors.CallFailed, -32003),
        (reply(error="just text"), errors.CallFailed, None),
        (reply(error={"code": "?"}), errors.CallFailed, None),
        (reply(result={"success": False, "error": "Full.", "error_code": "disk_full"}), BY_KIND["disk_full"], None),
        (reply(result={"success": False, "error": "?", "error_code": "new"}), errors.CallFailed, None),
    ],
)
def test_failures_have_classes(body: bytes, kind: type[errors.CallFailed], code: int | None) -> None:
    with pytest.raises(errors.CallFailed) as caught:
        wire.value(200, body)
    assert type(caught.value) is kind
    assert caught.value.code == code


def test_a_failed_reply_keeps_its_facts() -> None:
    failed = {"success": False, "error": "Full.", "error_code": "disk_full", "total": 0}
    with pytest.raises(errors.CallFailed, match=r"^Full\.$") as caught:
        wire.value(200, reply(result=failed))
    assert caught.value.details == failed


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (401, b"Unauthorized: send the token.", "HTTP 401: Unauthorized: send the token."),
        (500, b"", "HTTP 500: no reason given"),
        (404, b"\x1b[31mred\x1b[0m\nsecond line", "HTTP 404: [31mred[0m"),
        (200, b"<html>", "is this a Pumas sidecar"),
        (200, b"[]", "is this a Pumas sidecar"),
        (200, b"{}", "is this a Pumas sidecar"),
        (200, b"\xff", "is this a Pumas sidecar"),
    ],
)
def test_what_is_no_reply_is_refused(status: int, body: bytes, text: str) -> None:
    with pytest.raises(errors.Refused) as caught:
        wire.value(status, body)
    assert text in str(caught.value)
    assert caught.value.status == status


def test_every_kind_of_the_contract_has_a_class() -> None:
    kinds = set(json.loads((contracts_folder() / "errors.json").read_text()))
    assert {type(wire.failure(kind, "x")).kind for kind in kinds} == kinds
    assert set(BY_KIND) == kinds - {"operation_failed"}


def test_no_token_no_header() -> None:
    assert "Authorization" not in wire.headers(None)
    assert wire.headers("secret")["Authorization"] == "Bearer secret"
