"""`pumas serve --open` and `pumas open`: the browser is led to the page by a file, and the page gets the token once."""

from __future__ import annotations

import html
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from cli.conftest import Run
from pumas.cli import page
from pumas.client import discovery
from sidecar import Sidecar, eventually

ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/#code=([A-Za-z0-9_-]{43})")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Path]:
    """A program that stands for the browser; the file says what it was called with, and what it read there."""
    seen = tmp_path / "seen.json"
    program = tmp_path / "browser"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "target = sys.argv[1]\n"
        "facts = {'arguments': sys.argv[1:], 'mode': os.stat(target).st_mode, 'text': open(target).read()}\n"
        f"open({str(seen)!r} + '.new', 'w').write(json.dumps(facts))\n"
        f"os.replace({str(seen)!r} + '.new', {str(seen)!r})\n"
    )
    program.chmod(0o755)
    yield seen


def program_of(browser: Path) -> str:
    return str(browser.with_name("browser"))


def exchange(port: str, code: str) -> object:
    """What the page is answered: the token, or a status."""
    reply = requests.post(f"http://127.0.0.1:{port}/session", json={"code": code}, timeout=10)
    return reply.json() if reply.status_code == 200 else reply.status_code


def led_to(facts: dict[str, object], root: Path) -> tuple[str, str]:
    """Port and code of the address in the file that the browser was given; nothing of it is in its arguments."""
    path = root / "launcher-data" / "open.html"
    assert facts["arguments"] == [str(path)], "the code is in no argument"
    assert stat.S_IMODE(int(str(facts["mode"]))) == 0o600
    targets = set(ADDRESS.findall(html.unescape(str(facts["text"]))))
    assert len(targets) == 1
    return targets.pop()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def go(*words: str, **variables: str) -> subprocess.Popen[str]:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "PUMAS_OPENER")}
        child = subprocess.Popen(
            [sys.executable, "-m", "pumas", "serve", "--root", str(root), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | variables,
        )
        started.append(child)
        return child

    yield go
    for child in started:
        child.kill()
        child.communicate()


def test_serve_opens_the_page(serve: Callable[..., subprocess.Popen[str]], browser: Path, tmp_path: Path) -> None:
    child = serve("--open", PUMAS_OPENER=program_of(browser))
    eventually(browser.exists, 20, "the browser")
    port, code = led_to(json.loads(browser.read_text()), tmp_path / "root")
    rpc = json.loads((tmp_path / "root" / "launcher-data" / "rpc.json").read_text())
    assert int(port) == rpc["port"]
    assert exchange(port, code) == {"token": rpc["token"]}
    assert exchange(port, code) == 403
    child.terminate()
    out, err = child.communicate(timeout=30)
    assert child.returncode == 0
    assert code not in out + err
    assert rpc["token"] not in out + err
    opener = tmp_path / "root" / "launcher-data" / "open.html"
    eventually(lambda: not opener.exists(), 20, "the end of the way to the page")


def test_a_second_serve_opens_the_page_of_the_first(
    serve: Callable[..., subprocess.Popen[str]], browser: Path, tmp_path: Path
) -> None:
    serve()
    endpoint = eventually(lambda: discovery.find(tmp_path / "root"), 20, "the first sidecar")
    second = serve("--open", PUMAS_OPENER=program_of(browser))
    out, err = second.communicate(timeout=30)
    assert second.returncode == 0, err
    assert out == ""
    port, code = led_to(json.loads(browser.read_text()), tmp_path / "root")
    assert endpoint.url.endswith(f":{port}")
    assert exchange(port, code) == {"token": endpoint.token}


def test_without_a_desktop_serve_says_how_to_see_the_page(serve: Callable[..., subprocess.Popen[str]]) -> None:
    child = serve("--open")
    assert child.stderr is not None
    said = [child.stderr.readline() for _ in range(3)]
    assert "no desktop" in said[2]
    assert "open --url" in said[2]
    assert child.poll() is None, "it serves all the same"


def test_open_prints_an_address_that_is_good_once(sidecar: Sidecar, pumas: Run) -> None:
    done = pumas("open", "--url", root=sidecar.root)
    assert done.status == 0
    found = ADDRESS.fullmatch(done.out.strip())
    assert found is not None
    assert int(found[1]) == sidecar.port
    assert exchange(found[1], found[2]) == {"token": sidecar.token}
    other = pumas("open", "--json", root=sidecar.root).json["url"]
    assert ADDRESS.fullmatch(other)
    assert other != done.out.strip()


def test_open_opens_the_browser(sidecar: Sidecar, pumas: Run, browser: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUMAS_OPENER", program_of(browser))
    assert pumas("open", root=sidecar.root).status == 0
    port, code = led_to(json.loads(browser.read_text()), sidecar.root)
    assert exchange(port, code) == {"token": sidecar.token}


def test_what_open_cannot_do_it_says(
    sidecar: Sidecar, pumas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "PUMAS_OPENER"):
        monkeypatch.delenv(name, raising=False)
    done = pumas("open", root=sidecar.root)
    assert done.status == 1
    assert "open --url" in done.err
    empty = tmp_path / "empty"
    empty.mkdir()
    done = pumas("open", root=empty)
    assert done.status != 0
    assert "serve --open" in done.err


def test_nothing_of_a_strange_address_gets_out_of_the_file() -> None:
    text = page.OPENER.format(address=html.escape('http://[::1]:1/#code="><script>'))
    assert "<script>" not in text
