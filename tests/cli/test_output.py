from __future__ import annotations

import pytest

from pumas.cli.output import Output, clean, moment, size


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain ü 漢字", "plain ü 漢字"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("two\nlines\tand\r", "two lines and "),
        ("right\u202eto left", "rightto left"),
        ("\ud800", ""),
        ("\x9b31m\u2028", "31m"),
        (None, ""),
        (5, "5"),
    ],
)
def test_nothing_drives_the_terminal(value: object, shown: str) -> None:
    assert clean(value) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, ""),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 1024**3, "5.0 GiB"),
        (3 * 1024**5, "3072.0 TiB"),
    ],
)
def test_sizes(count: int | None, shown: str) -> None:
    assert size(count) == shown


def test_moments() -> None:
    assert moment("2026-03-04T05:06:07.123Z") == "2026-03-04 05:06"
    assert moment(None) == ""


def test_a_pipe_gets_lines_with_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).table(("a", "b"), [("x", None), ("y\tz", 5)])
    Output(as_json=False).facts({"k": "v\x1b"})
    assert capsys.readouterr().out == "x\t\ny z\t5\nk\tv\n"


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = Output(as_json=False)
    out.tty = True
    monkeypatch.setenv("COLUMNS", "80")
    out.table(("model", "size"), [("a[bold]b", "1 B")])
    out.facts({"name": "[red]x"})
    shown = capsys.readouterr().out
    assert "model" in shown
    # What looks like markup is text.
    assert "a[bold]b" in shown
    assert "[red]x" in shown


def test_what_is_copied_stays_in_one_piece(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = Output(as_json=False)
    out.tty = True
    model_id, name = "llm/qwen/Qwen2.5-Coder-7B-Instruct-Q4_K_M", "Qwen2.5-Coder-7B-Instruct-Q4_K_M"
    row = (model_id, name, "llm", "qwen", "4.4 GiB", "2026-11-22 18:52")
    columns = ("model", "name", "type", "family", "size", "added")
    for width, whole in ((120, True), (80, True), (40, False)):
        monkeypatch.setenv("COLUMNS", str(width))
        out.table(columns, [row])
        shown = capsys.readouterr().out
        assert (f" {model_id} " in shown) is whole, shown
        assert max(map(len, shown.splitlines())) <= width


def test_a_document_for_a_pipe_is_one_ascii_line(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).document({"a": "ü\n"})
    assert capsys.readouterr().out == '{"a": "\\u00fc\\n"}\n'


def test_an_error_is_one_line_and_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).error("Bad\nthing.", "kind")
    seen = capsys.readouterr()
    assert seen.err == "pumas: Bad thing.\n"
    assert seen.out == '{"success": false, "error": "Bad\\nthing.", "error_code": "kind"}\n'
