"""Every method has a success and each failure that a caller can cause, and real sidecars answer just so."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from contract import replay, served

DOCUMENT = json.loads((replay.PROJECT / "contracts" / "openrpc.json").read_text(encoding="utf-8"))
METHODS: dict[str, dict[str, Any]] = {method["name"]: method for method in DOCUMENT["methods"]}
ERRORS = json.loads((replay.PROJECT / "contracts" / "errors.json").read_text(encoding="utf-8"))
# Failures that only the machine can cause; tests/faults/ brings them about.
ENVIRONMENT = {kind for kind, facts in ERRORS.items() if facts.get("cause") == "environment"}


def named(path: Path) -> tuple[str, str]:
    """(method, case)"""
    method, case, _ = path.name.rsplit(".", 2)
    return method, case


def schema_of(method: str) -> dict[str, Any]:
    return {**METHODS[method]["result"]["schema"], "components": DOCUMENT["components"]}


@pytest.mark.parametrize(("path", "backend"), served.plays(), ids=lambda p: p if isinstance(p, str) else p.stem)
def test_the_sidecar_answers_as_the_example_says(path: Path, backend: str) -> None:
    example, reply = replay.play(path, backend)
    expected = {key: example[key] for key in ("result", "error") if key in example}
    assert replay.differences(expected, reply) == []
    if "result" in reply:
        jsonschema.validate(reply["result"], schema_of(named(path)[0]), jsonschema.Draft202012Validator)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_examples(method: str) -> None:
    cases = {case for name, case in map(named, replay.all_examples()) if name == method}
    wanted = {"success"} | (set(METHODS[method]["x-failures"]) - ENVIRONMENT)
    assert wanted <= cases, f"missing: {sorted(wanted - cases)}"


def test_rust_serves_the_methods_of_the_contract() -> None:
    """All of them, and none that the contract does not know."""
    if not served.rust_is_built():
        warnings.warn("the Rust sidecar is not built: its examples were not played", stacklevel=1)
        return
    assert sorted(set(METHODS) - served.rust_methods()) == []
    assert served.rust_methods() <= set(METHODS)


def test_no_example_is_for_a_method_that_is_gone() -> None:
    assert {name for name, _ in map(named, replay.all_examples())} <= set(METHODS)


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        ([1], [1, 2]),
        ({"a": True}, {"a": 1}),
        ({"created_at": "2026-01-01T00:00:00Z"}, {"created_at": "yesterday"}),
        ({"total": 1}, {"total": "1"}),
    ],
)
def test_the_comparison_sees_differences(expected: Any, got: Any) -> None:
    assert replay.differences(expected, got)


def test_the_comparison_lets_volatile_fields_pass() -> None:
    assert replay.differences({"created_at": "2026-01-01T00:00:00Z"}, {"created_at": "2027-01-01T00:00:00.5Z"}) == []


def test_what_an_example_leaves_open_differs_in_nothing() -> None:
    example = {"pid": {"$matches": "number"}, "tags": [{"at": 1, "run": {"$matches": "text"}}], "name": "a"}
    one = {"pid": 1, "tags": [{"at": 1, "run": "x"}], "name": "b", "more": 1}
    other = {"pid": 2, "tags": [{"at": 1, "run": "y"}], "name": "b", "more": 1}
    assert replay.differences(one, other)
    assert replay.differences(replay.left_open(example, one), other) == []
    assert replay.differences(replay.left_open(example, one), other | {"name": "a"})
    assert replay.differences(replay.left_open(example, one), other | {"pid": "2"})
