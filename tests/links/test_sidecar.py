"""The link methods from outside: a real sidecar, killed and started again, and many callers at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import sidecar as running
from library.model_disk import make_model, safetensors, write
from sidecar import Sidecar

from .setup import version

TAG = {"version_tag": "v0.3.10"}
MANY = 40


def prepare(root: Path) -> Path:
    for n in range(MANY):
        make_model(
            root / "shared-resources/models",
            f"diffusion/sdxl/m{n}",
            {f"m{n}.safetensors": safetensors(n)},
            subtype="loras",
        )
    version(root)
    return root / "comfyui-versions/v0.3.10/models/loras"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sidecar]:
    prepare(tmp_path / "root")
    one = running.start(tmp_path / "root")
    yield one
    one.close()


def loras(server: Sidecar) -> Path:
    return server.root / "comfyui-versions/v0.3.10/models/loras"


def test_many_callers_at_once_make_each_link_once(server: Sidecar) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(partial(server.result, "apply_model_mapping"), [TAG] * 8))
    assert all(one["success"] and not one["errors"] for one in done)
    assert len(os.listdir(loras(server))) == MANY
    health = server.result("get_link_health", TAG)
    assert (health["status"], health["total_links"], health["healthy_links"]) == ("healthy", MANY, MANY)
    assert server.result("list_links", {"limit": 7, "offset": 35})["total_count"] == MANY


def test_deleting_while_others_apply_leaves_no_dangling_link(server: Sidecar) -> None:
    server.result("apply_model_mapping", TAG)
    models = [{"model_id": f"diffusion/sdxl/m{n}"} for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        applying = [pool.submit(server.result, "apply_model_mapping", TAG) for _ in range(6)]
        deleted = list(pool.map(partial(server.result, "delete_model_with_cascade"), models))
        assert all(one.result()["success"] or one.result()["errors"] for one in applying)
    assert all(one["success"] for one in deleted)
    server.result("apply_model_mapping", TAG)
    assert sorted(os.listdir(loras(server))) == sorted(f"m{n}.safetensors" for n in range(12, MANY))
    assert server.result("get_link_health", TAG)["status"] == "healthy"
    for one in deleted:
        server.result("restore_model", {"trash_id": one["trash_id"]})
    server.result("apply_model_mapping", TAG)
    assert all((loras(server) / name).exists() for name in os.listdir(loras(server)))
    assert len(os.listdir(loras(server))) == MANY


def test_a_killed_sidecar_knows_its_links_again(server: Sidecar) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.result, "apply_model_mapping", TAG)
        running.eventually(lambda: loras(server).is_dir() and os.listdir(loras(server)), what="the first link")
        server.process.kill()
        with pytest.raises(Exception):  # noqa: B017 - whatever a cut connection is
            call.result(30)
            raise ConnectionError  # it was answered before the kill
    server.process.wait(30)
    again = running.start(server.root)
    try:
        there = {f"{loras(again)}/{name}" for name in os.listdir(loras(again))}  # meanwhile it makes those that lack
        assert there <= {one["target_path"] for one in again.result("list_links")["links"]}
        again.result("apply_model_mapping", TAG)
        assert again.result("apply_model_mapping", TAG)["links_created"] == 0
        assert again.result("get_link_health", TAG)["healthy_links"] == MANY
    finally:
        again.close()


def test_a_version_that_comes_back_has_the_links_of_the_models_that_are_there(tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepare(root)
    version(root, "v0.4.0")
    listed = {tag: {"path": f"comfyui-versions/{tag}"} for tag in ("v0.3.10", "v0.4.0")}
    state = {"installed": listed, "defaultVersion": "v0.4.0"}
    write(root / "launcher-data/metadata/versions.json", json.dumps(state).encode())
    one = running.start(root)
    try:
        one.result("apply_model_mapping", TAG)
        first = one.result("delete_model_with_cascade", {"model_id": "diffusion/sdxl/m0"})
        removed = one.result("remove_version", {"tag": "v0.3.10"})
        one.result("restore_model", {"trash_id": first["trash_id"]})
        one.result("delete_model_with_cascade", {"model_id": "diffusion/sdxl/m1"})
        one.close()
        one = running.start(root)
        assert one.result("restore_version", {"trash_id": removed["trash_id"]})["success"]
        names = {f"m{n}.safetensors" for n in range(MANY) if n != 1}
        assert set(os.listdir(loras(one))) == names
        assert all((loras(one) / name).exists() for name in names)
        assert one.result("apply_model_mapping", TAG)["links_created"] == 0
        assert one.result("get_link_health", TAG)["healthy_links"] == MANY - 1
        removed = one.result("remove_version", {"tag": "v0.3.10"})
        assert one.result("list_links")["total_count"] == MANY - 1
        assert one.result("purge_removed_version", {"trash_id": removed["trash_id"]})["success"]
        assert one.result("list_links")["total_count"] == 0
    finally:
        one.close()


def test_a_former_build_that_a_rollback_brings_back_gets_its_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepare(root)
    trash = root / "comfyui-versions/.pumas-trash/v0.3.10-old"
    for name in ("main.py", "venv/bin/python"):
        write(trash / "version" / name, b"old")
    entry = {"tag": "v0.3.10", "reason": "replaced", "removed_at": "2030-01-01T00:00:00Z"}
    write(trash / "entry.json", json.dumps(entry).encode())
    past = {"kind": "replaced", "tag": "v0.3.10", "trash_id": "v0.3.10-old", "at": "2030-01-01T00:00:00Z"}
    state = {"installed": {"v0.3.10": {"path": "comfyui-versions/v0.3.10"}}, "history": [past]}
    write(root / "launcher-data/metadata/versions.json", json.dumps(state).encode())
    one = running.start(root)
    try:
        one.result("apply_model_mapping", TAG)
        assert one.result("rollback_version")["tag"] == "v0.3.10"
        assert (loras(one).parents[1] / "main.py").read_bytes() == b"old"
        running.eventually(lambda: loras(one).is_dir() and len(os.listdir(loras(one))) == MANY, what="the links")
        health = running.eventually(
            lambda: (found := one.result("get_link_health", TAG))["healthy_links"] == MANY and found,
            what="healthy links",
        )
        assert health["status"] == "healthy"
        assert one.result("apply_model_mapping", TAG)["links_created"] == 0
    finally:
        one.close()


def test_a_plan_is_applied_by_its_id_or_not_at_all(server: Sidecar) -> None:
    plan = server.result("preview_model_mapping", TAG)
    assert (len(plan["to_create"]), plan["total_actions"]) == (MANY, MANY)
    server.result("delete_model_with_cascade", {"model_id": "diffusion/sdxl/m0"})
    refused = server.result("apply_model_mapping", {**TAG, "plan_id": plan["plan_id"]})
    assert (refused["success"], refused["error_code"]) == (False, "plan_outdated")
    assert not loras(server).exists()
    plan = server.result("preview_model_mapping", TAG)
    assert server.result("apply_model_mapping", {**TAG, "planId": plan["plan_id"]})["links_created"] == MANY - 1


def test_a_models_folder_that_is_a_link_is_given_up_for_a_real_one(server: Sidecar, tmp_path: Path) -> None:
    theirs, models = tmp_path / "theirs", server.root / "comfyui-versions/v0.3.10/models"
    write(theirs / "loras/own.safetensors", b"theirs")
    models.symlink_to(theirs)
    plan = server.result("preview_model_mapping", TAG)
    assert (plan["models_link"], plan["to_create"], len(plan["errors"])) == (str(theirs), [], 1)
    assert "replace_models_link" in server.result("apply_model_mapping", TAG)["error"]
    wish = {**TAG, "replace_models_link": True}
    plan = server.result("preview_model_mapping", wish)
    assert (plan["models_link"], len(plan["to_create"]), plan["errors"]) == (str(theirs), MANY, [])
    done = server.result("sync_with_resolutions", {**wish, "plan_id": plan["plan_id"], "resolutions": {}})
    assert (done["success"], done["links_created"]) == (True, MANY)
    assert os.readlink(done["backups"][0]["backup_path"]) == str(theirs)
    assert len(os.listdir(loras(server))) == MANY and not models.is_symlink()
    assert os.listdir(theirs / "loras") == ["own.safetensors"]
    assert server.result("preview_model_mapping", TAG)["models_link"] is None


@pytest.mark.parametrize("file", ["loras", "loras/mine"])
def test_a_file_in_the_place_of_a_folder_keeps_nothing_else_from_working(server: Sidecar, file: str) -> None:
    rules = server.root / "launcher-data/config/model-library-translation/comfyui_*_default.json"
    rule = {"target_subdir": "loras/mine", "filters": {"model_type": "diffusion"}}
    write(rules, json.dumps({"app": "comfyui", "version": "*", "mappings": [rule]}).encode())
    place = server.root / "comfyui-versions/v0.3.10/models" / file
    assert server.result("apply_model_mapping", TAG)["links_created"] == MANY
    place.rename(server.root / "aside")
    write(place, b"theirs")
    assert server.result("delete_model_with_cascade", {"model_id": "diffusion/sdxl/m0"})["success"]
    done = server.result("apply_model_mapping", TAG)
    assert (done["success"], done["links_created"], place.read_bytes()) == (True, 0, b"theirs")
    place.unlink()
    assert server.result("apply_model_mapping", TAG)["links_created"] == MANY - 1


def test_links_into_a_store_that_reference_models_come_from(server: Sidecar, tmp_path: Path) -> None:
    store = tmp_path / "webui"
    write(store / "models/Lora/style.safetensors", safetensors(99))
    (found,) = server.result("scan_model_stores", {"folders": [str(store)], "known": False})["stores"]
    (model,) = found["models"]
    item = {"stored_id": model["stored_id"], "subtype": "loras", "model_type": "diffusion"}
    params = {"items": [item], "mode": "reference", "folders": [str(store)]}
    assert server.result("adopt_models", params)["adopted"] == 1
    server.result("apply_model_mapping", TAG)
    assert os.readlink(loras(server) / "style.safetensors") == str(store / "models/Lora/style.safetensors")
