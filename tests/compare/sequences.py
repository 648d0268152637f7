"""Random sequences of calls that change things, and the shortest part of one that shows a difference."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compare.pair import Step
from contract.replay import gguf
from fixtures.hub.repositories import GATED, GGUF, LORA
from library.model_disk import make_model, safetensors

Known = dict[str, list[str]]
"""What earlier replies named, by the keys of `_NAMED`."""

_NAMED = ("model_id", "trash_id", "job_id", "adoption_id")

_NAMES = ("Tiny Llama", "Naïve Model 7B", "a.b-c_d", "Ünïcode", "UPPER lower", "Flux Dev")
_FAMILIES = ("llama", "qwen3", "sdxl", "Family X")
_ARCHITECTURES = ("llama", "qwen3", "flux", "bert", "clip")
FILES = 6
TAGS = ("v1.0", "v1.1")
NODES = ("tools", "more-tools")
_SUBTYPES = ("checkpoints", "loras", "vae")


def prepare(root: Path) -> None:
    """A root with some models, files to import beside the library, and two versions of an app with custom nodes."""
    for number, subtype in enumerate(_SUBTYPES):
        files = {f"{subtype}.safetensors": safetensors(number)}
        make_model(root / "shared-resources" / "models", f"diffusion/sdxl/{subtype}", files, subtype=subtype)
    for tag in TAGS:
        version = root / "comfyui-versions" / tag
        (version / "venv" / "bin").mkdir(parents=True)
        (version / "venv" / "bin" / "python").touch()
        (version / "main.py").touch()
        for node in NODES:
            (version / "custom_nodes" / node).mkdir(parents=True)
            (version / "custom_nodes" / node / "node.py").write_text(f"{tag} {node}")
    source = root / "source"
    source.mkdir()
    for number in range(FILES):
        strings = {"general.architecture": _ARCHITECTURES[number % 5], "general.name": _NAMES[number % 6]}
        (source / f"file-{number}.gguf").write_bytes(gguf(strings | {"number": str(number // 2)}))
    (source / "broken.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 16)
    (source / "notes.txt").write_text("no model")


def _some(rng: random.Random, known: Known, key: str) -> str:
    """Mostly one that there is."""
    return rng.choice(known[key]) if known.get(key) and rng.random() < 0.9 else f"no-such-{key}"


def _import(rng: random.Random, _known: Known) -> Step:
    name = rng.choice([*(f"file-{n}.gguf" for n in range(FILES)), "broken.gguf", "notes.txt", "absent.gguf"])
    params: dict[str, Any] = {
        "local_path": f"$root/source/{name}",
        "family": rng.choice(_FAMILIES),
        "official_name": rng.choice(_NAMES),
    }
    if rng.random() < 0.3:
        params["tags"] = rng.sample(["a", "b", "ü", "two words"], 2)
    if rng.random() < 0.3:
        params["allow_duplicate"] = True
    if rng.random() < 0.2:
        params["dry_run"] = True
    return Step("import_model", params)


def _adopt(rng: random.Random, _known: Known) -> Step:
    name = rng.choice([*(f"file-{n}" for n in range(FILES)), "broken", "absent"])
    item: dict[str, Any] = {"store": "$root/source", "name": name}
    if rng.random() < 0.4:
        item["official_name"] = rng.choice(_NAMES)
    if rng.random() < 0.3:
        item["allow_duplicate"] = True
    params: dict[str, Any] = {"items": [item], "mode": rng.choice(["auto", "hardlink", "reference", "reference"])}
    if rng.random() < 0.2:
        params["dry_run"] = True
    return Step("adopt_models", params)


def _undo(rng: random.Random, known: Known) -> Step:
    key = rng.choice(["model_id", "adoption_id", "adoption_id"])
    return Step("undo_adoption", {key: _some(rng, known, key), "dry_run": rng.random() < 0.2})


def _delete(rng: random.Random, known: Known) -> Step:
    return Step("delete_model_with_cascade", {"model_id": _some(rng, known, "model_id"), "dry_run": rng.random() < 0.2})


def _restore(rng: random.Random, known: Known) -> Step:
    return Step("restore_model", {"trash_id": _some(rng, known, "trash_id")})


def _empty(rng: random.Random, known: Known) -> Step:
    return Step("empty_trash", {"trash_ids": [_some(rng, known, "trash_id")]} if rng.random() < 0.7 else {})


def _update(rng: random.Random, known: Known) -> Step:
    changes = {"tags": ["x", "y"], "notes": "Something\nelse", "family": rng.choice(_FAMILIES)}
    chosen = rng.sample(sorted(changes), rng.randrange(1, 3))
    return Step("update_model", {"model_id": _some(rng, known, "model_id"), **{key: changes[key] for key in chosen}})


def _override(rng: random.Random, known: Known) -> Step:
    version = rng.choice(["v1", "v2"])
    overrides = rng.choice([{}, {"version_ranges": {version: ">=1"}}, {"version_ranges": {}}])
    return Step("update_model_overrides", {"rel_path": _some(rng, known, "model_id"), "overrides": overrides})


def _about_model(method: str) -> Callable[[random.Random, Known], Step]:
    return lambda rng, known: Step(method, {"model_id": _some(rng, known, "model_id")})


def _plain(method: str) -> Callable[[random.Random, Known], Step]:
    return lambda _rng, _known: Step(method, {})


def _of_version(method: str, key: str = "tag") -> Callable[[random.Random, Known], Step]:
    return lambda rng, _known: Step(method, {key: rng.choice([*TAGS, *TAGS, "v9"])})


def _from_trash(method: str) -> Callable[[random.Random, Known], Step]:
    return lambda rng, known: Step(method, {"trash_id": _some(rng, known, "trash_id")})


def _default(rng: random.Random, _known: Known) -> Step:
    return Step("set_default_version", {"tag": rng.choice([*TAGS, None, "v9"])})


def _remove_node(rng: random.Random, _known: Known) -> Step:
    return Step(
        "remove_custom_node", {"version_tag": rng.choice(TAGS), "node_name": rng.choice([*NODES, "../x", "absent"])}
    )


def _node_from_trash(method: str) -> Callable[[random.Random, Known], Step]:
    return lambda rng, known: Step(method, {"version_tag": rng.choice(TAGS), "trash_id": _some(rng, known, "trash_id")})


def _limits(rng: random.Random, _known: Known) -> Step:
    changes = {"bytes_per_second": rng.choice([0, 5, 10**8]), "at_once": rng.choice([0, 1, 4])}
    return Step("set_download_limits", {key: changes[key] for key in rng.sample(sorted(changes), rng.randrange(1, 3))})


def _download(rng: random.Random, _known: Known) -> Step:
    params: dict[str, Any] = {"repo_id": rng.choice([LORA, LORA, GGUF, GATED, "acme/absent"])}
    if params["repo_id"] == GGUF:
        params["quant"] = rng.choice(["Q4_K_M", "Q6_K", "absent"])
    return Step("start_model_download_from_hf", params)


_MAKERS: list[tuple[int, Callable[[random.Random, Known], Step]]] = [
    (6, _import),
    (4, _adopt),
    (2, _undo),
    (1, lambda rng, _known: Step("list_adoptions", {"undone": rng.random() < 0.5})),
    (1, lambda _rng, _known: Step("scan_model_stores", {"folders": ["$root/source"], "known": False})),
    (3, _delete),
    (2, _restore),
    (1, _empty),
    (2, _update),
    (1, _override),
    (1, _about_model("get_model")),
    (1, _about_model("mark_metadata_as_manual")),
    (1, _plain("get_models")),
    (1, _plain("list_trash")),
    (1, _plain("refresh_model_index")),
    (1, _plain("get_library_status")),
    (1, _plain("scan_shared_storage")),
    (2, _of_version("switch_version")),
    (1, _default),
    (1, _of_version("remove_version")),
    (2, _from_trash("restore_version")),
    (1, _from_trash("purge_removed_version")),
    (1, _plain("rollback_version")),
    (1, _plain("get_version_status")),
    (1, _plain("list_removed_versions")),
    (3, _of_version("apply_model_mapping", "version_tag")),
    (1, _of_version("preview_model_mapping", "version_tag")),
    (1, _of_version("get_link_health", "version_tag")),
    (1, _of_version("remove_orphaned_links", "version_tag")),
    (1, _plain("refresh_model_mappings")),
    (1, _plain("list_links")),
    (1, _plain("clean_broken_links")),
    (1, _about_model("get_links_for_model")),
    (2, _remove_node),
    (1, _node_from_trash("restore_custom_node")),
    (1, _node_from_trash("purge_removed_custom_node")),
    (1, _of_version("list_removed_custom_nodes", "version_tag")),
    (1, _of_version("get_custom_nodes", "version_tag")),
    (1, _limits),
    (1, _download),
    (1, _plain("list_model_downloads")),
    (1, lambda rng, _known: Step("search_models_fts", {"query": rng.choice(["ti", "model", "ü", "7b q", ""])})),
]


def next_step(rng: random.Random, known: Known) -> Step:
    (make,) = rng.choices([maker for _, maker in _MAKERS], [weight for weight, _ in _MAKERS])
    return make(rng, known)


def learn(known: Known, reply: Any) -> None:
    """Remember what a reply names."""
    if isinstance(reply, list):
        for item in reply:
            learn(known, item)
    elif isinstance(reply, dict):
        for key, item in reply.items():
            if key in _NAMED and isinstance(item, str) and item:
                names = known.setdefault(key, [])
                if item not in names:
                    names.append(item)
            learn(known, item)


def shrink(steps: list[Step], differs: Callable[[list[Step]], bool]) -> list[Step]:
    """A part of `steps` that still differs and of which no single step can be left out (Zeller's ddmin)."""
    size = max(1, len(steps) // 2)
    while True:
        at = 0
        while at < len(steps):
            shorter = steps[:at] + steps[at + size :]
            if shorter and differs(shorter):
                steps = shorter
            else:
                at += size
        if size == 1:
            return steps
        size = max(1, size // 2)
