from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pumas.client import PumasClient, discovery
from sidecar import eventually, process_gone

BACKEND = Path(__file__).resolve().parents[2] / "backend"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def go(*words: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "pumas", "serve", "--root", str(tmp_path), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            **options,
        )
        started.append(child)
        return child

    yield go
    for child in started:
        child.kill()
        child.communicate()


def port_of(child: subprocess.Popen[str]) -> int:
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line.startswith("RPC_PORT="), line
    return int(line.removeprefix("RPC_PORT="))


def test_it_listens_says_two_lines_and_stops_on_ctrl_c(
    serve: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    child = serve()
    port = port_of(child)
    assert child.stderr is not None
    first, second = child.stderr.readline(), child.stderr.readline()
    assert first == f"Pumas listens on http://127.0.0.1:{port} for {tmp_path} (Ctrl-C stops it).\n"
    assert f"import FILE --root {tmp_path}" in second
    assert f"search WORDS --root {tmp_path}" in second
    eventually(lambda: discovery.find(tmp_path), what="rpc.json")
    with PumasClient(tmp_path) as client:
        assert client.health_check() == {"status": "ok"}
    rpc = json.loads((tmp_path / "launcher-data" / "rpc.json").read_text())
    assert len(rpc["token"]) >= 43
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert rpc["token"] not in err
    assert not (tmp_path / "launcher-data" / "rpc.json").exists()


def test_the_token_of_the_environment_is_used(serve: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    child = serve(env={"PUMAS_RPC_TOKEN": "my-own-token-0123456789"})
    with PumasClient(url=f"http://127.0.0.1:{port_of(child)}", token="my-own-token-0123456789") as client:
        assert client.health_check() == {"status": "ok"}


def test_a_second_one_says_who_owns_the_root(serve: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    first = serve()
    port_of(first)
    eventually(lambda: discovery.find(tmp_path), what="rpc.json")
    second = serve()
    out, err = second.communicate(timeout=30)
    assert (second.returncode, out) == (3, "")
    assert f"process {first.pid}" in err
    assert "Traceback" not in err


def test_a_taken_port_is_an_error(serve: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    port = port_of(serve())
    other = tmp_path / "other"
    other.mkdir()
    second = serve("--root", str(other), "--port", str(port))
    out, err = second.communicate(timeout=30)
    assert (second.returncode, out) == (1, "")
    assert str(port) in err


def test_it_does_not_end_with_its_parent_unless_told(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys\n"
        f"words = [sys.executable, '-m', 'pumas', 'serve', '--root', {str(tmp_path)!r}]\n"
        "words += ['--parent', str(os.getpid())] if sys.argv[1:] else []\n"
        "c = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)\n"
        "print(c.pid, c.stdout.readline().strip(), flush=True)\n"
    )

    def orphan(*words: str) -> int:
        shown = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True).stdout
        pid, port = shown.split()
        assert port.startswith("RPC_PORT=")
        return int(pid)

    staying = orphan()
    with PumasClient(tmp_path) if discovery.find(tmp_path) else eventually(lambda: _client(tmp_path)) as client:
        assert client.shutdown() == {"status": "shutting_down"}
    eventually(lambda: process_gone(staying), what="the end of the first")
    leaving = orphan("ending with its parent")
    eventually(lambda: process_gone(leaving), what="the end of the second")


def _client(root: Path) -> PumasClient | None:
    return PumasClient(root) if discovery.find(root) else None


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--nope"], "--nope"),
        (["--port", "x"], "'x' is no port"),
        (["--port", "70000"], "'70000' is no port"),
        (["word"], "word"),
        (["--host", ""], "must not be empty"),
        (["--root", ""], "must not be empty"),
    ],
)
def test_wrong_usage(serve: Callable[..., subprocess.Popen[str]], words: list[str], why: str) -> None:
    child = serve(*words)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 2
    assert "pumas serve: error:" in err and why in err


def test_it_loads_neither_typer_nor_rich() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pumas.cli.main import main\n"
        "assert main(['serve', '--help']) == 0\n"
        "print(sorted({'typer', 'rich', 'requests', 'pydantic', 'click'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(BACKEND)], capture_output=True, text=True, check=True
    ).stdout
    assert shown.splitlines()[-1] == "[]"


def test_it_can_be_run_by_path_from_anywhere(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, str(BACKEND / "pumas" / "__main__.py"), "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.startswith("pumas ")


def test_rust_that_is_not_there_is_an_error_and_no_python(
    serve: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    for words, switch in ((["--rust"], "0"), ([], "1")):
        child = serve(*words, env={"PUMAS_RUST_BACKEND": switch, "PUMAS_RUST_BINARY": str(tmp_path / "absent")})
        out, err = child.communicate(timeout=30)
        assert (child.returncode, out) == (2, "")
        assert "./launcher build-rust" in err


def test_advice_about_rust_fits_how_it_is_installed(tmp_path: Path) -> None:
    shutil.copytree(BACKEND / "pumas", tmp_path / "site" / "pumas", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; sys.path.insert(0, sys.argv[1]); from pumas.cli.rust import program; program()"
    env = {name: value for name, value in os.environ.items() if name != "PUMAS_RUST_BINARY"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path / "site")], capture_output=True, text=True, env=env, timeout=60
    )
    assert "launcher" not in done.stderr.splitlines()[-1] and "PUMAS_RUST_BINARY" in done.stderr
    assert str(Path(sys.executable).parent / "pumas-rpc") in done.stderr
