"""Where menu, icons and desktop are, for users who have moved or switched them off."""

from __future__ import annotations

from pathlib import Path

import pytest

from pumas.desktop import folders


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (None, "Desktop"),
        ('XDG_DESKTOP_DIR="$HOME/Schreibtisch"', "Schreibtisch"),
        ('# XDG_DESKTOP_DIR="$HOME/No"\nXDG_DESKTOP_DIR="$HOME/Bureau d\'ici"\n', "Bureau d'ici"),
        (r'XDG_DESKTOP_DIR="$HOME/a\"b\$c"', 'a"b$c'),
        ('XDG_DESKTOP_DIR="/srv/desk"', "/srv/desk"),
        ('XDG_DESKTOP_DIR="$HOME/"', None),
        ('XDG_DESKTOP_DIR="$HOME"', None),
        ('XDG_DESKTOP_DIR="relative"', "Desktop"),
        ('XDG_DESKTOP_DIR="$HOMELAND/x"', "Desktop"),
    ],
)
def test_desktop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str | None, place: str | None) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    if line is not None:
        (tmp_path / ".config").mkdir()
        (tmp_path / ".config/user-dirs.dirs").write_text(line)
    assert folders.find().desktop == (None if place is None else tmp_path / place)


@pytest.mark.parametrize(
    ("value", "place"), [(None, ".local/share"), ("/srv/data", "/srv/data"), ("x", ".local/share")]
)
def test_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None, place: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if value is None:
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_DATA_HOME", value)
    assert folders.find().menu == tmp_path / place / "applications"
    assert folders.find().icons == tmp_path / place / "icons/hicolor"
