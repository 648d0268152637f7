"""Base classes of wire models. A domain's `contract.py` derives from these and adds only fields.

Parameters: snake_case and camelCase are both accepted (snake_case wins), `null` means the default, unknown keys are
refused, types are strict (no "5" for 5). Results: snake_case unless a field names an alias.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

MAX_LIST = 10_000

Text = Annotated[str, StringConstraints(max_length=10_000)]
"""Free text of a bounded length in characters."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
"""A non-empty name or id."""
PathText = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
"""A path as text; the service decides where it may lie."""


class Params(BaseModel):
    """Named parameters of a method, or an object inside them."""

    # Validators are built at first use: they weigh more than the rest of the class, and most are never needed.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    legacy_names: ClassVar[dict[str, str]] = {}
    """Further spellings that older clients send: spelling -> field."""

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, raw: object) -> object:
        if not isinstance(raw, dict):
            return raw
        given = cast(dict[str, Any], raw)
        spellings = cls._spellings()
        values: dict[str, Any] = {}
        for key, value in given.items():
            field = spellings.get(key, key)
            if field != key and (field in given or field in values):
                continue
            info = cls.model_fields.get(field)
            if value is None and info is not None and not info.is_required():
                continue
            values[field] = value
        return values

    @classmethod
    def _spellings(cls) -> dict[str, str]:
        cached = cls.__dict__.get("_spelling_cache")
        if cached is None:
            cached = {camel: name for name in cls.model_fields if (camel := to_camel(name)) != name} | cls.legacy_names
            cls._spelling_cache = cached  # pyright: ignore[reportAttributeAccessIssue]
        return cached


class NoParams(Params):
    """The method takes no parameters."""


class Result(BaseModel):
    """An object in a reply. `Model.model_validate(value)` reads the fields from a service's dataclass."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        from_attributes=True,
        serialize_by_alias=True,
        validate_by_name=True,
        defer_build=True,
    )


class Done(Result):
    """Nothing but success."""


__all__ = ["MAX_LIST", "Done", "Field", "Name", "NoParams", "Params", "PathText", "Result", "Text"]
