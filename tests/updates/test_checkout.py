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
from pumas.errors import Cancelled, LocalChanges, NotOurCheckout, PumasError, UpdateFailed
from pumas.net.client import NetworkClient
from pumas.nodes.git import HTTP_VARIABLE, Git
from pumas.updates.checkout import Applied, Checkout, Workplace
from pumas.updates.place import journal
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


@pytest.fixture
def at(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path / "data/staging", tmp_path / "data/runs.json", tmp_path / "update.log")


def head(folder: Path) -> str:
    return run_git(folder, "rev-parse", "HEAD")


def test_it_goes_forward_and_installs(server: GitServer, folder: Path, tmp_path: Path, at: Workplace) -> None:
    before = head(folder)
    assert Checkout(folder).update(at) == Applied(before, before)
    newest = server.commit("owner/pumas", {"backend/new.py": "x = 1\n"})
    assert Checkout(folder).update(at) == Applied(before, newest)
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
        {"backend/pumas/__init__.py": "", "backend/pumas/app.py": "import no_such_package_here\n"},
    ],
)
def test_what_does_not_work_is_not_kept(
    server: GitServer, folder: Path, at: Workplace, files: dict[str, str | None]
) -> None:
    before = head(folder)
    server.commit("owner/pumas", files)
    with pytest.raises(UpdateFailed):
        Checkout(folder).update(at)
    assert head(folder) == before
    assert not journal(folder).exists()
    assert not at.staging.exists()
    assert (folder / "launcher").read_text() == LAUNCHER
    assert run_git(folder, "status", "--porcelain") == ""


def test_what_failed_is_installed_as_it_was(server: GitServer, folder: Path, at: Workplace) -> None:
    """The new version may have replaced what the old one needs before it failed."""
    server.commit("owner/pumas", {"launcher": LAUNCHER + "sys.exit(sys.argv[1] == 'setup' and 'no network')\n"})
    with pytest.raises(UpdateFailed, match="no network"):
        Checkout(folder).update(at)
    assert (folder / "ran").read_text() == "setup\nsetup\n"
    assert "no network" in at.log.read_text()


def test_own_changes_are_never_lost(server: GitServer, folder: Path, at: Workplace) -> None:
    server.commit("owner/pumas", {"launcher": "print()"})
    (folder / "launcher").write_text("mine")
    with pytest.raises(LocalChanges):
        Checkout(folder).update(at)
    assert (folder / "launcher").read_text() == "mine"


def test_own_commits_are_never_lost(server: GitServer, folder: Path, at: Workplace) -> None:
    server.commit("owner/pumas", {"backend/a.py": ""})
    (folder / "launcher").write_text(LAUNCHER + "# mine\n")
    run_git(folder, "commit", "--quiet", "--all", "--message", "Mine")
    mine = head(folder)
    with pytest.raises(PumasError):
        Checkout(folder).update(at)
    assert head(folder) == mine


def test_own_files_in_the_way_are_never_lost(server: GitServer, folder: Path, at: Workplace) -> None:
    before = head(folder)
    server.commit("owner/pumas", {"backend/new.py": ""})
    (folder / "backend/new.py").write_text("mine")
    with pytest.raises(PumasError):
        Checkout(folder).update(at)
    assert (head(folder), (folder / "backend/new.py").read_text()) == (before, "mine")


def test_it_can_be_stopped_and_then_all_is_as_it_was(server: GitServer, folder: Path, at: Workplace) -> None:
    before = head(folder)
    waits = "import sys, time\nif sys.argv[1] == 'setup':\n    open('ran', 'a').close()\n    time.sleep(60)\n"
    server.commit("owner/pumas", {"launcher": waits})

    def check() -> None:
        if (folder / "ran").exists() and head(folder) != before:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        Checkout(folder, check).update(at)
    assert (head(folder), (folder / "launcher").read_text()) == (before, LAUNCHER)
    assert not at.note.exists()


# -- after a kill ----------------------------------------------------------------------------------------------------


def cut_off(server: GitServer, folder: Path, files: dict[str, str | None]) -> Applied:
    """What a kill leaves that came while the files of a commit were written."""
    step = Applied(head(folder), server.commit("owner/pumas", files))
    Git().fetch(folder, f"{server.url}/owner/pumas.git", "main")
    journal(folder).write_text(f"{step.before} {step.now}\n")
    (folder / "backend/rpc_server.py").write_text("hal")
    (folder / "backend/new.py").write_text("x")
    (folder / ".git/index.lock").touch()
    return step


def test_an_update_that_was_cut_off_is_finished(server: GitServer, folder: Path, at: Workplace) -> None:
    step = cut_off(server, folder, {"backend/rpc_server.py": "half and half", "backend/new.py": "x = 1\n"})
    server.stalled.set()  # nobody needs to be asked
    assert Checkout(folder).update(at) == step
    assert (head(folder), run_git(folder, "status", "--porcelain")) == (step.now, "")
    assert (folder / "ran").read_text() == "setup\n"
    assert not journal(folder).exists()


def test_or_is_taken_back(server: GitServer, folder: Path, at: Workplace) -> None:
    step = cut_off(server, folder, {"backend/rpc_server.py": "half and half", "backend/new.py": "x = 1\n"})
    Checkout(folder).undo(at)
    assert (head(folder), run_git(folder, "status", "--porcelain")) == (step.before, "")
    assert not (folder / "backend/new.py").exists()
    assert not journal(folder).exists()


@pytest.mark.parametrize("text", ["", "x", f"{'0' * 40}", f"--all {'0' * 40}", "\0"])
def test_a_journal_that_says_nothing_changes_nothing(folder: Path, at: Workplace, text: str) -> None:
    before = head(folder)
    journal(folder).write_text(text)
    Checkout(folder).undo(at)
    assert Checkout(folder).update(at) == Applied(before, before)


def test_what_is_no_checkout(tmp_path: Path) -> None:
    assert not Checkout(tmp_path).current().is_checkout
    with pytest.raises(NotOurCheckout):
        Checkout(tmp_path).update(Workplace(tmp_path / "staging", tmp_path / "runs.json", tmp_path / "log"))


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


@pytest.mark.parametrize("url", ["https://example.org/owner/pumas.git", "https://github.com.example.org/owner/pumas"])
def test_the_same_name_elsewhere_is_not_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PUMAS_GITHUB_API", "http://127.0.0.1:9")
    run_git(folder, "remote", "set-url", "origin", url)
    with pytest.raises(NotOurCheckout, match="GitHub"):
        Checkout(folder).newest(NetworkClient())


@pytest.mark.parametrize(("at", "behind"), [(0, 0), (2, 2), (None, 3)])
def test_how_far_behind(folder: Path, at: int | None, behind: int) -> None:
    shas = ["a" * 40, "b" * 40, "c" * 40]
    if at is not None:
        shas[at] = head(folder)
    commits = [{"sha": sha, "message": "", "author": "", "date": ""} for sha in shas]
    found = _compare(commits, Checkout(folder).current())
    assert (found.behind, found.has_update, found.latest, len(found.commits)) == (behind, behind > 0, shas[0], behind)
