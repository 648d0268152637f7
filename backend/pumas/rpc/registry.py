"""The method table: one row per method, and nothing without a row can be called.

A row says the name on the wire, the parameters, the result, the failures it may answer with, and the function that
does it. `Methods.call` runs a row in memory, the same way the server does.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from pumas.config import contracts_folder
from pumas.errors import PumasError
from pumas.rpc import errors as wire
from pumas.rpc.jsontext import Encoded
from pumas.rpc.models import Params
from pumas.rpc.wrap import Wrapper, wrappers

log = logging.getLogger(__name__)

P = TypeVar("P", bound=Params)
Handler = Callable[[P], Awaitable[Any]]
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z_]+)?")


class RpcFailure(Exception):
    """A call that ends in a JSON-RPC error."""

    def __init__(self, error: wire.WireError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True)
class Later:
    """A result model by its place; it is imported when somebody needs more of it than its name."""

    module: str
    name: str

    def load(self) -> Any:
        return getattr(importlib.import_module(self.module), self.name)


class ResultsOf:
    """The result models of a module, not imported yet: `ResultsOf("pumas.hub.results").HubModel`.

    For rows whose handlers answer with plain objects: result models weigh more than all else of a row.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Later:
        return Later(self._module, name)


@dataclass(frozen=True)
class Row:
    name: str
    params: type[Params]
    result_type: Any
    handler: Callable[[Any], Awaitable[Any]]
    errors: tuple[type[PumasError], ...]
    wrapper: Wrapper
    summary: str
    description: str

    @functools.cached_property
    def result(self) -> TypeAdapter[Any]:
        """Built when first needed: most methods of a run are never called."""
        return TypeAdapter(self.result_type.load() if isinstance(self.result_type, Later) else self.result_type)

    @functools.cached_property
    def _of_empty_call(self) -> Params:
        """Most polls have no parameters. Raises ValidationError."""
        return self.params.model_validate({})

    async def __call__(self, raw: dict[str, Any]) -> Any:
        """Validate, run, wrap.

        Raises:
            RpcFailure: bad parameters, a failure of a method without envelope, or a bug.
        """
        try:
            params = self.params.model_validate(raw) if raw else self._of_empty_call
        except ValidationError as error:
            raise RpcFailure(wire.invalid_params(problems(error))) from None
        try:
            value = await self.handler(params)
            return self.wrapper.success(self._plain(value))
        except PumasError as error:
            if self.wrapper.has_envelope:
                return self.wrapper.failed(error)
            raise RpcFailure(wire.from_exception(error)) from error
        except RpcFailure:
            raise
        except Exception as error:
            log.exception("%s failed by a bug", self.name)
            raise RpcFailure(wire.internal_error()) from error

    def _plain(self, value: Any) -> Any:
        # A dict is in wire form already; the contract tests hold it to the declared result.
        if value is None or isinstance(value, (Encoded, dict, bool, str, int)):
            return cast(Any, value)
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        return self.result.dump_python(value, mode="json")


class Methods:
    """The rows of all domains. Those of a domain that nobody has called yet may be declared later."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._later: dict[str, Callable[[], None]] = {}
        self._loading = threading.Lock()

    def later(self, names: Iterable[str], declare: Callable[[Methods], None]) -> None:
        """`declare` makes these rows when the first of them is needed: wire models weigh more than most services."""
        load = functools.cache(lambda: declare(self))
        self._later.update(dict.fromkeys(names, load))

    def load(self, name: str) -> None:
        """Declare the rows of the domain that `name` belongs to, if that is still to be done. Blocks for an import."""
        with self._loading:
            load = self._later.get(name)
            if load is not None:
                load()
                self._later.pop(name)

    def is_loaded(self, name: str) -> bool:
        """Whether `load` would have nothing to do."""
        return name not in self._later

    def row(
        self,
        name: str,
        params: type[P],
        result: Any,
        *,
        errors: Sequence[type[PumasError]] = (),
    ) -> Callable[[Handler[P]], Handler[P]]:
        """Declare a method. The function's docstring is its documentation: first line summary, rest description.

        `result` is the type of the handler's value before wrapping; `None` means it returns nothing.
        """

        def declare(handler: Handler[P]) -> Handler[P]:
            if name in self._rows or not _NAME.fullmatch(name):
                raise ValueError(f"method name {name!r} is taken or not snake_case")
            doc = inspect.getdoc(handler)
            if not doc:
                raise ValueError(f"method {name} has no docstring")
            if name not in wrappers():
                raise ValueError(f"contracts/response_wrappers.json has no {name}")
            summary, _, description = doc.partition("\n")
            self._rows[name] = Row(
                name=name,
                params=params,
                result_type=result,
                handler=handler,
                errors=tuple(errors),
                wrapper=wrappers()[name],
                summary=summary.strip(),
                description=" ".join(description.split()),
            )
            return handler

        return declare

    def __iter__(self) -> Iterator[Row]:
        for name in list(self._later):
            self.load(name)
        return iter(sorted(self._rows.values(), key=lambda row: row.name))

    def __contains__(self, name: str) -> bool:
        return name in self._rows or name in self._later

    def get(self, name: str) -> Row | None:
        """The row with this name, None when there is none. Blocks while its domain is loaded."""
        self.load(name)
        return self._rows.get(name)

    async def call(self, name: str, params: dict[str, Any] | None = None) -> Any:
        """Run a method in memory and return what the wire would carry.

        Raises:
            RpcFailure: as a JSON-RPC error would say.
        """
        row = self.get(name)
        if row is None:
            raise RpcFailure(wire.method_not_found(name))
        return await row(params or {})


def names_by_domain() -> dict[str, list[str]]:
    """The methods of each domain's folder, as `./launcher contracts` wrote them down."""
    table: dict[str, list[str]] = json.loads((contracts_folder() / "domains.json").read_text(encoding="utf-8"))
    return table


_REASONS = {
    "missing": "is required",
    "extra_forbidden": "is not a parameter of this method",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
_REASON_TEMPLATES = {
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be one of {expected}",
    "string_pattern_mismatch": "must match {pattern}",
}


def problems(error: ValidationError) -> list[tuple[str, str]]:
    """(parameter, reason) pairs that name the parameter and never quote the caller's value."""
    found: list[tuple[str, str]] = []
    for item in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part)[: wire.MAX_ECHO] for part in item["loc"][:6])
        template = _REASON_TEMPLATES.get(item["type"])
        reason = template.format(**item.get("ctx", {})) if template else _REASONS.get(item["type"], item["msg"])
        found.append((name, reason))
    return found
