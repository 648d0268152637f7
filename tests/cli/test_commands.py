"""Commands about the sidecar and its jobs, what all commands share, and each way to end."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from pumas.cli import exits, general
from pumas.client import PumasClient, discovery
from pumas.config import Layout
from sidecar import Sidecar, process_gone

from .conftest import Done, Run

JOB_SERVER = Path(__file__).resolve().parents[1] / "client" / "job_server.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    one = running.start(tmp_path_factory.mktemp("cli") / "root", script=JOB_SERVER)
    yield one
    one.close()


def start_job(server: Sidecar, **params: Any) -> str:
    return server.result("start_test_job", params)["job_id"]


# -- shared ----------------------------------------------------------------------------------------------------------

COMMANDS = [
    "status",
    "models",
    "search x",
    "import x",
    "delete x",
    "verify",
    "download x",
    "downloads",
    "downloads list",
    "downloads show x",
    "downloads watch",
    "downloads pause x",
    "downloads resume x",
    "downloads cancel x",
    "downloads top x",
    "downloads limits",
    "trash",
    "trash list",
    "trash restore x",
    "trash empty",
    "jobs",
    "jobs list",
    "jobs show x",
    "jobs watch x",
    "jobs cancel x",
    "jobs pause x",
    "jobs resume x",
    "call health_check",
    "events",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_no_start_refuses(pumas: Run, tmp_path: Path, line: str) -> None:
    done = pumas(*line.split(), "--no-start", root=tmp_path)
    assert (done.status, done.out) == (exits.NOT_RUNNING, "")
    assert done.err == f"pumas: No sidecar runs for {tmp_path}. Start one: pumas serve --root {tmp_path}\n"
    done = pumas(*line.split(), "--no-start", "--json", root=tmp_path)
    assert done.status == exits.NOT_RUNNING
    assert done.json["error_code"] == "not_reachable"
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_root_is_not_made(pumas: Run, tmp_path: Path) -> None:
    done = pumas("status", root=tmp_path / "mistyped")
    assert (done.status, done.out) == (exits.USAGE, "")
    assert "is no folder" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", [*COMMANDS, "doctor", "serve"])
def test_every_command_has_help(pumas: Run, line: str) -> None:
    words = line.split()[: 2 if line.startswith(("jobs ", "trash ", "downloads ")) else 1]
    done = pumas(*words, "--help")
    assert done.status == exits.OK
    assert "usage: pumas" in done.out.lower()


def test_help_tells_exit_statuses_and_lists_commands(pumas: Run) -> None:
    shown = pumas("--help").out
    assert "Exit status: 0 done, 1 failed, 2 wrong usage, 3 no sidecar" in " ".join(shown.split())
    for line in [*COMMANDS, "doctor", "serve"]:
        assert f"  {line.split()[0]} " in shown
    for option in ("--version", "--install-completion"):
        assert option in shown


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("nope", "No such command 'nope'"),
        ("statsu", "Did you mean 'status'? See: "),
        ("jobs nope", "No such command 'nope'"),
        ("status --nope", "--nope"),
        ("status word", "word"),
        ("status --root=", "must not be empty"),
        ("status --root=/etc/passwd", "is a file"),
        ("--root /x status", "--root here: it goes behind the command"),
        ("--no-start status", "--no-start here: it goes behind the command"),
        ("search", "words"),
        ("import", "PATH"),
        ("jobs list --limit 0", "--limit"),
        ("jobs list --limit x", "--limit"),
        ("jobs list --state odd", "'odd'"),
        ("adopt --mode copy", "'--mode': 'copy' is not one of"),
        ("call", "method"),
        ("call health_check word", "key=value"),
        ("call health_check a=1 a=2", "twice"),
    ],
)
def test_wrong_usage(pumas: Run, line: str, text: str) -> None:
    done = pumas(*line.split())
    assert (done.status, done.out) == (exits.USAGE, "")
    assert text.lower() in done.err.lower()
    assert done.err.startswith("pumas: ")
    assert done.err.count("\n") == 1
    assert pumas(*line.split(), "--json").json["error_code"] == "usage"


def test_no_words_show_the_help(pumas: Run) -> None:
    assert "Usage: pumas" in pumas().out


def test_a_sidecar_is_started_for_the_time_of_the_command(pumas: Run, tmp_path: Path) -> None:
    done = pumas("call", "health_check", root=tmp_path)
    assert (done.status, done.json) == (exits.OK, {"status": "ok"})
    assert discovery.find(tmp_path) is None
    assert not Layout(tmp_path).rpc_file.exists()


def test_pumas_root_names_the_root(pumas: Run, server: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUMAS_ROOT", str(server.root))
    assert pumas("call", "health_check", "--no-start").status == exits.OK


def test_an_unexpected_error_is_one_line(pumas: Run, server: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(PumasClient, "call", broken)
    done = pumas("call", "health_check", root=server.root)
    assert (done.status, done.out) == (exits.FAILED, "")
    assert done.err == "pumas: internal error (KeyError: 'x'). PUMAS_DEBUG=1 shows where.\n"
    monkeypatch.setenv("PUMAS_DEBUG", "1")
    with pytest.raises(KeyError):
        from pumas.cli.main import main

        main(["call", "health_check", "--root", str(server.root)])


def test_as_a_process(spawn: Run, server: Sidecar) -> None:
    root = ["--root", str(server.root)]
    assert spawn("call", "health_check", *root).json == {"status": "ok"}
    assert spawn("call", "list_jobs", "-", *root, stdin='{"limit": 1, "kind": "none"}').json["jobs"] == []
    assert spawn("jobs", "show", "nope", *root).status == exits.FAILED
    debugged = spawn("jobs", "show", "nope", *root, env={"PUMAS_DEBUG": "1"})
    assert "Traceback" in debugged.err
    assert server.token
    assert server.token not in debugged.err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pumas jo", ["jobs"]),
        ("pumas call list_j", ["list_jobs"]),
        ("pumas jobs pa", ["pause"]),
        ("pumas downloads r", ["resume"]),
    ],
)
def test_completion(spawn: Run, typed: str, offered: list[str]) -> None:
    env = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_PUMAS_COMPLETE": "complete_bash"}
    assert spawn(env=env).out.split() == offered


def test_serve_is_reached_behind_options_too(pumas: Run) -> None:
    assert pumas("serve", "--help").out.startswith("usage: pumas serve")


# -- call and events -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["health_check"], {"status": "ok"}),
        (["list_jobs", "kind=none", "states=[]", "limit=5"], {"success": True, "jobs": []}),
        (["list_jobs", "kind=5"], {"success": True, "jobs": []}),
        (["list_jobs", 'kind="none"'], {"success": True, "jobs": []}),
        (["check_setproctitle"], True),
    ],
)
def test_call(pumas: Run, server: Sidecar, words: list[str], answer: Any) -> None:
    done = pumas("call", *words, root=server.root)
    if answer is True:
        assert isinstance(done.json, bool)
    else:
        assert done.json == answer
    assert (done.status, done.err) == (exits.OK, "")


@pytest.mark.parametrize(
    ("words", "text", "kind"),
    [
        (["qqqq"], "Method not found: qqqq. pumas call rpc.discover lists them.", "method_not_found"),
        (["get_modls"], "Method not found: get_modls. Did you mean get_models", "method_not_found"),
        (["list_jobs", "limit=x"], "limit: must be an integer", "invalid_params"),
        (["get_job", "job_id=x"], "No job 'x'; list_jobs shows", "job_not_found"),
    ],
)
def test_call_fails(pumas: Run, server: Sidecar, words: list[str], text: str, kind: str) -> None:
    done = pumas("call", *words, root=server.root)
    assert (done.status, done.out) == (exits.FAILED, "")
    assert text in done.err
    assert pumas("call", *words, "--json", root=server.root).json["error_code"] == kind


@pytest.mark.parametrize(("text", "status"), [('{"limit": 1}', 0), ("[]", 2), ("", 2)])
def test_call_reads_stdin(pumas: Run, server: Sidecar, monkeypatch: pytest.MonkeyPatch, text: str, status: int) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert pumas("call", "list_jobs", "-", root=server.root).status == status


def test_method_names_complete() -> None:
    assert general._method_names("list_j") == ["list_jobs"]
    assert len(general._method_names("")) > 5


def test_events(pumas: Run, server: Sidecar) -> None:
    job_id = start_job(server)
    with PumasClient(server.root) as client:
        client.wait_for_job(job_id, timeout=20)
        # A cursor from before the job: the stream begins at the sidecar's start.
        words = ["events", "--topic", "job.state", "--count", "3"]
        first = replay(client, job_id)
    shown = pumas(*words, "--after", str(first - 1), root=server.root)
    assert [line.split()[1] for line in shown.out.splitlines()] == ["job.state"] * 3
    assert f"job_id={job_id}" in shown.out
    lines = pumas(*words, "--after", str(first - 1), "--json", root=server.root).out.splitlines()
    assert [json.loads(line)["data"]["state"] for line in lines] == ["queued", "running", "completed"]
    assert json.loads(lines[0])["cursor"] == first


def replay(client: PumasClient, job_id: str) -> int:
    """The cursor of the job's first event: events are numbered one by one, so it lies a little before the newest."""
    with client.events() as events:
        ready = next(events.with_ready())
    for back in range(1, 2000):
        with client.events(["job.state"], after=ready.data["cursor"] - back) as events:
            event = next(events)
        if event.data.get("job_id") == job_id and event.data.get("state") == "queued":
            assert event.cursor is not None
            return event.cursor
    raise AssertionError("the job's first event was not replayed")


# -- jobs ------------------------------------------------------------------------------------------------------------


def test_jobs_list_and_show(pumas: Run, server: Sidecar) -> None:
    job_id = start_job(server)
    with PumasClient(server.root) as client:
        client.wait_for_job(job_id, timeout=20)
    row = next(line for line in pumas("jobs", "list", root=server.root).out.splitlines() if line.startswith(job_id))
    assert row.split("\t")[:4] == [job_id, "completed", "100%", "A test job"]
    listed = pumas("jobs", "list", "--state", "completed", "--kind", "test", "--json", root=server.root).json["jobs"]
    assert job_id in [job["job_id"] for job in listed]
    assert pumas("jobs", "list", "--kind", "none", root=server.root).err == "No jobs.\n"
    assert f"job_id\t{job_id}\n" in pumas("jobs", "show", job_id, root=server.root).out
    assert pumas("jobs", "show", job_id, "--json", root=server.root).json["job"]["state"] == "completed"


def test_jobs_watch(pumas: Run, server: Sidecar) -> None:
    done = pumas("jobs", "watch", start_job(server), "--json", root=server.root)
    assert (done.status, done.json["job"]["state"], done.err) == (exits.OK, "completed", "")
    failed = pumas("jobs", "watch", start_job(server, fail=True), root=server.root)
    assert failed.status == exits.FAILED
    assert "input/output error" in failed.err
    assert "pumas jobs resume" in failed.err


def test_a_job_that_could_not_do_all_says_so(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    files = [tmp_path / "pointer.gguf", tmp_path / "gone.gguf"]
    files[0].write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    begun = pumas("import", "--detach", *map(str, files), "--json", root=server.root)
    job_id = begun.json["job_id"]
    watched = pumas("jobs", "watch", job_id, root=server.root)
    assert (watched.status, "2 of 2 failed, the first: pointer.gguf" in watched.err) == (exits.FAILED, True)
    row = next(line for line in pumas("jobs", root=server.root).out.splitlines() if line.startswith(job_id))
    assert "git lfs pull" in row.split("\t")[5]


def test_jobs_are_steered(pumas: Run, server: Sidecar, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = start_job(server, gate=str(gate))
    assert pumas("jobs", "pause", job_id, root=server.root).status == exits.OK
    paused = pumas("jobs", "watch", job_id, root=server.root)
    assert (paused.status, "paused" in paused.err) == (exits.FAILED, True)
    gate.touch()
    assert pumas("jobs", "resume", job_id, "--json", root=server.root).json["success"] is True
    assert pumas("jobs", "watch", job_id, root=server.root).status == exits.OK
    refused = pumas("jobs", "cancel", job_id, "--json", root=server.root)
    assert (refused.status, refused.json["error_code"]) == (exits.FAILED, "wrong_job_state")
    cancelled = start_job(server, gate=str(tmp_path / "never"))
    assert pumas("jobs", "cancel", cancelled, root=server.root).status == exits.OK
    assert pumas("jobs", "watch", cancelled, "--json", root=server.root).json["job"]["state"] == "cancelled"


def test_unknown_jobs(pumas: Run, server: Sidecar) -> None:
    for verb in ("show", "watch", "cancel", "pause", "resume"):
        done = pumas("jobs", verb, "nope", root=server.root)
        assert (done.status, done.out) == (exits.FAILED, "")
        assert "No job 'nope'" in done.err


# -- doctor ----------------------------------------------------------------------------------------------------------


def verdicts(done: Done) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in done.json["checks"]}


def test_doctor_with_a_running_sidecar(pumas: Run, server: Sidecar) -> None:
    done = pumas("doctor", "--json", root=server.root)
    found = verdicts(done)
    assert {name: found[name] for name in ("python", "root", "rpc.json", "sidecar", "library")} == dict.fromkeys(
        ("python", "root", "rpc.json", "sidecar", "library"), "ok"
    )
    assert (done.status, done.json["success"]) == (exits.OK, True)
    lines = pumas("doctor", root=server.root).out.splitlines()
    assert {line.split("\t")[0] for line in lines} <= {"ok", "warn"}


def test_doctor_without_a_sidecar(pumas: Run, tmp_path: Path) -> None:
    assert verdicts(pumas("doctor", "--no-start", "--json", root=tmp_path))["sidecar"] == "warn"
    assert verdicts(pumas("doctor", "--json", root=tmp_path))["sidecar"] == "ok"


def test_doctor_finds_faults(pumas: Run, launch: Callable[..., Sidecar], tmp_path: Path) -> None:
    done = pumas("doctor", "--json", "--no-start", root=tmp_path / "none")
    assert (done.status, verdicts(done)["root"]) == (exits.FAILED, "fail")
    killed = launch()
    rpc_file = Layout(killed.root).rpc_file
    rpc_file.chmod(0o644)
    done = pumas("doctor", "--json", root=killed.root)
    assert (done.status, verdicts(done)["rpc.json"]) == (exits.FAILED, "fail")
    assert f"chmod 600 {rpc_file}" in done.out
    killed.kill()
    assert process_gone(killed.pid)
    assert verdicts(pumas("doctor", "--json", "--no-start", root=killed.root))["rpc.json"] == "warn"


def test_doctor_finds_a_sidecar_that_does_not_answer(
    pumas: Run, launch: Callable[..., Sidecar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pumas.client.sync.READ_TIMEOUT_S", 0.2)
    monkeypatch.setattr(PumasClient.__init__, "__kwdefaults__", {**PumasClient.__init__.__kwdefaults__, "timeout": 0.2})
    with running.stopped(frozen := launch()):
        done = pumas("doctor", "--json", root=frozen.root)
    assert (done.status, verdicts(done)["sidecar"]) == (exits.FAILED, "fail")


def test_doctor_warns_of_low_space(pumas: Run, server: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 5 * 1024**3})
    monkeypatch.setattr("pumas.cli.checks.shutil.disk_usage", lambda _path: usage)
    assert verdicts(pumas("doctor", "--json", root=server.root))["disk space"] == "warn"
    usage.free = 1024
    done = pumas("doctor", "--json", root=server.root)
    assert (done.status, verdicts(done)["disk space"]) == (exits.FAILED, "fail")


FULL = "pumas: the output could not be written: No space left on device.\n"


@pytest.mark.parametrize(
    ("to", "status", "said"),
    [(">&-", exits.OK, ""), ("--json >/dev/full", exits.FAILED, FULL)],
)
def test_an_output_that_takes_nothing(tmp_path: Path, to: str, status: int, said: str) -> None:
    line = f"{shlex.quote(sys.executable)} -m pumas models --root {shlex.quote(str(tmp_path))} {to}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert (done.returncode == exits.OK) is (status == exits.OK), done
    assert said in done.stderr
