import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from pumas.system import dependencies

CHECKOUT = Path(__file__).parents[2]
OF_THE_CLI = {"platformdirs", "rich", "typer"}


def program(folder: Path, name: str) -> Path:
    file = folder / name
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(
    ("check", "name"), [(dependencies.check_git, "git"), (dependencies.check_brave, "brave-browser")]
)
def test_programs_are_found_on_the_path_and_not_started(tmp_path: Path, monkeypatch, check, name: str) -> None:
    assert check(str(tmp_path)) is False
    file = program(tmp_path, name)
    assert check(str(tmp_path)) is True
    file.chmod(0o644)
    assert check(str(tmp_path)) is False, "a file that cannot be executed is no program"
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check() is True
    monkeypatch.setenv("PATH", "")
    assert check() is False


def test_modules_are_found_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_of_this_test.py").write_text("raise SystemError('imported')\n")
    assert dependencies.importable("module_of_this_test") is False
    monkeypatch.syspath_prepend(tmp_path)
    assert dependencies.importable("module_of_this_test") is True
    assert "module_of_this_test" not in sys.modules


def test_a_module_without_a_spec_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["blake3"] if "blake3" in sys.modules else __import__("blake3"), "__spec__", None)
    assert dependencies.importable("blake3") is False


def test_setproctitle_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "setproctitle", None)
    assert dependencies.check_setproctitle() is False
    monkeypatch.delitem(sys.modules, "setproctitle")
    (tmp_path / "setproctitle.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert dependencies.check_setproctitle() is True


def test_what_is_missing_is_named_as_an_installer_understands_it() -> None:
    def present(module: str) -> bool:
        return module not in {"pynvml", "aiohttp"}

    assert dependencies.missing_dependencies(present=present) == ("aiohttp", "nvidia-ml-py")
    assert dependencies.missing_dependencies({"no-such-thing": "no_such_module_anywhere"}) == ("no-such-thing",)
    assert dependencies.missing_dependencies({}) == ()


def test_this_installation_is_whole_whatever_programs_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "setproctitle", None)
    assert dependencies.look() == dependencies.Dependencies(git=False, brave=False, setproctitle=False, missing=())
    assert dependencies.look().ready


def test_the_list_is_what_the_packaging_declares() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in project["dependencies"]}
    assert set(dependencies.REQUIRED) == declared - OF_THE_CLI


def test_the_list_covers_every_import_of_the_sidecar() -> None:
    package = CHECKOUT / "backend" / "pumas"
    imported: set[str] = set()
    for file in package.rglob("*.py"):
        if file.relative_to(package).parts[0] in {"cli", "client"}:
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"pumas"}
    assert {"psutil", "pynvml"} <= foreign, "the walk still finds imports"
    assert foreign <= set(dependencies.REQUIRED.values())
