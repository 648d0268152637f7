"""What the pages say is true: paths exist, recipes exist, and the README's commands and program run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sidecar
from fixtures.hub import Hub, HubContent, Repo
from fixtures.hub.model_files import gguf_file
from fixtures.releases import ReleaseServer
from fixtures.releases.content import COMFYUI, comfyui

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
