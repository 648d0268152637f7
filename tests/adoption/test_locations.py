"""Where programs keep their models: environment before settings before defaults, and only what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pumas.adoption.found import StoreKind
from pumas.adoption.locations import extra_model_paths, known_locations, locations_in

from .stores import World, write


def found(world: World) -> dict[str, str]:
    """Path below the world's folder -> kind."""
    top = world.home.parent
    known = known_locations(world.around())
    return {str(Path(one.path).relative_to(top)): str(one.kind) for one in known if Path(one.path).is_relative_to(top)}


@pytest.mark.parametrize(
    ("folders", "environment", "expected"),
    [
        (["home/.cache/huggingface/hub"], {}, {"home/.cache/huggingface/hub": "huggingface"}),
        (["hf/hub"], {"HF_HOME": "$T/hf"}, {"hf/hub": "huggingface"}),
        (["c", "hf/hub"], {"HF_HOME": "$T/hf", "HF_HUB_CACHE": "$T/c"}, {"c": "huggingface"}),
        (["c"], {"HUGGINGFACE_HUB_CACHE": "$T/c"}, {"c": "huggingface"}),
        (["home/c"], {"HF_HUB_CACHE": "~/c"}, {"home/c": "huggingface"}),
        (["c/hub"], {"BASE": "$T", "HF_HUB_CACHE": "${BASE}/c/hub"}, {"c/hub": "huggingface"}),
        (["x/huggingface/hub"], {"XDG_CACHE_HOME": "$T/x"}, {"x/huggingface/hub": "huggingface"}),
        (["relative"], {"HF_HUB_CACHE": "relative"}, {}),
        (["home/.ollama/models"], {}, {"home/.ollama/models": "ollama"}),
        (["o", "home/.ollama/models"], {"OLLAMA_MODELS": "$T/o"}, {"o": "ollama", "home/.ollama/models": "ollama"}),
        (["home/.lmstudio/models"], {}, {"home/.lmstudio/models": "lm_studio"}),
        (["home/.cache/lm-studio/models"], {}, {"home/.cache/lm-studio/models": "lm_studio"}),
        (["home/ComfyUI/models"], {}, {"home/ComfyUI/models": "comfyui"}),
        (["launcher/comfyui-versions/v1/models"], {}, {"launcher/comfyui-versions/v1/models": "comfyui"}),
        (["home/stable-diffusion-webui/models"], {}, {"home/stable-diffusion-webui/models": "webui"}),
        (["other/shared-resources/models"], {"PUMAS_ROOT": "$T/other"}, {"other/shared-resources/models": "pumas"}),
        ([], {"PUMAS_ROOT": "$T/launcher"}, {}),
        (["d/pumas/shared-resources/models"], {"XDG_DATA_HOME": "$T/d"}, {"d/pumas/shared-resources/models": "pumas"}),
        (["system/usr/share/ollama/.ollama/models"], {}, {"system/usr/share/ollama/.ollama/models": "ollama"}),
        ([], {"HF_HOME": "", "OLLAMA_MODELS": "/no/such/folder"}, {}),
    ],
)
def test_the_rules(tmp_path: Path, folders: list[str], environment: dict[str, str], expected: dict[str, str]) -> None:
    world = World(tmp_path, **{name: value.replace("$T", str(tmp_path)) for name, value in environment.items()})
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    assert found(world) == expected


def test_settings_name_other_folders(tmp_path: Path) -> None:
    world = World(tmp_path)
    for folder in ("big", "comfy/models", "pointed/models"):
        (tmp_path / folder).mkdir(parents=True)
    write(world.home / ".lmstudio" / "settings.json", json.dumps({"downloadsFolder": str(tmp_path / "big")}).encode())
    write(world.home / ".lmstudio-home-pointer", f"{tmp_path}/pointed\n".encode())
    write(world.home / ".config/ComfyUI/config.json", json.dumps({"basePath": str(tmp_path / "comfy")}).encode())
    assert found(world) == {"big": "lm_studio", "comfy/models": "comfyui", "pointed/models": "lm_studio"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"downloadsFolder": 5, "basePath": "../x"}', b"x" * 2_000_000])
def test_a_bad_settings_file_says_nothing(tmp_path: Path, content: bytes) -> None:
    world = World(tmp_path)
    for name in (".lmstudio/settings.json", ".config/ComfyUI/config.json", ".lmstudio-home-pointer"):
        write(world.home / name, content)
    assert found(world) == {}


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("models--a--b/blobs", {".": "huggingface"}),
        ("hub/models--a--b/blobs", {"hub": "huggingface"}),
        ("manifests/registry.ollama.ai", {".": "ollama"}),
        ("models/manifests/registry.ollama.ai", {"models": "ollama"}),
        ("shared-resources/models/llm", {"shared-resources/models": "pumas"}),
        ("models/checkpoints", {"models": "comfyui"}),
        ("checkpoints", {".": "comfyui"}),
        ("models/Stable-diffusion", {"models": "webui"}),
        ("acme/X-GGUF", {".": "folder"}),
    ],
)
def test_a_named_folder_is_known_by_what_it_holds(tmp_path: Path, inside: str, expected: dict[str, str]) -> None:
    (tmp_path / inside).mkdir(parents=True)
    locations = locations_in(tmp_path)
    assert {str(Path(one.path).relative_to(tmp_path)): str(one.kind) for one in locations} == expected
    assert all(one.given for one in locations)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a:\n  base_path: /big\n  checkpoints: models/sd\n  loras: |\n    l1\n    l2\n",
            ["/big/models/sd", "/big/l1", "/big/l2"],
        ),
        ("a:\n  vae: /abs/vae\n", ["/abs/vae"]),
        ("a:\n  vae: relative\n", ["$T/relative"]),
        ("a:\n  base_path: drive\n  vae: relative\n", ["$T/drive/relative"]),
        ("a:\n  base_path: ~nobody-at-all/x\n  vae: v\n", ["$T/~nobody-at-all/x/v"]),
        ("a:\n  base_path: 5\n  is_default: true\n  custom_nodes: x\n  vae: [1]\n", []),
        ("", []),
        ("- 1\n- 2", []),
        ("a: &a [*a]", []),
        ("{", []),
        ("!!python/object/apply:os.system ['true']", []),
    ],
)
def test_further_folders_of_comfyui(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = write(tmp_path / "extra_model_paths.yaml", text.encode())
    assert [str(one) for one in extra_model_paths(path)] == [one.replace("$T", str(tmp_path)) for one in expected]


def test_a_link_that_leads_to_itself_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "hub/models--maker--a").mkdir(parents=True)
    (tmp_path / "hub/round").symlink_to("round")
    (tmp_path / "hub/data").mkdir()
    for number in range(1_100):
        (tmp_path / f"hub/datasets--maker--{number}").mkdir()
    assert [one.kind for one in locations_in(tmp_path / "hub")] == [StoreKind.HUGGINGFACE]


def test_a_store_that_two_rules_find_is_one(tmp_path: Path) -> None:
    world = World(tmp_path, OLLAMA_MODELS=str(tmp_path / "link"))
    (world.home / ".ollama" / "models").mkdir(parents=True)
    (tmp_path / "link").symlink_to(world.home / ".ollama" / "models")
    known = known_locations(world.around())
    assert [one.kind for one in known if one.path.startswith(str(tmp_path))] == [StoreKind.OLLAMA]
