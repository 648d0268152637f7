"""The contract, generated from the rows: OpenRPC document, METHODS.md, TypeScript types.

`./launcher contracts` writes them to `contracts/`; a test generates them again and compares. `rpc.discover` serves the
committed document, so that all backends answer with the same bytes. See https://spec.open-rpc.org.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic import TypeAdapter

from pumas import __version__
from pumas.errors import PumasError
from pumas.rpc.errors import BUSY, INTERNAL_ERROR, INVALID_PARAMS, error_table
from pumas.rpc.registry import Methods, Row

Json = dict[str, Any]
OPENRPC_VERSION = "1.3.2"

_EVERYWHERE = [
    {"code": INVALID_PARAMS, "message": "Invalid params", "data": {"kind": "invalid_params"}},
    {"code": INTERNAL_ERROR, "message": "Internal error", "data": {"kind": "internal_error"}},
    {"code": BUSY, "message": "Busy", "data": {"kind": "busy"}},
]


def document(methods: Methods) -> Json:
    """The OpenRPC document of all rows."""
    schemas: Json = {}
    entries = [_method(row, schemas) for row in methods]
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {
            "title": "Pumas sidecar",
            "version": __version__,
            "description": "JSON-RPC 2.0: POST /rpc on loopback. Long work is a job; GET /events tells of it.",
            "license": {"name": "MIT", "url": "https://opensource.org/license/mit"},
        },
        "methods": entries,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _method(row: Row, schemas: Json) -> Json:
    entry: Json = {
        "name": row.name,
        "summary": row.summary,
        "paramStructure": "by-name",
        "params": _params(row, schemas),
        "result": {"name": "result", "schema": result_schema(row, schemas)},
        "errors": _EVERYWHERE + ([] if row.wrapper.has_envelope else _declared(row)),
        "x-wrapper": row.wrapper.kind if row.wrapper.key is None else f"{row.wrapper.kind}:{row.wrapper.key}",
        "x-failures": sorted(error.kind for error in row.errors),
    }
    if row.description:
        entry["description"] = row.description
    # For servers that check parameters by this document: the order in which problems are told, where it is not that of
    # `params`, and the further spellings that older clients send.
    declared = list(row.params.model_fields)
    if declared != [param["name"] for param in entry["params"]]:
        entry["x-order"] = declared
    if row.params.legacy_names:
        entry["x-spellings"] = row.params.legacy_names
    return entry


def _declared(row: Row) -> list[Json]:
    return [_error_object(error) for error in row.errors]


def _error_object(error: type[PumasError]) -> Json:
    facts = error_table()[error.kind]
    return {"code": facts["code"], "message": facts["description"], "data": {"kind": error.kind}}


def _hoist(schema: Json, schemas: Json) -> Json:
    """Move `$defs` to the document's components, whose references pydantic was told to write."""
    for name, definition in cast(Json, schema.pop("$defs", {})).items():
        schemas[name] = definition
    return schema


def _params(row: Row, schemas: Json) -> list[Json]:
    schema = _hoist(row.params.model_json_schema(by_alias=False, ref_template="#/components/schemas/{model}"), schemas)
    required = set(schema.get("required", []))
    described: list[Json] = []
    for name, value in cast(dict[str, Json], schema.get("properties", {})).items():
        value.pop("title", None)
        entry: Json = {"name": name, "required": name in required, "schema": value}
        if "description" in value:
            entry["description"] = value.pop("description")
        described.append(entry)
    # By-position readers of the document expect required parameters first.
    return sorted(described, key=lambda p: not p["required"])


def result_schema(row: Row, schemas: Json) -> Json:
    """The schema of what the wire carries: the wrapped value or, with an envelope, also the failure."""
    adapter: TypeAdapter[Any] = row.result
    value = _hoist(adapter.json_schema(mode="serialization", ref_template="#/components/schemas/{model}"), schemas)
    if not row.wrapper.has_envelope:
        return value
    success = _success(row, value, schemas)
    failure: Json = {
        "type": "object",
        "title": "Failure",
        "properties": {
            "success": {"const": False},
            "error": {"type": "string"},
            "error_code": {"type": "string"},
            **{key: {"const": empty} for key, empty in row.wrapper.failure.items()},
        },
        "required": ["success", "error", "error_code", *row.wrapper.failure],
        "additionalProperties": False,
    }
    choices = [success, failure] + ([{"type": "null"}] if row.wrapper.kind == "opt" else [])
    return {"anyOf": choices}


def _success(row: Row, value: Json, schemas: Json) -> Json:
    properties: Json = {"success": {"const": True}}
    required = ["success"]
    further: object = False
    if row.wrapper.key is not None:
        properties[row.wrapper.key] = value
        required.append(row.wrapper.key)
    else:
        model = _resolve(value, schemas)
        properties |= cast(Json, model.get("properties", {}))
        required += [name for name in cast(list[str], model.get("required", [])) if name != "success"]
        further = model.get("additionalProperties") is True
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": further}


def _resolve(value: Json, schemas: Json) -> Json:
    reference = value.get("$ref")
    return cast(Json, schemas[str(reference).rsplit("/", 1)[-1]]) if reference else value


# -- for people ------------------------------------------------------------------------------------------------------


def methods_page(openrpc: Json) -> str:
    """METHODS.md: one table row per method, then each with its parameters."""
    lines = [
        "# Methods",
        "",
        "Generated by `./launcher contracts` from the method table; do not edit. `POST /rpc`, JSON-RPC 2.0, named",
        "parameters in snake_case or camelCase, `null` means the default.",
        "",
    ]
    for method in cast(list[Json], openrpc["methods"]):
        lines += [f"## `{method['name']}`", "", method["summary"], ""]
        if "description" in method:
            lines += [method["description"], ""]
        if method["params"]:
            lines += ["| parameter | type | default | meaning |", "|---|---|---|---|"]
            lines += [_param_row(param) for param in method["params"]]
            lines.append("")
        lines += [f"Reply: `{method['x-wrapper']}`. Failures: {_kinds(method)}.", ""]
    return "\n".join(lines)


def _param_row(param: Json) -> str:
    schema = cast(Json, param["schema"])
    default = "required" if param["required"] else f"`{schema.get('default')!r}`"
    meaning = str(param.get("description", "")).replace("\n", " ").replace("|", "\\|")
    return f"| `{param['name']}` | {_type_name(schema)} | {default} | {meaning} |"


def _kinds(method: Json) -> str:
    return ", ".join(f"`{kind}`" for kind in method["x-failures"]) or "none of its own"


def _type_name(schema: Json) -> str:
    if "$ref" in schema:
        return f"`{str(schema['$ref']).rsplit('/', 1)[-1]}`"
    if "anyOf" in schema:
        return " or ".join(_type_name(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{choice!r}`" for choice in schema["enum"])
    if schema.get("type") == "array":
        return f"[{_type_name(schema.get('items', {}))}]"
    return str(schema.get("type", "any"))


# -- for TypeScript --------------------------------------------------------------------------------------------------


def typescript(openrpc: Json) -> str:
    """api.d.ts: an interface per schema and one map from method name to parameters and result."""
    lines = ["// Generated by `./launcher contracts`; do not edit.", ""]
    for name, schema in cast(dict[str, Json], openrpc["components"]["schemas"]).items():
        lines += [f"export type {name} = {_ts(schema)};", ""]
    lines.append("export interface Methods {")
    for method in cast(list[Json], openrpc["methods"]):
        params = "; ".join(
            f"{p['name']}: {_ts(p['schema'])}" if p["required"] else f"{p['name']}?: {_nullable(_ts(p['schema']))}"
            for p in method["params"]
        )
        lines.append(f"  /** {method['summary']} */")
        lines.append(f'  "{method["name"]}": {{ params: {{ {params} }}; result: {_ts(method["result"]["schema"])} }};')
    lines += ["}", ""]
    return "\n".join(lines)


_TS_TYPES = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}


def _nullable(text: str) -> str:
    """Null means the default for every optional parameter."""
    return text if text.endswith("| null") else f"{text} | null"


def _ts(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "const" in schema:
        return _ts_constant(schema["const"])
    if "enum" in schema:
        return " | ".join(_ts_constant(choice) for choice in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_ts(choice) for choice in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array":
        return f"Array<{_ts(schema.get('items', {}))}>"
    if kind == "object" or "properties" in schema:
        return _ts_object(schema)
    return _TS_TYPES.get(str(kind), "unknown")


def _ts_constant(value: Any) -> str:
    if value == []:
        return "never[]"
    if value == {}:
        return "Record<string, never>"
    if isinstance(value, dict):
        fields = (f'"{name}": {_ts_constant(one)}' for name, one in cast(Json, value).items())
        return f"{{ {'; '.join(fields)} }}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f'"{value}"' if isinstance(value, str) else str(value)


def _ts_object(schema: Json) -> str:
    properties = cast(dict[str, Json], schema.get("properties", {}))
    if not properties:
        extra = schema.get("additionalProperties")
        return f"Record<string, {_ts(cast(Json, extra)) if isinstance(extra, dict) else 'unknown'}>"
    required = set(schema.get("required", []))
    fields = "; ".join(f'"{n}"{"" if n in required else "?"}: {_ts(s)}' for n, s in properties.items())
    return f"{{ {fields} }}"
