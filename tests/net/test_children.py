"""git, uv and pip go the way that the network settings name, which they can only learn from their environment."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from net import stub
from pumas.errors import Offline
from pumas.net import children
from pumas.net.certificates import gathered
from pumas.net.children import with_network
from sidecar import Sidecar, eventually

LOOPBACK = "localhost,127.0.0.1,::1"
# Names that only a proxy is asked for.
INDEX, NODES = "index.example", "nodes.example"
TOOLS = {"uv, where it is": {}, "pip": {"PUMAS_UV": "off"}}


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
    assert with_network(given) == wanted


def test_whom_to_trust_is_told_in_each_programs_own_way() -> None:
    trusted = {"GIT_SSL_CAINFO": "/t.pem", "SSL_CERT_FILE": "/t.pem", "PIP_CERT": "/t.pem"}
    children.choose(None, "/t.pem")
    assert with_network({"PATH": "/bin", "PIP_CERT": "/other.pem"}) == {"PATH": "/bin", **trusted}
    children.choose("http://p:1", "/t.pem")
    assert with_network({}) == proxied("http://p:1") | trusted


def test_the_systems_certificates_and_the_users_are_in_one_file(tmp_path: Path) -> None:
    target = tmp_path / "cache/trusted.pem"
    assert gathered(str(stub.ROOT), target) == str(target)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(target)
    held = set(context.get_ca_certs(binary_form=True))
    assert ssl.PEM_cert_to_DER_cert(stub.ROOT.read_text()) in held
    assert held >= set(ssl.create_default_context().get_ca_certs(binary_form=True))
    assert len(held) > 1


def test_where_only_a_folder_of_certificates_is_known_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "0123abcd.0").write_bytes(b"ROOT\n")
    (folder / "README").write_bytes(b"no root")
    paths = ssl.get_default_verify_paths()._replace(capath=str(folder))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    monkeypatch.setattr(ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    gathered(str(stub.ROOT), tmp_path / "trusted.pem")
    assert (tmp_path / "trusted.pem").read_bytes() == b"ROOT\n\n" + stub.ROOT.read_bytes()


def test_what_cannot_be_written_leaves_the_users_file(tmp_path: Path) -> None:
    assert gathered(str(stub.ROOT), stub.ROOT / "trusted.pem") == str(stub.ROOT)
    assert gathered(str(tmp_path / "gone.pem"), tmp_path / "trusted.pem") == str(tmp_path / "gone.pem")


def test_offline_mode_is_told_too() -> None:
    children.require_online("host")
    children.choose(None, offline=True)
    nobody = "http://127.0.0.1:9"
    told = {"UV_OFFLINE": "1", "PIP_NO_INDEX": "1", "PIP_PROXY": nobody, **proxied(nobody, "")}
    assert with_network({"ALL_PROXY": "http://p:1", "No_Proxy": "*"}) == told
    with pytest.raises(Offline, match="host was not asked; set_network_settings turns it off"):
        children.require_online("host")


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
    ask_for_both(sidecar, f"https://{NODES}")
    assert f"{NODES}:443" in asked
    assert any(INDEX in one for one in asked)


@pytest.mark.parametrize("tool", TOOLS)
def test_of_a_sidecar_with_certificates_of_the_users(launch: Callable[..., Sidecar], tmp_path: Path, tool: str) -> None:
    root = tmp_path / "root"
    version(root)
    with stub.serve(tls=True) as host:
        index = f"{host.url}/simple"
        once = {"UV_HTTP_RETRIES": "0", "PIP_RETRIES": "0"}
        sidecar = launch(root=root, env={"UV_DEFAULT_INDEX": index, "PIP_INDEX_URL": index, **once, **TOOLS[tool]})
        ask_for_both(sidecar, host.url)
        assert host.targets == [], "nobody trusts it"
        assert sidecar.result("set_network_settings", {"ca_bundle": str(stub.ROOT)})["success"]
        ask_for_both(sidecar, host.url)
        assert any(target.startswith("/someone/sunny") for target in host.targets)
        assert any(target.startswith("/simple/") for target in host.targets)


# pip asks the last two without any index.
NEEDS = {
    "a name": "tiny-colors",
    "an address": "direct @ {}/direct-1.0-py3-none-any.whl",
    "a repository": "cloned @ git+{}/cloned",
}


@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("tool", TOOLS)
def test_of_a_sidecar_that_is_offline(launch: Callable[..., Sidecar], tmp_path: Path, tool: str, need: str) -> None:
    root = tmp_path / "root"
    version(root)
    with stub.serve() as host:
        index = f"{host.url}/simple"
        (root / "comfyui-versions/v1/requirements.txt").write_text(NEEDS[need].format(host.url))
        sidecar = launch(root=root, env={"UV_DEFAULT_INDEX": index, "PIP_INDEX_URL": index, **TOOLS[tool]})
        assert sidecar.result("set_network_settings", {"offline": True})["success"]
        for_git, for_packages = ask_for_both(sidecar, f"https://127.0.0.1:{host.port}")
        assert host.targets == []
    assert for_git == f"Offline mode is on, so 127.0.0.1:{host.port} was not asked; set_network_settings turns it off."
    assert for_packages.endswith("PyPI was not asked; set_network_settings turns it off.")


def ask_for_both(sidecar: Sidecar, nodes: str) -> tuple[str, str]:
    """Have git and an installer of packages go out, in vain; why."""
    for_git = sidecar.result("install_custom_node", {"version_tag": "v1", "git_url": f"{nodes}/someone/sunny"})
    answer = sidecar.result("install_version_dependencies", {"tag": "v1"})
    eventually(lambda: _ended(sidecar, answer["job_id"]), what="the end of the job")
    job = sidecar.result("get_job", {"job_id": answer["job_id"]})["job"]
    return for_git["error"], job["error"]


def _ended(sidecar: Sidecar, job_id: str) -> bool:
    return sidecar.result("get_job", {"job_id": job_id})["job"]["state"] == "failed"
