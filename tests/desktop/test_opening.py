"""What may be opened, and that nothing but an argument vector is used for it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pumas.desktop import opening
from pumas.errors import InvalidInput, LaunchFailed, Unsupported


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "run.sh").touch()
    return root


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[list[str]]]:
    """An xdg-open that writes down how it was called; where `fails` lies beside it, it does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "xdg-open"
    script.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        f"sys.exit(4 if os.path.exists({str(folder / 'fails')!r}) else 0)\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    for name in (opening.OPENER_VARIABLE, "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


@pytest.mark.parametrize("url", ["http://a", "https://user@example.org:8/x?y=$(z)#f", "http://[::1]:80/"])
def test_addresses(url: str) -> None:
    assert opening.address(url) == url


@pytest.mark.parametrize(
    "url",
    ["", "file:///etc/passwd", "javascript:alert(1)", "https://", "http:///x", "-http://a", "http://a b", "http://a\nb",
     "ftp://a", "http://a:99999", "http://[::1", "https://ü", "https://a/" + "x" * 5000],
)  # fmt: skip
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        opening.address(url)


def test_a_file_is_shown_in_its_folder_and_never_opened(root: Path, opened: Callable[[], list[list[str]]]) -> None:
    odd = root / "a;b $(c) 'd'"
    odd.mkdir()
    opening.show(root / "run.sh")
    opening.show(odd)
    opening.open_target("https://example.org/?a=1&b=$(c)")
    assert opened() == [[str(root)], [str(odd)], ["https://example.org/?a=1&b=$(c)"]]


def test_failures_are_told(
    root: Path, tmp_path: Path, opened: Callable[[], list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin/fails").touch()
    with pytest.raises(LaunchFailed, match="status 4"):
        opening.show(root)
    assert len(opened()) == 1
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported):
        opening.show(root)
    monkeypatch.setenv(opening.OPENER_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(LaunchFailed):
        opening.show(root)


def test_the_token_does_not_reach_the_program(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "tell"
    script.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\n")
    script.chmod(0o755)
    monkeypatch.setenv("PUMAS_RPC_TOKEN", "geheim-1234567890")
    monkeypatch.setenv(opening.OPENER_VARIABLE, str(script))
    opening.show(root)
    assert "geheim" not in (tmp_path / "environment").read_text()
    assert os.environ["PUMAS_RPC_TOKEN"]
