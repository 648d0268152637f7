"""A package that is built of this checkout has the page when it was built before, and is whole without it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import hatchling.build, sys; hatchling.build.build_wheel(sys.argv[1])"
SERVED = """
from pathlib import Path
import asyncio
from pumas.config import page_folder, contracts_folder
from pumas.rpc.page import Page
from aiohttp.test_utils import make_mocked_request
reply = asyncio.run(Page(page_folder()).serve(make_mocked_request("GET", "/"), "/"))
print(reply.status, reply.body.decode())
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a package is made of, and no page."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "backend", "contracts", "scripts"):
        os.symlink(ROOT / name, folder / name)
    return folder


def wheel_of(checkout: Path) -> Path:
    out = checkout.parent / "out"
    subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=checkout, check=True, capture_output=True, timeout=120)
    [wheel] = out.glob("pumas-*.whl")
    return wheel


def served_by(wheel: Path) -> str:
    """What the package, put somewhere by itself, answers for `/`."""
    place = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place)}
    command = [sys.executable, "-P", "-c", SERVED]
    done = subprocess.run(
        command, cwd=wheel.parent, env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def test_the_page_and_the_types_come_along(checkout: Path) -> None:
    page = checkout / "electron" / "dist" / "renderer"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<h1>The page</h1>")
    (page / "assets" / "start-abcdefgh.js").write_text("start()")
    wheel = wheel_of(checkout)
    with zipfile.ZipFile(wheel) as file:
        # Without `py.typed`, type checkers take everything of the package for `Any`.
        assert {"pumas/_page/assets/start-abcdefgh.js", "pumas/py.typed"} <= set(file.namelist())
    assert served_by(wheel) == "200 <h1>The page</h1>\n"


def test_without_a_page_it_says_how_to_get_one(checkout: Path) -> None:
    served = served_by(wheel_of(checkout))
    assert served.startswith("503")
    assert "./launcher page" in served
    assert "pip install ." in served
