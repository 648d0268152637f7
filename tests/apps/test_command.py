"""Commands are argument vectors made from the description alone, with an environment that tells no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from pumas.apps.command import child_environment, command_of, is_complete
from pumas.errors import FileUnavailable

from .test_description import shipped


def file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return path


def test_a_python_app_is_started_by_its_own_interpreter(tmp_path: Path) -> None:
    folder = tmp_path / "odd $(name) {x}"
    python = file(folder / "venv/bin/python")
    command = command_of(shipped("comfyui"), folder, tmp_path, 4711, extra_args=("--cpu", "{port}"))
    assert command.argv[:2] == (str(python), "main.py")
    assert command.argv[command.argv.index("--port") + 1] == "4711"
    assert command.argv[-2:] == ("--cpu", "{port}")
    assert command.folder == folder


@pytest.mark.parametrize("place", ["bin/ollama", "ollama"])
def test_a_program_is_found_where_it_lies(tmp_path: Path, place: str) -> None:
    program = file(tmp_path / place)
    command = command_of(shipped("ollama"), tmp_path, tmp_path, 4711)
    assert command.argv == (str(program), "serve")
    assert command.environment["OLLAMA_HOST"] == "127.0.0.1:4711"


@pytest.mark.parametrize("app_id", ["comfyui", "ollama", "llamacpp"])
def test_a_version_that_lacks_what_is_started_is_told(tmp_path: Path, app_id: str) -> None:
    with pytest.raises(FileUnavailable):
        command_of(shipped(app_id), tmp_path, tmp_path, 1)
    assert not is_complete(shipped(app_id), tmp_path)


def test_a_smoke_launch_has_a_command_of_its_own(tmp_path: Path) -> None:
    file(tmp_path / "venv/bin/python")
    assert "--cpu" in command_of(shipped("comfyui"), tmp_path, tmp_path, 1, smoke=True).argv


def test_completeness_is_by_the_files_that_the_description_names(tmp_path: Path) -> None:
    file(tmp_path / "venv/bin/python")
    assert not is_complete(shipped("comfyui"), tmp_path)
    file(tmp_path / "main.py")
    assert is_complete(shipped("comfyui"), tmp_path)


def test_children_get_no_secrets_and_none_of_our_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PUMAS_RPC_TOKEN", "HF_TOKEN", "GITHUB_TOKEN", "PYTHONPATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "marker")
    environment = child_environment({"EXTRA": "1"})
    assert "marker" not in environment.values()
    assert environment["EXTRA"] == "1"
    assert "PATH" in environment
