"""The launcher's own checkout goes forward only to what works, and back when it does not install."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fixtures.git import GitServer, run_git
from pumas.errors import LocalChanges, NotOurCheckout, PumasError, UpdateFailed
from pumas.net.client import NetworkClient
from pumas.nodes.git import HTTP_VARIABLE
from pumas.updates.checkout import Applied, Checkout
from pumas.updates.service import _compare  # pyright: ignore[reportPrivateUsage]

LAUNCHER = "import sys\nopen('ran', 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
GOOD: dict[str, str | None] = {"launcher": LAUNCHER, "backend/rpc_server.py": "", ".gitignore": "ran\n"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    monkeypatch.setenv(HTTP_VARIABLE, "loopback")
    with GitServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
def folder(server: GitServer, tmp_path: Path) -> Path:
    server.commit("owner/pumas", GOOD)
    server.clone("owner/pumas", tmp_path / "checkout")
    return tmp_path / "checkout"


def head(folder: Path) -> str:
    return run_git(folder, "rev-parse", "HEAD")


def test_it_goes_forward_and_installs(server: GitServer, folder: Path, tmp_path: Path) -> None:
    before = head(folder)
    assert Checkout(folder).update(tmp_path / "data/staging") == Applied(before, before)
    newest = server.commit("owner/pumas", {"backend/new.py": "x = 1\n"})
    assert Checkout(folder).update(tmp_path / "data/staging") == Applied(before, newest)
    assert (folder / "backend/new.py").exists()
    assert (folder / "ran").read_text() == "setup\n"
    assert list((tmp_path / "data").iterdir()) == []
    current = Checkout(folder).current()
    assert (current.commit, current.version, current.branch, current.is_checkout) == (newest, newest[:7], "main", True)


@pytest.mark.parametrize(
    "files",
    [
        {"backend/broken.py": "def"},
        {"launcher": None},
        {"backend/rpc_server.py": None},
        {"launcher": "import sys\nsys.exit('does not start')\n"},
        {"launcher": "import sys\nsys.exit('no network' if sys.argv[1] == 'setup' else 0)\n"},
    ],
)
def test_what_does_not_work_is_not_kept(
    server: GitServer, folder: Path, tmp_path: Path, files: dict[str, str | None]
) -> None:
    before = head(folder)
    server.commit("owner/pumas", files)
    with pytest.raises(UpdateFailed):
        Checkout(folder).update(tmp_path / "staging")
    assert head(folder) == before
    assert (folder / "launcher").read_text() == LAUNCHER
    assert run_git(folder, "status", "--porcelain") == ""


def test_own_changes_are_never_lost(server: GitServer, folder: Path, tmp_path: Path) -> None:
    server.commit("owner/pumas", {"launcher": "print()"})
    (folder / "launcher").write_text("mine")
    with pytest.raises(LocalChanges):
        Checkout(folder).update(tmp_path / "staging")
    assert (folder / "launcher").read_text() == "mine"


def test_own_commits_are_never_lost(server: GitServer, folder: Path, tmp_path: Path) -> None:
    server.commit("owner/pumas", {"backend/a.py": ""})
    (folder / "launcher").write_text(LAUNCHER + "# mine\n")
    run_git(folder, "commit", "--quiet", "--all", "--message", "Mine")
    mine = head(folder)
    with pytest.raises(PumasError):
        Checkout(folder).update(tmp_path / "staging")
    assert head(folder) == mine


def test_what_is_no_checkout(tmp_path: Path) -> None:
    assert not Checkout(tmp_path).current().is_checkout
    with pytest.raises(NotOurCheckout):
        Checkout(tmp_path).update(tmp_path / "staging")


def test_the_newest_commits_are_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    one: dict[str, Any] = {
        "sha": "a" * 40,
        "commit": {"message": "First\n\nmore", "author": {"name": "Ada", "date": "2030-01-01T00:00:00Z"}},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps([one, "odd", {}]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setenv("PUMAS_GITHUB_API", f"http://127.0.0.1:{http.server_address[1]}")
    try:
        first, empty = Checkout(folder).newest(NetworkClient())
    finally:
        http.shutdown()
        http.server_close()
    assert asked == ["/repos/owner/pumas/commits?sha=main&per_page=10"]
    assert (first.sha, first.message, first.author) == ("a" * 40, "First", "Ada")
    assert empty.sha == ""


@pytest.mark.parametrize(("at", "behind"), [(0, 0), (2, 2), (None, 3)])
def test_how_far_behind(folder: Path, at: int | None, behind: int) -> None:
    shas = ["a" * 40, "b" * 40, "c" * 40]
    if at is not None:
        shas[at] = head(folder)
    commits = [{"sha": sha, "message": "", "author": "", "date": ""} for sha in shas]
    found = _compare(commits, Checkout(folder).current())
    assert (found.behind, found.has_update, found.latest, len(found.commits)) == (behind, behind > 0, shas[0], behind)
