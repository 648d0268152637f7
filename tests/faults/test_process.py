"""The life of the process: one line on stdout, one owner per root, a quick end, and no sidecar without its parent."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sidecar as running
from sidecar import TOKEN, Sidecar, eventually, process_gone

Launch = Callable[..., Sidecar]
MODEL = "shared-resources/models/llm/harbor/Harbor7B"


def rpc_file(root: Path) -> Path:
    return root / "launcher-data" / "rpc.json"


def big_model(root: Path) -> None:
    """A model that takes seconds to verify: a hole of many gigabytes."""
    folder = root / MODEL
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text(
        json.dumps({"official_name": "Harbor", "files": [{"name": "harbor.gguf", "size": 40 << 30}]})
    )
    with (folder / "harbor.gguf").open("wb") as file:
        file.truncate(40 << 30)


def end(sidecar: Sidecar, how: str) -> float:
    """Seconds until it had ended."""
    started = time.monotonic()
    if how == "shutdown":
        assert sidecar.result("shutdown") == {"status": "shutting_down"}
    else:
        sidecar.signal(getattr(signal, how))
    assert sidecar.wait(30) == 0
    return time.monotonic() - started


@pytest.mark.parametrize("how", ["shutdown", "SIGTERM", "SIGINT"])
def test_it_ends_quickly_and_leaves_nothing(launch: Launch, tmp_path: Path, how: str) -> None:
    sidecar = launch()
    facts = json.loads(rpc_file(sidecar.root).read_text())
    assert set(facts) == {"pid", "port", "token", "backend", "started_at"}
    assert (facts["pid"], facts["port"], facts["token"]) == (sidecar.pid, sidecar.port, TOKEN)
    assert stat.S_IMODE(rpc_file(sidecar.root).stat().st_mode) == 0o600
    assert end(sidecar, how) < 3
    assert not rpc_file(sidecar.root).exists()
    assert sidecar.rest_of_stdout() == "", "stdout is for the port line alone"


@pytest.mark.parametrize("how", ["shutdown", "SIGTERM", "SIGKILL"])
def test_a_running_job_is_parked_and_goes_on(launch: Launch, tmp_path: Path, how: str) -> None:
    root = tmp_path / "root"
    big_model(root)
    first = launch(root=root)
    job_id = first.result("verify_library")["job_id"]
    eventually(lambda: first.result("get_job", {"job_id": job_id})["job"]["state"] == "running", what="running")
    if how == "SIGKILL":
        first.kill()
    else:
        assert end(first, how) < 3
    second = launch(root=root)
    job = second.result("get_job", {"job_id": job_id})["job"]
    assert (job["state"], job["error_code"]) == ("paused", "interrupted")
    assert second.result("resume_job", {"job_id": job_id})["job"]["state"] in ("queued", "running")
    second.result("cancel_job", {"job_id": job_id})
    eventually(
        lambda: second.result("get_job", {"job_id": job_id})["job"]["state"] == "cancelled", what="the job cancelled"
    )


def test_who_has_read_the_port_finds_the_token(launch: Launch, tmp_path: Path) -> None:
    """Scripts read the port line, then `rpc.json`, and nothing tells them to wait in between."""
    for number in range(5):
        sidecar = launch(root=tmp_path / str(number), ready=False)
        facts = json.loads((sidecar.data / "rpc.json").read_text())
        assert (facts["pid"], facts["port"], facts["token"]) == (sidecar.pid, sidecar.port, sidecar.token)


def test_a_second_sidecar_is_refused_and_told_who_owns_the_root(launch: Launch) -> None:
    first = launch()
    second = running.run_to_end(first.root, "--port", "0")
    assert second.returncode == 3
    assert second.stdout == ""
    assert str(first.pid) in second.stderr
    assert str(first.port) in second.stderr
    assert TOKEN not in second.stderr
    assert first.healthy()
    assert json.loads(rpc_file(first.root).read_text())["pid"] == first.pid


def test_after_a_kill_the_next_one_takes_over(launch: Launch) -> None:
    first = launch()
    first.kill()
    assert rpc_file(first.root).exists(), "nobody was there to remove it"
    second = launch(root=first.root)
    assert json.loads(rpc_file(second.root).read_text())["pid"] == second.pid


def test_a_taken_port_is_an_error_not_another_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = running.run_to_end(tmp_path, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "x"],
        ["--port", "70000"],
        ["--nope"],
        ["--port"],
        ["word"],
        # An empty address would be all of the machine's, an empty folder the working directory.
        ["--host", ""],
        ["--host", " "],
        ["--launcher-root", ""],
    ],
    ids=" ".join,
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str]) -> None:
    done = running.run_to_end(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage" in done.stderr


def test_other_machines_need_a_token(tmp_path: Path) -> None:
    done = running.run_to_end(tmp_path, "--host", "0.0.0.0", token=None)  # noqa: S104 - refused
    assert (done.returncode, done.stdout) == (2, "")
    assert "PUMAS_RPC_TOKEN" in done.stderr


def test_it_starts_by_path_from_anywhere_with_either_spelling_of_the_root(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*running.command(None), "--port", "0", "--launcher_root", str(tmp_path / "root")],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=running.environment(TOKEN),
        text=True,
    )
    try:
        assert running.read_line(process, 30).startswith("RPC_PORT=")
        eventually(rpc_file(tmp_path / "root").exists, what="rpc.json")
    finally:
        process.terminate()
        assert process.wait(30) == 0


PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
if sys.argv[1] == "waits":
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["killed", "killed", "killed", "ends"])
def test_it_goes_with_its_parent(tmp_path: Path, how: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, "waits" if how == "killed" else how, *running.command(tmp_path / "root")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=running.environment(TOKEN),
        text=True,
        start_new_session=True,
    )
    line = running.read_line(parent, 30)
    pid = int(line.split()[0])
    assert "RPC_PORT=" in line
    if how == "killed":
        parent.kill()
    parent.wait(30)
    # Two seconds are promised; a busy machine gets a few more.
    eventually(lambda: process_gone(pid), 6, "the end of the orphan")
    assert parent.stdin is not None
    parent.stdin.close()


def test_the_token_stays_where_it_belongs(launch: Launch) -> None:
    sidecar = launch("--debug")
    replies = [
        sidecar.http("GET", "/nowhere").body,
        sidecar.http("POST", "/rpc", {"Content-Type": "text/plain"}, TOKEN.encode()).body,
        sidecar.post(json.dumps({"jsonrpc": "2.0", "method": f"x{TOKEN}", "id": 1}).encode()[:20]).body,
        sidecar.http("GET", "/health", {"Authorization": f"Bearer {TOKEN}x"}).body,
    ]
    assert TOKEN.encode() not in b"".join(replies)
    assert TOKEN not in Path(f"/proc/{sidecar.pid}/cmdline").read_text()
    sidecar.result("shutdown")
    assert sidecar.wait(30) == 0
    assert TOKEN not in sidecar.stderr() + sidecar.log()
    kept = [path for path in sidecar.root.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert kept == []


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            running.command(tmp_path / "root", "--debug"),
            stdout=subprocess.PIPE,
            stderr=full,
            env=running.environment(TOKEN),
            text=True,
        )
    port = int(running.read_line(process, 30).removeprefix("RPC_PORT="))
    sidecar = Sidecar(process, tmp_path / "root", port, TOKEN, Path(os.devnull))
    try:
        assert sidecar.post(b"not json").error["code"] == -32700
        assert sidecar.healthy()
    finally:
        sidecar.close()


ASCII_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_names_are_utf8_whatever_the_locale_says(launch: Launch, tmp_path: Path) -> None:
    """https://peps.python.org/pep-0540/"""
    root = tmp_path / "Möbius"
    source = tmp_path / "Größe-模型.gguf"
    source.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    sidecar = launch(root=root, env=ASCII_LOCALE)
    answer = sidecar.result(
        "import_model", {"local_path": str(source), "family": "größe", "official_name": "Größe 模型"}
    )
    assert answer["success"], answer
    assert list(sidecar.result("get_models")["models"]) == [answer["model_id"]]
    assert (root / "shared-resources/models" / answer["model_id"]).is_dir()
    assert end(sidecar, "SIGTERM") < 30
