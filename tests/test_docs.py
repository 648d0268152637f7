"""What the pages say is true: paths exist, recipes exist, and the README's commands and program run as they stand."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import sidecar
from fixtures.hub import Hub, HubContent, Repo
from fixtures.hub.model_files import gguf_file
from fixtures.releases import Release, ReleaseServer
from fixtures.releases.archives import Member, gzipped, tarred
from fixtures.releases.content import COMFYUI, comfyui
from pumas.apps import description

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]
# Named in the pages, made while the product runs.
MADE_LATER = {"launcher-data/", "shared-resources/models/", ".venv"}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def spans(page: str) -> list[str]:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def named_paths(page: str) -> list[str]:
    return [s for s in spans(page) if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", s) and ("/" in s or "." in s)]


@pytest.mark.parametrize("page", PAGES)
def test_every_path_in_a_page_exists(page: str) -> None:
    pumas = ROOT / "backend" / "pumas"
    folders = [ROOT, pumas, pumas / "library", ROOT / "electron" / "src" / "main"]
    named = [path for path in named_paths(page) if path not in MADE_LATER and not path.startswith(("pumas.", "rpc."))]
    assert len(named) >= (2 if page != "ARCHITECTURE.md" else 25), "the pattern no longer finds the paths"
    missing = [path for path in named if not any((folder / path).exists() for folder in folders)]
    # Files that every domain has are named without a folder.
    missing = [path for path in missing if not list((ROOT / "backend" / "pumas").glob(f"*/{path}"))]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_every_recipe_in_a_page_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    recipes = set(re.findall(r"\./launcher ([a-z]+)", text))
    known = set(re.findall(r"\./launcher ([a-z]+)", (ROOT / "launcher").read_text(encoding="utf-8")))
    assert recipes, "no recipe found"
    assert recipes <= known


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose home holds the file that the quick start imports, whose library is empty, and whose hub has
    the repository that it downloads."""
    import gguf

    repo = Repo("bartowski/Llama-3.2-1B-Instruct-GGUF", "text-generation", "gguf")
    weights = gguf_file("Q4_K", {"general.architecture": "llama", "general.name": "Llama 3.2 1B Instruct"})
    repo.commit({"Llama-3.2-1B-Instruct-Q4_K_M.gguf": weights, "Llama-3.2-1B-Instruct-Q8_0.gguf": b"not wanted"})

    downloads = tmp_path / "Downloads"
    downloads.mkdir()
    writer = gguf.GGUFWriter(downloads / "tiny-llama.Q4_K_M.gguf", "llama")
    writer.add_name("Tiny Llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PUMAS_")}
    environment |= {"HOME": str(tmp_path), "PUMAS_ROOT": str(tmp_path / "root"), "COLUMNS": "200"}
    with Hub(HubContent.of(repo)) as hub:
        yield environment | hub.env(home=tmp_path / "hf")


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def commands_of_the_readme() -> tuple[list[str], ...]:
    """Block by block."""
    found = ([line for line in block.splitlines() if "bin/pumas" in line] for block in blocks("README.md", "sh"))
    return tuple(block for block in found if block)


def test_the_quick_start_runs_as_it_stands(home: dict[str, str]) -> None:
    commands, _ = commands_of_the_readme()
    assert len(commands) == 6
    downloaded, imported, found, *_ = [run(["bash", "-c", command], home) for command in commands]
    assert downloaded.startswith("llm/llama/"), "the download says where the model is"
    assert "llm/llama/" in imported, "so does the import"
    assert "Tiny Llama" in found or "tiny-llama" in found, "the search finds it"


def test_the_commands_for_apps_run_as_they_stand(home: dict[str, str]) -> None:
    _, commands = commands_of_the_readme()
    with ReleaseServer() as releases:
        releases.releases[COMFYUI] = [comfyui("v0.5.0")]
        environment = home | releases.environment()
        one = sidecar.start(Path(home["PUMAS_ROOT"]), env=environment)
        try:
            told = [run(["bash", "-c", command], environment) for command in commands]
            assert one.result("get_installed_versions")["versions"] == ["v0.5.0"]
        finally:
            one.close()
    first_words = [re.split(r"[\s:]", words, maxsplit=1)[0] for words in told]
    assert first_words == ["comfyui", "made", "url", "comfyui", "stopped"], told


def test_the_python_example_runs_as_it_stands(home: dict[str, str]) -> None:
    run([sys.executable, "-m", "pumas", "import", f"{home['HOME']}/Downloads/tiny-llama.Q4_K_M.gguf"], home)
    (program,) = blocks("README.md", "python")
    assert program.count("\n") <= 10
    assert "llm/llama/" in run([sys.executable, "-c", program], home)


SERVES = b"""import sys
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
HTTPServer(("127.0.0.1", int(sys.argv[-1])), partial(SimpleHTTPRequestHandler, directory="page")).serve_forever()
"""
STARTS = b"""#!/bin/sh
exec "%s" -c '
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"status": "ok"}).encode())
HTTPServer(("127.0.0.1", int(os.environ["TINY_HOST"].split(":")[1])), Page).serve_forever()
'
""" % sys.executable.encode()


def test_the_apps_of_the_page_about_apps_are_installed_and_run_as_they_stand(home: dict[str, str]) -> None:
    descriptions = {json.loads(text)["id"]: text for text in blocks("docs/apps.md", "json")}
    assert set(descriptions) == {"tinyapp", "tinyserver"}
    root = Path(home["PUMAS_ROOT"])
    folder = root / "launcher-data/apps"
    folder.mkdir(parents=True)
    for app_id, text in descriptions.items():
        (folder / f"{app_id}.json").write_text(text)
    (folder / "broken.json").write_text(descriptions["tinyapp"].replace('"port": 7860', '"port": 0'))
    sources = [Member("main.py", SERVES), Member("page/index.html", b"x"), Member("requirements.txt", b"tiny-colors\n")]
    archive = gzipped(tarred([Member("tinyserver", STARTS, 0o755)]))
    names = ("tinyserver-b12-linux-x64.tar.gz", "tinyserver-b12-macos-arm64.zip")
    with ReleaseServer({}) as releases:
        releases.releases["someone/tinyapp"] = [Release("v1.0", members=sources)]
        releases.releases["someone/tinyserver"] = [Release("b12", assets=dict.fromkeys(names, archive))]
        environment = home | releases.environment()
        one = sidecar.start(root, env=environment)
        pumas = [sys.executable, "-m", "pumas"]
        try:
            listed = subprocess.run([*pumas, "apps"], env=environment, capture_output=True, text=True, timeout=60)
            assert set(descriptions) <= {line.split("\t")[0] for line in listed.stdout.splitlines()}
            assert "launcher-data/apps/broken.json" in listed.stderr
            assert "launch needs a command and a port" in listed.stderr
            for app_id in descriptions:
                run([*pumas, "install", app_id], environment)
                assert "ready\tTrue" in run([*pumas, "run", app_id], environment)
                run([*pumas, "stop", app_id], environment)
        finally:
            one.close()


def test_the_page_about_apps_names_every_field() -> None:
    def fields(kind: type) -> Iterator[str]:
        for field in dataclasses.fields(kind):
            if kind is not description.Files:
                yield field.name
        for inner in typing.get_type_hints(kind).values():
            for one in (inner, *typing.get_args(inner)):
                if dataclasses.is_dataclass(one) and isinstance(one, type):
                    yield from fields(one)

    page = (ROOT / "docs/apps.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", page.split("## The fields")[1]))))
    known = set(fields(description.AppDescription))
    assert len(known) > 30
    assert known - named == set()
    assert named >= description.PLACEHOLDERS
