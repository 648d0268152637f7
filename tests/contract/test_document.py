"""The contract as data: generated files are fresh, the document is valid OpenRPC, every failure has its code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

import pumas.library.reconcile  # noqa: F401 - defines a failure of its own
from contract import heard, replay
from pumas import errors
from pumas.rpc.errors import error_table, from_exception
from pumas.rpc.wrap import wrappers
from pumas.storage import files
from pumas.tables import table

ROOT = Path(__file__).resolve().parents[2]
META: dict[str, Any] = json.loads((ROOT / "tests" / "fixtures" / "openrpc-meta-schema.json").read_text())
DOCUMENT: dict[str, Any] = json.loads((ROOT / "contracts" / "openrpc.json").read_text())
# The meta-schema leaves JSON Schema itself to another document; embedded schemas are checked as such below.
JSON_SCHEMA = Resource.from_contents(
    {"definitions": {"JSONSchemaObject": {"properties": {"$ref": {"type": "string"}}}}}, default_specification=DRAFT7
)
REGISTRY: Registry[Any] = Registry().with_resources(
    [("https://meta.json-schema.tools", JSON_SCHEMA), ("https://meta.json-schema.tools/", JSON_SCHEMA)]
)


def meta_validator() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(META, registry=REGISTRY)


def test_generated_files_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/contracts.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_document_is_valid_openrpc() -> None:
    assert [error.message for error in meta_validator().iter_errors(DOCUMENT)] == []


@pytest.mark.parametrize("damage", [{"openrpc": "9"}, {"methods": [{"name": 1}]}, {"info": {}}])
def test_the_meta_schema_refuses_what_is_not_openrpc(damage: dict[str, Any]) -> None:
    assert list(meta_validator().iter_errors(DOCUMENT | damage))


def test_every_schema_in_the_document_is_a_schema() -> None:
    check = jsonschema.Draft202012Validator.check_schema
    for schema in DOCUMENT["components"]["schemas"].values():
        check(schema)
    for method in DOCUMENT["methods"]:
        check(method["result"]["schema"])
        for param in method["params"]:
            check(param["schema"])


def test_every_method_is_described() -> None:
    assert len(DOCUMENT["methods"]) > 30
    for method in DOCUMENT["methods"]:
        assert method["summary"].endswith("."), method["name"]


def all_errors(base: type[errors.PumasError]) -> list[type[errors.PumasError]]:
    return [base, *(found for child in base.__subclasses__() for found in all_errors(child))]


@pytest.mark.parametrize("kind", sorted({error.kind for error in all_errors(errors.PumasError)}))
def test_every_failure_has_a_code(kind: str) -> None:
    facts = error_table()[kind]
    assert -32099 <= facts["code"] <= -32000
    assert facts["cause"] in ("caller", "environment")
    assert facts["description"].endswith(".")


def test_no_code_is_for_a_failure_that_is_gone() -> None:
    assert set(error_table()) == {error.kind for error in all_errors(errors.PumasError)}


def test_a_failure_keeps_its_kind_on_the_wire() -> None:
    wire = from_exception(files.DiskFull("Writing x"))
    assert wire.data == {"kind": "disk_full"}
    assert wire.code == error_table()["disk_full"]["code"]


def test_every_wrapper_is_for_a_method() -> None:
    assert set(wrappers()) == {method["name"] for method in DOCUMENT["methods"]}


def test_the_topics_that_can_be_asked_for_are_those_that_are_listed() -> None:
    assert set(table("topics")["topics"]) == set(heard.listed())
    page = (replay.PROJECT / "electron/src/renderer/client/topics.ts").read_text("utf-8")
    asked_for = set(re.findall(r'"([a-z]+)"', page))
    assert {"job", "system"} <= asked_for <= {topic.partition(".")[0] for topic in heard.listed()}


def test_every_event_that_is_listed_can_happen() -> None:
    """That those that happen are listed is seen wherever examples are played."""
    sources = [*(replay.PROJECT / "backend/pumas").rglob("*.py"), *(replay.PROJECT / "rust/crates").rglob("*.rs")]
    texts = {suffix: "".join(p.read_text("utf-8") for p in sources if p.suffix == suffix) for suffix in (".py", ".rs")}
    assert len(heard.listed()) > 15
    for topic in heard.listed():
        group = topic.partition(".")[0]
        for suffix, text in texts.items():
            assert f'"{topic}"' in text or f'"{group}.{{' in text, f"{topic} in {suffix}"
