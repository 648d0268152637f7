"""One look at everything: what the library has already, what is there twice, and that no model file is opened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from library.model_disk import make_model
from pumas.adoption.duplicates import LIBRARY
from pumas.adoption.found import StoreKind
from pumas.errors import Cancelled

from .adopting_setup import Setup
from .stores import World, gguf, hf_file, ollama_model, sha256, write

ROCKET = "registry.ollama.ai/library/rocket/latest"


def certainties(world: World) -> list[tuple[str, int]]:
    return [(one.certainty.value, one.freed) for one in world.scan().duplicates.repeated]


def test_all_stores_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    data = gguf(1)
    hf_file(world.cache, "acme/Rocket", "rocket.gguf", data)
    ollama_model(world.ollama, ROCKET, data)
    write(world.lm_studio / "acme" / "Rocket" / "rocket.gguf", data)
    write(world.home / "ComfyUI" / "models" / "checkpoints" / "x.safetensors", gguf(2))
    write(tmp_path / "more" / "shared-resources" / "models" / "a" / "b" / "c" / "y.gguf", gguf(3))
    scan = world.scan(tmp_path / "more")
    assert [str(store.kind) for store in scan.stores] == ["pumas", "huggingface", "ollama", "lm_studio", "comfyui"]
    assert [store.problems for store in scan.stores] == [[]] * 5
    # The digest that two stores claim, and the name that a third has without any claim.
    assert certainties(world) == [("duplicate", 4096), ("possible", 4096)]
    assert [model.primary.claimed_sha256 for model in scan.models()].count(sha256(data)) == 2


@pytest.mark.parametrize(
    ("hashes", "expected"),
    [({"sha256": sha256(gguf(1))}, [("duplicate", 4096)]), ({"sha256": ""}, []), ({"sha256": "f" * 64}, [])],
)
def test_what_the_library_has(tmp_path: Path, hashes: dict[str, str], expected: list[tuple[str, int]]) -> None:
    world = World(tmp_path)
    ollama_model(world.ollama, ROCKET, gguf(1))
    make_model(world.library, "llm/a/mine", {"mine.gguf": gguf(1)}, hashes=hashes, primary_file="mine.gguf")
    scan = world.scan()
    assert certainties(world) == expected
    assert list(scan.in_library.values()) == (["llm/a/mine"] if expected else [])
    if expected:
        first, second = scan.duplicates.repeated[0].pieces
        assert (first.store, first.verified, second.verified) == (LIBRARY, True, False)
        assert not scan.duplicates.repeated[0].verified


def test_a_link_that_the_user_made_is_shared_already(tmp_path: Path) -> None:
    world = World(tmp_path)
    path = write(world.lm_studio / "acme" / "X" / "x.gguf", gguf(1))
    folder = make_model(world.library, "llm/a/x", {})
    os.link(path, folder / "x.gguf")
    make_model(world.library, "llm/a/x", {}, files=[{"name": "x.gguf", "size": 4096}])
    assert certainties(world) == [("shared", 0)]
    assert list(world.scan().in_library.values()) == ["llm/a/x"]


def test_two_models_of_the_library_with_the_same_bytes(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in ("one", "two"):
        make_model(world.library, f"llm/a/{name}", {"x.gguf": gguf(1)}, primary_file="x.gguf")
    assert certainties(world) == [("duplicate", 4096)]


@pytest.mark.parametrize("mode", ["hardlink", "reflink", "reference"])
def test_after_adopting_there_is_nothing_left_to_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    from pumas.library import copying

    monkeypatch.setattr(copying, "_clone", lambda source, target: os.write(target, os.pread(source, 1 << 20, 0)) > 0)
    setup = Setup(tmp_path)
    ollama_model(setup.ollama, ROCKET, gguf(1))
    model_id = setup.adopted(mode=mode)
    scan = setup.scan()
    assert scan.duplicates.freed_bytes == 0
    assert list(scan.in_library.values()) == [model_id]
    expected = {"hardlink": ["shared"], "reflink": ["shared"], "reference": []}
    assert [one.certainty.value for one in scan.duplicates.repeated] == expected[mode]


def test_shards_count_as_there_only_all_together(tmp_path: Path) -> None:
    world = World(tmp_path)
    parts = {f"x-0000{n}-of-00002.gguf": gguf(n) for n in (1, 2)}
    for name, data in parts.items():
        hf_file(world.cache, "acme/X", name, data)
    files = [{"name": name, "size": 4096, "sha256": sha256(data)} for name, data in parts.items()]
    make_model(world.library, "llm/a/half", dict(list(parts.items())[:1]), files=files)
    assert world.scan().in_library == {}
    make_model(world.library, "llm/a/whole", parts, files=files)
    assert list(world.scan().in_library.values()) == ["llm/a/whole"]


@pytest.mark.parametrize("inside", ["", "llm", "llm/a"])
def test_our_own_library_is_no_store(tmp_path: Path, inside: str) -> None:
    world = World(tmp_path)
    make_model(world.library, "llm/a/mine")
    assert world.scan(world.library / inside).stores == ()


def test_what_a_version_of_ours_has_from_the_library_is_no_find(tmp_path: Path) -> None:
    world = World(tmp_path)
    make_model(world.library, "llm/a/mine", {"mine.safetensors": gguf(1)}, primary_file="mine.safetensors")
    mine = world.library / "llm/a/mine/mine.safetensors"
    for place in (world.layout.root / "comfyui-versions" / "v1", world.home / "ComfyUI"):
        folder = write(place / "models" / "checkpoints" / "put_checkpoints_here", b"").parent
        (folder / "mine.safetensors").symlink_to(mine)
    # In somebody's own ComfyUI it is worth knowing.
    assert [store.path for store in world.scan().stores] == [f"{world.home}/ComfyUI/models"]
    own = write(world.layout.root / "comfyui-versions" / "v1" / "models" / "loras" / "own.safetensors", gguf(2))
    _theirs, ours = world.scan().stores
    assert [model.primary.path for model in ours.models] == [str(own)]


def test_damaged_models_of_ours_are_passed_over(tmp_path: Path) -> None:
    world = World(tmp_path)
    ollama_model(world.ollama, ROCKET, gguf(1))
    make_model(world.library, "llm/a/odd", {"x.gguf": gguf(1)}, files=[{"name": "../../x", "size": 4096}])
    write(world.library / "llm" / "a" / "broken" / "metadata.json", b"{")
    assert world.scan().in_library == {}


def test_a_scan_can_be_stopped(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(300):
        write(world.lm_studio / f"{number}.gguf", b"x")

    def check() -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        world.scanner.scan([], known=True, check=check)


PROGRAM = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from adoption.stores import World
world = World(Path({root!r}))
scan = world.scan()
print(sum(len(store.models) for store in scan.stores))
"""


def test_no_model_file_is_opened(tmp_path: Path) -> None:
    """As the kernel sees it: nothing that could be a model is ever opened, whatever the program says."""
    world = World(tmp_path)
    hf_file(world.cache, "acme/Rocket", "rocket.gguf", gguf(1))
    hf_file(world.cache, "acme/Rocket", "config.json", b"{}", large=False)
    ollama_model(world.ollama, ROCKET, gguf(2))
    write(world.lm_studio / "acme" / "X" / "x.safetensors", gguf(3))
    make_model(world.library, "llm/a/mine", {"mine.gguf": gguf(1)})
    trace = tmp_path / "trace"
    program = PROGRAM.format(paths=sys.path, root=str(tmp_path))
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", str(trace), sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    opened = set(re.findall(r'"([^"]+)"', trace.read_text()))
    below = {path for path in opened if path.startswith(str(tmp_path)) and os.path.isfile(path)}
    assert {os.path.basename(path) for path in below} == {"main", "latest", "metadata.json"}


def test_the_kind_of_a_known_store_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path)
    write(world.lm_studio / "acme" / "X" / "x.gguf", gguf(1))
    assert [store.kind for store in world.scan(world.lm_studio).stores] == [StoreKind.LM_STUDIO]
