"""The one door from text to paths: what is refused, and that nothing gets out of its root."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pumas.errors import FileUnavailable, InvalidInput, PumasError, UnsafePath
from pumas.storage import paths

HOSTILE = [
    "", ".", "..", "../x", "a/../b", "a/./b", "a//b", "/etc/passwd", "a/", "~/x\\y", "C:\\x", "C:/x", "\\\\host\\share",
    "a\\b", "a\0b", "a\nb", "a\x7fb", "trailing.", "trailing ", " leading", "a/ b", "con", "NUL.txt", "a/com1",
    "aux.tar.gz", "lpt9.gguf", "a:b", "a*b", "a?b", 'a"b', "a<b", "a|b", "x" * 256, "a/" * 600 + "b", "\ud800",
    "a/\x85b",
]  # fmt: skip
FINE = ["a", "llm/llama/Llama-3.1-8B", "模型/é", "a b/c", "..a", "a..b", ".hidden", "console", "x" * 255]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_is_refused(tmp_path: Path, text: str) -> None:
    for door in (partial(paths.contained, tmp_path), paths.Below(tmp_path).path):
        with pytest.raises(UnsafePath):
            door(text)


@pytest.mark.parametrize("text", FINE, ids=ascii)
def test_plain_names_pass_unchanged(tmp_path: Path, text: str) -> None:
    below = paths.Below(tmp_path)
    assert paths.contained(tmp_path, text) == below.path(text) == below.path(text) == tmp_path / text


def test_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "models", tmp_path / "models-old"
    for folder in (root, outside):
        folder.mkdir()
    (root / "out").symlink_to(outside)
    (root / "up").symlink_to("..")
    (root / "self").symlink_to(root)
    (root / "loop").symlink_to("loop")
    (root / "in").mkdir()
    (root / "fine").symlink_to("in")
    for name in ("out", "out/x", "up", "up/models-old", "self"):
        with pytest.raises(UnsafePath):
            paths.contained(root, name)
        with pytest.raises(UnsafePath):
            paths.Below(root).path(f"{name}/new")
    assert paths.contained(root, "fine/x") == paths.Below(root).path("fine/x") == root / "fine" / "x"


@given(st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "a", "", "/", "link"]), max_size=6).map("/".join))
@example("a/../../x")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_passes_stays_below_the_root(tmp_path: Path, text: str) -> None:
    link = tmp_path / "link"
    if not link.is_symlink():
        link.symlink_to("/")
    try:
        path = paths.contained(tmp_path, text)
    except UnsafePath:
        return
    assert Path(os.path.realpath(path)).is_relative_to(os.path.realpath(tmp_path))
    assert Path(os.path.realpath(path)) != Path(os.path.realpath(tmp_path))


@given(st.text(max_size=300))
@example("CON")
@example("nul.gguf")
@example("x" * 300)
@example("...")
@example("a/b\\c")
@settings(max_examples=500, deadline=None)
def test_a_slug_is_always_a_usable_name(text: str) -> None:
    name = paths.slug(text, "model")
    assert paths.relative_path(name) == name
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name.encode()) <= 129
    assert paths.slug(name, "model") == name


@pytest.mark.parametrize("text", ["", "   ", "relative", "a\0b", "/a\0b", "/" + "x" * 5000, "\ud800", "~nobody-here/x"])
def test_a_path_of_the_caller_must_be_absolute_and_clean(text: str) -> None:
    with pytest.raises(UnsafePath):
        paths.caller_path(text)


def test_a_path_of_the_caller_may_lie_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert paths.caller_path("/srv/a b.gguf") == Path("/srv/a b.gguf")
    assert paths.caller_path("~/a.gguf") == Path("/home/somebody/a.gguf")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "shared-resources/models").mkdir(parents=True)
    (root / "run.sh").touch()
    (tmp_path / "outside").mkdir()
    (root / "link-out").symlink_to(tmp_path / "outside")
    (tmp_path / "root-beside").mkdir()
    return root


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("shared-resources/models", "shared-resources/models"),
        (".", "."),
        ("{root}/run.sh", "run.sh"),
        ("shared-resources/../run.sh", "run.sh"),
        ("..", UnsafePath),
        ("/etc", UnsafePath),
        ("~", UnsafePath),
        ("link-out", UnsafePath),
        ("{root}-beside", UnsafePath),
        ("nothing", FileUnavailable),
        ("a\0b", InvalidInput),
        ("~nobody-of-that-name/x", InvalidInput),
    ],
)
def test_only_what_lies_in_the_root(root: Path, text: str, place: str | type[PumasError]) -> None:
    text = text.replace("{root}", str(root))
    if isinstance(place, str):
        assert paths.path_below(root, text) == (root / place).resolve()
    else:
        with pytest.raises(place):
            paths.path_below(root, text)


def test_a_library_on_another_drive_is_ours_too(root: Path, tmp_path: Path) -> None:
    drive = tmp_path / "drive/models"
    (drive / "llm").mkdir(parents=True)
    library = root / "shared-resources/models"
    library.rmdir()
    library.symlink_to(drive)
    for text in ("shared-resources/models/llm", str(drive / "llm")):
        assert paths.path_below(root, text, library) == drive / "llm"
    with pytest.raises(UnsafePath):
        paths.path_below(root, "shared-resources/models/..", library)
    with pytest.raises(UnsafePath):
        paths.path_below(root, str(drive))


@pytest.mark.parametrize(
    ("raw", "shown"), [(b"\xff\xc3", "\\xff\\xc3"), (b"a\n\x1b", "a\\n\\x1b"), ("ü 模".encode(), "ü 模")]
)
def test_how_names_on_disk_are_shown(raw: bytes, shown: str) -> None:
    assert paths.display_name(os.fsdecode(raw)) == shown


@given(st.binary(min_size=1, max_size=40))
def test_any_name_on_disk_can_be_shown(raw: bytes) -> None:
    shown = paths.display_name(os.fsdecode(raw))
    shown.encode("utf-8")
    assert shown.isprintable()


def outcome(text: str) -> str:
    try:
        return paths.relative_path(text)
    except UnsafePath as error:
        return str(error)


@given(st.from_regex(r"(?:[A-Za-z0-9_.-]|con|aux|com1|lpt²|conin\$){1,12}", fullmatch=True))
@example("con.gguf")
@example("com1.gguf")
@example("abcde.")
@example("abcde\n")
@example("x" * 97)
@example("x" * 256)
def test_the_quick_look_at_plain_names_lets_nothing_else_pass(text: str) -> None:
    quick = outcome(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "_PLAIN", re.compile("(?!)"))
        assert outcome(text) == quick
