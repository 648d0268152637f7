"""Calls made from the contract: valid, nearly valid, and odd ones, the same for the same seed."""

from __future__ import annotations

import json
import random
import re
from typing import Any

# These would end the server, change this checkout, its packages or the desktop of whoever runs the tests, or are too
# large to answer thousands of times.
LEFT_OUT = re.compile(
    r"shutdown|restart_launcher|apply_launcher_update|install_deps|install_missing_dependencies|rpc\.discover"
    r"|.*shortcuts?|toggle_.*(menu|desktop)|install_icon"
)

ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 1.5, -0.0, 1e308, 5e-324,
    "", " ", "a", "\0", "\n", "..", "../..", "../../etc/passwd", "/etc/passwd", "C:\\x", "\\\\host\\x", "~", "%2e%2e",
    "' OR 1=1 --", '"', "*", "NEAR(", "a" * 5000, "ü", "e\u0301", "\u202e", "\U0001f600", "\ufeff", "{}", "[]",
    [], {}, [None], [[]], {"a": {}}, {"": ""}, ["a"] * 200, {"__class__": 1}, {"$ref": "#"}, list(range(50)),
]  # fmt: skip


def of_schema(rng: random.Random, schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """A value that fits the schema, more or less."""
    if "$ref" in schema:
        return of_schema(rng, schemas[schema["$ref"].rsplit("/", 1)[-1]], schemas)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return of_schema(rng, rng.choice(schema[word]), schemas)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind == "integer":
        return rng.choice([schema.get("minimum", 0), schema.get("maximum", 5), rng.randrange(-10, 1000)])
    if kind == "number":
        return rng.choice([0, 0.5, -1e9, 1e9])
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "array":
        return [of_schema(rng, schema.get("items", {}), schemas) for _ in range(rng.randrange(0, 4))]
    if kind == "object":
        return {name: of_schema(rng, part, schemas) for name, part in schema.get("properties", {}).items()}
    if kind == "null":
        return None
    return rng.choice(
        ["", "a", "job-0123456789abcdef", "x" * rng.randrange(1, 60), "../x", "ü/é", rng.choice(ODD_VALUES)]
    )


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def schema_driven(rng: random.Random, document: dict[str, Any]) -> bytes:
    """A call made from the contract, then bent in some places."""
    schemas = document["components"]["schemas"]
    method = rng.choice([m for m in document["methods"] if not LEFT_OUT.fullmatch(m["name"])])
    params: dict[str, Any] = {}
    for param in method["params"]:
        if param["required"] or rng.random() < 0.5:
            name = param["name"] if rng.random() < 0.7 else camel(param["name"])
            bent = rng.random() < 0.35
            params[name] = rng.choice(ODD_VALUES) if bent else of_schema(rng, param["schema"], schemas)
    if rng.random() < 0.1:
        params[rng.choice(["extra", "", "self", "cls", "params", "_p", "__class__", "x" * 300])] = rng.choice(
            ODD_VALUES
        )
    if params and rng.random() < 0.1:
        params.pop(rng.choice(sorted(params)))
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method["name"], "params": params, "id": rng.randrange(10**6)}
    if rng.random() < 0.15:
        message[rng.choice(["jsonrpc", "method", "params", "id", "extra"])] = rng.choice(ODD_VALUES)
    if rng.random() < 0.05:
        message.pop(rng.choice(["jsonrpc", "params", "id"]))
    if rng.random() < 0.05:
        return json.dumps([message] * rng.randrange(0, 4)).encode()
    return json.dumps(message, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
