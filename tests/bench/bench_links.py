"""Links: plan and apply a large library's mapping, asked of a real sidecar."""

from __future__ import annotations

import json
import os
from itertools import cycle

import sidecar as running
from bench import library_maker
from bench.table import Row, Run, interleave, seconds
from pumas.config import Layout

FOLDERS = (
    *("checkpoints", "loras", "vae", "controlnet", "embeddings", "upscale_models", "clip", "clip_vision"),
    *("diffusion_models", "text_encoders"),
)
TAG = {"version_tag": "v1.0"}


def bench_links(run: Run) -> list[Row]:
    """10,000 models by 10 rules: the plan, the first and the second application; bare symlinks for comparison."""
    count = run.pick(full=10_000, quick=10_000, tiny=20)
    layout = Layout(run.folder / "root")
    models = make_library(layout, count)
    rounds = run.pick(full=5, quick=3, tiny=1)
    sidecar = running.start(layout.root)
    try:
        running.eventually(
            lambda: sidecar.result("get_library_status")["model_count"] == count, timeout_s=120, what="the index"
        )
        plan = sidecar.result("preview_model_mapping", TAG)
        if len(plan["to_create"]) != count:
            raise AssertionError(f"the plan makes {len(plan['to_create']):,} of {count:,} links")
        (planned,) = interleave(rounds, lambda: seconds(lambda: sidecar.result("preview_model_mapping", TAG)))
        made = seconds(lambda: sidecar.result("apply_model_mapping", TAG))
        again = sidecar.result("apply_model_mapping", TAG)
        if (again["links_created"], again["total_links"]) != (0, count):
            raise AssertionError(f"applying again made {again['links_created']:,} links")
        (repeated,) = interleave(rounds, lambda: seconds(lambda: sidecar.result("apply_model_mapping", TAG)))
        (health,) = interleave(rounds, lambda: seconds(lambda: sidecar.result("get_link_health", TAG)))
    finally:
        sidecar.close()
    for folder in FOLDERS:
        (run.folder / "bare" / folder).mkdir(parents=True)
    bare = seconds(lambda: make_bare_links(run, models))
    slowest = run.pick(full=3000, quick=3000, tiny=1)
    return [
        Row(f"links: plan for {count:,} models and {len(FOLDERS)} rules", planned, "s", at_most=1.0),
        Row("links: first apply", count / made, "links/s", count / bare, at_least=slowest),
        Row("links: second apply, 0 changes", repeated, "s", at_most=0.5),
        Row("links: health of all", health, "s"),
    ]


def make_library(layout: Layout, count: int) -> list[str]:
    """A library whose models go to ten folders of one app; returns the paths of all model files."""
    rules = [
        {"target_subdir": folder, "patterns": ["*.safetensors", "*.gguf"], "filters": {"subtypes": [folder]}}
        for folder in FOLDERS
    ]
    layout.mapping_rules.mkdir(parents=True)
    (layout.mapping_rules / "comfyui_*_default.json").write_text(json.dumps({"mappings": rules}))
    for name in ("main.py", "venv/bin/python"):
        (layout.root / "comfyui-versions" / "v1.0" / name).parent.mkdir(parents=True, exist_ok=True)
        (layout.root / "comfyui-versions" / "v1.0" / name).touch()
    paths: list[str] = []
    for model, folder in zip(library_maker.models(count), cycle(FOLDERS), strict=False):
        library_maker.write(layout.library, {**model, "subtype": folder})
        paths.append(f"{layout.library}/{library_maker.folder_of(model)}/{model['files'][0]['name']}")
    return paths


def make_bare_links(run: Run, paths: list[str]) -> None:
    """The least that must be done: as many symbolic links, with nothing written down or synced."""
    for path, folder in zip(paths, cycle(FOLDERS), strict=False):
        os.symlink(path, f"{run.folder}/bare/{folder}/{os.path.basename(path)}")
