"""The committed client is what the contract says, and the two clients are the same."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from pumas.client import types
from pumas.client.async_methods import AsyncMethods
from pumas.client.sync_methods import Methods
from pumas.config import contracts_folder

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import python_client  # noqa: E402

OPENRPC: dict[str, Any] = json.loads((contracts_folder() / "openrpc.json").read_text())
ERRORS: dict[str, Any] = json.loads((contracts_folder() / "errors.json").read_text())
METHODS = {method["name"]: method for method in OPENRPC["methods"]}


def test_the_committed_modules_are_current() -> None:
    for path, content in python_client.modules(OPENRPC, ERRORS).items():
        assert (ROOT / path).read_text() == content, f"{path} is stale: ./launcher contracts"


@pytest.mark.parametrize("name", sorted(METHODS))
def test_both_clients_have_the_method_with_its_parameters(name: str) -> None:
    own = name.removeprefix("rpc.")
    parameters = inspect.signature(getattr(Methods, own)).parameters
    assert parameters == inspect.signature(getattr(AsyncMethods, own)).parameters
    assert inspect.iscoroutinefunction(getattr(AsyncMethods, own))
    declared = {p["name"]: p["required"] for p in METHODS[name]["params"]}
    required = {n: p.default is inspect.Parameter.empty for n, p in parameters.items() if n != "self"}
    assert required == declared
    assert METHODS[name]["summary"] in " ".join((getattr(Methods, own).__doc__ or "").split())


def test_every_type_can_be_resolved() -> None:
    hints = get_type_hints(types.JobInfo)
    assert hints["job_id"] is str
    for name, thing in vars(types).items():
        if isinstance(thing, type) and thing.__module__ == types.__name__:
            assert get_type_hints(thing), name


def schema(**values: Any) -> dict[str, Any]:
    return {"components": {"schemas": {}}, "methods": [method("m", values)]}


def method(name: str, result: dict[str, Any], params: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "summary": "S.",
        "params": params or [],
        "result": {"schema": result},
        "x-failures": [],
    }


@pytest.mark.parametrize(
    ("result", "annotation"),
    [
        ({"type": "integer"}, "int"),
        ({"type": ["string", "null"]}, "str | None"),
        ({"const": "ok"}, 'Literal["ok"]'),
        ({"enum": ["a", "b"]}, 'Literal["a", "b"]'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "str | None"),
        ({"type": "array", "items": {"type": "number"}}, "list[float]"),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "dict[str, bool]"),
        ({"type": "object"}, "dict[str, Any]"),
        ({}, "Any"),
        ({"$ref": "#/components/schemas/Thing"}, "Thing"),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, "MResult"),
        ({"anyOf": [{"type": "string"}, {"type": "object", "title": "Failure", "properties": {}}]}, "str"),
    ],
)
def test_schemas_become_annotations(result: dict[str, Any], annotation: str) -> None:
    text = python_client.modules(schema(**result), {})["backend/pumas/client/sync_methods.py"]
    assert f"def m(self) -> {annotation}:" in text


def test_a_schema_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(KeyError):
        python_client.modules(schema(type="mystery"), {})


def test_optional_and_odd_keys() -> None:
    thing = {
        "type": "object",
        "properties": {"a": {"type": "string", "description": 'Says """this""".'}, "b": {"type": "integer"}},
        "required": ["a"],
    }
    odd = {"type": "object", "properties": {"x-y": {"type": "string"}, "class": {"$ref": "#/s/Thing"}}}
    document = schema(type="string") | {"components": {"schemas": {"Thing": thing, "Odd": odd}}}
    text = python_client.modules(document, {})["backend/pumas/client/types.py"]
    names: dict[str, Any] = {"__name__": "made"}
    exec(text, names)  # noqa: S102 - what the generator wrote
    assert names["Thing"].__required_keys__ >= {"a"}
    assert "b: NotRequired[int]" in text
    assert set(names["Odd"].__annotations__) == {"x-y", "class"}
