"""Desktop entries: what is written can be read again, by ourselves, by the validator, and by a real launcher."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.desktop.entry import ROOT_KEY, Entry, exec_line, value_of
from pumas.errors import InvalidInput

VALIDATOR, GIO = shutil.which("desktop-file-validate"), shutil.which("gio")
HOSTILE = [
    "/plain/path",
    "/with space/and 'quotes' and \"double\"",
    "/dollar $HOME $(touch x) `touch y`",
    "/back\\slash \\n \\\\ end\\",
    "/percent %f %U %% 100%",
    "/semi;colon&amp|pipe>out<in*?[x]#~!",
    "/ümläut/日本語/🧩",
    "\u202e right to left \u2066 \u200b zero width \ufeff",
    "[Desktop Action x] Exec=evil; # no comment",
    "-o --option=x %u%U%%i",
    "x" * 4000,
    " leading and trailing ",
    "",
]
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\x7f"), max_size=40)


def entry(*command: str, root: str = "/srv/pumas") -> Entry:
    return Entry("ComfyUI v0.3.10", "Start it", command, "comfyui-v0-3-10", root)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (("/usr/bin/python", "a"), "/usr/bin/python a"),
        (("/a b",), '"/a b"'),
        (('/q"',), r'"/q\""'),
        (("/$x`y`",), r'"/\$x\`y\`"'),
        (("/b\\s",), r'"/b\\s"'),
        (("/p", "50%"), '/p "50%%"'),
        (("/p", ""), '/p ""'),
    ],
)
def test_arguments_are_quoted_by_the_rules(command: tuple[str, ...], line: str) -> None:
    assert exec_line(command) == line


@given(WORDS)
def test_any_value_can_be_read_again(root: str) -> None:
    assert value_of(entry("/p", root=root).text(), ROOT_KEY) == root


@pytest.mark.parametrize("bad", ["/a\nExec=evil", "/a\rb", "/a\0b", "/a\x7fb", "/a\udcffb"])
def test_what_would_break_the_line_is_refused(bad: str) -> None:
    named = [
        Entry(bad, "", ("/p",), "i", "/r"),
        Entry("n", bad, ("/p",), "i", "/r"),
        Entry("n", "", ("/p",), bad, "/r"),
    ]
    for one in (entry("/p", root=bad), entry("/p", bad), *named):
        with pytest.raises(InvalidInput):
            one.text()


def test_a_program_with_an_equals_sign_is_refused() -> None:
    with pytest.raises(InvalidInput):
        entry("/a=b/python").text()


@pytest.mark.parametrize("text", ["", "Exec=a\n", "[Other]\nExec=a\n", "[Desktop Entry]\n[Other]\nExec=a\n"])
def test_only_the_first_group_counts(text: str) -> None:
    assert value_of(text, "Exec") is None


def test_the_validator_has_nothing_to_say(tmp_path: Path) -> None:
    assert VALIDATOR, "desktop-file-validate is not installed (desktop-file-utils): the entries were not validated"
    for number, word in enumerate(HOSTILE):
        path = tmp_path / f"{number}.desktop"
        one = Entry(f"ComfyUI {word}", f"Start {word}", ("/usr/bin/python", word), "comfyui", word)
        path.write_text(one.text(), encoding="utf-8")
        done = subprocess.run([VALIDATOR, str(path)], capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), word


@given(st.lists(WORDS, max_size=4))
def test_a_reader_by_the_rules_gets_the_same_arguments(words: list[str]) -> None:
    line = value_of(entry("/usr/bin/python", *words).text(), "Exec")
    assert line is not None
    assert split(line) == ["/usr/bin/python", *words]


def split(line: str) -> list[str]:
    """`Exec` as the specification tells readers to take it apart."""
    words, word, quoted, escaped = list[str](), "", False, False
    started = False
    for char in line:
        if escaped:
            word, escaped = word + char, False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted, started = not quoted, True
        elif char == " " and not quoted:
            words, word, started = [*words, word], "", False
        else:
            word, started = word + char, True
    return [one.replace("%%", "%") for one in ([*words, word] if started else words)]


def test_a_real_launcher_passes_the_very_arguments(tmp_path: Path) -> None:
    assert GIO, "gio is not installed (libglib2.0-bin): no entry was really launched"
    out = tmp_path / "arguments.json"
    script = tmp_path / "tell $me.py"
    script.write_text(f"import json, sys, os\nopen({str(out) + '~'!r}, 'w').write(json.dumps(sys.argv[1:]))\n"
                      f"os.rename({str(out) + '~'!r}, {str(out)!r})\n")  # fmt: skip
    path = tmp_path / "one.desktop"
    path.write_text(entry(sys.executable, str(script), *HOSTILE).text(), encoding="utf-8")
    subprocess.run([GIO, "launch", str(path)], check=True, timeout=20)
    from sidecar import eventually

    eventually(out.exists, what="the launched program")
    assert json.loads(out.read_text()) == HOSTILE
