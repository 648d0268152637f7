"""`links/rules.py`: both formats of mapping files, their order, and what may not be understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pumas.apps.catalog import Apps
from pumas.config import Layout
from pumas.errors import DiskError
from pumas.library.store import Mappable
from pumas.links.rules import WEIGHTS, Rule, is_linkable, load_rules, write_default


class Root:
    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        self.apps = Apps(self.layout)

    def put(self, name: str, *rules: Any, older: bool = False, **more: Any) -> Path:
        folder = self.layout.older_mapping_rules if older else self.layout.mapping_rules
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(json.dumps({"mappings": list(rules), **more}))
        return path

    def names(self, version: str = "0.3.10") -> list[str]:
        return [rule.name for rule in load_rules(self.layout, self.apps.get("comfyui"), version).rules]

    def one(self, rule: Any, *, older: bool = False) -> Rule | str:
        """The rule as it is understood, or why it is not used."""
        self.put("comfyui_*_default.json", rule, older=older)
        found = load_rules(self.layout, self.apps.get("comfyui"), "1")
        return found.rules[0] if found.rules else found.warnings[0] if found.warnings else ""


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def rule(name: str, priority: int = 0, **more: Any) -> dict[str, Any]:
    return {"name": name, "target_subdir": "loras", "priority": priority, **more}


def model(**values: str) -> Mappable:
    return Mappable(**{
        "id": "a/b/c", "official_name": "c", "model_type": "diffusion", "subtype": "loras", "family": "sdxl",
        "tags_json": "[]", "storage": "owned",
        **values,
    })  # fmt: skip


def test_without_files_the_app_says_where_models_go(root: Root) -> None:
    found = load_rules(root.layout, root.apps.get("comfyui"), "0.3.10")
    assert found.from_app
    assert [(r.folder, r.priority) for r in found.rules] == [
        *(("checkpoints", 10), ("loras", 20), ("vae", 30), ("controlnet", 40), ("embeddings", 50)),
        *(("upscale_models", 60), ("clip", 70), ("clip_vision", 80), ("diffusion_models", 90), ("ipadapter", 100)),
    ]
    assert load_rules(root.layout, root.apps.get("ollama"), "1").rules == []


@pytest.mark.parametrize("leads_to", ["mapping-rules-of-a-drive-that-is-away", "."])
def test_a_folder_that_cannot_be_read_is_not_one_without_rules(root: Root, leads_to: str) -> None:
    """The app's own rules would take the place of the user's, and links away."""
    folder = root.layout.mapping_rules
    folder.parent.mkdir(parents=True)
    folder.symlink_to(folder if leads_to == "." else leads_to)
    with pytest.raises(DiskError):
        root.names()


def test_the_default_is_written_once_and_means_the_same(root: Root) -> None:
    app = root.apps.get("comfyui")
    own = load_rules(root.layout, app, "1").rules
    write_default(root.layout, app, "2030-01-01T00:00:00Z")
    (path,) = root.layout.mapping_rules.iterdir()
    assert path.name == "comfyui_*_default.json"
    found = load_rules(root.layout, app, "1")
    assert (found.from_app, found.rules) == (False, own)
    path.write_text('{"mappings": []}')
    write_default(root.layout, app, "2031-01-01T00:00:00Z")
    assert path.read_text() == '{"mappings": []}'
    write_default(root.layout, root.apps.get("ollama"), "2030-01-01T00:00:00Z")
    assert len(list(root.layout.mapping_rules.iterdir())) == 1


def test_specific_files_come_first_and_priority_decides(root: Root) -> None:
    root.put("comfyui_*_default.json", rule("any", 5), rule("first", -1), rule("any2"))
    root.put("comfyui_*_mine_too.json", rule("variant"))
    root.put("ComfyUI_v0.3.10_default.json", rule("exact"), rule("exact5", 5))
    root.put("comfyui_0.3.10_mine.json", rule("exact variant"))
    root.put("comfyui_0.3.9_default.json", rule("other version"))
    root.put("ollama_*_default.json", rule("other app"))
    root.put("comfyui_default.json", rule("too few parts"))
    assert root.names() == ["first", "exact variant", "exact", "variant", "any2", "exact5", "any"]
    assert root.names("v0.3.9".lstrip("v")) == ["first", "other version", "variant", "any2", "any"]


def test_rules_of_both_folders_count(root: Root) -> None:
    root.put("comfyui_*_default.json", rule("p"))
    root.put("comfyui_*_default.json", {"name": "r", "target_dir": "vae"}, older=True)
    assert root.names() == ["p", "r"]


def test_a_rule_of_the_flat_format(root: Root) -> None:
    flat = {"target_dir": "vae/", "model_types": ["Diffusion"], "families": "SDXL", "exclude_tags": ["NSFW"]}
    found = root.one(flat, older=True)
    assert isinstance(found, Rule)
    assert (found.folder, found.patterns, found.fold) == ("vae", WEIGHTS, True)
    assert found.wants_model(model(), [])
    assert not found.wants_model(model(), ["nsfw"])
    assert not found.wants_model(model(family="flux"), [])


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, True),
        ({"model_type": "diffusion"}, True),
        ({"model_type": "llm"}, False),
        ({"model_types": ["llm", "diffusion"], "subtype": "loras"}, True),
        ({"subtypes": ["vae"]}, False),
        ({"families": ["sdxl"]}, True),
        ({"families": ["SDXL"]}, False),
        ({"families": []}, True),
        ({"tags": ["a", "z"]}, True),
        ({"tags": "z"}, False),
        ({"exclude_tags": ["a"], "tags": ["a"]}, False),
        ({"tags": None}, True),
    ],
)
def test_filters(root: Root, filters: dict[str, Any], wanted: bool) -> None:
    found = root.one(rule("x", filters=filters))
    assert isinstance(found, Rule)
    assert found.wants_model(model(), ["a", "b"]) is wanted


@pytest.mark.parametrize(
    ("patterns", "yes", "no"),
    [
        (None, ["a.bin", "b"], ["sub/a.bin"]),
        ("*.safetensors", ["A.SAFETENSORS", "x.y.safetensors"], ["a.safetensors.x", "sub/a.safetensors"]),
        (["*.pt", "?.bin"], ["a.pt", "b.bin"], ["ab.bin", "a.ckpt"]),
        ("**/*.bin", ["a.bin", "x/a.bin", "x/y/a.bin"], ["x/a.pt"]),
        ("unet/*.bin", ["unet/a.bin"], ["a.bin", "x/unet/a.bin", "unet/x/a.bin"]),
        ("model-[0-9].bin", ["model-3.bin"], ["model-x.bin", "model-[0-9].bin"]),
        ("a+(b).bin", ["a+(b).bin"], ["aab.bin"]),
    ],
)
def test_patterns(root: Root, patterns: Any, yes: list[str], no: list[str]) -> None:
    found = root.one(rule("x", patterns=patterns))
    assert isinstance(found, Rule)
    assert [name for name in [*yes, *no] if found.matches(name)] == yes


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (3, "no object"),
        ({}, "no target folder"),
        (rule("x", target_subdir="../x"), "folder names"),
        (rule("x", target_subdir="a\\b"), "backslash"),
        (rule("x", target_subdir=3), "no target folder"),
        (rule("x", method="copy"), "symlink"),
        (rule("x", filters={"min_size_mb": 3}), "min_size_mb is not known"),
        (rule("x", filters=[]) | {"filters": [1]}, "no object"),
        (rule("x", filters={"tags": [3]}), "no text"),
        (rule("x", patterns=["../*"]), "leads out"),
        (rule("x", patterns=["/etc/*"]), "leads out"),
        (rule("x", enabled=False), ""),
    ],
)
def test_what_cannot_be_understood_is_left_out_and_said(root: Root, bad: Any, why: str) -> None:
    said = root.one(bad)
    assert isinstance(said, str)
    assert why in said


@pytest.mark.parametrize("folder", [".", "", "/"])
def test_the_models_folder_itself(root: Root, folder: str) -> None:
    found = root.one(rule("x", target_subdir=folder))
    assert isinstance(found, Rule) and found.folder == "."


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"mappings": {}}', b"{}"])
def test_a_damaged_file_is_said_and_the_default_does_not_take_its_place(root: Root, data: bytes) -> None:
    root.put("comfyui_*_default.json").write_bytes(data)
    found = load_rules(root.layout, root.apps.get("comfyui"), "1")
    assert (found.rules, found.from_app, len(found.warnings)) == ([], False, 1)


@pytest.mark.parametrize(
    ("name", "linkable"),
    [
        *(("a.safetensors", True), ("metadata.json", False), ("metadata.json.bak", False), ("overrides.json", False)),
        *((".hidden.gguf", False), ("a.gguf.part", False), ("a.1.abcdef01.pumas-tmp", False), ("config.json", True)),
    ],
)
def test_files_that_are_never_linked(name: str, linkable: bool) -> None:
    assert is_linkable(name) is linkable
