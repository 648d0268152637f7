"""The method table: rows declared at once, and those of a domain that nobody has called yet."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pumas.rpc.models import NoParams
from pumas.rpc.registry import Methods


async def test_rows_of_a_domain_are_declared_when_one_of_them_is_first_called() -> None:
    methods, declared = Methods(), list[str]()

    def declare(to: Methods) -> None:
        declared.append("domain")

        @to.row("health_check", NoParams, dict[str, Any])
        async def health_check(_: NoParams) -> dict[str, Any]:
            """Say so."""
            return {"status": "ok"}

        @to.row("get_models", NoParams, dict[str, Any])
        async def get_models(_: NoParams) -> dict[str, Any]:
            """List them."""
            return {}

    methods.later(["health_check", "get_models"], declare)
    assert "get_models" in methods and "nothing_like_it" not in methods and not methods.is_loaded("get_models")
    assert methods.get("nothing_like_it") is None and declared == []
    with ThreadPoolExecutor(8) as threads:
        rows = list(threads.map(methods.get, ["health_check", "get_models"] * 20))
    assert declared == ["domain"] and None not in rows and methods.is_loaded("get_models")
    assert await methods.call("health_check") == {"status": "ok"}
    assert [row.name for row in methods] == ["get_models", "health_check"]


def test_whoever_looks_at_all_rows_sees_those_of_every_domain() -> None:
    methods = Methods()

    def declare(to: Methods) -> None:
        @to.row("get_models", NoParams, dict[str, Any])
        async def get_models(_: NoParams) -> dict[str, Any]:
            """List them."""
            return {}

    methods.later(["get_models"], declare)
    assert [row.name for row in methods] == ["get_models"]


def test_a_row_without_a_wrapper_says_where_that_belongs() -> None:
    async def dance(_: NoParams) -> None:
        """Dance."""

    with pytest.raises(ValueError, match=r"contracts/response_wrappers\.json has no dance"):
        Methods().row("dance", NoParams, None)(dance)
