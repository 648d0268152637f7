"""Long work at a terminal: the bar, and what Ctrl-C does."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from pumas.cli import exits, following
from pumas.cli.command import Cli
from sidecar import Sidecar, eventually

from .terminal import Terminal, piped

JOB_SERVER = Path(__file__).resolve().parents[1] / "client" / "job_server.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    one = running.start(tmp_path_factory.mktemp("tty") / "root", script=JOB_SERVER)
    yield one
    one.close()


def start_job(server: Sidecar, gate: Path) -> str:
    return server.result("start_test_job", {"gate": str(gate), "steps": 3})["job_id"]


def state(server: Sidecar, job_id: str) -> Any:
    return server.result("get_job", {"job_id": job_id})["job"]["state"]


def test_a_bar_and_a_table(server: Sidecar, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    job_id = start_job(server, tmp_path / "gate")
    shown = terminal("jobs", "watch", job_id, "--root", str(server.root))
    shown.expect("a file")
    assert "step 2" in shown.expect("67 %")
    (tmp_path / "gate").touch()
    assert shown.end() == exits.OK
    assert "completed" in shown.shown
    listed = terminal("jobs", "list", "--root", str(server.root))
    assert listed.end() == exits.OK
    assert "job " in listed.shown
    assert job_id in listed.shown


def test_ctrl_c_and_cancel(server: Sidecar, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    job_id = start_job(server, tmp_path / "gate")
    shown = terminal("jobs", "watch", job_id, "--root", str(server.root))
    shown.expect("a file")
    shown.ctrl_c()
    shown.expect("[c]ancel the job or [d]etach")
    shown.type("c\n")
    assert shown.end() == exits.INTERRUPTED
    assert "Cancelled." in shown.shown
    assert state(server, job_id) == "cancelled"


def test_ctrl_c_and_detach(server: Sidecar, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    job_id = start_job(server, tmp_path / "gate")
    shown = terminal("jobs", "watch", job_id, "--root", str(server.root))
    shown.expect("a file")
    shown.ctrl_c()
    shown.expect("[d]etach")
    shown.type("d\n")
    assert shown.end() == exits.OK
    assert f"pumas jobs watch {job_id}" in shown.shown
    assert state(server, job_id) == "running"
    (tmp_path / "gate").touch()


def test_ctrl_c_twice_leaves_at_once(server: Sidecar, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    job_id = start_job(server, tmp_path / "gate")
    shown = terminal("jobs", "watch", job_id, "--root", str(server.root))
    shown.expect("a file")
    shown.ctrl_c()
    shown.expect("[d]etach")
    shown.ctrl_c()
    assert shown.end() == exits.INTERRUPTED
    assert state(server, job_id) == "running"
    (tmp_path / "gate").touch()


def test_ctrl_c_without_a_terminal_cancels(server: Sidecar, tmp_path: Path) -> None:
    job_id = start_job(server, tmp_path / "gate")
    with piped("jobs", "watch", job_id, "--root", str(server.root)) as child:
        eventually(lambda: listening(child.pid, server.port), what="the watching command's event stream")
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
    assert child.returncode == exits.INTERRUPTED
    assert "Traceback" not in err
    assert state(server, job_id) == "cancelled"


def listening(pid: int, port: int) -> bool:
    """Two connections to the sidecar: the event stream, and the call that asked for the job."""
    import psutil

    connections = psutil.Process(pid).net_connections("tcp")
    return sum(1 for c in connections if c.raddr and c.raddr.port == port) == 2


@pytest.mark.parametrize("stop", [False, True])
def test_ctrl_c_while_a_call_is_under_way(
    request: pytest.FixtureRequest, server: Sidecar, tmp_path: Path, stop: bool
) -> None:
    """The call is not broken off: only its answer names the job that is to be cancelled."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def call() -> str:
        job_id = start_job(server, tmp_path / "gate")
        if stop:
            signal.pthread_kill(main_thread, signal.SIGINT)
        return job_id

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with Cli(server.root, as_json=True, no_start=True) as cli:
        job_id, stopped = following.while_answering(cli, "test", "A test", call)
        assert stopped is stop
        assert state(server, job_id) in ("queued", "running")
        with pytest.raises(following.Stopped):
            following.interrupted(cli, job_id)
    assert state(server, job_id) == "cancelled"


def test_ctrl_c_ends_the_event_stream(server: Sidecar, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    shown = terminal("events", "--topic", "job", "--after", "1", "--root", str(server.root))
    shown.expect("resync")
    job_id = start_job(server, tmp_path / "gate")
    shown.expect(job_id)
    shown.ctrl_c()
    assert shown.end() == exits.INTERRUPTED
    assert "Traceback" not in shown.shown
    (tmp_path / "gate").touch()


def test_a_broken_pipe_is_no_error(server: Sidecar) -> None:
    command = f"{sys.executable} -m pumas call rpc.discover --root '{server.root}' | head -c 10"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (exits.OK, "")
    assert done.stdout == '{"openrpc"'
