"""git, uv and pip go the way that the network settings name, which they can only learn from their environment."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pumas.net import children
from pumas.net.children import with_proxy
from sidecar import Sidecar, eventually

LOOPBACK = "localhost,127.0.0.1,::1"
# Names that only a proxy is asked for.
INDEX, NODES = "index.example", "nodes.example"


@pytest.fixture(autouse=True)
def back() -> Iterator[None]:
    yield
    children.choose(None)


def proxied(proxy: str, skipped: str = LOOPBACK) -> dict[str, str]:
    ours = {"http_proxy": proxy, "https_proxy": proxy, "no_proxy": skipped}
    return ours | {name.upper(): value for name, value in ours.items()}


@pytest.mark.parametrize(
    ("proxy", "given", "wanted"),
    [
        (None, {"HTTPS_PROXY": "x"}, {"HTTPS_PROXY": "x"}),
        ("direct", {"https_proxy": "x", "PATH": "/bin"}, {"PATH": "/bin"}),
        ("http://p:1", {}, proxied("http://p:1")),
        ("http://p:1", {"ALL_PROXY": "x", "Https_Proxy": "y"}, proxied("http://p:1")),
        ("http://p:1", {"NO_PROXY": "corp.example"}, proxied("http://p:1", f"corp.example,{LOOPBACK}")),
    ],
)
def test_what_is_told(proxy: str | None, given: dict[str, str], wanted: dict[str, str]) -> None:
    children.choose(proxy)
    assert with_proxy(given) == wanted


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """The address of a proxy that refuses everything, and for which hosts it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            asked.append(self.rfile.readline().decode().split()[1])
            self.wfile.write(b"HTTP/1.1 403 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def version(root: Path) -> None:
    folder = root / "comfyui-versions/v1"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    (folder / "main.py").touch()
    (folder / "requirements.txt").write_text("tiny-colors\n")
    listed = root / "launcher-data/metadata/versions.json"
    listed.parent.mkdir(parents=True)
    listed.write_text(json.dumps({"installed": {"v1": {"path": "comfyui-versions/v1"}}}))


@pytest.mark.parametrize("when", ["set now", "set before the start"])
def test_of_a_sidecar(launch: Callable[..., Sidecar], tmp_path: Path, proxy: tuple[str, list[str]], when: str) -> None:
    address, asked = proxy
    root = tmp_path / "root"
    version(root)
    index = f"http://{INDEX}/simple"
    env = {"UV_DEFAULT_INDEX": index, "PIP_INDEX_URL": index, "UV_HTTP_RETRIES": "0", "PIP_RETRIES": "0"}
    sidecar = launch(root=root, env=env)
    assert sidecar.result("set_network_settings", {"proxy": address})["success"]
    if when == "set before the start":
        sidecar.close()
        sidecar = launch(root=root, env=env)
    for call in (
        ("install_custom_node", {"version_tag": "v1", "git_url": f"https://{NODES}/someone/sunny"}),
        ("install_version_dependencies", {"tag": "v1"}),
    ):
        answer = sidecar.result(*call)
        if answer.get("job_id"):
            eventually(lambda: _ended(sidecar, answer["job_id"]), what="the end of the job")  # noqa: B023
    assert f"{NODES}:443" in asked
    assert any(INDEX in one for one in asked)


def _ended(sidecar: Sidecar, job_id: str) -> bool:
    return sidecar.result("get_job", {"job_id": job_id})["job"]["state"] == "failed"
