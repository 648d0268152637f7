"""pumas run, stop, ps and logs, with tiny real apps."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sidecar as running
from processes.programs import Root, runs
from pumas.cli import exits
from sidecar import Sidecar, eventually

from .conftest import Run
from .terminal import Terminal


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    one = Root(tmp_path / "root")
    one.path.mkdir()
    for app in ("web", "dead", "deaf"):
        one.install(app)
    yield one
    for pid in one.leftovers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def sidecar(root: Root) -> Iterator[Sidecar]:
    one = running.start(root.path)
    yield one
    one.close()


def test_with_a_sidecar_that_stays(pumas: Run, sidecar: Sidecar, root: Root) -> None:
    assert pumas("ps", root=root.path).err == "Nothing runs.\n"
    done = pumas("run", "--root", str(root.path), "web", "--json", "--", "--name", "a b")
    assert done.status == exits.OK and done.json["ready"]
    (app, tag, state, pid, *_) = pumas("ps", root=root.path).out.split("\t")
    assert (app, tag, state, int(pid)) == ("web", "v1", "ready", done.json["pid"])
    assert pumas("logs", "web", root=root.path).out == "hello ['--name', 'a b']\n"
    assert pumas("logs", "web", "--json", "-n", "1", root=root.path).json["truncated"] is False
    again = pumas("run", "web", root=root.path)
    assert again.status == exits.FAILED and "runs already" in again.err
    assert pumas("stop", "web", root=root.path).out == "stopped: 1 process\n"
    assert not runs(done.json["pid"])
    stopped = pumas("stop", "web", "--json", root=root.path)
    assert stopped.status == exits.FAILED and stopped.json["error_code"] == "not_running"
    assert "exited" in pumas("ps", "--all", root=root.path).out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("run", "nothing"), "There is no app 'nothing'"),
        (("run", "web", "--tag", "v9"), "'v9' is not installed"),
        (("run", "dead"), "ended by itself with status 3"),
        (("run", "dead", "--follow"), "ended by itself with status 3"),
        (("run", "nothing", "--follow"), "There is no app 'nothing'"),
        (("stop", "nothing"), "There is no app 'nothing'"),
        (("logs", "web"), "it was not started yet"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_failures_are_one_line(pumas: Run, sidecar: Sidecar, root: Root, words: tuple[str, ...], error: str) -> None:
    done = pumas(*words, root=root.path)
    assert done.status == exits.FAILED
    assert error in done.err


def test_without_a_sidecar_it_is_followed_and_ended_by_ctrl_c(terminal: Callable[..., Terminal], root: Root) -> None:
    shown = terminal("run", "web", "--root", str(root.path))
    shown.expect("hello")
    shown.expect("Ready at")
    apps = [pid for pid in root.leftovers() if "app.py" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(apps) == 1
    shown.ctrl_c()
    assert shown.end() == exits.INTERRUPTED
    eventually(lambda: not any(map(runs, apps)), what="the app ended")


def test_a_followed_log_ends_with_the_app(terminal: Callable[..., Terminal], sidecar: Sidecar, root: Root) -> None:
    pid = sidecar.result("launch_app", {"app_id": "web"})["pid"]
    shown = terminal("logs", "web", "-f", "--root", str(root.path))
    shown.expect("hello")
    os.kill(pid, signal.SIGKILL)
    shown.expect("ended by itself by signal 9")
    assert shown.end() == exits.OK


def test_a_followed_log_of_an_app_that_has_ended_tells_how(pumas: Run, sidecar: Sidecar, root: Root) -> None:
    pid = sidecar.result("launch_app", {"app_id": "web"})["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not sidecar.result("list_processes")["processes"], what="the end")
    done = pumas("logs", "web", "-f", "--root", str(root.path))
    assert (done.status, done.out) == (exits.OK, "hello []\n")
    assert "ended by itself by signal 9" in done.err
    sidecar.result("launch_app", {"app_id": "web"})
    sidecar.result("stop_app", {"app_id": "web"})
    assert pumas("logs", "web", "-f", "--root", str(root.path)).err == ""
