import pytest

from pumas.library.formats.text import json_number, one_line


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("  two\nlines\t\0", "two lines"),
        ("right\u202eto\u2066left\ufeff", "right to left"),
        ("half \ud800 pair", "half ? pair"),
        ("ü模😀", "ü模😀"),
        ("x" * 1000, "x" * 256),
        (None, ""),
        (5, ""),
        (["a"], ""),
    ],
)
def test_one_line(value: object, expected: str) -> None:
    assert one_line(value) == expected


def test_numbers_that_json_cannot_carry() -> None:
    edge = 2**63
    assert [json_number(n) for n in (edge - 1, edge, -edge, -edge - 1)] == [edge - 1, str(edge), -edge, str(-edge - 1)]
    assert [json_number(n) for n in (0.5, float("nan"), float("inf"))] == [0.5, None, None]
