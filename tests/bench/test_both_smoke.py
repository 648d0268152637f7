"""The comparison of both backends still runs, and its page says what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.both import page, running
from bench.both.methods import Compared, Cost, examples
from bench.table import Row, Run, Size
from contract.served import WRAPPERS, rust_is_built

BACKENDS = ("rust" if rust_is_built() else "python", "python")
"""Without the Rust backend Python stands in for it: what is tested is the measuring."""

ROWS = [
    Row("start", 10, "ms", 300, at_most=30),
    Row("searches", 95, "/s", 100, ratio_at_least=2),
    Row("weight", 99, "MB", 100),
    Row("size of the program", 11, "MB", at_most=25),
]


@pytest.mark.parametrize("part", [part for part in running.PARTS if part != running.METHODS])
def test_a_figure_is_measured_of_both(part: str, tmp_path: Path) -> None:
    outcome = running.run(Run(Size.TINY, tmp_path), lambda _text: None, [part], BACKENDS)
    assert outcome.failed == []
    assert all(row.measured > 0 and (row.baseline is None or row.baseline > 0) for row in outcome.rows)
    assert outcome.rows or part in ("binary", "downloads")


def test_methods_are_asked_again_where_nothing_changes_and_afresh_where_something_does(tmp_path: Path) -> None:
    chosen = {"get_library_status": False, "delete_model_with_cascade": True}
    found = running.methods(Run(Size.TINY, tmp_path), chosen.keys(), BACKENDS)
    assert {one.name: one.fresh for one in found} == chosen
    for one in found:
        assert all(0 < cost.p50_ms <= cost.p99_ms and cost.memory_mb > 1 for cost in one.costs)


def test_most_methods_have_an_example_that_can_be_asked() -> None:
    assert len(examples(frozenset(WRAPPERS))) > 0.9 * len(WRAPPERS)


def test_the_page_says_what_was_measured() -> None:
    even = Compared("get_status", 200, False, (Cost(1.0, 2.0, 10.0), Cost(1.05, 3.0, 40.0)))
    faster = Compared("import_model", 9, True, (Cost(1.0, 2.0, 10.0), Cost(30.0, 31.0, 40.0)))
    text = page.write("4 processors", ROWS, [even, faster], ["later_method"], ["`shutdown`: gone"])
    assert "on 4 processors." in text
    assert "| start | 10 ms | 300 ms | 0.03 | ≤ 30 ms | yes |" in text
    assert "| searches | 95 /s | 100 /s | 0.95 | ≥ 2 × | **no** |" in text
    assert "| size of the program | 11 MB |  |  | ≤ 25 MB | yes |" in text
    assert "| `get_status` | 200 | 1 | 2 | 10 | 1.05 | 3 | 40 | 1.1 |" in text
    assert "| `import_model` | 9* |" in text
    assert "- searches\n- weight\n- by the time of half of the calls, Python to Rust: `get_status` (1.05)\n" in text
    assert "1 methods: `later_method`." in text
    assert "- `shutdown`: gone\n" in text
