"""The official client fills a cache, and the scan finds in it what the client says that it put there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pumas.adoption.found import Look, Store
from pumas.adoption.huggingface import read_cache

from .adopting_setup import Setup, snapshot
from .stores import COMMIT, gguf, git_id, sha256

FILES = {
    "rocket.Q4_K_M.gguf": gguf(1),
    "sub/rocket.Q8_0.gguf": gguf(2),
    "README.md": b"# Rocket",
}


class Hub(BaseHTTPRequestHandler):
    """Just enough of `/resolve/`: https://huggingface.co/docs/hub/api; large files carry their SHA-256 as etag."""

    def _head(self) -> bytes:
        name = self.path.partition("/resolve/")[2].partition("/")[2]
        data = FILES[name]
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{git_id(data)}"')
        if name.endswith(".gguf"):
            self.send_header("X-Linked-Etag", f'"{sha256(data)}"')
            self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return data

    def do_HEAD(self) -> None:
        self._head()

    def do_GET(self) -> None:
        self.wfile.write(self._head())

    def log_message(self, *_args: object) -> None: ...


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that `hf_hub_download` filled."""
    from huggingface_hub import hf_hub_download

    folder = tmp_path_factory.mktemp("home") / "hub"
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for name, data in FILES.items():
            endpoint = f"http://127.0.0.1:{server.server_port}"
            path = hf_hub_download("acme/Rocket-GGUF", name, cache_dir=folder, endpoint=endpoint, token=False)
            assert Path(path).read_bytes() == data
        yield folder
    finally:
        server.shutdown()
        server.server_close()


def read(cache: Path) -> Store:
    return read_cache(Look(), str(cache))


def test_what_the_official_client_downloaded(cache: Path) -> None:
    store = read(cache)
    assert store.problems == []
    found = {model.name: (model.repo_id, model.revision, model.refs, model.quantization) for model in store.models}
    common = ("acme/Rocket-GGUF", COMMIT, ("main",))
    assert found == {
        "acme/Rocket-GGUF/rocket.Q4_K_M": (*common, "q4_k_m"),
        "acme/Rocket-GGUF/rocket.Q8_0": (*common, "q8_0"),
    }
    claims = {file.name: file.claimed_sha256 for model in store.models for file in model.files}
    assert claims == {name: sha256(data) for name, data in FILES.items() if name.endswith(".gguf")}


def test_the_official_clients_own_view_agrees(cache: Path) -> None:
    from huggingface_hub import scan_cache_dir

    (repo,) = scan_cache_dir(cache).repos
    (revision,) = repo.revisions
    theirs = {str(f.blob_path): f.size_on_disk for f in revision.files if f.file_name.endswith(".gguf")}
    assert {file.path: file.size for model in read(cache).models for file in model.files} == theirs


def test_a_cache_stays_usable_after_adopting_and_undoing(cache: Path, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    setup = Setup(tmp_path, HF_HUB_CACHE=str(cache))
    before = snapshot(cache)
    results = setup.adopt_all(mode="hardlink")
    assert [result["success"] for result in results] == [True, True]
    for result in results:
        assert setup.undo(result["model_id"]).trash_id is None
    assert snapshot(cache) == before
    path = hf_hub_download("acme/Rocket-GGUF", "rocket.Q4_K_M.gguf", cache_dir=cache, local_files_only=True)
    assert Path(path).read_bytes() == FILES["rocket.Q4_K_M.gguf"]


def test_the_cache_wide_store_as_the_official_client_makes_it(cache: Path) -> None:
    """Its name for the bytes is 64 hex digits but no SHA-256: only the repository's own name is a claim."""
    from huggingface_hub.utils import _shared_blobs as official

    before = {model.name: model.primary.claimed_sha256 for model in read(cache).models}
    blob = Path(read(cache).models[0].primary.path)
    with contextlib.suppress(OSError):
        (cache / "blobs").rmdir()
    assert official.publish_blob_to_shared_store(
        blob_path=str(blob), xet_hash="e" * 64, cache_dir=str(cache), expected_size=blob.stat().st_size
    )
    assert blob.is_symlink()
    store = read(cache)
    assert store.problems == []
    assert {model.name: model.primary.claimed_sha256 for model in store.models} == before
    assert store.models[0].primary.path == str(cache / "blobs" / "ee" / ("e" * 64))
